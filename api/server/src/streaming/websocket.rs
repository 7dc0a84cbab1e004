//! The server's side of WebSocket on a connection that actix has handed over: the handshake's answer, and messages.

use actix_http::ws::{Codec, Frame, Item, Message, hash_key};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use navarch_types::ApiError;
use tokio::sync::mpsc;
use tokio_util::codec::{Decoder as _, Encoder as _};

/// The longest message that is taken from a client; they send what fits a buffer of theirs, mostly 32 KiB.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// `Sec-WebSocket-Accept` for a request's `Sec-WebSocket-Key` and version.
///
/// # Errors
/// 400 if the request is no WebSocket handshake.
pub(super) fn accept(key: Option<&str>, version: Option<&str>) -> Result<String, ApiError> {
    if version.is_none_or(|v| v.trim() != "13") {
        return Err(ApiError::bad_request(
            "websocket: unsupported version: 13 not found in 'Sec-Websocket-Version' header",
        ));
    }
    let key = key.filter(|k| !k.is_empty());
    let key = key.ok_or_else(|| ApiError::bad_request("websocket: 'Sec-WebSocket-Key' header is missing or blank"))?;
    Ok(String::from_utf8_lossy(&hash_key(key.as_bytes())).into_owned())
}

/// A piece of a binary message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Whether a message begins with it.
    pub(super) first: bool,
    /// The bytes.
    pub(super) data: Bytes,
}

/// Reads messages of a client, and answers its pings.
pub(super) struct Reader<I> {
    input: I,
    buffer: BytesMut,
    codec: Codec,
    writer: Writer,
}

impl<I, E> Reader<I>
where
    I: Stream<Item = Result<Bytes, E>> + Unpin,
{
    pub(super) fn new(input: I, writer: Writer) -> Self {
        Self { input, buffer: BytesMut::new(), codec: Codec::new().max_size(MESSAGE_BYTES_MAX), writer }
    }

    /// The next piece of a message; `None` when the client has closed or gone, or does not speak WebSocket.
    pub(super) async fn next(&mut self) -> Option<Piece> {
        loop {
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(frame)) => match frame {
                    Frame::Binary(data) | Frame::Continuation(Item::FirstBinary(data)) => {
                        return Some(Piece { first: true, data });
                    }
                    Frame::Text(data) | Frame::Continuation(Item::FirstText(data)) => {
                        return Some(Piece { first: true, data });
                    }
                    Frame::Continuation(Item::Continue(data) | Item::Last(data)) => {
                        return Some(Piece { first: false, data });
                    }
                    Frame::Ping(data) => self.writer.send(Message::Pong(data)).await?,
                    Frame::Pong(_) => {}
                    Frame::Close(reason) => {
                        // The handshake of closing; whether it arrives is the client's matter.
                        let _ = self.writer.send(Message::Close(reason)).await;
                        return None;
                    }
                },
                Ok(None) => match self.input.next().await {
                    Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                    Some(Err(_)) | None => return None,
                },
                Err(error) => {
                    tracing::debug!(%error, "a client does not speak WebSocket");
                    return None;
                }
            }
        }
    }
}

/// Writes messages to a client.
#[derive(Clone)]
pub(super) struct Writer {
    output: mpsc::Sender<Bytes>,
}

impl Writer {
    pub(super) fn new(output: mpsc::Sender<Bytes>) -> Self {
        Self { output }
    }

    /// Sends one message; `None` if the client has gone.
    pub(super) async fn send(&self, message: Message) -> Option<()> {
        let mut out = BytesMut::new();
        Codec::new().encode(message, &mut out).ok()?;
        self.output.send(out.freeze()).await.ok()
    }

    /// Sends bytes on a channel.
    pub(super) async fn channel(&self, channel: u8, data: &[u8]) -> Option<()> {
        let mut message = BytesMut::with_capacity(1 + data.len());
        message.extend_from_slice(&[channel]);
        message.extend_from_slice(data);
        self.send(Message::Binary(message.freeze())).await
    }
}
