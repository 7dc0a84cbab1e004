//! Sending a snapshot: on a connection of its own, so that heartbeats and entries do not wait behind it.
//!
//! The message goes first, then the chunks, then their count; the peer answers when the state is on its disk. Both ends
//! ping as long as they have nothing else to say.

use std::{io::Read, sync::Arc};

use bytes::Bytes;
use navarch_raft_contract::SnapshotError;
use parking_lot::Mutex;
use raft::eraftpb::Message;
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};

use super::{
    Local, PeerConfig,
    frame::{Body, Purpose, put_message},
    hello::{Connection, connect},
    link::Link,
    net::Net,
    wire::{Ended, FrameReader, FrameWriter},
};

/// Chunks that were read and are not sent yet.
pub(super) const CHUNKS_AHEAD: usize = 4;

/// The snapshot to one peer: at most one at a time.
#[derive(Default)]
pub(super) struct Slot {
    state: Mutex<SlotState>,
    filled: Notify,
}

#[derive(Default)]
enum SlotState {
    #[default]
    Free,
    Waiting(Box<Message>),
    Sending,
    Closed,
}

impl Slot {
    /// Takes a snapshot in. `false`: the link has ended. While another one is on its way it is dropped, and what becomes
    /// of the other is the answer to both.
    pub(super) fn offer(&self, message: Message) -> bool {
        let mut state = self.state.lock();
        match *state {
            SlotState::Free => *state = SlotState::Waiting(Box::new(message)),
            SlotState::Waiting(_) | SlotState::Sending => {
                tracing::debug!(to = message.to, "a snapshot is on its way already");
                return true;
            }
            SlotState::Closed => return false,
        }
        drop(state);
        self.filled.notify_one();
        true
    }

    fn take(&self) -> Option<Message> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, SlotState::Sending) {
            SlotState::Waiting(message) => Some(*message),
            other => {
                *state = other;
                None
            }
        }
    }

    pub(super) fn done(&self) {
        *self.state.lock() = SlotState::Free;
    }

    /// Whether one was waiting or on its way.
    fn close(&self) -> bool {
        let before = std::mem::replace(&mut *self.state.lock(), SlotState::Closed);
        matches!(before, SlotState::Waiting(_) | SlotState::Sending)
    }
}

impl Link {
    /// Sends the snapshots that are put into the slot, until the link is stopped.
    pub(super) async fn send_snapshots(&self, net: &Net) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.snapshot.filled.notified() => {}
            }
            let Some(message) = self.snapshot.take() else { continue };
            let index = index_of(&message);
            tracing::info!(peer = self.member, index, "sending a snapshot");
            let sent = tokio::select! {
                () = self.stop.cancelled() => Err(Ended::Stopped),
                sent = send(net, self.member, &self.address, message) => sent,
            };
            match &sent {
                Ok(()) => {
                    self.snapshot_sent();
                    tracing::info!(peer = self.member, index, "the peer has the snapshot");
                }
                Err(ended) => tracing::warn!(peer = self.member, index, %ended, "the snapshot was not sent"),
            }
            // Free first: the answer may bring the next one.
            self.snapshot.done();
            net.local.snapshot_sent(self.member, sent.is_ok());
        }
    }

    /// The link has ended: nothing is taken any more, and what is left has failed.
    pub(super) fn end_snapshots(&self, net: &Net) {
        if self.snapshot.close() {
            net.local.snapshot_sent(self.member, false);
        }
    }
}

/// The last entry of the state that a message is about.
pub(super) fn index_of(message: &Message) -> u64 {
    message.get_snapshot().get_metadata().index
}

enum Piece {
    Chunk(Bytes),
    End(u64),
}

async fn send(net: &Net, member: u64, address: &str, message: Message) -> Result<(), Ended> {
    let config = &net.inner.config;
    let (to_network, mut pieces) = mpsc::channel(CHUNKS_AHEAD);
    let (local, index, chunk_bytes) = (net.local.clone(), index_of(&message), config.snapshot_chunk_bytes);
    let reading = tokio::task::spawn_blocking(move || read(&local, index, chunk_bytes, &to_network));
    let mut connection = connect(config, member, address, Purpose::Snapshot).await?;
    let sent = {
        let Connection { reader, writer, .. } = &mut connection;
        tokio::select! {
            answer = answer(reader) => answer,
            ended = write(config, writer, &message, &mut pieces) => Err(ended),
        }
    };
    // Lets the thread that reads go.
    drop(pieces);
    match sent {
        Err(Ended::Here(reason)) => {
            let reason = match reading.await {
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(())) => reason,
                Err(panic) => panic.to_string(),
            };
            connection.goodbye(Some(reason.clone())).await;
            Err(Ended::Here(reason))
        }
        sent => sent,
    }
}

/// Reads the source, on a thread that may block.
fn read(
    local: &Arc<dyn Local>,
    index: u64,
    chunk_bytes: usize,
    to_network: &mpsc::Sender<Piece>,
) -> Result<(), SnapshotError> {
    let mut source =
        local.snapshot(index).ok_or_else(|| SnapshotError::Damaged(format!("no snapshot of entry {index} is here")))?;
    let found = source.meta().index;
    if found != index {
        return Err(SnapshotError::Damaged(format!("a snapshot of entry {found} and not {index}")));
    }
    let mut total = 0;
    loop {
        let mut chunk = Vec::with_capacity(chunk_bytes);
        source.by_ref().take(chunk_bytes as u64).read_to_end(&mut chunk)?;
        let bytes = chunk.len() as u64;
        total += bytes;
        let piece = if bytes == 0 { Piece::End(total) } else { Piece::Chunk(chunk.into()) };
        // An error: the connection has ended, and with it the need to read.
        if to_network.blocking_send(piece).is_err() || bytes == 0 {
            return Ok(());
        }
    }
}

/// Waits for what the peer has to say in the end.
async fn answer<R: tokio::io::AsyncRead + Unpin>(reader: &mut FrameReader<R>) -> Result<(), Ended> {
    loop {
        match reader.next().await? {
            Body::Ping(_) => {}
            Body::Stored(reason) if reason.is_empty() => return Ok(()),
            Body::Stored(reason) | Body::Close(reason) => return Err(Ended::There(reason)),
            _ => return Err(Ended::here("a frame that does not belong here")),
        }
    }
}

/// Writes the message and all pieces, then pings. Returns when that fails only.
async fn write<W: tokio::io::AsyncWrite + Unpin>(
    config: &PeerConfig,
    writer: &mut FrameWriter<W>,
    message: &Message,
    pieces: &mut mpsc::Receiver<Piece>,
) -> Ended {
    put_message(message, &mut writer.buffer);
    let mut ended = false;
    loop {
        let body = match timeout(config.keepalive, pieces.recv()).await {
            Ok(Some(Piece::Chunk(bytes))) => Body::Chunk(bytes),
            Ok(Some(Piece::End(total))) => {
                ended = true;
                Body::End(total)
            }
            Ok(None) if !ended => return Ended::here("the snapshot cannot be read"),
            Ok(None) => return ping(config, writer).await,
            Err(_) => Body::Ping(0),
        };
        if let Err(failed) = writer.send(body).await {
            return failed;
        }
    }
}

/// Pings until that fails.
pub(super) async fn ping<W: tokio::io::AsyncWrite + Unpin>(config: &PeerConfig, writer: &mut FrameWriter<W>) -> Ended {
    let mut interval = tokio::time::interval(config.keepalive);
    loop {
        interval.tick().await;
        if let Err(failed) = writer.send(Body::Ping(0)).await {
            return failed;
        }
    }
}
