//! Between `v4`/`v5.channel.k8s.io` in WebSocket messages and SPDY streams to a kubelet.
//!
//! The first byte of a message is its channel: standard input 0, output 1, error 2, the final status 3, terminal sizes 4,
//! and in v5 255, after which comes the channel that the client has finished with. The kubelet closes all its streams when
//! the command has ended; then the client is told and the connection closed.

use actix_http::ws::{CloseCode, Message};
use bytes::{Bytes, BytesMut};
use futures::Stream;
use navarch_types::ApiError;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, mpsc};

use super::location::Streams;
use super::spdy::{Decoder, Encoder, Frame, SpdyError};
use super::websocket::{Reader, Writer};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// The status of a RST_STREAM that takes no stream.
const REFUSED: u32 = 3;
const READ_BYTES: usize = 32 * 1024;

/// The streams to the kubelet: channel, number, and whether the kubelet has something to say on it.
struct Open {
    channel: u8,
    stream: u32,
    kind: &'static str,
    listening: bool,
}

/// In the order in which upstream's clients open them.
fn open(streams: &Streams) -> Vec<Open> {
    let all = [
        (ERROR, "error", true, true),
        (STDIN, "stdin", streams.stdin, false),
        (STDOUT, "stdout", streams.stdout, true),
        (STDERR, "stderr", streams.stderr && !streams.tty, true),
        (RESIZE, "resize", streams.tty, false),
    ];
    let wanted = all.into_iter().filter(|(_, _, wanted, _)| *wanted);
    // A client's streams have odd numbers.
    wanted
        .zip((1..).step_by(2))
        .map(|((channel, kind, _, listening), stream)| Open { channel, stream, kind, listening })
        .collect()
}

/// What writes to the kubelet: both directions do, one to answer pings.
struct Sink<K> {
    encoder: Encoder,
    write: WriteHalf<K>,
}

impl<K: AsyncRead + AsyncWrite> Sink<K> {
    async fn send(&mut self, frame: &Frame) -> std::io::Result<()> {
        let mut out = BytesMut::new();
        self.encoder.encode(frame, &mut out).map_err(std::io::Error::other)?;
        self.write.write_all(&out).await?;
        self.write.flush().await
    }
}

/// Runs until the command has ended, or one of the two has gone.
pub(super) async fn run<I, E, K>(input: I, output: mpsc::Sender<Bytes>, kubelet: K, streams: &Streams, closes: bool)
where
    I: Stream<Item = Result<Bytes, E>> + Unpin,
    K: AsyncRead + AsyncWrite,
{
    let writer = Writer::new(output);
    let opened = open(streams);
    let (read, write) = tokio::io::split(kubelet);
    let sink = Mutex::new(Sink { encoder: Encoder::new(), write });
    for stream in &opened {
        let headers = vec![("streamtype".to_owned(), stream.kind.to_owned())];
        let frame = Frame::SynStream { stream: stream.stream, headers, fin: false };
        if let Err(error) = sink.lock().await.send(&frame).await {
            return fail(&writer, error.to_string()).await;
        }
    }
    let reader = Reader::new(input, writer.clone());
    let ended = tokio::select! {
        ended = down(read, &sink, &writer, &opened) => ended,
        () = up(reader, &sink, &opened, closes) => return,
    };
    match ended {
        Ok(()) => drop(writer.send(Message::Close(Some(CloseCode::Normal.into()))).await),
        Err(why) => fail(&writer, why.to_string()).await,
    }
}

/// Tells a client that what it waits for will not come.
async fn fail(writer: &Writer, why: String) {
    let status = ApiError::internal(format!("the stream to the kubelet failed: {why}"));
    let status = serde_json::to_vec(status.status()).unwrap_or_default();
    if writer.channel(ERROR, &status).await.is_some() {
        let _ = writer.send(Message::Close(Some(CloseCode::Normal.into()))).await;
    }
}

/// From the client to the kubelet, until the client closes or the kubelet takes no more.
async fn up<I, E, K>(mut reader: Reader<I>, sink: &Mutex<Sink<K>>, opened: &[Open], closes: bool)
where
    I: Stream<Item = Result<Bytes, E>> + Unpin,
    K: AsyncRead + AsyncWrite,
{
    let stream_of = |channel: u8| opened.iter().find(|o| o.channel == channel && !o.listening).map(|o| o.stream);
    let mut channel = None;
    while let Some(piece) = reader.next().await {
        let mut data = piece.data;
        if piece.first {
            channel = data.first().copied();
            data = data.slice(data.len().min(1)..);
        }
        let frame = match channel {
            Some(CLOSE) if closes => {
                let finished = data.first().copied().and_then(stream_of);
                finished.map(|stream| Frame::Data { stream, data: Bytes::new(), fin: true })
            }
            // kubectl sends an empty message on each channel first, which is no data.
            Some(_) if data.is_empty() => None,
            Some(channel) => stream_of(channel).map(|stream| Frame::Data { stream, data, fin: false }),
            None => None,
        };
        if let Some(frame) = frame
            && sink.lock().await.send(&frame).await.is_err()
        {
            // The other direction finds out why.
            std::future::pending::<()>().await;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum DownError {
    #[error(transparent)]
    Spdy(#[from] SpdyError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("it ended before the command did")]
    Early,
}

/// From the kubelet to the client, until all streams that the kubelet speaks on have ended.
async fn down<K>(
    mut read: ReadHalf<K>,
    sink: &Mutex<Sink<K>>,
    writer: &Writer,
    opened: &[Open],
) -> Result<(), DownError>
where
    K: AsyncRead + AsyncWrite,
{
    let mut decoder = Decoder::new();
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut listening: Vec<_> = opened.iter().filter(|o| o.listening).collect();
    let mut status_seen = false;
    loop {
        while let Some(frame) = decoder.decode(&mut buffer)? {
            let mut finished = None;
            match frame {
                Frame::Data { stream, data, fin } => {
                    let channel = listening.iter().find(|o| o.stream == stream).map(|o| o.channel);
                    if let Some(channel) = channel.filter(|_| !data.is_empty()) {
                        status_seen |= channel == ERROR;
                        if writer.channel(channel, &data).await.is_none() {
                            return Ok(());
                        }
                    }
                    finished = fin.then_some(stream);
                }
                Frame::SynReply { stream, fin, .. } | Frame::Headers { stream, fin, .. } => {
                    finished = fin.then_some(stream);
                }
                Frame::Reset { stream, .. } => finished = Some(stream),
                Frame::Ping { id } => sink.lock().await.send(&Frame::Ping { id }).await?,
                // Kubelets open no streams here.
                Frame::SynStream { stream, .. } => {
                    sink.lock().await.send(&Frame::Reset { stream, status: REFUSED }).await?;
                }
                Frame::GoAway { .. } | Frame::Other { .. } => {}
            }
            if let Some(stream) = finished {
                listening.retain(|o| o.stream != stream);
                if listening.is_empty() {
                    return Ok(());
                }
            }
        }
        buffer.reserve(READ_BYTES);
        if read.read_buf(&mut buffer).await? == 0 {
            // The status is the last that is said; with it, missing ends of other streams do not matter.
            return if status_seen { Ok(()) } else { Err(DownError::Early) };
        }
    }
}

#[cfg(test)]
mod tests;
