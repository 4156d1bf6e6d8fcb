//! soketto on Tokio: replies go to a buffer while messages are ready, which is then flushed once.

use std::sync::Arc;

use futures_util::poll;
use ringsock_peers::room::{Member, Room, is_room};
use ringsock_peers::{BATCH_BYTES, MESSAGE_BYTES_MAX, Peer, Wire, serve_with_tokio};
use soketto::handshake::{Server, server::Response};
use soketto::{Data, connection};
use std::task::Poll;
use tokio::io::BufStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::compat::TokioAsyncReadCompatExt;

const READ_BYTES: usize = 64 << 10;

/// Text or not, and the payload.
type Shared = (bool, Arc<Vec<u8>>);

static ROOM: Room<Shared> = Room::new();

struct Soketto;

impl Peer for Soketto {
    async fn serve<S: Wire>(wire: S, _: bool) {
        // How a connection ends is the client's affair; what it lost the client counts.
        let _ = serve(wire).await;
    }
}

fn main() -> std::io::Result<()> {
    serve_with_tokio::<Soketto>()
}

async fn serve<S: Wire>(wire: S) -> Result<(), soketto::BoxedError> {
    // As its documentation's examples do: soketto writes header and payload straight to what it is given.
    let stream = BufStream::with_capacity(READ_BYTES, BATCH_BYTES, wire);
    let mut server = Server::new(stream.compat());
    let request = server.receive_request().await?;
    let (key, is_for_room) = (request.key(), is_room(request.path()));
    server.send_response(&Response::Accept { key, protocol: None }).await?;
    let mut builder = server.into_builder();
    builder.set_max_message_size(MESSAGE_BYTES_MAX);
    builder.set_max_frame_size(MESSAGE_BYTES_MAX);
    let (mut sender, mut receiver) = builder.finish();
    if is_for_room {
        let (member, inbox) = ROOM.enter();
        tokio::spawn(deliver(sender, inbox));
        return publish(receiver, member).await;
    }
    let mut message = Vec::new();
    loop {
        message.clear();
        let kind = receive_next(&mut sender, &mut receiver, &mut message).await?;
        match kind {
            Data::Text(_) => sender.send_text(str::from_utf8(&message)?).await?,
            Data::Binary(_) => sender.send_binary_mut(&mut message).await?,
        }
    }
}

async fn publish<S: Wire>(
    mut receiver: connection::Receiver<Socket<S>>,
    member: Member<Shared>,
) -> Result<(), soketto::BoxedError> {
    loop {
        let mut message = Vec::new();
        let kind = receiver.receive_data(&mut message).await?;
        member.publish((matches!(kind, Data::Text(_)), Arc::new(message)));
    }
}

async fn deliver<S: Wire>(
    mut sender: connection::Sender<Socket<S>>,
    mut inbox: UnboundedReceiver<Shared>,
) -> Result<(), soketto::BoxedError> {
    while let Some(message) = inbox.recv().await {
        let mut next = Some(message);
        while let Some((is_text, payload)) = next {
            if is_text {
                sender.send_text(str::from_utf8(&payload)?).await?;
            } else {
                sender.send_binary(&*payload).await?;
            }
            next = inbox.try_recv().ok();
        }
        sender.flush().await?;
    }
    Ok(())
}

type Socket<S> = tokio_util::compat::Compat<BufStream<S>>;

/// The next message; what is waiting to go out is flushed if the message is not there yet. The receiving future is
/// kept meanwhile: soketto's must not be dropped half-way.
async fn receive_next<S: Wire>(
    sender: &mut connection::Sender<Socket<S>>,
    receiver: &mut connection::Receiver<Socket<S>>,
    message: &mut Vec<u8>,
) -> Result<Data, connection::Error> {
    let mut next = std::pin::pin!(receiver.receive_data(message));
    match poll!(next.as_mut()) {
        Poll::Ready(kind) => kind,
        Poll::Pending => {
            sender.flush().await?;
            next.await
        }
    }
}
