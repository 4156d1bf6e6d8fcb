//! What holds of TLS whatever arrives, during the handshake and after it. Used by the fuzz target and by `tests/fuzz.rs`.
//!
//! The first byte of the input chooses what is done with the rest:
//!
//! - *garbage*: it is what one end hears instead of a handshake. The splits change nothing, and little is said in answer;
//! - *tampering*: a handshake and data both ways, with the pieces, flipped bits and cuts that it names. What is heard is the
//!   beginning of what was said, all of it where nothing was touched;
//! - *forgery*: a peer that holds the keys and seals whatever it likes. What a server makes of it is what the records' plaintext
//!   says by a slow reading.
//!
//! Keys are drawn anew each time, so no two runs have the same bytes; the properties, and what brings them down, do not depend on
//! them.

#[path = "tls_forger.rs"]
mod forger;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use ringsock::limits::{HEADROOM_BYTES, TLS_HANDSHAKE_BYTES};
use ringsock::tls::{Cipher, Client, Fault, Identity, Offer, Server, Session, Trust, Version};
use rustls::pki_types::CertificateDer;

/// Of the bytes that an end may say to somebody who talks nonsense: an alert, or a whole flight of a server's.
const ANSWER_BYTES_MAX: usize = 8192;

struct Parties {
    server: Server,
    clients: Vec<Client>,
    certificate: CertificateDer<'static>,
}

static PARTIES: LazyLock<Parties> = LazyLock::new(|| {
    let identity = Identity::self_signed(IpAddr::V4(Ipv4Addr::LOCALHOST)).expect("random numbers");
    let certificate = identity.certificate().clone();
    let trust = Trust::Certificate(certificate.clone());
    let client = |version, cipher, resume| {
        trust
            .client("127.0.0.1", &Offer { version: Some(version), cipher: Some(cipher), resume })
            .expect("valid")
    };
    let clients = vec![
        client(Version::Tls13, Cipher::Aes128Gcm, false),
        client(Version::Tls13, Cipher::ChaCha20Poly1305, true),
        client(Version::Tls12, Cipher::Aes256Gcm, false),
        client(Version::Tls12, Cipher::ChaCha20Poly1305, true),
    ];
    Parties { server: identity.server().expect("a pair"), clients, certificate }
});

/// Panics when `data` breaks the property.
pub(crate) fn check(data: &[u8]) {
    let Some((&[what, cut], rest)) = data.split_first_chunk::<2>() else { return };
    let piece_bytes = usize::from(cut) + 1;
    match what % 4 {
        0 => garbage(what & 4 != 0, rest, piece_bytes),
        1 => tampering(usize::from(what >> 2) % 4, rest, piece_bytes),
        _ => forger::forgery(usize::from(what >> 2) % 2 == 1, rest, piece_bytes),
    }
}

// ---- garbage ----

fn garbage(to_client: bool, bytes: &[u8], piece_bytes: usize) {
    let hear = |piece_bytes: usize| {
        let mut out = Vec::new();
        let mut session = if to_client {
            Session::client(&PARTIES.clients[0], &mut out).expect("valid")
        } else {
            Session::server(&PARTIES.server).expect("valid")
        };
        let said_before = out.len();
        for piece in bytes.chunks(piece_bytes.max(1)) {
            match session.on_handshake(piece, &mut out) {
                Ok(None) => {}
                Ok(Some(secured)) => panic!("secured by garbage: {secured:?}"),
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    assert!(out.len() - said_before <= ANSWER_BYTES_MAX);
                    return Some(error);
                }
            }
        }
        assert!(bytes.len() <= TLS_HANDSHAKE_BYTES + (1 << 15), "waits for ever");
        None
    };
    let whole = hear(bytes.len());
    assert_eq!(hear(piece_bytes), whole, "in pieces of {piece_bytes}");
}

// ---- tampering ----

/// One end: what it said, what it heard, and whether that is over.
struct End {
    session: Session,
    is_secured: bool,
    is_over: bool,
    said: Vec<u8>,
    heard: Vec<u8>,
    /// For the wire.
    out: Vec<u8>,
    fault: Option<Fault>,
}

impl End {
    fn new(session: Session, out: Vec<u8>) -> Self {
        Self {
            session,
            is_secured: false,
            is_over: false,
            said: Vec::new(),
            heard: Vec::new(),
            out,
            fault: None,
        }
    }

    fn server() -> Self {
        Self::new(Session::server(&PARTIES.server).expect("valid"), Vec::new())
    }

    fn say(&mut self, plain: &[u8]) {
        if self.is_secured {
            self.session.seal(plain, &mut self.out);
            self.said.extend_from_slice(plain);
        }
    }

    fn on_bytes(&mut self, bytes: &[u8]) {
        if self.is_over {
            return;
        }
        if self.is_secured {
            return self.on_traffic(bytes);
        }
        match self.session.on_handshake(bytes, &mut self.out) {
            Ok(None) => {}
            Err(_) => self.is_over = true,
            Ok(Some(_)) => {
                self.is_secured = true;
                let kept = self.session.take_kept();
                if !kept.is_empty() {
                    self.on_records(kept);
                }
            }
        }
    }

    /// As the engines' layer does it.
    fn on_traffic(&mut self, bytes: &[u8]) {
        let (used_bytes, is_whole) = self.session.complete(bytes);
        if is_whole {
            let kept = self.session.take_kept();
            self.on_records(kept);
        }
        if used_bytes < bytes.len() && !self.is_over {
            self.on_records([&[0; HEADROOM_BYTES], &bytes[used_bytes..]].concat());
        }
    }

    fn on_records(&mut self, mut memory: Vec<u8>) {
        let range = HEADROOM_BYTES..memory.len();
        let opened = self.session.open_all(&mut memory, range.clone(), &mut self.out);
        let (plain, rest) = (opened.plain, opened.rest);
        assert!(plain.start >= range.start && plain.end <= rest.max(plain.start) && rest <= range.end);
        self.heard.extend_from_slice(&memory[plain]);
        match opened.end {
            None => self.session.keep(&memory[rest..]),
            Some(Ok(())) => self.is_over = true,
            Some(Err(fault)) => {
                self.session.tell(fault, &mut self.out);
                self.fault = Some(fault);
                self.is_over = true;
            }
        }
    }
}

fn tampering(client: usize, script: &[u8], piece_bytes: usize) {
    let mut hello = Vec::new();
    let session = Session::client(&PARTIES.clients[client], &mut hello).expect("valid");
    let mut ends = [End::new(session, hello), End::server()];
    let mut wires = [Vec::new(), Vec::new()];
    let (mut is_touched, mut is_closed) = (false, [false; 2]);
    for &[code, value] in script.as_chunks::<2>().0.iter().take(200) {
        let who = usize::from(code & 1);
        let wire: &mut Vec<u8> = &mut wires[who];
        match code >> 1 & 7 {
            0 if !wire.is_empty() => {
                let at = (usize::from(code >> 4) * 256 + usize::from(value)) % wire.len();
                wire[at] ^= 1 << (code >> 4 & 7);
                is_touched = true;
            }
            1 if code >= 0xC0 => {
                wire.truncate(usize::from(value));
                is_touched = true;
            }
            2 if code >= 0xC0 => {
                is_closed[who] = true;
                ends[who].session.close(&mut ends[who].out);
            }
            3 | 4 if !is_closed[who] => {
                let length = usize::from(value) << (code >> 4 & 7);
                ends[who].say(&vec![value; length]);
            }
            _ => carry(&mut ends, &mut wires, who, usize::from(value) * piece_bytes),
        }
    }
    for _ in 0..8 {
        carry(&mut ends, &mut wires, 0, usize::MAX);
        carry(&mut ends, &mut wires, 1, usize::MAX);
    }
    for (speaker, listener) in [(0, 1), (1, 0)].map(|(a, b)| (&ends[a], &ends[b])) {
        assert!(speaker.said.starts_with(&listener.heard), "heard what was not said");
        if !is_touched {
            assert!(listener.is_secured && listener.fault.is_none(), "a handshake nobody touched fails");
            assert!(listener.heard == speaker.said || listener.is_over, "not all of it was heard");
            assert_eq!(listener.heard.len(), speaker.said.len());
        }
    }
}

/// Takes up to `length` bytes from `from` to the other end.
fn carry(ends: &mut [End; 2], wires: &mut [Vec<u8>; 2], from: usize, length: usize) {
    for (end, wire) in ends.iter_mut().zip(&mut *wires) {
        wire.append(&mut end.out);
    }
    let length = length.min(wires[from].len());
    let piece: Vec<u8> = wires[from].drain(..length).collect();
    ends[1 - from].on_bytes(&piece);
    for (end, wire) in ends.iter_mut().zip(wires) {
        wire.append(&mut end.out);
    }
}
