//! A client that shakes hands as it should, and then seals whatever records it likes, against a server's session.
//!
//! The slow reading of them ([`Reading`]) knows each record's content type and plaintext, and what RFC 8446 (5.1, 6, 4.6) and RFC
//! 5246 (7.2) make of it, as far as it matters here: where the data ends, and that a fault is one where it must be. Changes of keys
//! are left out: a forger that changes its own keys would have to be TLS.

use std::io::Read;
use std::sync::{Arc, LazyLock};

use ring::aead::{self, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ringsock::tls::Fault;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets, RootCertStore};

use super::{End, PARTIES};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const RECORDS_MAX: usize = 150;

/// TLS 1.3 and TLS 1.2, each with AES-128-GCM.
static CONFIGS: LazyLock<[Arc<ClientConfig>; 2]> = LazyLock::new(|| {
    let suites =
        [cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];
    suites.map(|suite| {
        let provider = rustls::crypto::CryptoProvider { cipher_suites: vec![suite], ..default_provider() };
        let mut roots = RootCertStore::empty();
        roots.add(PARTIES.certificate.clone()).expect("our own");
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_protocol_versions(&[suite_version(suite)]).expect("it has the version");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.enable_secret_extraction = true;
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    })
});

fn suite_version(suite: rustls::SupportedCipherSuite) -> &'static rustls::SupportedProtocolVersion {
    if suite.tls13().is_some() { &rustls::version::TLS13 } else { &rustls::version::TLS12 }
}

/// Seals records of any content.
struct Forger {
    is_tls13: bool,
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

impl Forger {
    /// Shakes hands with `server`.
    fn new(is_tls13: bool, server: &mut End) -> Self {
        let config = Arc::clone(&CONFIGS[usize::from(!is_tls13)]);
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        let mut client = ClientConnection::new(config, name).expect("valid");
        while client.is_handshaking() || client.wants_write() || !server.out.is_empty() {
            let mut flight = Vec::new();
            client.write_tls(&mut flight).expect("memory takes it");
            server.on_bytes(&flight);
            let answer = std::mem::take(&mut server.out);
            let mut answer = &answer[..];
            while !answer.is_empty() {
                client.read_tls(&mut answer as &mut dyn Read).expect("memory gives it");
                client.process_new_packets().expect("our server is sound");
            }
        }
        assert!(server.is_secured);
        let (sequence, secrets) = client.dangerous_extract_secrets().expect("the handshake is over").tx;
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else { panic!("another cipher") };
        let key = LessSafeKey::new(UnboundKey::new(&aead::AES_128_GCM, key.as_ref()).expect("its length"));
        Self { is_tls13, key, iv: iv.as_ref().try_into().expect("its length"), sequence }
    }

    /// One record. `padding`: zeros behind the content, which TLS 1.3 alone has.
    fn seal(&mut self, content: u8, plain: &[u8], padding: usize) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, of_sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= of_sequence;
        }
        let mut inner = plain.to_vec();
        let (outer, explicit) = if self.is_tls13 {
            inner.push(content);
            inner.resize(inner.len() + padding, 0);
            (APPLICATION_DATA, &[][..])
        } else {
            (content, &nonce[4..])
        };
        let [high, low] = ((explicit.len() + inner.len() + 16) as u16).to_be_bytes();
        let header = [outer, 3, 3, high, low];
        let explicit = explicit.to_vec();
        let mut of_tls12 = self.sequence.to_be_bytes().to_vec();
        of_tls12.extend([content, 3, 3]);
        of_tls12.extend((plain.len() as u16).to_be_bytes());
        let aad = if self.is_tls13 { &header[..] } else { &of_tls12 };
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut inner)
            .expect("short enough");
        self.sequence += 1;
        [&header[..], &explicit, &inner].concat()
    }
}

/// What the records come to, read one by one.
#[derive(Default)]
struct Reading {
    data: Vec<u8>,
    /// Nothing is read any more: by a farewell, or by a fault.
    end: Option<Result<(), Option<Fault>>>,
    messages: Vec<u8>,
    without_data_count: u32,
}

impl Reading {
    fn read(&mut self, is_tls13: bool, content: u8, plain: &[u8], padding: usize) {
        if self.end.is_some() {
            return;
        }
        if plain.len() + padding > 1 << 14 {
            return self.fail(Some(Fault::RecordOverflow));
        }
        if is_tls13 && !self.messages.is_empty() && content != HANDSHAKE {
            return self.fail(Some(Fault::UnexpectedMessage));
        }
        if content == APPLICATION_DATA && !plain.is_empty() {
            self.without_data_count = 0;
            return self.data.extend_from_slice(plain);
        }
        self.without_data_count += 1;
        if self.without_data_count > 32 {
            return self.fail(Some(Fault::NoData));
        }
        match (content, plain) {
            (APPLICATION_DATA, _) => {}
            (ALERT, [_, 0]) => self.end = Some(Ok(())),
            (ALERT, [_, 90]) if is_tls13 => {}
            (ALERT, [1, _]) if !is_tls13 => {}
            (ALERT, [_, description]) => self.fail(Some(Fault::Alert(*description))),
            (HANDSHAKE, [_, ..]) => self.read_messages(is_tls13, plain),
            _ => self.fail(Some(Fault::UnexpectedMessage)),
        }
    }

    /// Whole ones are refused, but for a ClientHello of TLS 1.2, which is turned down; parts are waited for.
    fn read_messages(&mut self, is_tls13: bool, plain: &[u8]) {
        self.messages.extend_from_slice(plain);
        while let [kind, high, middle, low, rest @ ..] = &self.messages[..] {
            let body_bytes = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if body_bytes > (1 << 16) + 1024 {
                return self.fail(Some(Fault::UnexpectedMessage));
            }
            if rest.len() < body_bytes {
                return;
            }
            if *kind == 24 && is_tls13 && body_bytes == 1 && rest.len() == 1 && rest[0] <= 1 {
                // The forger's next record is sealed with keys that are no longer those.
                self.end = Some(Err(None));
                return;
            }
            if *kind != 1 || is_tls13 {
                return self.fail(Some(Fault::UnexpectedMessage));
            }
            let done_bytes = 4 + body_bytes;
            self.messages.drain(..done_bytes);
        }
    }

    fn fail(&mut self, fault: Option<Fault>) {
        self.end = Some(Err(fault));
    }
}

/// Each record is made of some bytes of the script: what it holds, how much, and the content's first bytes.
pub(super) fn forgery(is_tls13: bool, mut script: &[u8], piece_bytes: usize) {
    let mut server = End::server();
    let mut forger = Forger::new(is_tls13, &mut server);
    let mut reading = Reading::default();
    let mut wire = Vec::new();
    for _ in 0..RECORDS_MAX {
        let Some((&[what, length], rest)) = script.split_first_chunk::<2>() else { break };
        let given_bytes = usize::from(length & 15).min(rest.len());
        let (given, rest) = rest.split_at(given_bytes);
        script = rest;
        let content =
            [APPLICATION_DATA, ALERT, HANDSHAKE, APPLICATION_DATA, 20, 24, 0, 23][usize::from(what & 7)];
        // A content type of 0 is padding in TLS 1.3, so the type would be the plaintext's last byte: nothing to seal.
        let content = if content == 0 { 99 } else { content };
        let mut plain = given.to_vec();
        if what & 8 != 0 {
            let more_bytes =
                if what & 128 != 0 { 16_380 + usize::from(length >> 4) } else { usize::from(length) * 4 };
            plain.resize(plain.len() + more_bytes, length);
        }
        let padding = if is_tls13 { usize::from(what >> 4 & 3) * 50 } else { 0 };
        // No longer than a record may be; what may not be that long as plaintext is in.
        let padding = padding.min((16_384 + 240_usize).saturating_sub(plain.len()));
        let mut record = forger.seal(content, &plain, padding);
        if what & 64 != 0 {
            let at = 5 + usize::from(length) % (record.len() - 5);
            record[at] ^= 1 << (what & 7);
            if reading.end.is_none() {
                reading.fail(Some(Fault::BadRecordMac));
            }
        } else {
            reading.read(is_tls13, content, &plain, padding);
        }
        wire.extend(record);
    }
    for piece in wire.chunks(piece_bytes * 8) {
        server.on_bytes(piece);
    }
    assert!(server.heard == reading.data, "{} bytes heard, not {}", server.heard.len(), reading.data.len());
    match reading.end {
        None => assert!(!server.is_over && server.fault.is_none(), "ended by {:?}", server.fault),
        Some(Ok(())) => assert!(server.is_over && server.fault.is_none(), "ended by {:?}", server.fault),
        // After a change of keys there is nothing more to read, or what is there is not sealed with them.
        Some(Err(None)) => assert!(matches!(server.fault, None | Some(Fault::BadRecordMac))),
        Some(fault) => assert_eq!(server.fault, fault.err().flatten()),
    }
    assert!(server.out.len() <= 1000, "it says {} bytes to a forger", server.out.len());
}
