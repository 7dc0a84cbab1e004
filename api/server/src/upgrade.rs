//! The byte stream of a connection before HTTP sees it.
//!
//! actix-http hands a connection over as a raw stream only for `Upgrade: websocket`. kubectl before 1.31 asks for
//! `SPDY/3.1`; its first request head is rewritten to say `websocket`, with what it asked for in a private header, and a
//! private header that a client sends itself is taken out. Only the head of the first request is looked at: clients open a
//! connection of their own for an upgrade.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_rt::net::{ActixStream, Ready, TcpStream};
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::streaming::UPGRADE_HEADER;

/// A head is looked at up to this size; actix refuses larger ones anyway.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A TLS connection.
pub struct Connection {
    inner: TlsStream<TcpStream>,
    /// Bytes read and not yet handed on.
    buffer: BytesMut,
    /// Whether the first head is still being collected.
    collecting: bool,
}

impl Connection {
    /// Around a finished handshake. `http1`: whether heads are text.
    pub fn new(inner: TlsStream<TcpStream>, http1: bool) -> Self {
        Self { inner, buffer: BytesMut::new(), collecting: http1 }
    }

    /// The TLS session.
    pub fn tls(&self) -> &TlsStream<TcpStream> {
        &self.inner
    }
}

/// The head with the upgrade rewritten, if there is one to rewrite. Pure.
fn rewrite(head: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(head).ok()?;
    let is = |line: &str, name: &str| line.split_once(':').is_some_and(|(n, _)| n.trim().eq_ignore_ascii_case(name));
    let spdy = |line: &str| {
        is(line, "upgrade") && line.split_once(':').is_some_and(|(_, v)| v.trim().eq_ignore_ascii_case("spdy/3.1"))
    };
    let (end, rest) = text.split_once("\r\n\r\n")?;
    let forged = end.split("\r\n").any(|line| is(line, UPGRADE_HEADER));
    let asked = end.split("\r\n").any(spdy);
    if !forged && !asked {
        return None;
    }
    let mut out = String::with_capacity(head.len() + 64);
    for line in end.split("\r\n").filter(|line| !is(line, UPGRADE_HEADER)) {
        if spdy(line) {
            out.push_str("Upgrade: websocket\r\n");
            out.push_str(UPGRADE_HEADER);
            out.push_str(": SPDY/3.1\r\n");
        } else {
            out.push_str(line);
            out.push_str("\r\n");
        }
    }
    out.push_str("\r\n");
    out.push_str(rest);
    Some(out.into_bytes())
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.collecting {
            let mut space = [0u8; 4096];
            let mut read = ReadBuf::new(&mut space);
            match Pin::new(&mut this.inner).poll_read(cx, &mut read) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {
                    let bytes = read.filled();
                    this.buffer.extend_from_slice(bytes);
                    let whole = memchr::memmem::find(&this.buffer, b"\r\n\r\n");
                    if bytes.is_empty() || whole.is_some() || this.buffer.len() > HEAD_BYTES_MAX {
                        this.collecting = false;
                    }
                    if let Some(at) = whole
                        && let Some(head) = rewrite(&this.buffer[..at + 4])
                    {
                        let behind = this.buffer.split_off(at + 4);
                        this.buffer = BytesMut::from(&head[..]);
                        this.buffer.extend_from_slice(&behind);
                    }
                }
            }
        }
        if this.buffer.has_remaining() {
            let count = this.buffer.len().min(out.remaining());
            out.put_slice(&this.buffer.split_to(count));
            if this.buffer.is_empty() {
                this.buffer = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.inner).poll_read(cx, out)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl ActixStream for Connection {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(self.inner.get_ref().0, cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(self.inner.get_ref().0, cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn spdy_upgrades_become_websocket_upgrades_with_a_note() {
        let head = "POST /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
        let out = String::from_utf8(rewrite(head.as_bytes()).unwrap()).unwrap();
        assert_eq!(
            out,
            "POST /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nx-navarch-upgrade: SPDY/3.1\r\n\r\n"
        );
    }

    #[test]
    fn other_heads_stay_and_forged_notes_go() {
        assert_eq!(rewrite(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n"), None);
        assert_eq!(rewrite(b"GET / HTTP/1.1\r\nHost: a\r\n"), None);
        assert_eq!(rewrite(b"\xff\r\n\r\n"), None);
        let out = rewrite(b"GET / HTTP/1.1\r\nX-Navarch-Upgrade: SPDY/3.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(out, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
}
