//! SPDY/3.1 framing, as far as streaming to kubelets needs it. Bytes in, frames out, and back; no I/O.
//!
//! Peers are Go programs on `moby/spdystream`. It neither sends nor obeys WINDOW_UPDATE, so there is no flow control per
//! stream here either: waiting for a window that never opens would stop every stream after 64 KiB. Back-pressure is the
//! connection's own.

use bytes::{Buf, BufMut, Bytes, BytesMut};

mod headers;

use headers::{HeaderReader, HeaderWriter};

/// Header fields: lower-case names, in order.
pub type Headers = Vec<(String, String)>;

const VERSION: u16 = 3;
const FRAME_HEAD_BYTES: usize = 8;
/// A control frame is as long as its headers, and those are a few short ones.
const CONTROL_BYTES_MAX: usize = 64 * 1024;
/// The longest data frame that is written; what fits three bytes would be allowed.
pub const DATA_BYTES_MAX: usize = 64 * 1024;
const FLAG_FIN: u8 = 1;
const STREAM_MASK: u32 = 0x7fff_ffff;

/// What is wrong with the bytes of a peer. The connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpdyError {
    /// Another version of the protocol.
    #[error("SPDY version {0} is not supported")]
    Version(u16),
    /// A control frame of impossible length.
    #[error("SPDY control frame of type {0} with {1} bytes")]
    Length(u16, usize),
    /// Headers that cannot be read.
    #[error("SPDY header block: {0}")]
    Headers(&'static str),
}

/// A frame, or for data a piece of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        /// Its number.
        stream: u32,
        /// What it is for.
        headers: Headers,
        /// Whether the opener will send nothing.
        fin: bool,
    },
    /// Accepts a stream.
    SynReply {
        /// Its number.
        stream: u32,
        /// Headers of the answer.
        headers: Headers,
        /// Whether the peer will send nothing.
        fin: bool,
    },
    /// Bytes of a stream.
    Data {
        /// Its number.
        stream: u32,
        /// The bytes.
        data: Bytes,
        /// Whether they are the last.
        fin: bool,
    },
    /// Ends a stream in both directions.
    Reset {
        /// Its number.
        stream: u32,
        /// Why.
        status: u32,
    },
    /// To be sent back as it is.
    Ping {
        /// Which one.
        id: u32,
    },
    /// No more streams are accepted.
    GoAway {
        /// The last stream that was.
        last: u32,
        /// Why.
        status: u32,
    },
    /// More headers of a stream.
    Headers {
        /// Its number.
        stream: u32,
        /// The headers.
        headers: Headers,
        /// Whether the sender has finished.
        fin: bool,
    },
    /// Anything that may be passed over: settings, windows, types that are not known.
    Other {
        /// Its type.
        kind: u16,
    },
}

/// Writes frames of one connection, in order: headers are in one compressed stream.
#[derive(Default)]
pub struct Encoder {
    headers: HeaderWriter,
}

impl Encoder {
    /// For a new connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a frame. Data longer than [`DATA_BYTES_MAX`] is split.
    ///
    /// # Errors
    /// If headers are longer than a frame may be.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<(), SpdyError> {
        match frame {
            Frame::SynStream { stream, headers, fin } => {
                let mut body = BytesMut::new();
                body.put_u32(stream & STREAM_MASK);
                body.put_u32(0);
                // Priority and slot.
                body.put_u16(0);
                self.headers.write(headers, &mut body)?;
                control(1, u8::from(*fin), &body, out)
            }
            Frame::SynReply { stream, headers, fin } => self.with_headers(2, *stream, headers, *fin, out),
            Frame::Headers { stream, headers, fin } => self.with_headers(8, *stream, headers, *fin, out),
            Frame::Data { stream, data, fin } => {
                write_data(*stream, data, *fin, out);
                Ok(())
            }
            Frame::Reset { stream, status } => pair(3, stream & STREAM_MASK, *status, out),
            Frame::Ping { id } => control(6, 0, &id.to_be_bytes(), out),
            Frame::GoAway { last, status } => pair(7, last & STREAM_MASK, *status, out),
            Frame::Other { .. } => Ok(()),
        }
    }

    fn with_headers(
        &mut self,
        kind: u16,
        stream: u32,
        headers: &Headers,
        fin: bool,
        out: &mut BytesMut,
    ) -> Result<(), SpdyError> {
        let mut body = BytesMut::new();
        body.put_u32(stream & STREAM_MASK);
        self.headers.write(headers, &mut body)?;
        control(kind, u8::from(fin), &body, out)
    }
}

fn pair(kind: u16, first: u32, second: u32, out: &mut BytesMut) -> Result<(), SpdyError> {
    let mut body = [0; 8];
    body[..4].copy_from_slice(&first.to_be_bytes());
    body[4..].copy_from_slice(&second.to_be_bytes());
    control(kind, 0, &body, out)
}

fn control(kind: u16, flags: u8, body: &[u8], out: &mut BytesMut) -> Result<(), SpdyError> {
    if body.len() > CONTROL_BYTES_MAX {
        return Err(SpdyError::Length(kind, body.len()));
    }
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_u32(u32::from(flags) << 24 | u32::try_from(body.len()).unwrap_or_default());
    out.put_slice(body);
    Ok(())
}

fn write_data(stream: u32, data: &[u8], fin: bool, out: &mut BytesMut) {
    let mut rest = data;
    loop {
        let (piece, behind) = rest.split_at(rest.len().min(DATA_BYTES_MAX));
        rest = behind;
        let flags = if fin && rest.is_empty() { FLAG_FIN } else { 0 };
        out.put_u32(stream & STREAM_MASK);
        out.put_u32(u32::from(flags) << 24 | u32::try_from(piece.len()).unwrap_or_default());
        out.put_slice(piece);
        if rest.is_empty() {
            return;
        }
    }
}

/// Reads frames of one connection. Data is handed on as it comes, without waiting for the end of its frame, so that no
/// more is buffered than the caller reads at a time, and a control frame.
pub struct Decoder {
    headers: HeaderReader,
    /// Within a data frame: stream, bytes to come, whether they end the stream.
    data: Option<(u32, usize, bool)>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// For a new connection.
    pub fn new() -> Self {
        Self { headers: HeaderReader::new(), data: None }
    }

    /// The next frame, taken off `input`; `None` if more bytes are needed.
    ///
    /// # Errors
    /// If the peer does not speak SPDY/3.1.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
        if let Some((stream, left, fin)) = self.data {
            return Ok(self.piece(stream, left, fin, input));
        }
        if input.len() < FRAME_HEAD_BYTES {
            return Ok(None);
        }
        let mut head = &input[..FRAME_HEAD_BYTES];
        let (first, second) = (head.get_u32(), head.get_u32());
        let (flags, length) = ((second >> 24) as u8, (second & 0x00ff_ffff) as usize);
        let fin = flags & FLAG_FIN != 0;
        if first & !STREAM_MASK == 0 {
            input.advance(FRAME_HEAD_BYTES);
            if length == 0 {
                return Ok(Some(Frame::Data { stream: first, data: Bytes::new(), fin }));
            }
            self.data = Some((first, length, fin));
            return Ok(self.piece(first, length, fin, input));
        }
        let (version, kind) = ((first >> 16) as u16 & 0x7fff, first as u16);
        if version != VERSION {
            return Err(SpdyError::Version(version));
        }
        if length > CONTROL_BYTES_MAX {
            return Err(SpdyError::Length(kind, length));
        }
        if input.len() < FRAME_HEAD_BYTES + length {
            return Ok(None);
        }
        input.advance(FRAME_HEAD_BYTES);
        let body = input.split_to(length).freeze();
        self.control(kind, fin, body).map(Some)
    }

    fn piece(&mut self, stream: u32, left: usize, fin: bool, input: &mut BytesMut) -> Option<Frame> {
        if input.is_empty() {
            return None;
        }
        let data = input.split_to(left.min(input.len())).freeze();
        let left = left - data.len();
        self.data = (left > 0).then_some((stream, left, fin));
        Some(Frame::Data { stream, data, fin: fin && left == 0 })
    }

    fn control(&mut self, kind: u16, fin: bool, mut body: Bytes) -> Result<Frame, SpdyError> {
        let length = body.len();
        let mut number = || if body.len() < 4 { Err(SpdyError::Length(kind, length)) } else { Ok(body.get_u32()) };
        Ok(match kind {
            1 => {
                let stream = number()? & STREAM_MASK;
                number()?;
                if body.len() < 2 {
                    return Err(SpdyError::Length(kind, length));
                }
                body.advance(2);
                Frame::SynStream { stream, headers: self.headers.read(&body)?, fin }
            }
            2 => {
                let stream = number()? & STREAM_MASK;
                Frame::SynReply { stream, headers: self.headers.read(&body)?, fin }
            }
            3 => Frame::Reset { stream: number()? & STREAM_MASK, status: number()? },
            6 => Frame::Ping { id: number()? },
            7 => Frame::GoAway { last: number()? & STREAM_MASK, status: number()? },
            8 => {
                let stream = number()? & STREAM_MASK;
                Frame::Headers { stream, headers: self.headers.read(&body)?, fin }
            }
            kind => Frame::Other { kind },
        })
    }
}

#[cfg(test)]
mod tests;
