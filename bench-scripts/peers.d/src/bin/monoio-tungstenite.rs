//! monoio-tungstenite on io_uring: one write a message; a read cannot be given up to flush without losing its bytes.

use monoio::net::TcpListener;
use monoio::{IoUringDriver, RuntimeBuilder};
use monoio_tungstenite::accept_with_config;
use monoio_tungstenite::protocol::WebSocketConfig;
use ringsock_peers::{MESSAGE_BYTES_MAX, listen};

/// Submission queue entries: at least one for each of a thousand connections.
const SQ_ENTRIES: u32 = 4096;

fn main() -> std::io::Result<()> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new().with_entries(SQ_ENTRIES).build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listen()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            monoio::spawn(async move {
                let Ok(mut socket) = accept_with_config(stream, Some(config)).await else { return };
                while let Ok(message) = socket.read().await {
                    let is_data = message.is_text() || message.is_binary();
                    if is_data && (socket.write(message).await.is_err() || socket.flush().await.is_err()) {
                        return;
                    }
                }
            });
        }
    })
}
