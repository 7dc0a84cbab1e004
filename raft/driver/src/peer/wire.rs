//! Frames to and from a stream, each with a bound, and why a connection ends.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use prost::Message as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::frame::{Body, Frame, HEADER_BYTES, put};

/// Bytes asked of the stream at once: some TLS records.
const READ_BYTES: usize = 64 << 10;
/// A buffer that grew beyond this is given back once it is empty.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// For how long an end waits for the other to have read why it is closed.
const GOODBYE_MAX: Duration = Duration::from_millis(250);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("this member stops")]
    Stopped,
    #[error("{0}")]
    Here(String),
    #[error("the peer closed it: {0}")]
    There(String),
    #[error("lost: {0}")]
    Io(#[from] io::Error),
    #[error("nothing heard for {0:?}")]
    Silent(Duration),
}

impl Ended {
    /// Whether the other end was there and is gone without a word, as when its process ends.
    pub(super) fn is_loss(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        matches!(self, Self::Io(error)
            if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
    }

    pub(super) fn here(reason: impl Into<String>) -> Self {
        Self::Here(reason.into())
    }
}

/// Reads frames.
pub(super) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    frame_bytes_max: usize,
    silence_max: Duration,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R, frame_bytes_max: usize, silence_max: Duration) -> Self {
        Self { stream, buffer: BytesMut::new(), frame_bytes_max, silence_max }
    }

    pub(super) fn set_bounds(&mut self, frame_bytes_max: usize, silence_max: Duration) {
        (self.frame_bytes_max, self.silence_max) = (frame_bytes_max, silence_max);
    }

    /// The next frame. It may be dropped while it waits: what was read stays for the next call.
    pub(super) async fn next(&mut self) -> Result<Body, Ended> {
        loop {
            while let Some(frame) = self.take()? {
                let frame = Frame::decode(frame).map_err(|error| Ended::here(format!("not a frame: {error}")))?;
                if let Some(body) = frame.body {
                    return Ok(body);
                }
            }
            // Silence is bytes that do not come, not a frame that is long.
            self.buffer.reserve(READ_BYTES);
            let read = timeout(self.silence_max, self.stream.read_buf(&mut self.buffer)).await;
            if read.map_err(|_| Ended::Silent(self.silence_max))?? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// The next frame, if all of it is here.
    fn take(&mut self) -> Result<Option<Bytes>, Ended> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*header) as usize;
        if length > self.frame_bytes_max {
            let max = self.frame_bytes_max;
            return Err(Ended::here(format!("a frame of {length} bytes, more than the {max} allowed")));
        }
        if self.buffer.len() - HEADER_BYTES < length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Reads on until the other end closes, for a moment at most: an end that closes with bytes unread resets the
    /// connection, and the other may never see what was written last.
    async fn linger(&mut self) {
        let drain = async {
            loop {
                self.buffer.clear();
                self.buffer.reserve(READ_BYTES);
                if !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..)) {
                    return;
                }
            }
        };
        let _ = timeout(GOODBYE_MAX, drain).await;
    }
}

/// Writes frames.
pub(super) struct FrameWriter<W> {
    stream: W,
    /// What is not written yet. Append whole frames, then flush.
    pub(super) buffer: BytesMut,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(super) fn new(stream: W) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Writes what the buffer holds. It may be dropped while it waits: the rest stays in the buffer, so that frames
    /// appended later are still in step.
    pub(super) async fn flush(&mut self, counter: &AtomicU64) -> Result<(), Ended> {
        while self.buffer.has_remaining() {
            let written = self.stream.write_buf(&mut self.buffer).await?;
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
            }
            counter.fetch_add(written as u64, Ordering::Relaxed);
        }
        self.stream.flush().await?;
        if self.buffer.capacity() > KEPT_BYTES_MAX {
            self.buffer = BytesMut::new();
        }
        Ok(())
    }

    pub(super) async fn send(&mut self, body: Body) -> Result<(), Ended> {
        put(body, &mut self.buffer);
        self.flush(&AtomicU64::new(0)).await
    }
}

/// Ends a connection on purpose, so that the other end does not take it for the end of this process.
pub(super) async fn goodbye<R, W>(reader: &mut FrameReader<R>, writer: &mut FrameWriter<W>, reason: Option<String>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    if let Some(reason) = reason {
        put(Body::Close(reason), &mut writer.buffer);
    }
    let say = async {
        writer.flush(&AtomicU64::new(0)).await?;
        writer.stream.shutdown().await?;
        Ok::<(), Ended>(())
    };
    if matches!(timeout(GOODBYE_MAX, say).await, Ok(Ok(()))) {
        reader.linger().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const SILENCE: Duration = Duration::from_secs(60);

    fn frames(bodies: &[Body]) -> BytesMut {
        let mut buffer = BytesMut::new();
        bodies.iter().for_each(|body| put(body.clone(), &mut buffer));
        buffer
    }

    #[tokio::test]
    async fn frames_come_out_however_they_are_cut() {
        let sent = [Body::Ping(1), Body::Chunk(vec![3; 1000].into()), Body::Pong(0), Body::Close("x".into())];
        let bytes = frames(&sent);
        for cut in 1..40 {
            let mut mock = tokio_util::io::StreamReader::new(futures::stream::iter(
                bytes.chunks(cut).map(|chunk| Ok::<_, io::Error>(Bytes::copy_from_slice(chunk))).collect::<Vec<_>>(),
            ));
            let mut reader = FrameReader::new(&mut mock, 2000, SILENCE);
            for body in &sent {
                assert_eq!(reader.next().await.unwrap(), *body);
            }
            assert!(reader.next().await.unwrap_err().is_loss());
        }
    }

    #[tokio::test]
    async fn a_frame_beyond_the_bound_is_refused_before_it_is_read() {
        let bytes = frames(&[Body::Chunk(vec![0; 100].into())]);
        let mut reader = FrameReader::new(&bytes[..HEADER_BYTES], 99, SILENCE);
        assert!(matches!(reader.next().await, Err(Ended::Here(_))));
    }

    #[tokio::test]
    async fn bytes_that_are_no_frame_are_refused() {
        let mut reader = FrameReader::new(&[0, 0, 0, 3, 0xff, 0xff, 0xff][..], 100, SILENCE);
        assert!(matches!(reader.next().await, Err(Ended::Here(_))));
    }

    #[tokio::test]
    async fn a_frame_of_an_unknown_kind_is_skipped() {
        // Field 99 with the varint 1, as a newer member may send it.
        let mut bytes = BytesMut::from(&[0, 0, 0, 3, 0x98, 0x06, 0x01][..]);
        put(Body::Ping(5), &mut bytes);
        let mut reader = FrameReader::new(&bytes[..], 100, SILENCE);
        assert_eq!(reader.next().await.unwrap(), Body::Ping(5));
    }

    #[tokio::test]
    async fn silence_ends_it() {
        let (mut near, _far) = tokio::io::duplex(10);
        let mut reader = FrameReader::new(&mut near, 100, Duration::from_millis(1));
        assert!(matches!(reader.next().await, Err(Ended::Silent(_))));
    }
}
