//! compio-ws on io_uring: all messages that are ready are answered with one flush.

use compio::net::TcpListener;
use compio::runtime::Runtime;
use compio_ws::accept_async_with_config;
use compio_ws::tungstenite::protocol::WebSocketConfig;
use ringsock_peers::{BATCH_BYTES, MESSAGE_BYTES_MAX, echo_batched, listen};

fn main() -> std::io::Result<()> {
    let runtime = Runtime::new()?;
    assert!(runtime.driver_type().is_iouring(), "compio runs on something else than io_uring");
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .write_buffer_size(BATCH_BYTES);
    runtime.block_on(async {
        let listener = TcpListener::from_std(listen()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            compio::runtime::spawn(async move {
                if let Ok(socket) = accept_async_with_config(stream, config).await {
                    echo_batched(socket, |message| {
                        (message.is_text() || message.is_binary()).then_some(message)
                    })
                    .await;
                }
            })
            .detach();
        }
    })
}
