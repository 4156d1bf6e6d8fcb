//! A WebSocket server that answers as a test wants it to.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use bytes::Bytes;
use ringsock::ws::frame::{Header, MAX_HEADER_BYTES, Opcode, Role, parse};
use ringsock::ws::handshake::{ServerHandshake, Upgrade};
use ringsock::ws::mask;

use crate::peer::PATIENCE;

/// What a misbehaving server may say on one connection.
pub(crate) struct Answer<'a> {
    stream: &'a mut TcpStream,
    /// Every message so far.
    pub(crate) messages: &'a [Vec<u8>],
}

impl Answer<'_> {
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        // A client that has gone is no concern of these tests.
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn payload(&mut self, payload: &[u8]) {
        let header =
            Header { fin: true, opcode: Opcode::Binary, mask: None, payload_bytes: payload.len() as u64 };
        let mut head = [0; MAX_HEADER_BYTES];
        let head_bytes = header.encode(&mut head);
        self.raw(&[&head[..head_bytes], payload].concat());
    }

    /// Answers message `index`, as an echo does.
    pub(crate) fn message(&mut self, index: usize) {
        let payload = &self.messages[index];
        self.payload(payload);
    }
}

/// A server that does this with each connection, in a thread of its own.
pub(crate) fn accepting(deed: impl FnOnce(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
            let deed = deed.clone();
            std::thread::spawn(move || deed(stream));
        }
    });
    address
}

/// Reads a request for an upgrade and answers it so; what came behind it, unless the client has gone.
pub(crate) fn upgraded(
    stream: &mut TcpStream,
    answer: impl FnOnce(&Upgrade<'_>) -> Bytes,
) -> Option<Vec<u8>> {
    let mut handshake = ServerHandshake::new(8192);
    let mut buffer = [0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = stream.read(&mut buffer) else { return None };
        // Before it connects, the generator may ask for a page.
        if let Some(upgrade) = handshake.on_bytes(&buffer[..count]).ok()? {
            stream.write_all(&answer(&upgrade)).ok()?;
            return Some(buffer[upgrade.consumed_bytes()..count].to_vec());
        }
    }
}

/// A server that calls `react` with the count of messages so far, for each that comes.
pub(crate) fn misbehaving(react: impl FnMut(usize, &mut Answer<'_>) + Clone + Send + 'static) -> SocketAddr {
    accepting(move |stream| converse(stream, react))
}

fn converse(mut stream: TcpStream, mut react: impl FnMut(usize, &mut Answer<'_>)) {
    let Some(mut unread) = upgraded(&mut stream, |upgrade| upgrade.accept()) else { return };
    let mut buffer = [0; 16 * 1024];
    let mut messages: Vec<Vec<u8>> = Vec::new();
    loop {
        while let Some((header, header_bytes)) = parse(&unread, Role::Client).unwrap() {
            let end = header_bytes + header.payload_bytes as usize;
            if unread.len() < end {
                break;
            }
            let mut payload: Vec<u8> = unread.drain(..end).skip(header_bytes).collect();
            mask::unmask(header.mask.unwrap(), &mut payload);
            if header.opcode == Opcode::Close {
                return;
            }
            messages.push(payload);
            react(messages.len(), &mut Answer { stream: &mut stream, messages: &messages });
        }
        let Ok(count @ 1..) = stream.read(&mut buffer) else { return };
        unread.extend_from_slice(&buffer[..count]);
    }
}
