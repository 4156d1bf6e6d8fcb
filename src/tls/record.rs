//! TLS records after the handshake: opened where they lie, sealed in the buffer that will be sent.
//!
//! rustls makes the handshake and gives its keys out; its own record layer would copy each payload twice in either
//! direction. Here a received record is decrypted onto the memory it arrived in, right behind the plaintext of the record before
//! it, and a record to be sent is encrypted in the output buffer, which the one copy of its payload goes to.
//!
//! The formats: RFC 8446, 5.2 to 5.4 (TLS 1.3); RFC 5246, 6.2.3.3 with RFC 5288 and RFC 7905 (TLS 1.2).
//!
//! Invariants: no nonce is used twice with a key, since each is made of a sequence number that only grows; what fails
//! authentication is not looked at. Deliberately absent: what records mean, see [`super::session`].

use ring::aead::{self, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;

use super::Fault;

/// Content type, version and length (RFC 8446, 5.1).
pub(super) const HEADER_BYTES: usize = 5;
/// Most plaintext of one record (RFC 8446, 5.1).
pub(super) const FRAGMENT_BYTES_MAX: usize = 1 << 14;
/// Most plaintext of a record of TLS 1.3 with its content type and padding (RFC 8446, 5.4).
const INNER_BYTES_MAX: usize = FRAGMENT_BYTES_MAX + 1;
/// Most bytes behind a record's header: RFC 8446, 5.2. TLS 1.2 allows 2048 more than plaintext, but these ciphers add 24.
pub(super) const PAYLOAD_BYTES_MAX: usize = FRAGMENT_BYTES_MAX + 256;
/// The version that stands in every record but a first ClientHello's.
const LEGACY_VERSION: [u8; 2] = [3, 3];
const TAG_BYTES: usize = 16;
/// The part of a nonce that AES-GCM records of TLS 1.2 carry (RFC 5288, section 3).
const EXPLICIT_NONCE_BYTES: usize = 8;

/// What a record holds (RFC 8446, 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentType(pub(super) u8);

impl ContentType {
    pub(super) const ALERT: Self = Self(21);
    pub(super) const HANDSHAKE: Self = Self(22);
    pub(super) const APPLICATION_DATA: Self = Self(23);
}

/// How many bytes the record is long that `bytes` begin with, header included; `None` while that cannot be told.
///
/// # Errors
/// It is longer than a record may be.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let payload_bytes = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if payload_bytes > PAYLOAD_BYTES_MAX {
        return Err(Fault::RecordOverflow);
    }
    Ok(Some(HEADER_BYTES + payload_bytes))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Tls13,
    /// AES-GCM: a part of the nonce stands in the record.
    Tls12Gcm,
    Tls12ChaCha20,
}

/// The keys of one direction.
pub(super) struct Keys {
    form: Form,
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
    is_bounded: bool,
}

impl Keys {
    /// Of a connection that has come to record `sequence`.
    pub(super) fn new(is_tls13: bool, sequence: u64, secrets: &ConnectionTrafficSecrets) -> Option<Self> {
        let (algorithm, key, iv, tls12_form) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv, Form::Tls12Gcm),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv, Form::Tls12Gcm),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&aead::CHACHA20_POLY1305, key, iv, Form::Tls12ChaCha20)
            }
            _ => return None,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).ok()?);
        let form = if is_tls13 { Form::Tls13 } else { tls12_form };
        let is_bounded = algorithm != &aead::CHACHA20_POLY1305;
        Some(Self { form, key, iv: iv.as_ref().try_into().ok()?, sequence, is_bounded })
    }

    /// Records so far, since the last change of keys.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether only so many records may be sealed with them: of AES-GCM. The sequence numbers of ChaCha20-Poly1305 come to
    /// their end before that would be too many (RFC 8446, 5.5).
    #[inline]
    pub(super) fn is_bounded(&self) -> bool {
        self.is_bounded
    }

    /// Bytes of a record in front of its ciphertext.
    pub(super) fn lead_bytes(&self) -> usize {
        match self.form {
            Form::Tls13 | Form::Tls12ChaCha20 => HEADER_BYTES,
            Form::Tls12Gcm => HEADER_BYTES + EXPLICIT_NONCE_BYTES,
        }
    }

    /// RFC 8446, 5.3; RFC 7905, section 2. For AES-GCM of TLS 1.2 any nonce not used before will do.
    fn next_nonce(&mut self) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, of_sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= of_sequence;
        }
        nonce
    }

    /// The additional data of TLS 1.2 (RFC 5246, 6.2.3.3).
    fn additional_data(&self, content: ContentType, plain_bytes: usize) -> [u8; 13] {
        let mut data = [0; 13];
        data[..8].copy_from_slice(&self.sequence.to_be_bytes());
        data[8] = content.0;
        data[9..11].copy_from_slice(&LEGACY_VERSION);
        data[11..].copy_from_slice(&(plain_bytes as u16).to_be_bytes());
        data
    }

    /// Decrypts the record of `record_bytes` that starts at `start` in `memory`, onto `memory[to..]`: what it holds, and how
    /// many bytes. `to` lies at most where the record's ciphertext does.
    ///
    /// # Errors
    /// It is not what the peer sealed, or not as records have to be.
    #[inline]
    pub(super) fn open(
        &mut self,
        memory: &mut [u8],
        start: usize,
        record_bytes: usize,
        to: usize,
    ) -> Result<(ContentType, usize), Fault> {
        let header: [u8; HEADER_BYTES] =
            memory[start..start + HEADER_BYTES].try_into().expect("a header's length");
        let from = start + self.lead_bytes();
        let end = start + record_bytes;
        let plain_bytes =
            (end - start).checked_sub(self.lead_bytes() + TAG_BYTES).ok_or(Fault::BadRecordMac)?;
        let outer = ContentType(header[0]);
        let mut nonce = self.next_nonce();
        let opened = match self.form {
            Form::Tls13 => {
                if outer != ContentType::APPLICATION_DATA {
                    return Err(Fault::UnexpectedMessage);
                }
                let nonce = Nonce::assume_unique_for_key(nonce);
                self.key.open_within(nonce, Aad::from(header), &mut memory[to..end], from - to..)
            }
            Form::Tls12Gcm | Form::Tls12ChaCha20 => {
                if self.form == Form::Tls12Gcm {
                    nonce[4..].copy_from_slice(&memory[start + HEADER_BYTES..from]);
                }
                let aad = Aad::from(self.additional_data(outer, plain_bytes));
                let nonce = Nonce::assume_unique_for_key(nonce);
                self.key.open_within(nonce, aad, &mut memory[to..end], from - to..)
            }
        };
        let plain = opened.map_err(|_| Fault::BadRecordMac)?;
        self.sequence = self.sequence.checked_add(1).ok_or(Fault::BadRecordMac)?;
        let (content, plain_bytes) = match self.form {
            Form::Tls13 if plain.len() > INNER_BYTES_MAX => return Err(Fault::RecordOverflow),
            Form::Tls13 => {
                // The content type is the last byte that is not padding (RFC 8446, 5.4).
                let last = plain.iter().rposition(|&byte| byte != 0).ok_or(Fault::UnexpectedMessage)?;
                (ContentType(plain[last]), last)
            }
            Form::Tls12Gcm | Form::Tls12ChaCha20 => (outer, plain.len()),
        };
        if plain_bytes > FRAGMENT_BYTES_MAX {
            return Err(Fault::RecordOverflow);
        }
        Ok((content, plain_bytes))
    }

    /// Appends one record that holds `plain`, at most [`FRAGMENT_BYTES_MAX`] of it.
    ///
    /// # Panics
    /// It is more, or the sequence number is used up: at a record a nanosecond that takes 584 years.
    #[inline]
    pub(super) fn seal(&mut self, content: ContentType, plain: &[u8], out: &mut Vec<u8>) {
        assert!(plain.len() <= FRAGMENT_BYTES_MAX, "a record's plaintext is bounded");
        let nonce = self.next_nonce();
        let (lead_bytes, inner_type) = (self.lead_bytes(), usize::from(self.form == Form::Tls13));
        let payload_bytes = lead_bytes - HEADER_BYTES + plain.len() + inner_type + TAG_BYTES;
        out.reserve(HEADER_BYTES + payload_bytes);
        let [high, low] = (payload_bytes as u16).to_be_bytes();
        let outer = if self.form == Form::Tls13 { ContentType::APPLICATION_DATA } else { content };
        let header = [outer.0, LEGACY_VERSION[0], LEGACY_VERSION[1], high, low];
        out.extend_from_slice(&header);
        if self.form == Form::Tls12Gcm {
            out.extend_from_slice(&nonce[4..]);
        }
        let start = out.len();
        out.extend_from_slice(plain);
        let sealed = match self.form {
            Form::Tls13 => {
                out.push(content.0);
                let nonce = Nonce::assume_unique_for_key(nonce);
                self.key.seal_in_place_separate_tag(nonce, Aad::from(header), &mut out[start..])
            }
            Form::Tls12Gcm | Form::Tls12ChaCha20 => {
                let aad = Aad::from(self.additional_data(content, plain.len()));
                let nonce = Nonce::assume_unique_for_key(nonce);
                self.key.seal_in_place_separate_tag(nonce, aad, &mut out[start..])
            }
        };
        out.extend_from_slice(sealed.expect("a record is far shorter than a cipher's limit").as_ref());
        self.sequence = self.sequence.checked_add(1).expect("a sequence number must not come again");
    }
}
