//! The network between the members of a cluster: Raft messages, forwarded proposals and snapshots, over mutual TLS.
//!
//! Each member makes one connection to each peer, its *link*; it carries this member's messages, pings and proposals, and
//! the answers to these. What a peer says by itself comes on the connection that the peer made. A snapshot takes a
//! connection of its own. All of it runs on one thread that does nothing else, so that no load elsewhere starves
//! heartbeats.
//!
//! Nothing here waits for a peer on the caller's thread, queues without a bound, or keeps messages for a peer that is not
//! connected. The driver calls it through [`Transport`]; it calls this member through [`Local`].

mod accept;
mod frame;
mod hello;
mod link;
mod net;
mod outbox;
mod probe;
mod receive;
mod send;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::BoxFuture;
use navarch_raft_contract::{Outcome, SnapshotError, SnapshotSink, SnapshotSource};
use parking_lot::Mutex;
use raft::eraftpb::{Message, MessageType};
use rustls::pki_types::ServerName;
use tokio_util::sync::CancellationToken;

pub use self::probe::{Found, probe};
use self::{
    frame::OVERHEAD_BYTES,
    link::Link,
    net::{Inner, Net},
};
use crate::{shell::ProposeError, transport::Transport};

/// Threads that read and write snapshots, and resolve names. One for each peer is enough; more wait.
const BLOCKING_THREADS_MAX: usize = 16;
/// For how long the end waits for those: a name that is being resolved is not worth more.
const BLOCKING_STOP_MAX: Duration = Duration::from_secs(2);

/// The name in a member's certificate (a DNS subject alternative name), by which its peers know it.
pub fn server_name(member: u64, cluster_id: &str) -> String {
    format!("member-{member}.{cluster_id}.navarch.internal")
}

/// How this member shows itself to its peers, and whom it believes.
pub struct PeerTls {
    /// For connections from peers. Must ask for certificates of the peers' authority.
    pub server: Arc<rustls::ServerConfig>,
    /// For connections to peers. Shows this member's certificate; it must be good for clients as well as for servers.
    pub client: Arc<rustls::ClientConfig>,
}

/// Settings of the network. Every bound is here.
#[derive(Clone)]
pub struct PeerConfig {
    /// This member.
    pub member: u64,
    /// The cluster: members of another one are refused. Must be what a DNS name may hold.
    pub cluster_id: String,
    /// Where peers are listened to.
    pub listen: SocketAddr,
    /// Looked at for each new connection, so that certificates can be changed while it runs.
    pub tls: Arc<ArcSwap<PeerTls>>,
    /// Messages that wait for one link; more are dropped.
    pub messages_max: usize,
    /// Their bytes.
    pub message_bytes_max: usize,
    /// Proposals forwarded to one peer, or by one, and not answered; beyond it: busy.
    pub proposals_max: usize,
    /// Bytes of those that are not sent yet.
    pub proposal_bytes_max: usize,
    /// One frame; a message or a proposal must fit into it. The same on all members.
    pub frame_bytes_max: usize,
    /// Time to open a connection, TLS included.
    pub connect_timeout: Duration,
    /// Time between pings.
    pub keepalive: Duration,
    /// A connection on which nothing comes for this long is closed.
    pub silence_max: Duration,
    /// Pause before the second attempt to connect; it doubles each time.
    pub backoff_min: Duration,
    /// Where that ends.
    pub backoff_max: Duration,
    /// Time between two calls of [`Local::unreachable`] for one peer.
    pub unreachable_interval: Duration,
    /// Accepted connections that have not shown yet who they are from.
    pub handshakes_max: usize,
    /// Bytes of a snapshot in one frame.
    pub snapshot_chunk_bytes: usize,
}

impl PeerConfig {
    /// The usual settings.
    pub fn new(member: u64, cluster_id: impl Into<String>, listen: SocketAddr, tls: Arc<ArcSwap<PeerTls>>) -> Self {
        Self {
            member,
            cluster_id: cluster_id.into(),
            listen,
            tls,
            messages_max: 4096,
            message_bytes_max: 32 << 20,
            proposals_max: 1024,
            proposal_bytes_max: 32 << 20,
            // Twice the largest command.
            frame_bytes_max: 16 << 20,
            connect_timeout: Duration::from_secs(1),
            keepalive: Duration::from_millis(250),
            silence_max: Duration::from_millis(1500),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(1),
            unreachable_interval: Duration::from_millis(100),
            handshakes_max: 64,
            snapshot_chunk_bytes: 256 << 10,
        }
    }

    fn check(&self) -> io::Result<()> {
        let name = ServerName::try_from(server_name(self.member, &self.cluster_id));
        let wrong = [
            (self.member == 0, "0 is no member"),
            (name.is_err(), "the cluster's id cannot be part of a DNS name"),
            // Or the largest would be lost again and again, and with it all progress.
            (self.message_bytes_max < self.frame_bytes_max, "the largest message does not fit into the queue"),
            (self.proposal_bytes_max < self.frame_bytes_max, "the largest proposal does not fit into the queue"),
            (
                self.snapshot_chunk_bytes == 0 || self.snapshot_chunk_bytes + OVERHEAD_BYTES > self.frame_bytes_max,
                "a chunk of a snapshot does not fit into a frame",
            ),
            (u32::try_from(self.frame_bytes_max).is_err(), "a frame's length does not fit into its header"),
            (
                self.messages_max == 0 || self.proposals_max == 0 || self.handshakes_max == 0,
                "a bound of 0 lets nothing through",
            ),
            // So that one ping that is late is not the end.
            (
                self.keepalive.is_zero() || self.silence_max < 2 * self.keepalive,
                "silence is shorter than two keepalives",
            ),
        ];
        match wrong.iter().find(|(wrong, _)| *wrong) {
            Some((_, why)) => Err(io::Error::new(io::ErrorKind::InvalidInput, *why)),
            None => Ok(()),
        }
    }
}

/// What peers ask of this member. Called on the network's thread, but for what may block: must
/// be quick and must not panic.
pub trait Local: Send + Sync + 'static {
    /// A Raft message came. A snapshot's is handed on when its state is staged.
    fn message(&self, message: Message);
    /// A peer forwards an encoded proposal. If the future is dropped, the peer has gone.
    fn propose(&self, command: Bytes) -> BoxFuture<'static, Result<Outcome, ProposeError>>;
    /// A connection to or from a member ended without a word: its process has probably gone. A hint, and at most one for
    /// each connection.
    fn lost(&self, member: u64);
    /// Messages to a member were lost. Not called for each of them.
    fn unreachable(&self, member: u64);
    /// The snapshot that a message which is about to be sent refers to. May block.
    fn snapshot(&self, index: u64) -> Option<Box<dyn SnapshotSource>>;
    /// What became of a snapshot given to [`Transport::send`]. Called once for each, but for one given while another was
    /// on its way to the same member: that one's answer stands for both.
    fn snapshot_sent(&self, to: u64, ok: bool);
    /// Begins to receive a snapshot. May block. Not called again before the sink is finished or dropped.
    fn stage(&self) -> Result<Box<dyn SnapshotSink>, SnapshotError>;
    /// What was staged is the state of this entry, and no message says so: it goes. May block.
    fn unstage(&self, index: u64);
}

/// Figures of the link to one peer, counted since the peer was set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerFigures {
    /// Where it is.
    pub address: String,
    /// Whether there is a connection.
    pub connected: bool,
    /// Connections made.
    pub connections: u64,
    /// Messages written to a connection.
    pub messages_sent: u64,
    /// Messages lost on this side.
    pub messages_dropped: u64,
    /// Bytes written, inside TLS, without those of snapshots.
    pub bytes_sent: u64,
    /// Proposals that are not answered.
    pub proposals: usize,
    /// Snapshots that the peer has taken over.
    pub snapshots_sent: u64,
    /// Round-trip time of pings, smoothed.
    pub round_trip: Option<Duration>,
}

/// The network of this member. Cheap to clone; the last one dropped stops nothing: call [`Peers::shutdown`].
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

impl Peers {
    /// Takes the port. Nobody is answered yet.
    ///
    /// # Errors
    /// If the port cannot be taken, or settings do not fit together.
    pub fn bind(config: PeerConfig) -> io::Result<Self> {
        config.check()?;
        let listener = TcpListener::bind(config.listen)?;
        listener.set_nonblocking(true)?;
        let inner = Inner {
            address: listener.local_addr()?,
            config,
            listener: Mutex::new(Some(listener)),
            links: ArcSwap::default(),
            changing: Mutex::default(),
            changed: tokio::sync::Notify::new(),
            orphans: Mutex::default(),
            newest: accept::Newest::default(),
            removed: ArcSwap::default(),
            removed_here: CancellationToken::new(),
            incoming: receive::Incoming::default(),
            stop: CancellationToken::new(),
            thread: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where peers are listened to, with the port that the system chose if it was to.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.address
    }

    /// Begins to accept and to connect. Once.
    ///
    /// # Errors
    /// If the thread cannot be started, or this was called or stopped before.
    pub fn serve(&self, local: Arc<dyn Local>) -> io::Result<()> {
        let mut thread = self.inner.thread.lock();
        let Some(listener) = self.inner.listener.lock().take() else {
            return Err(io::Error::other("the network is served already, or stopped"));
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("raft-peers-io")
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let net = Net { inner: self.inner.clone(), local };
        let run = move || {
            runtime.block_on(net::run(net, listener));
            runtime.shutdown_timeout(BLOCKING_STOP_MAX);
        };
        *thread = Some(std::thread::Builder::new().name("raft-peers".to_owned()).spawn(run)?);
        Ok(())
    }

    /// From now on there are links to these peers, and to no others. Connections from a member that is none of them are
    /// accepted nevertheless: whoever is behind with the log does not know all members yet.
    pub fn set_peers(&self, peers: BTreeMap<u64, String>) {
        let inner = &self.inner;
        let _one = inner.changing.lock();
        let before = inner.links.load_full();
        let peers = peers.into_iter().filter(|(member, _)| *member != inner.config.member);
        let after: net::Links = peers
            .map(|(member, address)| match before.get(&member) {
                Some(link) if link.address == address => (member, link.clone()),
                _ => (member, Arc::new(Link::new(&inner.config, member, address, inner.stop.child_token()))),
            })
            .collect();
        let after = Arc::new(after);
        inner.links.store(after.clone());
        for (member, link) in before.iter() {
            if !after.get(member).is_some_and(|kept| Arc::ptr_eq(kept, link)) {
                link.stop.cancel();
            }
        }
        inner.changed.notify_one();
    }

    /// From now on these members are not let in, and those that are connected are cut off. They are told why.
    pub fn set_removed(&self, members: BTreeSet<u64>) {
        let before = self.inner.removed.swap(Arc::new(members));
        for member in self.inner.removed.load().difference(&before) {
            self.inner.newest.end(*member);
        }
    }

    /// Returns when a peer says that the cluster has removed this member.
    pub async fn told_removed(&self) {
        self.inner.removed_here.cancelled().await;
    }

    /// Forwards an encoded proposal. Dropping the future gives up waiting, not the proposal.
    ///
    /// # Errors
    /// What the peer answers. [`ProposeError::NotLeader`] without a leader if the peer cannot be reached, in which case
    /// nothing happened; [`ProposeError::Unknown`] if the connection ended before the answer.
    pub async fn propose(&self, to: u64, command: Bytes) -> Result<Outcome, ProposeError> {
        if self.inner.stop.is_cancelled() {
            return Err(ProposeError::Stopped);
        }
        let answer = match self.inner.links.load().get(&to) {
            Some(link) => link.outbox.propose(command)?,
            None => return Err(ProposeError::NotLeader { leader: None }),
        };
        answer.await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// Figures, by peer.
    pub fn figures(&self) -> BTreeMap<u64, PeerFigures> {
        self.inner.links.load().iter().map(|(member, link)| (*member, link.figures())).collect()
    }

    /// Stops: connections are closed, and what waits for an answer gets one. Blocks until the threads ended.
    pub fn shutdown_blocking(&self) {
        self.inner.stop.cancel();
        let thread = self.inner.thread.lock().take();
        // If it was never served, the port is to be free nevertheless.
        drop(self.inner.listener.lock().take());
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the network between members panicked");
        }
    }

    /// As [`Peers::shutdown_blocking`], without blocking the caller's thread.
    pub async fn shutdown(&self) {
        let peers = self.clone();
        if tokio::task::spawn_blocking(move || peers.shutdown_blocking()).await.is_err() {
            tracing::error!("the shutdown of the network between members panicked");
        }
    }
}

impl Transport for Peers {
    fn send(&self, messages: Vec<Message>) {
        let links = self.inner.links.load();
        for message in messages {
            let (to, kind) = (message.to, message.get_msg_type());
            let taken = match links.get(&to) {
                Some(link) => link.send(message),
                None => {
                    tracing::debug!(to, "not a peer: message dropped");
                    kind != MessageType::MsgSnapshot
                }
            };
            if !taken {
                self.inner.orphans.lock().insert(to);
                self.inner.changed.notify_one();
            }
        }
    }
}
