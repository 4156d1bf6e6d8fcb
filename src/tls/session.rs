//! One connection's TLS: bytes in, plaintext and bytes out.
//!
//! [`Session::on_handshake`] is given what arrives until it says that the handshake is over; from then on
//! [`Session::open_all`] opens records where they lie and [`Session::seal`] appends records to an output buffer.
//!
//! Invariants: rustls sees no record behind the one that ends the handshake, so none of its own record layer's state is
//! lost when its keys are taken over; of a peer that broke the rules nothing more is opened; what the peer can make us
//! keep is bounded (one record, one handshake message).

use std::ops::Range;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CommonState, ConnectionTrafficSecrets, ExtractedSecrets, HandshakeKind, ProtocolVersion};

use super::control::{CLOSE_NOTIFY, Control, FATAL, Kernel, NO_RENEGOTIATION, UPDATE_NOT_REQUESTED, WARNING};
use super::handed::{Handed, TrafficKeys};
use super::record::{self, ContentType, FRAGMENT_BYTES_MAX, Keys};
use super::{Client, Error, Fault, Server};
use crate::limits::{HEADROOM_BYTES, TLS_HANDSHAKE_BYTES, TLS_RECORDS_PER_KEY};

/// What a handshake came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secured {
    /// As `TLS 1.3`.
    pub version: &'static str,
    /// By its registered name, as `TLS13_AES_128_GCM_SHA256`.
    pub cipher_suite: String,
    /// By a ticket of an earlier connection.
    pub resumed: bool,
}

/// What a number of records held.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// Where their data lies, without gaps.
    pub plain: Range<usize>,
    /// Where what was not opened begins: the part of a record, as a rule.
    pub rest: usize,
    /// Nothing follows: the peer said so, or is at fault.
    pub end: Option<Result<(), Fault>>,
}

/// See the module's text.
pub struct Session {
    state: State,
    /// What arrived and could not be processed alone: behind [`HEADROOM_BYTES`] free ones, if anything.
    kept: Vec<u8>,
    /// Of what is kept, rustls was shown so much; it wants to see again what it did not take.
    shown_bytes: usize,
    /// Of the handshake's records.
    handshake_bytes: usize,
    /// See [`Session::keep_secrets`].
    keeps_secrets: bool,
    /// See [`Session::bound_keys`].
    records_per_key: u64,
}

enum State {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
    Open(Box<Traffic>),
    Failed,
}

/// What one step of rustls asks for.
enum Step {
    Again,
    MoreBytes,
    MaySend,
}

impl Session {
    /// A server's.
    ///
    /// # Errors
    /// rustls does not like its configuration.
    pub fn server(server: &Server) -> Result<Self, Error> {
        let connection = UnbufferedServerConnection::new(server.0.clone()).map_err(Error::handshake)?;
        Ok(Self::new(State::Server(Box::new(connection))))
    }

    /// A client's; what it has to say first is appended to `out`.
    ///
    /// # Errors
    /// rustls does not like its configuration.
    pub fn client(client: &Client, out: &mut Vec<u8>) -> Result<Self, Error> {
        let connection = UnbufferedClientConnection::new(client.config.clone(), client.name.clone());
        let connection = connection.map_err(Error::handshake)?;
        let mut session = Self::new(State::Client(Box::new(connection)));
        session.advance(out)?;
        Ok(session)
    }

    fn new(state: State) -> Self {
        Self {
            state,
            kept: Vec::new(),
            shown_bytes: 0,
            handshake_bytes: 0,
            keeps_secrets: false,
            records_per_key: TLS_RECORDS_PER_KEY,
        }
    }

    /// Before the handshake: has AES-GCM keys seal so many records at most, instead of
    /// [`TLS_RECORDS_PER_KEY`](crate::limits::TLS_RECORDS_PER_KEY).
    pub fn bound_keys(&mut self, records_per_key: u64) {
        self.records_per_key = records_per_key;
    }

    /// Goes on with the handshake: `bytes` have arrived, the answer is appended to `out`. Once it is over, what has arrived
    /// behind it is to be had from [`Session::take_kept`].
    ///
    /// # Errors
    /// It has failed; what the peer should be told is in `out`.
    pub fn on_handshake(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<Secured>, Error> {
        self.keep(bytes);
        let result = self.feed(out);
        if result.is_err() {
            self.state = State::Failed;
            self.kept = Vec::new();
        }
        result
    }

    /// Whether the handshake cannot go on until more has come than was kept.
    pub fn awaits_more(&self) -> bool {
        matches!(self.next_record(), Ok(None))
    }

    /// How long the record is that rustls is to be shown next, if all of it has come.
    fn next_record(&self) -> Result<Option<usize>, Error> {
        let unseen = self.kept.get(HEADROOM_BYTES + self.shown_bytes..).unwrap_or_default();
        // Handshake, alerts, and what middleboxes are appeased with: anything else is another protocol.
        if unseen.first().is_some_and(|first| !(20..=23).contains(first)) {
            return Err(Error::NotTls);
        }
        let length = record::length(unseen).map_err(|_| Error::NotTls)?;
        Ok(length.filter(|&length| length <= unseen.len()))
    }

    /// Shows rustls what is kept, record by record.
    fn feed(&mut self, out: &mut Vec<u8>) -> Result<Option<Secured>, Error> {
        loop {
            let Some(length) = self.next_record()? else { return Ok(None) };
            self.shown_bytes += length;
            self.handshake_bytes += length;
            if self.handshake_bytes > TLS_HANDSHAKE_BYTES {
                return Err(Error::TooLong);
            }
            if self.advance(out)? {
                return self.take_over().map(Some);
            }
        }
    }

    /// Has rustls look at what it was shown, until it wants more; whether the handshake is over.
    fn advance(&mut self, out: &mut Vec<u8>) -> Result<bool, Error> {
        loop {
            let shown = &mut self.kept[..];
            let shown = shown.get_mut(HEADROOM_BYTES..HEADROOM_BYTES + self.shown_bytes).unwrap_or_default();
            let (taken_bytes, step) = match &mut self.state {
                State::Client(connection) => step(connection.process_tls_records(shown), out),
                State::Server(connection) => step(connection.process_tls_records(shown), out),
                State::Open(_) | State::Failed => return Ok(false),
            };
            let is_over = match &self.state {
                State::Client(connection) => !connection.is_handshaking(),
                State::Server(connection) => !connection.is_handshaking(),
                State::Open(_) | State::Failed => false,
            };
            if taken_bytes > 0 {
                self.kept.drain(HEADROOM_BYTES..HEADROOM_BYTES + taken_bytes);
                self.shown_bytes -= taken_bytes;
            }
            match step {
                Ok(Step::Again) => {}
                Ok(Step::MoreBytes) => return Ok(false),
                Ok(Step::MaySend) => return Ok(is_over),
                Err(error) => {
                    self.take_alert(out);
                    return Err(Error::handshake(error));
                }
            }
        }
    }

    /// What rustls has to say of a failure: one record, if any. It still has to be shown what it did not take.
    fn take_alert(&mut self, out: &mut Vec<u8>) {
        let shown = &mut self.kept[..];
        let shown = shown.get_mut(HEADROOM_BYTES..HEADROOM_BYTES + self.shown_bytes).unwrap_or_default();
        // Whatever it says beyond that, it has failed already.
        let _ = match &mut self.state {
            State::Client(connection) => step(connection.process_tls_records(shown), out),
            State::Server(connection) => step(connection.process_tls_records(shown), out),
            State::Open(_) | State::Failed => return,
        };
    }

    /// The handshake is over: from here on records are ours.
    fn take_over(&mut self) -> Result<Secured, Error> {
        let (secrets, kernel, secured) = match std::mem::replace(&mut self.state, State::Failed) {
            State::Client(connection) => {
                let secured = Secured::of(&connection);
                let taken = connection.dangerous_into_kernel_connection().map_err(Error::handshake)?;
                (taken.0, Kernel::Client(taken.1), secured)
            }
            State::Server(connection) => {
                let secured = Secured::of(&connection);
                let taken = connection.dangerous_into_kernel_connection().map_err(Error::handshake)?;
                (taken.0, Kernel::Server(taken.1), secured)
            }
            State::Open(_) | State::Failed => unreachable!("its handshake has just ended"),
        };
        self.state = State::Open(Box::new(self.traffic(secrets, kernel)?));
        if self.kept.len() <= HEADROOM_BYTES {
            // Nothing has come behind it, and idle connections are to be small.
            self.kept = Vec::new();
        }
        Ok(secured)
    }

    fn traffic(&self, secrets: ExtractedSecrets, kernel: Kernel) -> Result<Traffic, Error> {
        Traffic::new(secrets, kernel, self.keeps_secrets, self.records_per_key)
    }

    // ---- after the handshake ----

    /// Takes out what was kept: records behind the handshake, or one that has been completed. The bytes begin behind
    /// [`HEADROOM_BYTES`] free ones; empty if there are none.
    pub fn take_kept(&mut self) -> Vec<u8> {
        if self.kept.len() > HEADROOM_BYTES { std::mem::take(&mut self.kept) } else { Vec::new() }
    }

    /// Keeps the beginning of a record until the rest has come.
    pub fn keep(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.kept.is_empty() {
            let record_bytes = record::length(bytes).ok().flatten().unwrap_or_default();
            self.kept.reserve(HEADROOM_BYTES + bytes.len().max(record_bytes));
            self.kept.resize(HEADROOM_BYTES, 0);
        }
        self.kept.extend_from_slice(bytes);
    }

    /// Completes the record that is kept, if any, with as many of `bytes` as it lacks, and says how many these are; whether
    /// it is whole then. One that is too long counts as whole: opening it says so.
    #[inline]
    pub fn complete(&mut self, bytes: &[u8]) -> (usize, bool) {
        if self.kept.is_empty() {
            return (0, false);
        }
        self.complete_kept(bytes)
    }

    #[cold]
    fn complete_kept(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut used_bytes = 0;
        loop {
            let kept = &self.kept[HEADROOM_BYTES..];
            let (target, is_length) = match record::length(kept) {
                Ok(Some(length)) => (length, true),
                Ok(None) => (record::HEADER_BYTES, false),
                Err(_) => return (used_bytes, true),
            };
            let wanted_bytes = (target - kept.len()).min(bytes.len() - used_bytes);
            self.kept.extend_from_slice(&bytes[used_bytes..used_bytes + wanted_bytes]);
            used_bytes += wanted_bytes;
            let is_there = self.kept.len() - HEADROOM_BYTES == target;
            if !is_there || is_length {
                return (used_bytes, is_there);
            }
        }
    }

    /// Opens all records that lie whole in `memory[range]`; their data moves together there. Answers to the peer's messages
    /// are appended to `out`.
    ///
    /// # Panics
    /// Before the handshake is over.
    #[inline]
    pub fn open_all(&mut self, memory: &mut [u8], range: Range<usize>, out: &mut Vec<u8>) -> Opened {
        match &mut self.state {
            State::Open(traffic) => traffic.open_all(memory, range, out),
            _ => panic!("records are opened after the handshake"),
        }
    }

    /// Appends `plain` in as few records as can be; nothing where there is no way to send it any more. Afterwards
    /// [`Session::is_used_up`] is to be asked.
    #[inline]
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        if let State::Open(traffic) = &mut self.state {
            traffic.seal(plain, out);
        }
    }

    /// Whether its keys have sealed as many records as they may, and no others follow on them: TLS 1.2 has no change of keys but by
    /// another handshake, which is refused here. So the connection is to be closed (RFC 9325, 4.4). What [`Session::seal`] was
    /// given is sealed whole nevertheless: up to the bound itself there are as many again, nearly.
    #[inline]
    pub fn is_used_up(&self) -> bool {
        matches!(&self.state, State::Open(traffic) if traffic.is_used_up())
    }

    /// Says that nothing more will be sent (RFC 8446, 6.1), once.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if let State::Open(traffic) = &mut self.state {
            traffic.close(out);
        }
    }

    // ---- handing it over ----

    /// Before the handshake: has its keys be kept as they are, to be handed over later.
    pub fn keep_secrets(&mut self) {
        self.keeps_secrets = true;
    }

    /// What whoever takes it over has to seal and to open with, if this is a moment for it: everything that was received has been
    /// opened, and nothing has been received in part. `None` too where the keys have not been kept, or have changed since.
    pub fn keys(&self) -> Option<(TrafficKeys, TrafficKeys)> {
        match &self.state {
            State::Open(traffic) if !self.has_kept() => traffic.keys(),
            _ => None,
        }
    }

    /// Whether a record has come in part.
    pub fn has_kept(&self) -> bool {
        self.kept.len() > HEADROOM_BYTES
    }

    /// Forgets what [`Session::keep_secrets`] had kept: it is not handed over.
    pub fn forget_secrets(&mut self) {
        if let State::Open(traffic) = &mut self.state {
            traffic.secrets = None;
        }
    }

    /// What is left of it once it has been taken over.
    ///
    /// # Panics
    /// Before the handshake is over.
    pub fn into_handed(self) -> Handed {
        match self.state {
            State::Open(traffic) => {
                let Traffic { control, sealing, records_per_key, .. } = *traffic;
                let record_count_max = if sealing.is_bounded() { records_per_key } else { u64::MAX };
                Handed::new(control, sealing.sequence(), record_count_max)
            }
            _ => panic!("a session is handed over after the handshake"),
        }
    }

    /// Tells the peer of its fault, unless it was told that we are done.
    pub fn tell(&mut self, fault: Fault, out: &mut Vec<u8>) {
        if let State::Open(traffic) = &mut self.state {
            traffic.tell(fault, out);
        }
    }
}

impl Secured {
    fn of(connection: &CommonState) -> Self {
        Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
                _ => "TLS 1.3",
            },
            cipher_suite: connection
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or_default()
                .to_owned(),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

/// Does what rustls asks for next; how many of the bytes shown to it are done with.
fn step<Side>(
    status: UnbufferedStatus<'_, '_, Side>,
    out: &mut Vec<u8>,
) -> (usize, Result<Step, rustls::Error>) {
    let step = status.state.and_then(|state| match state {
        ConnectionState::EncodeTlsData(mut flight) => {
            let start = out.len();
            if let Err(EncodeError::InsufficientSize(needed)) = flight.encode(&mut []) {
                out.resize(start + needed.required_size, 0);
            }
            flight.encode(&mut out[start..]).expect("there is as much room as it asked for");
            Ok(Step::Again)
        }
        ConnectionState::TransmitTlsData(flight) => {
            flight.done();
            Ok(Step::Again)
        }
        ConnectionState::BlockedHandshake => Ok(Step::MoreBytes),
        ConnectionState::WriteTraffic(_) => Ok(Step::MaySend),
        // Of 0-RTT data, which is not offered, or of a peer that hangs up before there was anything.
        _ => Err(rustls::Error::HandshakeNotComplete),
    });
    (status.discard, step)
}

/// A secured connection.
struct Traffic {
    opening: Keys,
    sealing: Keys,
    control: Control,
    /// What these keys were made of, to seal and to open, while they may have to be handed over.
    secrets: Option<Box<(ConnectionTrafficSecrets, ConnectionTrafficSecrets)>>,
    is_closed: bool,
    /// See [`Session::bound_keys`].
    records_per_key: u64,
}

impl Traffic {
    fn new(
        secrets: ExtractedSecrets,
        kernel: Kernel,
        keeps_secrets: bool,
        records_per_key: u64,
    ) -> Result<Self, Error> {
        let control = Control::new(kernel);
        let is_tls13 = control.is_tls13();
        let unknown = || Error::handshake(rustls::Error::General("an unknown cipher".to_owned()));
        let ExtractedSecrets { rx, tx } = secrets;
        let mut traffic = Self {
            opening: Keys::new(is_tls13, rx.0, &rx.1).ok_or_else(unknown)?,
            sealing: Keys::new(is_tls13, tx.0, &tx.1).ok_or_else(unknown)?,
            control,
            secrets: None,
            is_closed: false,
            records_per_key,
        };
        if keeps_secrets {
            traffic.secrets = Some(Box::new((tx.1, rx.1)));
        }
        Ok(traffic)
    }

    fn open_all(&mut self, memory: &mut [u8], range: Range<usize>, out: &mut Vec<u8>) -> Opened {
        let start = (range.start + self.opening.lead_bytes()).min(range.end);
        let (mut at, mut to, mut end) = (range.start, start, None);
        while end.is_none() {
            let length = match record::length(&memory[at..range.end]) {
                Ok(Some(length)) if length <= range.end - at => length,
                Ok(_) => break,
                Err(fault) => {
                    end = Some(Err(fault));
                    break;
                }
            };
            match self.opening.open(memory, at, length, to) {
                Ok((ContentType::APPLICATION_DATA, plain_bytes @ 1..)) => match self.control.on_data() {
                    Ok(()) => to += plain_bytes,
                    Err(fault) => end = Some(Err(fault)),
                },
                Ok((content, plain_bytes)) => {
                    let plain = &memory[to..to + plain_bytes];
                    end = self.on_other(content, plain, out).transpose();
                }
                Err(fault) => end = Some(Err(fault)),
            }
            at += length;
        }
        Opened { plain: start..to, rest: at.min(range.end), end }
    }

    /// A record that brings no data; something where the peer will send nothing more.
    #[cold]
    fn on_other(
        &mut self,
        content: ContentType,
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<()>, Fault> {
        let told = self.control.on_record(content, plain)?;
        if let Some((sequence, secrets)) = told.opening {
            self.opening = Keys::new(true, sequence, &secrets).ok_or(Fault::UnexpectedMessage)?;
            self.secrets = None;
        }
        if told.wants_update {
            self.update_sealing_keys(out);
        }
        if told.wants_handshake {
            self.sealing.seal(ContentType::ALERT, &[WARNING, NO_RENEGOTIATION], out);
        }
        Ok(told.end.then_some(()))
    }

    /// Says so, and seals with new keys from then on (RFC 8446, 4.6.3).
    fn update_sealing_keys(&mut self, out: &mut Vec<u8>) {
        if self.is_closed {
            return;
        }
        let (sequence, secrets) = self.control.next_sealing();
        self.sealing.seal(ContentType::HANDSHAKE, &UPDATE_NOT_REQUESTED, out);
        self.sealing = Keys::new(true, sequence, &secrets).expect("a cipher that was known before");
        self.secrets = None;
    }

    /// See [`Session::keys`].
    fn keys(&self) -> Option<(TrafficKeys, TrafficKeys)> {
        let (sealing, opening) = &**self.secrets.as_ref()?;
        if !self.control.is_between_messages() || self.is_closed {
            return None;
        }
        let is_tls13 = self.control.is_tls13();
        let sealing = TrafficKeys::new(is_tls13, self.sealing.sequence(), sealing)?;
        Some((sealing, TrafficKeys::new(is_tls13, self.opening.sequence(), opening)?))
    }

    #[inline]
    fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        if self.is_closed {
            return;
        }
        for fragment in plain.chunks(FRAGMENT_BYTES_MAX) {
            if self.has_sealed_all() && self.control.is_tls13() {
                self.update_sealing_keys(out);
            }
            self.sealing.seal(ContentType::APPLICATION_DATA, fragment, out);
        }
    }

    #[inline]
    fn has_sealed_all(&self) -> bool {
        self.sealing.sequence() >= self.records_per_key && self.sealing.is_bounded()
    }

    /// See [`Session::is_used_up`].
    #[inline]
    fn is_used_up(&self) -> bool {
        self.has_sealed_all() && !self.control.is_tls13()
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.is_closed, true) {
            self.sealing.seal(ContentType::ALERT, &[WARNING, CLOSE_NOTIFY], out);
        }
    }

    /// Tells the peer what it did.
    fn tell(&mut self, fault: Fault, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.is_closed, true)
            && let Some(description) = fault.alert()
        {
            self.sealing.seal(ContentType::ALERT, &[FATAL, description], out);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::tls::{Cipher, Identity, Offer, Trust, Version};

    /// A client and a server that have shaken hands.
    fn pair(version: Version, cipher: Cipher, records_per_key: u64) -> (Session, Session) {
        let identity = Identity::self_signed(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        let trust = Trust::Certificate(identity.certificate().clone());
        let offer = Offer { version: Some(version), cipher: Some(cipher), resume: false };
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        let mut client =
            Session::client(&trust.client("127.0.0.1", &offer).unwrap(), &mut to_server).unwrap();
        let mut server = Session::server(&identity.server().unwrap()).unwrap();
        client.bound_keys(records_per_key);
        let mut is_over = [false; 2];
        for _ in 0..4 {
            is_over[0] |=
                server.on_handshake(&std::mem::take(&mut to_server), &mut to_client).unwrap().is_some();
            if !is_over[1] {
                let flight = std::mem::take(&mut to_client);
                is_over[1] = client.on_handshake(&flight, &mut to_server).unwrap().is_some();
            }
        }
        assert_eq!(is_over, [true; 2]);
        (client, server)
    }

    fn traffic(session: &mut Session) -> &mut Traffic {
        match &mut session.state {
            State::Open(traffic) => traffic,
            _ => panic!("its handshake is over"),
        }
    }

    /// What `server` makes of records.
    fn open(server: &mut Session, records: &[u8]) -> (Vec<u8>, Option<Result<(), Fault>>) {
        let mut memory = [&[0; HEADROOM_BYTES], records].concat();
        let range = HEADROOM_BYTES..memory.len();
        let opened = server.open_all(&mut memory, range, &mut Vec::new());
        (memory[opened.plain].to_vec(), opened.end)
    }

    #[test]
    fn between_the_records_of_a_handshake_message_there_are_no_others() {
        for (content, plain) in
            [(ContentType::APPLICATION_DATA, &b"data"[..]), (ContentType::ALERT, &[WARNING, CLOSE_NOTIFY])]
        {
            let (mut client, mut server) = pair(Version::Tls13, Cipher::Aes128Gcm, u64::MAX);
            let (mut out, keys) = (Vec::new(), &mut traffic(&mut client).sealing);
            keys.seal(ContentType::APPLICATION_DATA, b"before", &mut out);
            keys.seal(ContentType::HANDSHAKE, &UPDATE_NOT_REQUESTED[..2], &mut out);
            keys.seal(content, plain, &mut out);
            assert_eq!(open(&mut server, &out), (b"before".to_vec(), Some(Err(Fault::UnexpectedMessage))));
        }
        // In parts, and nothing between: it is followed.
        let (mut client, mut server) = pair(Version::Tls13, Cipher::Aes128Gcm, u64::MAX);
        let mut out = Vec::new();
        let sender = traffic(&mut client);
        sender.sealing.seal(ContentType::HANDSHAKE, &UPDATE_NOT_REQUESTED[..2], &mut out);
        sender.sealing.seal(ContentType::HANDSHAKE, &UPDATE_NOT_REQUESTED[2..], &mut out);
        let (sequence, secrets) = sender.control.next_sealing();
        sender.sealing = Keys::new(true, sequence, &secrets).unwrap();
        client.seal(b"after", &mut out);
        assert_eq!(open(&mut server, &out), (b"after".to_vec(), None));
    }

    #[test]
    fn keys_of_tls13_are_changed_in_time_and_those_of_tls12_are_told_to_be_used_up() {
        for (version, cipher, ends) in [
            (Version::Tls13, Cipher::Aes128Gcm, false),
            (Version::Tls13, Cipher::ChaCha20Poly1305, false),
            (Version::Tls12, Cipher::Aes128Gcm, true),
            (Version::Tls12, Cipher::Aes256Gcm, true),
            (Version::Tls12, Cipher::ChaCha20Poly1305, false),
        ] {
            // The first record of TLS 1.2 ends its handshake.
            let (mut client, mut server) = pair(version, cipher, 5);
            let mut out = Vec::new();
            let mut sealed = 0;
            while sealed < 20 && !client.is_used_up() {
                client.seal(&[sealed], &mut out);
                sealed += 1;
            }
            assert_eq!(client.is_used_up(), ends, "{version:?} {cipher:?}");
            assert_eq!(sealed, if ends { 4 } else { 20 }, "{version:?} {cipher:?}");
            let (heard, end) = open(&mut server, &out);
            assert_eq!((heard, end), ((0..sealed).collect::<Vec<u8>>(), None), "{version:?} {cipher:?}");
            if cipher != Cipher::ChaCha20Poly1305 {
                assert!(traffic(&mut client).sealing.sequence() <= 5, "{version:?} {cipher:?}");
            }
        }
    }

    #[test]
    fn what_the_kernel_seals_is_counted_and_ends() {
        for (cipher, ends) in [(Cipher::Aes128Gcm, true), (Cipher::ChaCha20Poly1305, false)] {
            let (mut client, _) = pair(Version::Tls13, cipher, 5);
            client.seal(b"by this process", &mut Vec::new());
            let mut handed = client.into_handed();
            handed.on_passed_on(2 * FRAGMENT_BYTES_MAX + 1);
            assert!(!handed.is_used_up());
            handed.on_passed_on(1);
            assert_eq!(handed.is_used_up(), ends, "{cipher:?}");
        }
    }
}
