//! What all peers share: the listener, the line that says where it is, an opening handshake for libraries that leave
//! it to others, and the batched echo over `Stream` and `Sink`.
//!
//! Invariant: every peer serves on one thread, sets `TCP_NODELAY`, takes messages up to [`MESSAGE_BYTES_MAX`], and
//! says `listening on ws://ADDRESS/` once it can be connected to, so that a measurement sees the libraries differ and
//! nothing else. SIGTERM ends a peer by the kernel's default. Deliberately absent: paths, limits, timeouts, pings.

use std::future::Future;
use std::io::{Error, ErrorKind, Result, Write};
use std::net::SocketAddr;

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

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

/// A blocking listener on the address that is the first argument; prints where it listens.
///
/// # Errors
/// No address, a wrong one, or one that cannot be had.
pub fn listen() -> Result<std::net::TcpListener> {
    let usage = || Error::new(ErrorKind::InvalidInput, "an address to listen on is needed, as 127.0.0.1:0");
    let address = std::env::args().nth(1).ok_or_else(usage)?;
    let address: SocketAddr = address.parse().map_err(|_| usage())?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = std::net::TcpListener::from(socket);
    writeln!(std::io::stdout(), "listening on ws://{}/", listener.local_addr()?)?;
    Ok(listener)
}

/// Serves each connection by a task of `serve`, all on this thread, for ever.
///
/// # Errors
/// No runtime, no listener, or accepting failed.
pub fn serve_with_tokio<Served>(serve: impl Fn(TcpStream) -> Served) -> Result<()>
where
    Served: Future<Output = ()> + Send + 'static,
{
    tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?.block_on(async {
        let listener = listen()?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(serve(stream));
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

/// The server's side of the opening handshake (RFC 6455, section 4.2), for clients that wait for its answer.
///
/// # Errors
/// I/O, or a request that is no WebSocket handshake.
pub async fn upgrade(stream: &mut TcpStream) -> Result<()> {
    let wrong = |what| Error::new(ErrorKind::InvalidData, what);
    let mut request = Vec::with_capacity(1024);
    while !request.ends_with(b"\r\n\r\n") {
        if request.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut request).await? == 0 {
            return Err(wrong("the request does not end"));
        }
    }
    let request = str::from_utf8(&request).map_err(|_| wrong("the request is not text"))?;
    let fields = request.lines().filter_map(|line| line.split_once(':'));
    let mut keys = fields.filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let (_, key) = keys.next().ok_or_else(|| wrong("the request has no Sec-WebSocket-Key"))?;
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.trim().as_bytes())
    );
    stream.write_all(response.as_bytes()).await
}
