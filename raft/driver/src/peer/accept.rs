//! What peers ask on connections that they made: taking their messages, answering their pings and proposals.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use prost11::Message as _;
use raft::eraftpb::{Message, MessageType};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    frame::{Answer, Body, Purpose, put},
    hello::{self, Connection},
    net::Net,
    receive::receive,
    wire::{Ended, FrameReader, FrameWriter},
};
use crate::shell::ProposeError;

/// After an accept that failed, mostly for want of file descriptors: others may be closed meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The newest link connection of each member. An older one is of no use to anybody: the member has made another.
#[derive(Default)]
pub(super) struct Newest(Mutex<HashMap<u64, CancellationToken>>);

impl Newest {
    fn enter(&self, member: u64) -> CancellationToken {
        let replaced = CancellationToken::new();
        if let Some(before) = self.0.lock().insert(member, replaced.clone()) {
            before.cancel();
        }
        replaced
    }

    /// Ends the connection of a member, if there is one.
    pub(super) fn end(&self, member: u64) {
        if let Some(connection) = self.0.lock().remove(&member) {
            connection.cancel();
        }
    }

    /// The connection has ended; one that took its place stays.
    fn leave(&self, member: u64, replaced: &CancellationToken) {
        if !replaced.is_cancelled() {
            self.0.lock().remove(&member);
        }
    }
}

/// Accepts connections until the member stops, then waits for those that are open.
pub(super) async fn accept(net: &Net, listener: TcpListener) {
    let mut open = JoinSet::new();
    let handshakes = Arc::new(Semaphore::new(net.inner.config.handshakes_max));
    loop {
        // Nobody is accepted before there is room for a handshake.
        let accepted = async {
            let permit = handshakes.clone().acquire_owned().await;
            listener.accept().await.map(|(stream, address)| (stream, address, permit))
        };
        let accepted = tokio::select! {
            () = net.inner.stop.cancelled() => break,
            Some(ended) = open.join_next() => {
                if let Err(panic) = ended {
                    tracing::error!(%panic, "a connection from a peer panicked");
                }
                continue;
            }
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, address, permit)) => {
                let net = net.clone();
                open.spawn(async move {
                    let opened = open_one(&net, stream).await;
                    drop(permit);
                    match opened {
                        Ok(connection) => serve(&net, connection).await,
                        Err(ended) => tracing::warn!(%address, %ended, "a connection was refused"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

async fn open_one(net: &Net, stream: TcpStream) -> Result<Connection, Ended> {
    tokio::select! {
        () = net.inner.stop.cancelled() => Err(Ended::Stopped),
        opened = hello::accept(&net.inner, stream) => opened,
    }
}

async fn serve(net: &Net, mut connection: Connection) {
    let member = connection.member;
    tracing::debug!(peer = member, purpose = ?connection.purpose, "a peer connected");
    match connection.purpose {
        Purpose::Link => serve_link(net, connection).await,
        Purpose::Snapshot => {
            let ended = receive(net, connection).await;
            tracing::debug!(peer = member, %ended, "a connection for a snapshot ended");
        }
        Purpose::Unknown => connection.goodbye(Some("nothing that this version knows of".to_owned())).await,
    }
}

async fn serve_link(net: &Net, mut connection: Connection) {
    let (inner, member) = (&net.inner, connection.member);
    let replaced = inner.newest.enter(member);
    // It is up: no need to wait for the end of a back-off.
    if let Some(link) = inner.links.load().get(&member) {
        link.nudge.notify_one();
    }
    // Answers of proposals under way, and refusals of as many beyond the bound.
    let (to_writer, replies) = mpsc::channel(2 * inner.config.proposals_max);
    let Connection { reader, writer, .. } = &mut connection;
    let work = async {
        tokio::select! {
            () = inner.stop.cancelled() => Ended::Stopped,
            () = replaced.cancelled() => Ended::here("a newer connection takes its place"),
            ended = hear(net, member, reader, to_writer) => ended,
            ended = reply(writer, replies) => ended,
        }
    };
    let ended = AssertUnwindSafe(work).catch_unwind().await;
    let ended = ended.unwrap_or_else(|_| Ended::here("a panic, which is a defect"));
    inner.newest.leave(member, &replaced);
    if ended.is_loss() {
        net.local.lost(member);
    }
    tracing::info!(peer = member, %ended, "connection from the peer ended");
    if matches!(ended, Ended::Here(_) | Ended::Silent(_)) {
        connection.goodbye(Some(ended.to_string())).await;
    }
}

/// Reads until the connection ends, and carries proposals out meanwhile.
async fn hear<R>(net: &Net, member: u64, reader: &mut FrameReader<R>, replies: mpsc::Sender<Body>) -> Ended
where
    R: AsyncRead + Unpin,
{
    let mut proposals = FuturesUnordered::<BoxFuture<'static, Answer>>::new();
    loop {
        let reply = tokio::select! {
            Some(answer) = proposals.next() => Body::Answer(answer),
            body = reader.next() => match body {
                Ok(Body::Message(bytes)) => {
                    if let Err(ended) = message(net, member, bytes) {
                        return ended;
                    }
                    continue;
                }
                Ok(Body::Ping(number)) => Body::Pong(number),
                Ok(Body::Proposal(proposal)) if proposals.len() >= net.inner.config.proposals_max => {
                    Body::Answer(Answer::new(proposal.id, Err(ProposeError::Busy)))
                }
                Ok(Body::Proposal(proposal)) => {
                    // A copy of its own: the command would hold on to all that was read with it.
                    let result = net.local.propose(Bytes::copy_from_slice(&proposal.command));
                    proposals.push(result.map(move |result| Answer::new(proposal.id, result)).boxed());
                    continue;
                }
                Ok(Body::Close(reason)) => return Ended::There(reason),
                Ok(_) => return Ended::here("a frame that does not belong here"),
                Err(ended) => return ended,
            },
        };
        if replies.try_send(reply).is_err() {
            return Ended::here("it does not read the answers");
        }
    }
}

/// Hands a message on, if the peer may say that.
fn message(net: &Net, member: u64, bytes: Bytes) -> Result<(), Ended> {
    let message = Message::decode(bytes).map_err(|error| Ended::here(format!("not a message: {error}")))?;
    let kind = message.get_msg_type();
    // Raft forwards these two, and leaves on them the name of the first who sent them.
    let forwarded = matches!(kind, MessageType::MsgPropose | MessageType::MsgReadIndex);
    let theirs = message.from == member || forwarded;
    if theirs && message.to == net.inner.config.member && kind != MessageType::MsgSnapshot {
        net.local.message(message);
    } else {
        tracing::warn!(
            peer = member,
            from = message.from,
            to = message.to,
            ?kind,
            "message dropped: not for the peer to send"
        );
    }
    Ok(())
}

/// Writes answers, as many at once as there are, until the connection ends.
async fn reply<W>(writer: &mut FrameWriter<W>, mut replies: mpsc::Receiver<Body>) -> Ended
where
    W: AsyncWrite + Unpin,
{
    let uncounted = AtomicU64::new(0);
    while let Some(body) = replies.recv().await {
        put(body, &mut writer.buffer);
        while let Ok(body) = replies.try_recv() {
            put(body, &mut writer.buffer);
        }
        if let Err(ended) = writer.flush(&uncounted).await {
            return ended;
        }
    }
    // The one who fills the queue has ended, and says how.
    std::future::pending().await
}
