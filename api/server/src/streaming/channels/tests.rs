//! Cases for `channels`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::convert::Infallible;

use actix_http::ws::{Codec, Frame as WsFrame};
use tokio::io::DuplexStream;
use tokio_util::codec::{Decoder as _, Encoder as _};

use super::*;

/// A client and a kubelet with the translation between them.
struct Setting {
    to_server: mpsc::Sender<Result<Bytes, Infallible>>,
    from_server: mpsc::Receiver<Bytes>,
    received: BytesMut,
    client: Codec,
    kubelet: DuplexStream,
    decoder: Decoder,
    encoder: Encoder,
    buffer: BytesMut,
}

fn setting(streams: Streams, closes: bool) -> Setting {
    let (to_server, input) = mpsc::channel(16);
    let (output, from_server) = mpsc::channel(16);
    let (near, kubelet) = tokio::io::duplex(1 << 16);
    let input = futures::stream::unfold(input, |mut input| async move { Some((input.recv().await?, input)) });
    tokio::spawn(async move { run(Box::pin(input), output, near, &streams, closes).await });
    Setting {
        to_server,
        from_server,
        received: BytesMut::new(),
        client: Codec::new().client_mode(),
        kubelet,
        decoder: Decoder::new(),
        encoder: Encoder::new(),
        buffer: BytesMut::new(),
    }
}

impl Setting {
    async fn say(&mut self, bytes: &'static [u8]) {
        let mut out = BytesMut::new();
        self.client.encode(Message::Binary(Bytes::from_static(bytes)), &mut out).unwrap();
        // In two parts, as a network may.
        let behind = out.split_off(out.len() / 2);
        self.to_server.send(Ok(out.freeze())).await.unwrap();
        self.to_server.send(Ok(behind.freeze())).await.unwrap();
    }

    async fn hear(&mut self) -> WsFrame {
        loop {
            if let Some(frame) = self.client.decode(&mut self.received).unwrap() {
                return frame;
            }
            let bytes = self.from_server.recv().await.expect("the connection has ended");
            self.received.extend_from_slice(&bytes);
        }
    }

    async fn kubelet_hears(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer).unwrap() {
                return frame;
            }
            self.buffer.reserve(4096);
            assert_ne!(self.kubelet.read_buf(&mut self.buffer).await.unwrap(), 0);
        }
    }

    async fn kubelet_says(&mut self, frame: Frame) {
        let mut out = BytesMut::new();
        self.encoder.encode(&frame, &mut out).unwrap();
        self.kubelet.write_all(&out).await.unwrap();
    }

    async fn opened(&mut self, count: usize) -> Vec<(u32, String)> {
        let mut opened = Vec::new();
        for _ in 0..count {
            let Frame::SynStream { stream, headers, .. } = self.kubelet_hears().await else { panic!("no stream") };
            opened.push((stream, headers[0].1.clone()));
        }
        opened
    }
}

fn streams(stdin: bool, tty: bool) -> Streams {
    Streams { stdin, stdout: true, stderr: !tty, tty }
}

fn data(stream: u32, data: &'static [u8], fin: bool) -> Frame {
    Frame::Data { stream, data: Bytes::from_static(data), fin }
}

#[tokio::test]
async fn a_command_with_input_runs_to_its_end() {
    let mut s = setting(streams(true, false), true);
    let opened = s.opened(4).await;
    let kinds: Vec<_> = opened.iter().map(|(n, k)| (*n, k.as_str())).collect();
    assert_eq!(kinds, [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")]);
    s.say(b"\x00").await;
    s.say(b"\x00hello").await;
    assert_eq!(s.kubelet_hears().await, data(3, b"hello", false));
    s.say(b"\xff\x00").await;
    assert_eq!(s.kubelet_hears().await, data(3, b"", true));
    s.kubelet_says(Frame::SynReply { stream: 1, headers: Vec::new(), fin: false }).await;
    s.kubelet_says(data(5, b"out", true)).await;
    s.kubelet_says(data(7, b"err", true)).await;
    s.kubelet_says(data(1, b"{}", true)).await;
    assert_eq!(s.hear().await, WsFrame::Binary(Bytes::from_static(b"\x01out")));
    assert_eq!(s.hear().await, WsFrame::Binary(Bytes::from_static(b"\x02err")));
    assert_eq!(s.hear().await, WsFrame::Binary(Bytes::from_static(b"\x03{}")));
    assert!(matches!(s.hear().await, WsFrame::Close(_)));
}

#[tokio::test]
async fn a_terminal_has_sizes_and_no_standard_error() {
    let mut s = setting(streams(true, true), false);
    let kinds: Vec<_> = s.opened(4).await.into_iter().map(|(_, k)| k).collect();
    assert_eq!(kinds, ["error", "stdin", "stdout", "resize"]);
    s.say(b"\x04{\"Width\":80}").await;
    assert_eq!(s.kubelet_hears().await, data(7, b"{\"Width\":80}", false));
    // Without v5 there is no closing of channels; unknown ones are passed over.
    s.say(b"\xff\x00").await;
    s.say(b"\x09x").await;
    s.say(b"\x00y").await;
    assert_eq!(s.kubelet_hears().await, data(3, b"y", false));
}

#[tokio::test]
async fn a_kubelet_that_goes_early_is_an_error_to_the_client() {
    let mut s = setting(streams(false, false), true);
    s.opened(3).await;
    s.kubelet.shutdown().await.unwrap();
    let WsFrame::Binary(status) = s.hear().await else { panic!("no status") };
    assert_eq!(status[0], ERROR);
    let status: serde_json::Value = serde_json::from_slice(&status[1..]).unwrap();
    assert_eq!(status["status"], "Failure");
    assert!(matches!(s.hear().await, WsFrame::Close(_)));
}

#[tokio::test]
async fn a_client_that_goes_lets_the_kubelet_go() {
    let mut s = setting(streams(true, false), true);
    s.opened(4).await;
    let mut close = BytesMut::new();
    s.client.encode(Message::Close(None), &mut close).unwrap();
    s.to_server.send(Ok(close.freeze())).await.unwrap();
    assert_eq!(s.kubelet.read_buf(&mut s.buffer).await.unwrap(), 0);
}

#[tokio::test]
async fn pings_are_answered_on_both_sides() {
    let mut s = setting(streams(false, false), true);
    s.opened(3).await;
    s.kubelet_says(Frame::Ping { id: 2 }).await;
    assert_eq!(s.kubelet_hears().await, Frame::Ping { id: 2 });
    let mut ping = BytesMut::new();
    s.client.encode(Message::Ping(Bytes::from_static(b"p")), &mut ping).unwrap();
    s.to_server.send(Ok(ping.freeze())).await.unwrap();
    assert_eq!(s.hear().await, WsFrame::Pong(Bytes::from_static(b"p")));
    s.kubelet_says(Frame::SynStream { stream: 2, headers: Vec::new(), fin: false }).await;
    assert_eq!(s.kubelet_hears().await, Frame::Reset { stream: 2, status: REFUSED });
}

#[tokio::test]
async fn nonsense_from_a_kubelet_ends_it() {
    let mut s = setting(streams(false, false), true);
    s.opened(3).await;
    s.kubelet.write_all(b"HTTP/1.1 500 Nope\r\n\r\n").await.unwrap();
    s.kubelet.shutdown().await.unwrap();
    assert!(matches!(s.hear().await, WsFrame::Binary(status) if status[0] == ERROR));
}
