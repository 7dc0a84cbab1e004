//! Receiving a snapshot. The Raft message that came with it is handed on only when the state is on the disk.
//!
//! One at a time: a second one takes the place of the first if its term is not older, because whoever sends it has given
//! the first up, or leads now.

use std::{io, io::Write, sync::Arc};

use bytes::Bytes;
use navarch_raft_contract::SnapshotError;
use parking_lot::Mutex;
use prost11::Message as _;
use raft::eraftpb::{Message, MessageType};
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    Local,
    frame::Body,
    hello::Connection,
    net::Net,
    send::{CHUNKS_AHEAD, index_of, ping},
    wire::{Ended, FrameReader},
};

/// The snapshot that is being received, if any.
#[derive(Default)]
pub(super) struct Incoming {
    current: Mutex<Option<(u64, CancellationToken)>>,
    /// Held by the thread that writes, for as long as it has a sink.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Incoming {
    /// Begins to receive one that a leader of this term sends.
    fn begin(&self, term: u64) -> Result<CancellationToken, Ended> {
        let mut current = self.current.lock();
        if let Some((other, ended)) = &*current
            && !ended.is_cancelled()
        {
            if *other > term {
                return Err(Ended::here(format!("a snapshot of term {other} is on its way")));
            }
            ended.cancel();
        }
        let ended = CancellationToken::new();
        *current = Some((term, ended.clone()));
        Ok(ended)
    }
}

enum Piece {
    Chunk(Bytes),
    End,
}

/// Serves a connection on which a snapshot comes.
pub(super) async fn receive(net: &Net, mut connection: Connection) -> Ended {
    let member = connection.member;
    let received = {
        let Connection { reader, writer, .. } = &mut connection;
        tokio::select! {
            () = net.inner.stop.cancelled() => Err(Ended::Stopped),
            received = take_over(net, member, reader) => received,
            ended = ping(&net.inner.config, writer) => Err(ended),
        }
    };
    match received {
        Ok(index) => {
            tracing::info!(peer = member, index, "a snapshot was received");
            let answered = connection.writer.send(Body::Stored(String::new())).await;
            connection.goodbye(None).await;
            answered.err().unwrap_or(Ended::Here("the snapshot is here".to_owned()))
        }
        Err(Ended::Here(reason)) => {
            tracing::warn!(peer = member, reason, "a snapshot was not taken over");
            connection.goodbye(Some(reason.clone())).await;
            Ended::Here(reason)
        }
        Err(ended) => ended,
    }
}

async fn take_over<R>(net: &Net, member: u64, reader: &mut FrameReader<R>) -> Result<u64, Ended>
where
    R: tokio::io::AsyncRead + Unpin,
{
    let Body::Message(bytes) = next(reader).await? else { return Err(Ended::here("no message comes first")) };
    let message = Message::decode(bytes).map_err(|error| Ended::here(format!("not a message: {error}")))?;
    let ours = net.inner.config.member;
    if message.get_msg_type() != MessageType::MsgSnapshot || message.from != member || message.to != ours {
        return Err(Ended::here(format!("not a snapshot from member {member} to member {ours}")));
    }
    let cancelled = net.inner.incoming.begin(message.term)?;
    // Dropped at the end of this function, however it ends: then it is in nobody's way.
    let _over = cancelled.clone().drop_guard();
    let index = index_of(&message);
    tokio::select! {
        () = cancelled.cancelled() => Err(Ended::here("another snapshot takes its place")),
        stored = store(net, reader, message) => stored.map(|()| index),
    }
}

/// Brings the chunks to the sink, and the message to the core. Dropping it drops the sink, without waiting for that; the
/// next one does wait.
async fn store<R>(net: &Net, reader: &mut FrameReader<R>, message: Message) -> Result<(), Ended>
where
    R: tokio::io::AsyncRead + Unpin,
{
    let turn = net.inner.incoming.turn.clone().lock_owned().await;
    let (to_disk, pieces) = mpsc::channel(CHUNKS_AHEAD);
    let local = net.local.clone();
    let writing = tokio::task::spawn_blocking(move || write(&local, pieces, turn, message));
    let forwarded = forward(reader, to_disk).await;
    // If the disk is why nothing more can be forwarded, this says so.
    let written = writing.await.map_err(|panic| Ended::here(panic.to_string()))?;
    forwarded?;
    written.map_err(|error| Ended::here(error.to_string()))
}

async fn forward<R>(reader: &mut FrameReader<R>, to_disk: mpsc::Sender<Piece>) -> Result<(), Ended>
where
    R: tokio::io::AsyncRead + Unpin,
{
    let mut received = 0;
    loop {
        let piece = match next(reader).await? {
            Body::Chunk(bytes) => {
                received += bytes.len() as u64;
                Piece::Chunk(bytes)
            }
            Body::End(total) if total == received => Piece::End,
            Body::End(total) => return Err(Ended::here(format!("{received} bytes came and not {total}"))),
            Body::Ping(_) => continue,
            _ => return Err(Ended::here("a frame that does not belong here")),
        };
        let last = matches!(piece, Piece::End);
        // An error: the sink failed, and the thread that writes says why.
        if to_disk.send(piece).await.is_err() || last {
            return Ok(());
        }
    }
}

async fn next<R: tokio::io::AsyncRead + Unpin>(reader: &mut FrameReader<R>) -> Result<Body, Ended> {
    match reader.next().await? {
        Body::Close(reason) => Err(Ended::There(reason)),
        body => Ok(body),
    }
}

/// Writes to the sink, on a thread that may block. Who stages a state tells of it too, even if nobody waits for that any
/// more: a staged state of which the core never hears would stay for ever.
fn write(
    local: &Arc<dyn Local>,
    mut pieces: mpsc::Receiver<Piece>,
    _turn: OwnedMutexGuard<()>,
    message: Message,
) -> Result<(), SnapshotError> {
    let mut sink = local.stage()?;
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Chunk(bytes) => sink.write_all(&bytes)?,
            Piece::End => {
                let (staged, announced) = (sink.finish()?.index, index_of(&message));
                if staged != announced {
                    local.unstage(staged);
                    let why = format!("the state is that of entry {staged} and not {announced}");
                    return Err(SnapshotError::Damaged(why));
                }
                local.message(message);
                return Ok(());
            }
        }
    }
    Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
}
