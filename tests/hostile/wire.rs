//! A connection as hostile peers have it: with TLS or without, and open to be torn down at any moment.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use ringsock::ws::frame::Opcode;

use crate::peer::{PATIENCE, Peer, frame};
use crate::secure::Secured;

/// How long a write may wait before its peer counts as not reading.
const STUCK: Duration = Duration::from_millis(100);

/// One connection.
pub(crate) enum Stream {
    Plain(TcpStream),
    Secured(Box<Secured>),
}

impl Stream {
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Secured(secured) => &secured.sock,
        }
    }

    /// Ends it by a reset: whatever is on its way, in either direction, is lost.
    pub(crate) fn reset(self) {
        reset(self.tcp());
    }

    /// Writes `pattern` again and again, from `at` in it on, and reads nothing, until the peer takes no more; how many bytes
    /// it took, `at` being where it stopped. More than `bytes_max` are a failure.
    pub(crate) fn write_until_stuck(&mut self, pattern: &[u8], at: &mut usize, bytes_max: usize) -> usize {
        self.tcp().set_write_timeout(Some(STUCK)).unwrap();
        let mut written_bytes = 0;
        loop {
            match self.write(&pattern[*at..]) {
                Ok(count) => {
                    *at = (*at + count) % pattern.len();
                    written_bytes += count;
                    assert!(written_bytes < bytes_max, "it reads on and on: {written_bytes} bytes");
                }
                // The last is what is made of rustls' own buffer being full.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::WriteZero) => {
                    self.tcp().set_write_timeout(Some(PATIENCE)).unwrap();
                    return written_bytes;
                }
                Err(error) => panic!("after {written_bytes} bytes: {error}"),
            }
        }
    }

    /// Everything up to the end, which may be a reset.
    pub(crate) fn read_all(&mut self) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), [0; 16 * 1024]);
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return all,
                Ok(count) => all.extend_from_slice(&buffer[..count]),
                Err(error) if is_end(&error) => return all,
                Err(error) => panic!("{error}, after {}", String::from_utf8_lossy(&all)),
            }
        }
    }
}

/// The peer is gone, with or without ceremony.
pub(crate) fn is_end(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}

/// Has a connection end by a reset when its last handle is dropped.
pub(crate) fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// A TCP connection from this address.
pub(crate) fn tcp_from(source: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect_timeout(&address.into(), PATIENCE).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Secured(secured) => secured.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Secured(secured) => secured.write(bytes),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Secured(secured) => secured.flush(),
        }
    }
}

/// Skips what else comes up to a Close frame, whose code must be this one; then the connection ends.
pub(crate) fn expect_close(peer: &mut Peer<Stream>, code: u16, label: &str) {
    let payload = loop {
        match peer.next() {
            Some((_, Opcode::Close, payload)) => break payload,
            Some(_) => {}
            None => panic!("{label}: the end, without a Close frame"),
        }
    };
    let said = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
    assert_eq!(payload.get(..2), Some(&code.to_be_bytes()[..]), "{label}: {payload:?}, {said}");
    // It may have closed already.
    let _ = peer.stream.write_all(&frame(Opcode::Close, &payload[..2]));
    peer.stream.read_all();
}

/// A masked frame whose first byte is this one.
pub(crate) fn frame_beginning(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(Opcode::Binary, payload);
    bytes[0] = first;
    bytes
}

/// Bytes that do not compress.
pub(crate) fn noise(byte_count: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(9);
    (0..byte_count).map(|_| random.u8(..)).collect()
}

/// What the end of a flush looks like; left out of a compressed message (RFC 7692, 7.2.1).
const FLUSHED: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// The compressed payload of a message, made without what came before it.
pub(crate) fn deflated(message: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::fast(), false);
    let mut bytes = Vec::with_capacity(message.len() + message.len() / 1000 + 64);
    compress.compress_vec(message, &mut bytes, FlushCompress::Sync).unwrap();
    assert_eq!(compress.total_in(), message.len() as u64);
    bytes.truncate(bytes.strip_suffix(&FLUSHED).expect("a flush ends so").len());
    bytes
}

/// The message in a compressed payload.
pub(crate) fn inflated(payload: &[u8], bytes_max: usize) -> Vec<u8> {
    let mut message = Vec::with_capacity(bytes_max);
    let payload = [payload, &FLUSHED].concat();
    Decompress::new(false).decompress_vec(&payload, &mut message, FlushDecompress::Sync).unwrap();
    message
}

/// A compressed message a thousand times as long as its payload: 64 MiB of zeros.
pub(crate) static BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| deflated(&vec![0; 64 << 20]));
