//! What records without data mean, after the handshake: alerts, tickets, changes of keys.
//!
//! The same whoever opens the records, this process or the kernel: [`Control::on_record`] says what follows, and its caller
//! does it. Invariants: what the peer can make us keep is bounded (one handshake message); of records that bring nothing
//! only so many may follow each other.

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, ProtocolVersion};

use super::Fault;
use super::record::ContentType;

/// Records that bring no data, one after the other: more than any peer has reason for.
const RECORDS_WITHOUT_DATA_MAX: u32 = 32;
/// Longest message after the handshake: a ticket is at most 64 KiB long (RFC 8446, 4.6.1).
const MESSAGE_BYTES_MAX: usize = (1 << 16) + 1024;

/// Handshake messages after the handshake (RFC 8446, 4; RFC 5246, 7.4).
const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
/// "We have changed our keys, and don't ask for a change of yours" (RFC 8446, 4.6.3).
pub(super) const UPDATE_NOT_REQUESTED: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];

pub(super) const WARNING: u8 = 1;
pub(super) const FATAL: u8 = 2;
pub(super) const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;
pub(super) const NO_RENEGOTIATION: u8 = 100;

/// A key, and the sequence number of the next record under it.
pub(super) type Secrets = (u64, ConnectionTrafficSecrets);

/// What is left of rustls after the handshake.
pub(super) enum Kernel {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

/// What follows of a record.
#[derive(Default)]
pub(super) struct Told {
    /// The peer will send nothing more.
    pub(super) end: bool,
    /// The peer seals with these keys from its next record on.
    pub(super) opening: Option<Secrets>,
    /// And wants us to change ours.
    pub(super) wants_update: bool,
    /// The peer wants another handshake, and is to be told that there is none.
    pub(super) wants_handshake: bool,
}

/// See the module's text.
pub(super) struct Control {
    is_tls13: bool,
    kernel: Kernel,
    /// The part of a handshake message that has come.
    message: Vec<u8>,
    without_data_count: u32,
    /// What came last was no data: one look for data to tell that all is as it should be.
    is_beside_data: bool,
}

impl Control {
    pub(super) fn new(kernel: Kernel) -> Self {
        let version = match &kernel {
            Kernel::Client(kernel) => kernel.protocol_version(),
            Kernel::Server(kernel) => kernel.protocol_version(),
        };
        let is_tls13 = version == ProtocolVersion::TLSv1_3;
        Self { is_tls13, kernel, message: Vec::new(), without_data_count: 0, is_beside_data: false }
    }

    pub(super) fn is_tls13(&self) -> bool {
        self.is_tls13
    }

    /// Whether no message has come in part.
    pub(super) fn is_between_messages(&self) -> bool {
        self.message.is_empty()
    }

    /// A record has brought data.
    ///
    /// # Errors
    /// It came amid a handshake message.
    #[inline]
    pub(super) fn on_data(&mut self) -> Result<(), Fault> {
        if self.is_beside_data { self.on_data_again() } else { Ok(()) }
    }

    #[cold]
    fn on_data_again(&mut self) -> Result<(), Fault> {
        self.check_place(ContentType::APPLICATION_DATA)?;
        (self.without_data_count, self.is_beside_data) = (0, !self.is_between_messages());
        Ok(())
    }

    /// Between the records of a handshake message there are no others (RFC 8446, 5.1; TLS 1.2 has no such rule).
    fn check_place(&self, content: ContentType) -> Result<(), Fault> {
        let is_amid = self.is_tls13 && !self.is_between_messages();
        if is_amid && content != ContentType::HANDSHAKE { Err(Fault::UnexpectedMessage) } else { Ok(()) }
    }

    /// A record has brought none; something of another kind, or nothing.
    ///
    /// # Errors
    /// The peer is at fault, or says that we are.
    #[cold]
    pub(super) fn on_record(&mut self, content: ContentType, plain: &[u8]) -> Result<Told, Fault> {
        self.check_place(content)?;
        (self.without_data_count, self.is_beside_data) = (self.without_data_count + 1, true);
        if self.without_data_count > RECORDS_WITHOUT_DATA_MAX {
            return Err(Fault::NoData);
        }
        let nothing = Told::default();
        match (content, plain) {
            (ContentType::APPLICATION_DATA, _) => Ok(nothing),
            (ContentType::ALERT, &[_, CLOSE_NOTIFY]) => Ok(Told { end: true, ..nothing }),
            (ContentType::ALERT, &[_, USER_CANCELED]) if self.is_tls13 => Ok(nothing),
            (ContentType::ALERT, &[WARNING, _]) if !self.is_tls13 => Ok(nothing),
            (ContentType::ALERT, &[_, description]) => Err(Fault::Alert(description)),
            (ContentType::HANDSHAKE, &[_, ..]) => self.on_messages(plain),
            _ => Err(Fault::UnexpectedMessage),
        }
    }

    fn on_messages(&mut self, plain: &[u8]) -> Result<Told, Fault> {
        let mut told = Told::default();
        let mut messages = std::mem::take(&mut self.message);
        messages.extend_from_slice(plain);
        let mut rest = &messages[..];
        while let Some((&[kind, high, middle, low], behind)) = rest.split_first_chunk() {
            let body_bytes = u32::from_be_bytes([0, high, middle, low]) as usize;
            if body_bytes > MESSAGE_BYTES_MAX {
                return Err(Fault::UnexpectedMessage);
            }
            let Some((body, behind)) = behind.split_at_checked(body_bytes) else { break };
            rest = behind;
            self.on_message(kind, body, rest.is_empty(), &mut told)?;
        }
        self.message = rest.to_vec();
        Ok(told)
    }

    fn on_message(&mut self, kind: u8, body: &[u8], is_last: bool, told: &mut Told) -> Result<(), Fault> {
        match (kind, body, &mut self.kernel) {
            // A change of keys ends its record (RFC 8446, 5.1).
            (KEY_UPDATE, &[request @ (0 | 1)], kernel) if self.is_tls13 && is_last => {
                let secrets = match kernel {
                    Kernel::Client(kernel) => kernel.update_rx_secret(),
                    Kernel::Server(kernel) => kernel.update_rx_secret(),
                };
                told.opening = Some(secrets.map_err(|_| Fault::UnexpectedMessage)?);
                told.wants_update = request == 1;
                Ok(())
            }
            (NEW_SESSION_TICKET, _, Kernel::Client(kernel)) if self.is_tls13 => {
                kernel.handle_new_session_ticket(body).map_err(|_| Fault::UnexpectedMessage)
            }
            // No second handshake (RFC 5246, 7.2.2).
            (HELLO_REQUEST, _, Kernel::Client(_)) | (CLIENT_HELLO, _, Kernel::Server(_))
                if !self.is_tls13 =>
            {
                told.wants_handshake = true;
                Ok(())
            }
            _ => Err(Fault::UnexpectedMessage),
        }
    }

    /// The keys that follow on ours.
    ///
    /// # Panics
    /// Before TLS 1.3, which changes none.
    pub(super) fn next_sealing(&mut self) -> Secrets {
        let secrets = match &mut self.kernel {
            Kernel::Client(kernel) => kernel.update_tx_secret(),
            Kernel::Server(kernel) => kernel.update_tx_secret(),
        };
        secrets.expect("TLS 1.3 keys have successors")
    }
}
