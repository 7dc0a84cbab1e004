//! Bytes from end to end, as they are or in WebSocket messages, without a look at them.

use actix_http::ws::{CloseCode, Message};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::websocket::{Reader, Writer};

const READ_BYTES: usize = 32 * 1024;

/// Bytes as they are, until either end closes.
pub(super) async fn raw<I, E, K>(mut input: I, output: mpsc::Sender<Bytes>, kubelet: K)
where
    I: Stream<Item = Result<Bytes, E>> + Unpin,
    K: AsyncRead + AsyncWrite,
{
    let (mut read, mut write) = tokio::io::split(kubelet);
    let up = async {
        while let Some(Ok(bytes)) = input.next().await {
            if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
                // The other direction may still have something to deliver.
                std::future::pending::<()>().await;
            }
        }
    };
    let down = async {
        while let Some(bytes) = next(&mut read).await {
            if output.send(bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// Bytes in binary messages, until either end closes.
pub(super) async fn messages<I, E, K>(input: I, output: mpsc::Sender<Bytes>, kubelet: K)
where
    I: Stream<Item = Result<Bytes, E>> + Unpin,
    K: AsyncRead + AsyncWrite,
{
    let writer = Writer::new(output);
    let mut reader = Reader::new(input, writer.clone());
    let (mut read, mut write) = tokio::io::split(kubelet);
    let up = async {
        while let Some(piece) = reader.next().await {
            if write.write_all(&piece.data).await.is_err() || write.flush().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let down = async {
        while let Some(bytes) = next(&mut read).await {
            if writer.send(Message::Binary(bytes)).await.is_none() {
                return;
            }
        }
        let _ = writer.send(Message::Close(Some(CloseCode::Normal.into()))).await;
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

async fn next<R: AsyncRead + Unpin>(read: &mut R) -> Option<Bytes> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    match read.read_buf(&mut buffer).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(buffer.freeze()),
    }
}
