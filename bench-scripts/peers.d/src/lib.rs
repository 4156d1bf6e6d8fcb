//! What all peers share: their arguments, the listener, the line that says where it is, TLS, an opening handshake for
//! libraries that leave it to others, the batched echo over `Stream` and `Sink`, and the [`room`] at `/broadcast`.
//!
//! A peer is started with the address to listen on, then `--tls CERTIFICATE KEY` (PEM files) or `--deflate` where it has
//! that. TLS is tokio-rustls's for all on Tokio; how a message is compressed is each library's own affair, at
//! [`DEFLATE_LEVEL`].
//!
//! Invariant: every peer serves on one thread, sets `TCP_NODELAY`, takes messages up to [`MESSAGE_BYTES_MAX`], and
//! says `listening on ws://ADDRESS/` once it can be connected to, so that a measurement sees the libraries differ and
//! nothing else. SIGTERM ends a peer by the kernel's default. Any path
//! but the room's is an echo. Deliberately absent: limits, timeouts, pings.

pub mod room;

use std::future::Future;
use std::io::{Error, ErrorKind, Result, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

// As ringsock-server has it, so that no peer pays for another allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The longest message that a peer has to take, and a little more.
pub const MESSAGE_BYTES_MAX: usize = (64 << 20) + 1024;
/// Bytes of replies that a batching peer may hold before it writes them although more replies are to come.
pub const BATCH_BYTES: usize = 128 << 10;
/// Messages that a batching peer takes at most before it answers them.
const BATCH_MESSAGES: usize = 256;
/// Connections waiting to be accepted: a thousand come at once.
const BACKLOG: i32 = 4096;
/// Longest opening handshake that [`upgrade`] reads.
const REQUEST_BYTES_MAX: usize = 8 << 10;

/// How hard to compress, as ringsock-server does unless told otherwise: the fast end of zlib's levels.
pub const DEFLATE_LEVEL: u8 = 1;
/// Messages shorter than this need not be compressed; as ringsock-server has it.
pub const DEFLATE_THRESHOLD_BYTES: usize = 64;

/// What a peer was started with.
struct Arguments {
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    deflate: bool,
}

fn arguments() -> Result<Arguments> {
    let usage =
        || Error::new(ErrorKind::InvalidInput, "ADDRESS [--tls CERTIFICATE KEY | --deflate], as 127.0.0.1:0");
    let given: Vec<_> = std::env::args().skip(1).collect();
    let given: Vec<_> = given.iter().map(String::as_str).collect();
    let (tls, deflate) = match given[..] {
        [_] => (None, false),
        [_, "--deflate"] => (None, true),
        [_, "--tls", certificate, key] => (Some(acceptor(certificate, key)?), false),
        _ => return Err(usage()),
    };
    Ok(Arguments { address: given[0].parse().map_err(|_| usage())?, tls, deflate })
}

fn acceptor(certificate: &str, key: &str) -> Result<TlsAcceptor> {
    let certificate = CertificateDer::from_pem_file(certificate).map_err(Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(Error::other)?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
    Ok(TlsAcceptor::from(Arc::new(config.map_err(Error::other)?)))
}

/// A blocking listener on the address that is the only argument, for a peer that has neither TLS nor compression here;
/// prints where it listens.
///
/// # Errors
/// No address, a wrong one, or one that cannot be had.
pub fn listen() -> Result<std::net::TcpListener> {
    let given = arguments()?;
    if given.deflate || given.tls.is_some() {
        return Err(Error::new(ErrorKind::Unsupported, "this peer has neither TLS nor compression here"));
    }
    listen_on(given.address)
}

fn listen_on(address: SocketAddr) -> Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = std::net::TcpListener::from(socket);
    writeln!(std::io::stdout(), "listening on ws://{}/", listener.local_addr()?)?;
    Ok(listener)
}

/// A connection, secured or not.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Wire for S {}

/// A peer on Tokio.
pub trait Peer: 'static {
    /// Whether it has permessage-deflate with context takeover.
    const DEFLATES: bool = false;

    /// Serves one connection until it ends, and compresses if `deflate` says so.
    fn serve<S: Wire>(wire: S, deflate: bool) -> impl Future<Output = ()> + Send;
}

/// Serves each connection by a task of the peer's, all on this thread, for ever.
///
/// # Errors
/// Wrong arguments, no runtime, no listener, or accepting failed.
pub fn serve_with_tokio<P: Peer>() -> Result<()> {
    let Arguments { address, tls, deflate } = arguments()?;
    if deflate && !P::DEFLATES {
        return Err(Error::new(ErrorKind::Unsupported, "this peer does not compress"));
    }
    tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?.block_on(async {
        let listener = listen_on(address)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            match &tls {
                None => tokio::spawn(P::serve(stream, deflate)),
                Some(tls) => {
                    let accepted = tls.accept(stream);
                    tokio::spawn(async move {
                        if let Ok(stream) = accepted.await {
                            P::serve(stream, deflate).await;
                        }
                    })
                }
            };
        }
    })
}

/// Echoes until the connection ends: takes all messages that are ready, then queues their replies and flushes once.
/// `reply` says what a message is answered with, if at all. Nothing is queued while messages are taken, for some
/// libraries flush whenever they are asked for the next one.
pub async fn echo_batched<Socket, Message, Fault>(
    mut socket: Socket,
    reply: impl Fn(Message) -> Option<Message>,
) where
    Socket: Stream<Item = std::result::Result<Message, Fault>> + Sink<Message, Error = Fault> + Unpin,
{
    let mut replies = Vec::with_capacity(BATCH_MESSAGES);
    while let Some(Ok(message)) = socket.next().await {
        let mut ended = false;
        replies.extend(reply(message));
        while replies.len() < BATCH_MESSAGES
            && let Some(ready) = socket.next().now_or_never()
        {
            match ready {
                Some(Ok(message)) => replies.extend(reply(message)),
                _ => ended = true,
            }
            if ended {
                break;
            }
        }
        for reply in replies.drain(..) {
            if socket.feed(reply).await.is_err() {
                return;
            }
        }
        if socket.flush().await.is_err() || ended {
            return;
        }
    }
}

/// What a client asked for, and was answered.
pub struct Upgraded {
    /// Its request was for the room.
    pub is_for_room: bool,
    /// The extensions agreed on.
    pub extensions: Option<String>,
}

/// The server's side of the opening handshake (RFC 6455, section 4.2), for clients that wait for its answer; `extensions`
/// says what to answer to what was offered.
///
/// # Errors
/// I/O, or a request that is no WebSocket handshake.
pub async fn upgrade<S: Wire>(wire: &mut S, extensions: impl Fn(&str) -> Option<String>) -> Result<Upgraded> {
    let wrong = |what| Error::new(ErrorKind::InvalidData, what);
    let mut request = Vec::with_capacity(1024);
    while !request.ends_with(b"\r\n\r\n") {
        if request.len() > REQUEST_BYTES_MAX || wire.read_buf(&mut request).await? == 0 {
            return Err(wrong("the request does not end"));
        }
    }
    let request = str::from_utf8(&request).map_err(|_| wrong("the request is not text"))?;
    let field = |wanted: &str| {
        let mut fields = request.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
    };
    let key = field("sec-websocket-key").ok_or_else(|| wrong("the request has no Sec-WebSocket-Key"))?;
    let is_for_room = request.split(' ').nth(1).is_some_and(room::is_room);
    let agreed = field("sec-websocket-extensions").and_then(extensions);
    let extensions = agreed.as_ref().map(|agreed| format!("Sec-WebSocket-Extensions: {agreed}\r\n"));
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n{}\r\n",
        tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes()),
        extensions.unwrap_or_default(),
    );
    wire.write_all(response.as_bytes()).await?;
    wire.flush().await?;
    Ok(Upgraded { is_for_room, extensions: agreed })
}
