//! Asks a server what it counted, where it is one that tells: `GET /stats`, before and after a run.
//!
//! Invariants: nothing is measured while it asks; a server that does not tell, whatever it does instead, costs [`TIME_MAX`] at most,
//! is not asked again, and is no error. A connection of its own is made for it, and secured as the others are, though it neither takes nor
//! leaves a session that they could resume.
//!
//! Not asked: a server without WebSocket, and where a clock counts instructions, which are to be those of the run.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Endpoint, Plan};
use crate::measure::environment::Clock;
use crate::measure::server_stats::{ServerMoment, ServerStats};
use crate::server::Server;
use crate::tls;

/// How long an answer may take, all in all.
const TIME_MAX: Duration = Duration::from_secs(1);
/// The longest answer that is read; a counter more or a thousand threads fit well.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Asks before a run, and after it.
pub(super) struct Inquiry<'a> {
    plan: &'a Plan,
    endpoint: &'a Endpoint,
    before: Option<ServerMoment>,
}

impl<'a> Inquiry<'a> {
    /// Asks the server at `endpoint`, or the one in this process.
    pub(super) fn before(plan: &'a Plan, endpoint: &'a Endpoint, embedded: Option<&Server>) -> Self {
        let mut inquiry = Self { plan, endpoint, before: None };
        inquiry.before = inquiry.ask(embedded);
        inquiry
    }

    /// Asks again, if there was an answer.
    pub(super) fn after(self, embedded: Option<&Server>) -> Option<ServerStats> {
        let before = Some(self.before.as_ref()?.clone());
        Some(ServerStats { before, after: self.ask(embedded) })
    }

    fn ask(&self, embedded: Option<&Server>) -> Option<ServerMoment> {
        if self.endpoint.bare || self.plan.clock != Clock::Real {
            return None;
        }
        match embedded {
            Some(server) => ServerMoment::read(&server.snapshot().json()),
            None => {
                let client = self.plan.tls.as_ref().map(|tls| &tls.client);
                ServerMoment::read(&fetch(self.endpoint, client).ok()?)
            }
        }
    }
}

/// The body of what `/stats` is answered with, if that is 200.
fn fetch(endpoint: &Endpoint, client: Option<&tls::Client>) -> std::io::Result<String> {
    let deadline = Instant::now() + TIME_MAX;
    let stream = Bounded { stream: TcpStream::connect_timeout(&endpoint.address, TIME_MAX)?, deadline };
    let host =
        if endpoint.host.contains(':') { format!("[{}]", endpoint.host) } else { endpoint.host.clone() };
    let request =
        format!("GET /stats HTTP/1.1\r\nHost: {host}:{}\r\nConnection: close\r\n\r\n", endpoint.port);
    match client.filter(|_| endpoint.tls) {
        None => converse(stream, &request),
        Some(client) => {
            let mut config = (*client.config).clone();
            config.resumption = rustls::client::Resumption::disabled();
            let connection = rustls::ClientConnection::new(Arc::new(config), client.name.clone());
            converse(rustls::StreamOwned::new(connection.map_err(std::io::Error::other)?, stream), &request)
        }
    }
}

fn converse(mut stream: impl Read + Write, request: &str) -> std::io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        if let Some(body) = body(&answer)? {
            return Ok(body.to_owned());
        }
        let count = stream.read(&mut piece)?;
        if count == 0 || answer.len() + count > ANSWER_BYTES_MAX {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        answer.extend_from_slice(&piece[..count]);
    }
}

/// The body of an answer, if it is there; an error where it will never be one that is of use.
fn body(answer: &[u8]) -> std::io::Result<Option<&str>> {
    let no_use = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = answer.split_at(end + 4);
    let head = std::str::from_utf8(head).map_err(|_| no_use())?;
    let lines = head.strip_prefix("HTTP/1.1 200 ").ok_or_else(no_use)?.lines();
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("Content-Length"));
    let length: usize = length.and_then(|(_, value)| value.trim().parse().ok()).ok_or_else(no_use)?;
    let body = body.get(..length).map(std::str::from_utf8);
    body.transpose().map_err(|_| no_use())
}

/// A connection that gives up at its deadline, however slowly bytes come.
struct Bounded {
    stream: TcpStream,
    deadline: Instant,
}

impl Bounded {
    fn left(&self) -> std::io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Bounded {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(bytes)
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// What comes of a server that reads a request and then says these pieces, a tenth of a second apart.
    fn fetched_from(pieces: &'static [&'static str], ends: bool) -> std::io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}/chat", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1000];
            let count = stream.read(&mut request).unwrap();
            for (index, piece) in pieces.iter().enumerate() {
                std::thread::sleep(Duration::from_millis(if index == 0 { 0 } else { 100 }));
                // It may have given up.
                let _ = stream.write_all(piece.as_bytes());
            }
            if !ends {
                let _ = stream.read(&mut [0]);
            }
            String::from_utf8(request[..count].to_vec()).unwrap()
        });
        let fetched = fetch(&Endpoint::parse(&url).unwrap(), None);
        let request = served.join().unwrap();
        assert!(request.starts_with("GET /stats HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        fetched
    }

    #[test]
    fn an_answer_is_read_as_far_as_it_says() {
        assert_eq!(
            fetched_from(&["HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody"], false).unwrap(),
            "body"
        );
        let pieces = &["HTTP/1.1 200 OK\r\nContent-Len", "gth: 4\r\n\r\nbo", "dy and more"];
        assert_eq!(fetched_from(pieces, true).unwrap(), "body");
    }

    #[test]
    fn whatever_else_a_server_does_is_an_error_in_time() {
        for (pieces, ends) in [
            (&["HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone"][..], true),
            (&["HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n"], true),
            (&["HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\ncut"], true),
            (&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"], true),
            (&["\u{16}\u{3}\u{1}"], true),
            (&[], true),
            // Silence; that it ends at all shows that it is bounded.
            (&[], false),
            (&["H", "T", "T", "P", "/", "1", ".", "1", " ", "2", "0", "0", " ", "O"], false),
        ] {
            assert!(fetched_from(pieces, ends).is_err(), "{pieces:?}");
        }
    }
}
