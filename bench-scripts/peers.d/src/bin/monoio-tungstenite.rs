//! monoio-tungstenite on io_uring: one write a message; a read cannot be given up to flush without losing its bytes, so in the room
//! one socket reads and another writes, over the halves of one connection.

use std::future::Future;
use std::io::Result;

use monoio::BufResult;
use monoio::buf::{IoBuf, IoBufMut, IoVecBuf, IoVecBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, OwnedReadHalf, OwnedWriteHalf, Splitable};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};
use monoio_tungstenite::handshake::server::{ErrorResponse, Request, Response};
use monoio_tungstenite::protocol::{Role, WebSocketConfig};
use monoio_tungstenite::{Message, WebSocket, accept_hdr_with_config};
use ringsock_peers::room::{Room, is_room};
use ringsock_peers::{MESSAGE_BYTES_MAX, listen};
use tokio::sync::mpsc::UnboundedReceiver;

/// Submission queue entries: at least one for each of a thousand connections.
const SQ_ENTRIES: u32 = 4096;

static ROOM: Room<Message> = Room::new();

fn main() -> Result<()> {
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new().with_entries(SQ_ENTRIES).build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listen()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            monoio::spawn(serve(stream));
        }
    })
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
}

async fn serve(stream: TcpStream) {
    let mut is_for_room = false;
    let look = |request: &Request, response: Response| -> std::result::Result<Response, Box<ErrorResponse>> {
        is_for_room = is_room(request.uri().path());
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr_with_config(stream, look, Some(config())).await else { return };
    if is_for_room {
        return take_part(socket.into_inner()).await;
    }
    while let Ok(message) = socket.read().await {
        if is_data(&message) && (socket.write(message).await.is_err() || socket.flush().await.is_err()) {
            return;
        }
    }
}

fn is_data(message: &Message) -> bool {
    message.is_text() || message.is_binary()
}

/// A client waits for the answer to its handshake, so nothing that it sent after that is lost with the first socket.
async fn take_part(stream: TcpStream) {
    let (reading, writing) = Shared::two(stream);
    let mut reader = WebSocket::from_raw_socket(reading, Role::Server, Some(config()));
    let writer = WebSocket::from_raw_socket(writing, Role::Server, Some(config()));
    let (member, inbox) = ROOM.enter();
    monoio::spawn(deliver(writer, inbox));
    while let Ok(message) = reader.read().await {
        if is_data(&message) {
            member.publish(message);
        }
    }
}

async fn deliver(mut writer: WebSocket<Shared>, mut inbox: UnboundedReceiver<Message>) {
    while let Some(message) = inbox.recv().await {
        let mut next = Some(message);
        while let Some(message) = next {
            if writer.write(message).await.is_err() {
                return;
            }
            next = inbox.try_recv().ok();
        }
        if writer.flush().await.is_err() {
            return;
        }
    }
}

/// A connection that two sockets have: one reads and answers control frames, the other writes messages.
struct Shared(OwnedReadHalf<TcpStream>, OwnedWriteHalf<TcpStream>);

impl Shared {
    fn two(stream: TcpStream) -> (Self, Self) {
        let (read, write) = stream.into_split();
        let again = Self(OwnedReadHalf(read.0.clone()), OwnedWriteHalf(write.0.clone()));
        (Self(read, write), again)
    }
}

impl AsyncReadRent for Shared {
    fn read<T: IoBufMut>(&mut self, buffer: T) -> impl Future<Output = BufResult<usize, T>> {
        self.0.read(buffer)
    }

    fn readv<T: IoVecBufMut>(&mut self, buffers: T) -> impl Future<Output = BufResult<usize, T>> {
        self.0.readv(buffers)
    }
}

impl AsyncWriteRent for Shared {
    fn write<T: IoBuf>(&mut self, buffer: T) -> impl Future<Output = BufResult<usize, T>> {
        self.1.write(buffer)
    }

    fn writev<T: IoVecBuf>(&mut self, buffers: T) -> impl Future<Output = BufResult<usize, T>> {
        self.1.writev(buffers)
    }

    fn flush(&mut self) -> impl Future<Output = Result<()>> {
        self.1.flush()
    }

    fn shutdown(&mut self) -> impl Future<Output = Result<()>> {
        self.1.shutdown()
    }
}
