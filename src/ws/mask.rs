//! WebSocket masking (RFC 6455, section 5.3): XOR with a repeating 4-byte key, at the speed of memcpy.
//!
//! One algorithm, written once over `Lane` and instantiated for every vector width; the widest that the CPU
//! has whole is chosen on first use. Up to [`SHORT_BYTES_MAX`] bytes are done in the caller, with no call.
//!
//! The invariant: destination and source are disjoint, the same, or overlap with the source ahead. So a
//! payload is moved down over its own header *while* it is unmasked, and no byte may be stored before every
//! byte that the store could overwrite has been loaded.
//!
//! It deliberately knows nothing of frames: the caller keeps the key's phase between chunks with
//! [`Mask::rotated`], and draws the random keys.

use std::sync::LazyLock;

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::{uint32x4_t, vdupq_n_u32, veorq_u32};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_set1_epi32, _mm_xor_si128, _mm256_set1_epi32, _mm256_xor_si256,
    _mm512_set1_epi32, _mm512_xor_si512,
};

/// Payloads up to this many bytes are masked inline: eight 16-byte lanes.
pub const SHORT_BYTES_MAX: usize = 128;

/// A masking key at some phase: its first byte belongs to the first byte of the data (RFC 6455, section 5.3).
///
/// Holds the four key bytes in memory order, so that a load, an XOR and a store need no byte swap on either
/// endianness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask(u32);

impl Mask {
    /// The key as it stands in the frame header.
    #[inline]
    pub const fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(bytes))
    }

    /// The key bytes in the order in which they meet the data.
    #[inline]
    pub const fn to_bytes(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    /// The key for data that starts `n` bytes later: the phase to keep between two chunks of a payload.
    #[inline]
    #[must_use]
    pub const fn rotated(self, n: usize) -> Self {
        let bits = (n % 4) as u32 * 8;
        Self(if cfg!(target_endian = "little") {
            self.0.rotate_right(bits)
        } else {
            self.0.rotate_left(bits)
        })
    }
}

/// Masks or unmasks `bytes` in place.
#[inline]
pub fn unmask(key: Mask, bytes: &mut [u8]) {
    let memory = bytes.as_mut_ptr();
    // SAFETY: source and destination are the same exclusively borrowed slice.
    unsafe { apply(memory, memory, bytes.len(), key) }
}

/// Copies `src` to `dst` and masks it on the way, in one pass: what a client does when it encodes.
///
/// # Panics
/// When the lengths differ.
#[inline]
pub fn mask_into(key: Mask, src: &[u8], dst: &mut [u8]) {
    assert!(src.len() == dst.len(), "mask_into: source and destination differ in length");
    // SAFETY: two borrowed slices of that length, one of them exclusive, so they are disjoint.
    unsafe { apply(dst.as_mut_ptr(), src.as_ptr(), src.len(), key) }
}

/// Appends `src` to `out` and masks it on the way, in one pass.
#[inline]
pub fn mask_onto(key: Mask, src: &[u8], out: &mut Vec<u8>) {
    out.reserve(src.len());
    let end = out.len() + src.len();
    let spare = out.spare_capacity_mut();
    // SAFETY: `reserve` made room for `src.len()` bytes, which are `out`'s own and so disjoint from `src`; all of
    // them are written before they become part of `out`.
    unsafe {
        apply(spare.as_mut_ptr().cast(), src.as_ptr(), src.len(), key);
        out.set_len(end);
    }
}

/// Unmasks `memory[src..src + len]` into `memory[dst..dst + len]`, one pass, where `dst <= src`.
///
/// A server's reply header is 4 bytes shorter than the masked header it answers, so an echoed payload moves
/// down by 4 bytes for each frame before it; moving and unmasking together costs what unmasking costs.
/// Bytes of the source that lie beyond the destination are left as they were.
///
/// # Panics
/// When the destination lies above the source, or the source reaches beyond `memory`.
#[inline]
pub fn unmask_down(key: Mask, memory: &mut [u8], src: usize, len: usize, dst: usize) {
    let (dst, src) = down_pointers(memory, src, len, dst);
    // SAFETY: both ranges lie in one exclusively borrowed slice, the destination at or below the source.
    unsafe { apply(dst, src, len, key) }
}

/// Checks the ranges of a move down and returns the pointers `(dst, src)`, both valid for `len` bytes.
#[inline]
fn down_pointers(memory: &mut [u8], src: usize, len: usize, dst: usize) -> (*mut u8, *const u8) {
    assert!(len <= memory.len() && src <= memory.len() - len, "unmask_down: source beyond the memory");
    assert!(dst <= src, "unmask_down: destination above the source");
    let memory = memory.as_mut_ptr();
    // SAFETY: dst <= src <= memory.len() - len, as just asserted.
    unsafe { (memory.add(dst), memory.add(src)) }
}

/// # Safety
/// As for [`Raw`].
#[inline(always)]
unsafe fn apply(dst: *mut u8, src: *const u8, len: usize, key: Mask) {
    if len <= SHORT_BYTES_MAX {
        // SAFETY: the caller's contract, and the length is in range.
        unsafe { short(dst, src, len, key.0) }
    } else {
        // SAFETY: the caller's contract.
        unsafe { long(dst, src, len, key) }
    }
}

/// Out of line, so that what is inlined stays small.
///
/// # Safety
/// As for [`Raw`].
#[inline(never)]
unsafe fn long(dst: *mut u8, src: *const u8, len: usize, key: Mask) {
    // SAFETY: the caller's contract; the selected kernel runs on this CPU.
    unsafe { (SELECTED.raw)(dst, src, len, key.0) }
}

// ---------------------------------------------------------------------------------------------------------
// The kernels
// ---------------------------------------------------------------------------------------------------------

/// XORs `len` bytes from `src` into `dst` with `key` (in memory order) repeated.
///
/// # Safety
/// `src` must be readable and `dst` writable for `len` bytes; the ranges must be disjoint, equal, or overlap
/// with `dst` below `src`; and the CPU must have the features that the kernel was compiled for.
type Raw = unsafe fn(dst: *mut u8, src: *const u8, len: usize, key: u32);

/// One masking kernel that this CPU can run; only [`Kernel::all_available`] and [`Kernel::selected`] make one.
///
/// For tests, benchmarks and reports. Everything else calls [`unmask`], [`mask_into`] or [`unmask_down`].
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    name: &'static str,
    raw: Raw,
}

/// A kernel and the test for the CPU features it needs.
struct Candidate(Kernel, fn() -> bool);

/// Every kernel of this architecture, the widest last.
const CANDIDATES: &[Candidate] = &[
    Candidate(Kernel { name: "scalar", raw: scalar }, || true),
    Candidate(Kernel { name: "words", raw: words }, || true),
    #[cfg(target_arch = "x86_64")]
    Candidate(Kernel { name: "sse2", raw: sse2 }, || true),
    #[cfg(target_arch = "x86_64")]
    Candidate(Kernel { name: "avx2", raw: avx2 }, || is_x86_feature_detected!("avx2")),
    #[cfg(target_arch = "x86_64")]
    Candidate(Kernel { name: "avx512", raw: avx512 }, || {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
    }),
    #[cfg(target_arch = "aarch64")]
    Candidate(Kernel { name: "neon", raw: neon }, || true),
];

static SELECTED: LazyLock<Kernel> = LazyLock::new(|| {
    let is_wanted = |kernel: &Kernel| kernel.name != "avx512" || !halves_512_bits();
    Kernel::all_available().filter(is_wanted).last().expect("the scalar kernel runs everywhere")
});

/// Whether the CPU stores 512 bits in two halves, as Zen 4 does: SSE4a is AMD's alone, and of AMD's CPUs with
/// AVX-512 it is Zen 4 that lacks VP2INTERSECT.
///
/// There AVX-512 gains nothing in place, and loses up to a fifth to AVX2 where source and destination differ
/// in alignment, since then every 64-byte load crosses a cache line.
#[cfg(target_arch = "x86_64")]
fn halves_512_bits() -> bool {
    is_x86_feature_detected!("sse4a") && !is_x86_feature_detected!("avx512vp2intersect")
}

#[cfg(not(target_arch = "x86_64"))]
fn halves_512_bits() -> bool {
    false
}

impl Kernel {
    /// The kernels that this CPU can run, the widest last.
    pub fn all_available() -> impl Iterator<Item = Kernel> {
        CANDIDATES.iter().filter(|candidate| candidate.1()).map(|candidate| candidate.0)
    }

    /// The kernel that the free functions use beyond [`SHORT_BYTES_MAX`]; detected once in a process.
    pub fn selected() -> Kernel {
        *SELECTED
    }

    /// `scalar`, `words`, `sse2`, `avx2`, `avx512` or `neon`.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// [`unmask`] with this kernel, whatever the length.
    pub fn unmask(self, key: Mask, bytes: &mut [u8]) {
        let memory = bytes.as_mut_ptr();
        // SAFETY: source and destination are the same exclusively borrowed slice; available on this CPU.
        unsafe { (self.raw)(memory, memory, bytes.len(), key.0) }
    }

    /// [`mask_into`] with this kernel, whatever the length.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn mask_into(self, key: Mask, src: &[u8], dst: &mut [u8]) {
        assert!(src.len() == dst.len(), "mask_into: source and destination differ in length");
        // SAFETY: two disjoint borrowed slices of that length; available on this CPU.
        unsafe { (self.raw)(dst.as_mut_ptr(), src.as_ptr(), src.len(), key.0) }
    }

    /// [`unmask_down`] with this kernel, whatever the length.
    ///
    /// # Panics
    /// When the destination lies above the source, or the source reaches beyond `memory`.
    pub fn unmask_down(self, key: Mask, memory: &mut [u8], src: usize, len: usize, dst: usize) {
        let (dst, src) = down_pointers(memory, src, len, dst);
        // SAFETY: both ranges lie in one exclusive slice, the destination not above; available on this CPU.
        unsafe { (self.raw)(dst, src, len, key.0) }
    }
}

/// The oracle: one byte after the other, upwards.
///
/// # Safety
/// As for [`Raw`].
unsafe fn scalar(dst: *mut u8, src: *const u8, len: usize, key: u32) {
    let key = key.to_ne_bytes();
    // SAFETY: i < len. A store at dst + i reaches no source byte beyond src + i, since dst <= src on overlap.
    (0..len).for_each(|i| unsafe { *dst.add(i) = *src.add(i) ^ key[i % 4] });
}

/// # Safety
/// As for [`Raw`].
unsafe fn words(dst: *mut u8, src: *const u8, len: usize, key: u32) {
    // SAFETY: the caller's contract.
    unsafe { wide::<u64>(dst, src, len, key) }
}

/// # Safety
/// As for [`Raw`].
#[cfg(target_arch = "x86_64")]
unsafe fn sse2(dst: *mut u8, src: *const u8, len: usize, key: u32) {
    // SAFETY: the caller's contract; SSE2 is part of x86-64.
    unsafe { wide::<__m128i>(dst, src, len, key) }
}

/// # Safety
/// As for [`Raw`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(dst: *mut u8, src: *const u8, len: usize, key: u32) {
    // SAFETY: the caller's contract, AVX2 included.
    unsafe { wide::<__m256i>(dst, src, len, key) }
}

/// # Safety
/// As for [`Raw`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn avx512(dst: *mut u8, src: *const u8, len: usize, key: u32) {
    // SAFETY: the caller's contract, AVX-512 included.
    unsafe { wide::<__m512i>(dst, src, len, key) }
}

/// # Safety
/// As for [`Raw`].
#[cfg(target_arch = "aarch64")]
unsafe fn neon(dst: *mut u8, src: *const u8, len: usize, key: u32) {
    // SAFETY: the caller's contract; NEON is part of AArch64.
    unsafe { wide::<uint32x4_t>(dst, src, len, key) }
}

// ---------------------------------------------------------------------------------------------------------
// The algorithm, over lanes of any width
// ---------------------------------------------------------------------------------------------------------

/// What is loaded, XORed and stored at once: a multiple of 4 bytes wide, so that every lane of one run meets
/// the key at the same phase.
///
/// # Safety
/// The methods of a vector type may only be called where the CPU has that vector unit.
trait Lane: Copy {
    const BYTES: usize = size_of::<Self>();

    /// The key, repeated over the lane.
    unsafe fn splat(key: u32) -> Self;

    unsafe fn xor(self, other: Self) -> Self;

    /// A lane from memory of any alignment.
    #[inline(always)]
    unsafe fn load(src: *const u8) -> Self {
        // SAFETY: the caller vouches for BYTES readable bytes; any bits make a lane.
        unsafe { src.cast::<Self>().read_unaligned() }
    }

    /// The lane to memory of any alignment.
    #[inline(always)]
    unsafe fn store(self, dst: *mut u8) {
        // SAFETY: the caller vouches for BYTES writable bytes.
        unsafe { dst.cast::<Self>().write_unaligned(self) }
    }
}

macro_rules! lane {
    ($lane:ty, $key:ident => $splat:expr, ($a:ident, $b:ident) => $xor:expr) => {
        impl Lane for $lane {
            #[inline(always)]
            unsafe fn splat($key: u32) -> Self {
                #[allow(unused_unsafe)]
                // SAFETY: the caller vouches for the vector unit.
                unsafe {
                    $splat
                }
            }

            #[inline(always)]
            unsafe fn xor(self, $b: Self) -> Self {
                let $a = self;
                #[allow(unused_unsafe)]
                // SAFETY: the caller vouches for the vector unit.
                unsafe {
                    $xor
                }
            }
        }
    };
}

lane!(u32, key => key, (a, b) => a ^ b);
lane!(u64, key => u64::from(key) << 32 | u64::from(key), (a, b) => a ^ b);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
lane!(u128, key => u128::from(key) * 0x1_0000_0001_0000_0001_0000_0001, (a, b) => a ^ b);
#[cfg(target_arch = "x86_64")]
lane!(__m128i, key => _mm_set1_epi32(key as i32), (a, b) => _mm_xor_si128(a, b));
#[cfg(target_arch = "x86_64")]
lane!(__m256i, key => _mm256_set1_epi32(key as i32), (a, b) => _mm256_xor_si256(a, b));
#[cfg(target_arch = "x86_64")]
lane!(__m512i, key => _mm512_set1_epi32(key as i32), (a, b) => _mm512_xor_si512(a, b));
#[cfg(target_arch = "aarch64")]
lane!(uint32x4_t, key => vdupq_n_u32(key), (a, b) => veorq_u32(a, b));

/// The 16-byte lane that every CPU of the architecture has.
#[cfg(target_arch = "x86_64")]
type Base = __m128i;
#[cfg(target_arch = "aarch64")]
type Base = uint32x4_t;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Base = u128;

/// Up to [`SHORT_BYTES_MAX`] bytes, with what every CPU of the architecture has.
///
/// # Safety
/// As for [`Raw`], with `len <= SHORT_BYTES_MAX`.
#[inline(always)]
unsafe fn short(dst: *mut u8, src: *const u8, len: usize, key: u32) {
    // SAFETY: each arm names the range of lengths that its callee asks for.
    unsafe {
        match len {
            16.. => few::<Base>(dst, src, len, key),
            8.. => both_ends::<u64, 1>(dst, src, len, key),
            4.. => both_ends::<u32, 1>(dst, src, len, key),
            1.. => up_to_three(dst, src, len, key),
            0 => {}
        }
    }
}

/// One to eight lanes with no loop: everything is loaded before anything is stored.
///
/// # Safety
/// As for [`Raw`], on a CPU that has the lane, with `L::BYTES <= len <= 8 * L::BYTES`.
#[inline(always)]
unsafe fn few<L: Lane>(dst: *mut u8, src: *const u8, len: usize, key: u32) {
    debug_assert!((L::BYTES..=8 * L::BYTES).contains(&len));
    // SAFETY: each arm names a length between one and two times what it covers from either end.
    unsafe {
        if len > 4 * L::BYTES {
            both_ends::<L, 4>(dst, src, len, key)
        } else if len > 2 * L::BYTES {
            both_ends::<L, 2>(dst, src, len, key)
        } else {
            both_ends::<L, 1>(dst, src, len, key)
        }
    }
}

/// `N` lanes from the start and `N` up to the end; they overlap in the middle, where both store the same.
///
/// # Safety
/// As for [`Raw`], with `N * L::BYTES <= len <= 2 * N * L::BYTES`; the ranges may overlap in any way.
#[inline(always)]
unsafe fn both_ends<L: Lane, const N: usize>(dst: *mut u8, src: *const u8, len: usize, key: u32) {
    let behind = len - N * L::BYTES;
    // SAFETY: offsets up to N * BYTES from the start, or from `behind`, stay within len.
    unsafe {
        let head: [L; N] = load_each(src);
        let tail: [L; N] = load_each(src.add(behind));
        store_each(head, dst, L::splat(key));
        store_each(tail, dst.add(behind), L::splat(Mask(key).rotated(behind).0));
    }
}

/// # Safety
/// `src` readable for `N` lanes.
#[inline(always)]
unsafe fn load_each<L: Lane, const N: usize>(src: *const u8) -> [L; N] {
    // SAFETY: i < N.
    std::array::from_fn(|i| unsafe { L::load(src.add(i * L::BYTES)) })
}

/// # Safety
/// `dst` writable for `N` lanes.
#[inline(always)]
unsafe fn store_each<L: Lane, const N: usize>(lanes: [L; N], dst: *mut u8, key: L) {
    for (i, lane) in lanes.into_iter().enumerate() {
        // SAFETY: i < N.
        unsafe { lane.xor(key).store(dst.add(i * L::BYTES)) }
    }
}

/// One to three bytes: the first, the middle and the last, which may be the same byte.
///
/// # Safety
/// As for [`Raw`], with `1 <= len <= 3`.
#[inline(always)]
unsafe fn up_to_three(dst: *mut u8, src: *const u8, len: usize, key: u32) {
    let (middle, last, key) = (len / 2, len - 1, key.to_ne_bytes());
    // SAFETY: middle and last are below len.
    unsafe {
        let bytes = (*src, *src.add(middle), *src.add(last));
        *dst = bytes.0 ^ key[0];
        *dst.add(middle) = bytes.1 ^ key[middle];
        *dst.add(last) = bytes.2 ^ key[last];
    }
}

/// Any length: both ends are loaded first and stored last, and between them every store is aligned.
///
/// Aligned stores are worth a fifth where source and destination differ in alignment, and groups of four lanes
/// a fifth for the 16-byte kernel (Zen 4, L1); groups of eight gained nothing more.
///
/// Stored last, because the aligned middle starts inside the first lane and ends inside the last one: were an
/// end stored before, the middle would load bytes that are unmasked already.
///
/// # Safety
/// As for [`Raw`], on a CPU that has the lane.
#[inline(always)]
unsafe fn wide<L: Lane>(dst: *mut u8, src: *const u8, len: usize, key: u32) {
    const UNROLLED: usize = 4;
    if len < L::BYTES {
        // SAFETY: the caller's contract; the widest lane is 64 bytes, below the limit.
        return unsafe { short(dst, src, len, key) };
    }
    if len <= 8 * L::BYTES {
        // SAFETY: the caller's contract, and the length is in range.
        return unsafe { few::<L>(dst, src, len, key) };
    }
    let behind = len - L::BYTES;
    let mut at = L::BYTES - dst.addr() % L::BYTES;
    // SAFETY: at < behind before each lane and at + UNROLLED * BYTES <= len before each group, so all stay
    // within len. A store below dst + at + n overwrites no source byte at or above src + at + n, so the loads
    // of later rounds see the source as it was; those of the same round precede the stores.
    unsafe {
        let (head, tail) = (L::load(src), L::load(src.add(behind)));
        let aligned_key = L::splat(Mask(key).rotated(at).0);
        while at + UNROLLED * L::BYTES <= len {
            let lanes: [L; UNROLLED] = load_each(src.add(at));
            store_each(lanes, dst.add(at), aligned_key);
            at += UNROLLED * L::BYTES;
        }
        while at < behind {
            L::load(src.add(at)).xor(aligned_key).store(dst.add(at));
            at += L::BYTES;
        }
        tail.xor(L::splat(Mask(key).rotated(behind).0)).store(dst.add(behind));
        head.xor(L::splat(key)).store(dst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Mask = Mask::from_bytes([0x37, 0xfa, 0x21, 0x3d]);

    /// Memory whose every address is known modulo the widest vector.
    #[derive(Clone)]
    #[repr(align(64))]
    struct Arena([u8; 2304]);

    impl Arena {
        /// Bytes of which no two neighbours, and no two at a vector's distance, are alike.
        fn patterned() -> Self {
            Self(std::array::from_fn(|i| (i * 167 + i / 256 * 29) as u8))
        }
    }

    fn oracle(key: Mask, bytes: &[u8]) -> Vec<u8> {
        bytes.iter().zip(key.to_bytes().into_iter().cycle()).map(|(byte, key)| byte ^ key).collect()
    }

    #[test]
    fn a_rotated_key_masks_what_comes_later_as_the_whole_would() {
        let bytes = Arena::patterned().0;
        let whole = oracle(KEY, &bytes);
        for n in 0..9 {
            assert_eq!(oracle(KEY.rotated(n), &bytes[n..]), whole[n..], "{n} bytes later");
        }
        assert_eq!(KEY.rotated(usize::MAX), KEY.rotated(3));
        assert_eq!(Mask::from_bytes(KEY.to_bytes()), KEY);
    }

    #[test]
    fn the_example_of_rfc_6455_section_5_7_unmasks_to_hello() {
        let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        unmask(KEY, &mut payload);
        assert_eq!(&payload, b"Hello");
    }

    #[test]
    fn the_kernels_have_names_of_their_own_and_one_of_the_two_widest_is_selected() {
        let names: Vec<_> = Kernel::all_available().map(Kernel::name).collect();
        assert_eq!(names[..2], ["scalar", "words"]);
        assert!(names[names.len() - 2..].contains(&Kernel::selected().name()), "{names:?}");
        assert!((1..names.len()).all(|i| !names[..i].contains(&names[i])), "{names:?}");
        #[cfg(target_arch = "x86_64")]
        assert!(names.contains(&"sse2"));
        #[cfg(target_arch = "aarch64")]
        assert!(names.contains(&"neon"));
    }

    /// Masks `src..src + len` of the arena to `dst` by a kernel, or by the public functions with their inline
    /// path: in place, down, or up to a disjoint place.
    fn run(kernel: Option<Kernel>, key: Mask, arena: &mut [u8], src: usize, len: usize, dst: usize) {
        if dst > src {
            let (front, back) = arena.split_at_mut(dst);
            let (src, dst) = (&front[src..src + len], &mut back[..len]);
            match kernel {
                Some(kernel) => kernel.mask_into(key, src, dst),
                None => mask_into(key, src, dst),
            }
        } else {
            match kernel {
                Some(kernel) if dst == src => kernel.unmask(key, &mut arena[src..src + len]),
                None if dst == src => unmask(key, &mut arena[src..src + len]),
                Some(kernel) => kernel.unmask_down(key, arena, src, len, dst),
                None => unmask_down(key, arena, src, len, dst),
            }
        }
    }

    /// Compares the whole arena with the oracle's, so that a byte touched outside the destination shows.
    fn check(ways: &[Option<Kernel>], key: Mask, pristine: &Arena, src: usize, len: usize, dst: usize) {
        let mut expected = pristine.clone();
        expected.0[dst..dst + len].copy_from_slice(&oracle(key, &pristine.0[src..src + len]));
        for kernel in ways {
            let mut arena = pristine.clone();
            run(*kernel, key, &mut arena.0, src, len, dst);
            assert!(
                arena.0 == expected.0,
                "{}: {len} bytes from {src} to {dst}, key {:02x?}, first difference at {:?}",
                kernel.map_or("public", Kernel::name),
                key.to_bytes(),
                (0..arena.0.len()).find(|&i| arena.0[i] != expected.0[i]),
            );
        }
    }

    #[test]
    fn every_kernel_agrees_with_the_oracle_over_lengths_alignments_phases_and_shifts() {
        const SRC: usize = 256;
        // With the one upwards 21, coprime to the 256 pairs of alignment and phase: taken in turn, each shift
        // meets every length and every alignment. The whole product would take a debug build half a minute.
        const DOWN: [usize; 20] =
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 64, 200, SRC - 1];
        let pristine = Arena::patterned();
        let ways: Vec<_> = Kernel::all_available().map(Some).chain([None]).collect();
        let mut turn = 0;
        for len in (0..=300).chain((301..=900).step_by(13)) {
            for alignment in 0..64 {
                for phase in 0..4 {
                    let src = SRC + alignment;
                    // The last is upwards, to a disjoint place with another alignment.
                    let dst = DOWN.get(turn % 21).map_or(src + len + 1 + phase * 7, |shift| src - shift);
                    check(&ways, KEY.rotated(phase), &pristine, src, len, dst);
                    turn += 1;
                }
            }
        }
    }

    #[test]
    fn every_kernel_agrees_with_the_oracle_on_long_payloads() {
        let pristine: Vec<u8> = Arena::patterned().0.repeat(40);
        for kernel in Kernel::all_available() {
            for (len, src, shift) in
                [(4095, 64, 0), (4096, 70, 4), (4097, 1, 1), (65_536, 300, 256), (70_001, 143, 63)]
            {
                let mut memory = pristine.clone();
                kernel.unmask_down(KEY, &mut memory, src, len, src - shift);
                let mut expected = pristine.clone();
                expected[src - shift..][..len].copy_from_slice(&oracle(KEY, &pristine[src..][..len]));
                assert!(memory == expected, "{}: {len} bytes from {src} down by {shift}", kernel.name());
            }
        }
    }

    #[test]
    #[should_panic(expected = "destination above the source")]
    fn a_move_up_is_refused() {
        unmask_down(KEY, &mut [0; 8], 2, 4, 3);
    }

    #[test]
    #[should_panic(expected = "source beyond the memory")]
    fn a_source_beyond_the_memory_is_refused() {
        unmask_down(KEY, &mut [0; 8], 5, 4, 0);
    }

    #[test]
    #[should_panic(expected = "source beyond the memory")]
    fn a_length_that_would_wrap_around_is_refused() {
        unmask_down(KEY, &mut [0; 8], 5, usize::MAX, 0);
    }

    #[test]
    fn what_is_appended_is_what_is_copied_and_leaves_the_front_alone() {
        let key = Mask::from_bytes([0x12, 0x34, 0x56, 0x78]);
        let source: Vec<u8> = (0..400u32).map(|byte| byte as u8).collect();
        for length in 0..source.len() {
            let mut expected = vec![0; length];
            mask_into(key, &source[..length], &mut expected);
            let mut appended = b"front".to_vec();
            mask_onto(key, &source[..length], &mut appended);
            assert_eq!(appended.split_at(5), (&b"front"[..], &expected[..]), "length {length}");
        }
    }

    #[test]
    #[should_panic(expected = "differ in length")]
    fn a_shorter_destination_is_refused() {
        mask_into(KEY, &[0; 8], &mut [0; 7]);
    }
}
