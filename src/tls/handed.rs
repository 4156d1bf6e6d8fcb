//! A connection whose records somebody else opens and seals, who was given the keys: Linux, see [`crate::engine`].
//!
//! What is left here is what records without data mean; what has to be said and which keys follow is answered, and done by
//! whoever has the keys. How many records were sealed is not told: what is passed on is counted, in full records for each piece,
//! and when the keys have sealed all they may, the connection is to be closed. Deliberately absent: a change of our own keys that the
//! peer has not asked for, which would spare it that under TLS 1.3 on Linux 6.14 and newer; it comes after 256 GiB on one connection.

use rustls::ConnectionTrafficSecrets;

use super::Fault;
use super::control::{Control, NO_RENEGOTIATION, Secrets, UPDATE_NOT_REQUESTED, WARNING};
use super::record::{ContentType, FRAGMENT_BYTES_MAX};

/// What records are sealed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordCipher {
    /// AEAD_AES_128_GCM (RFC 5116).
    Aes128Gcm,
    /// AEAD_AES_256_GCM.
    Aes256Gcm,
    /// AEAD_CHACHA20_POLY1305 (RFC 8439).
    ChaCha20Poly1305,
}

impl RecordCipher {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];
}

/// The keys of one direction.
#[derive(Clone)]
pub struct TrafficKeys {
    /// TLS 1.3, otherwise 1.2.
    pub is_tls13: bool,
    /// What they are for.
    pub cipher: RecordCipher,
    /// 16 or 32 bytes.
    pub key: Vec<u8>,
    /// What nonces are made of. For AES-GCM of TLS 1.2: four secret bytes, then a number that neither it nor any above it was used
    /// yet as the part of a nonce that records carry.
    pub iv: [u8; 12],
    /// Of the next record.
    pub sequence: u64,
}

impl TrafficKeys {
    pub(super) fn new(is_tls13: bool, sequence: u64, secrets: &ConnectionTrafficSecrets) -> Option<Self> {
        use ConnectionTrafficSecrets::{Aes128Gcm, Aes256Gcm, Chacha20Poly1305};
        let (cipher, key, iv) = match secrets {
            Aes128Gcm { key, iv } => (RecordCipher::Aes128Gcm, key, iv),
            Aes256Gcm { key, iv } => (RecordCipher::Aes256Gcm, key, iv),
            Chacha20Poly1305 { key, iv } => (RecordCipher::ChaCha20Poly1305, key, iv),
            _ => return None,
        };
        let mut iv: [u8; 12] = iv.as_ref().try_into().ok()?;
        if !is_tls13 && cipher != RecordCipher::ChaCha20Poly1305 {
            let (_, explicit) = iv.split_last_chunk_mut().expect("four bytes more");
            *explicit = next_unused(u64::from_be_bytes(*explicit), sequence).to_be_bytes();
        }
        Some(Self { is_tls13, cipher, key: key.as_ref().to_vec(), iv, sequence })
    }
}

/// A number from which on (modulo 2^64) none of `first ^ 0`, `first ^ 1` ... `first ^ (count - 1)` comes for long: so far
/// records carried those, and whoever goes on counts up (RFC 5288, section 3: no nonce twice).
fn next_unused(first: u64, count: u64) -> u64 {
    // They all lie in one block of a power of two of numbers; behind that begins the next one.
    let block = count.next_power_of_two();
    (first | (block - 1)).wrapping_add(1)
}

/// What is to be done about a record without data.
#[derive(Default)]
pub struct Response {
    /// A record to be sent, under the keys there are: what it contains (RFC 8446, 5.1), and that.
    pub say: Option<(u8, Vec<u8>)>,
    /// Keys to seal with from then on.
    pub sealing: Option<TrafficKeys>,
    /// Keys to open with from the next record on.
    pub opening: Option<TrafficKeys>,
    /// The peer will send nothing more.
    pub end: bool,
}

/// See the module's text.
pub struct Handed {
    control: Control,
    /// Under these keys, as far as that can be told.
    sealed_count: u64,
    sealed_count_max: u64,
}

impl Handed {
    /// Of a connection whose keys have sealed `sealed_count` records, and may seal `sealed_count_max`.
    pub(super) fn new(control: Control, sealed_count: u64, sealed_count_max: u64) -> Self {
        Self { control, sealed_count, sealed_count_max }
    }

    /// Data has arrived.
    ///
    /// # Errors
    /// It came amid a handshake message.
    #[inline]
    pub fn on_data(&mut self) -> Result<(), Fault> {
        self.control.on_data()
    }

    /// Data was passed on to be sealed.
    #[inline]
    pub fn on_passed_on(&mut self, byte_count: usize) {
        self.sealed_count += byte_count.div_ceil(FRAGMENT_BYTES_MAX) as u64;
    }

    /// Whether its keys have sealed as many records as they may: the connection is to be closed.
    #[inline]
    pub fn is_used_up(&self) -> bool {
        self.sealed_count >= self.sealed_count_max
    }

    /// A record of kind `content` has arrived that brings no data.
    ///
    /// # Errors
    /// The peer is at fault, or says that we are.
    pub fn on_record(&mut self, content: u8, plain: &[u8]) -> Result<Response, Fault> {
        let told = self.control.on_record(ContentType(content), plain)?;
        let mut response = Response { end: told.end, ..Response::default() };
        let keys = |(sequence, secrets): Secrets| {
            TrafficKeys::new(true, sequence, &secrets).ok_or(Fault::UnexpectedMessage)
        };
        response.opening = told.opening.map(keys).transpose()?;
        if told.wants_update {
            response.say = Some((ContentType::HANDSHAKE.0, UPDATE_NOT_REQUESTED.to_vec()));
            response.sealing = Some(keys(self.control.next_sealing())?);
            self.sealed_count = 0;
        }
        if told.wants_handshake {
            response.say = Some((ContentType::ALERT.0, vec![WARNING, NO_RENEGOTIATION]));
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_nonce_that_a_record_carried_comes_again() {
        for first in [0, 1, 2, 5, 0xFF, 0x1234_5678_9ABC_DEF7, u64::MAX - 1, u64::MAX] {
            for count in 0..70 {
                let next = next_unused(first, count);
                let used: Vec<u64> = (0..count).map(|sequence| first ^ sequence).collect();
                for ahead in 0..1000_u64 {
                    let nonce = next.wrapping_add(ahead);
                    assert!(!used.contains(&nonce), "{nonce} again, of {first} and {count} records");
                }
            }
        }
    }
}
