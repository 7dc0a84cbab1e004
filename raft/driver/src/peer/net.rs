//! What the parts of the network share, and the thread that runs them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::JoinHandle,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Local, PeerConfig,
    accept::{Newest, accept},
    link::Link,
    receive::Incoming,
};

pub(super) type Links = BTreeMap<u64, Arc<Link>>;

/// Behind every [`super::Peers`].
pub(super) struct Inner {
    pub(super) config: PeerConfig,
    pub(super) address: SocketAddr,
    /// Until it is served.
    pub(super) listener: Mutex<Option<TcpListener>>,
    pub(super) links: ArcSwap<Links>,
    /// One at a time changes the links.
    pub(super) changing: Mutex<()>,
    /// There is something new in `links` or in `orphans`.
    pub(super) changed: Notify,
    /// Members to which a snapshot was to be sent, and to which there is no link: Raft must know, or it waits for ever.
    pub(super) orphans: Mutex<BTreeSet<u64>>,
    pub(super) newest: Newest,
    /// Members of once: they are not let in.
    pub(super) removed: ArcSwap<BTreeSet<u64>>,
    /// A peer has said that this member is one of those.
    pub(super) removed_here: CancellationToken,
    pub(super) incoming: Incoming,
    pub(super) stop: CancellationToken,
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the tasks of the network work on.
#[derive(Clone)]
pub(super) struct Net {
    pub(super) inner: Arc<Inner>,
    pub(super) local: Arc<dyn Local>,
}

/// Runs until the member stops, and returns when nothing of it is left.
pub(super) async fn run(net: Net, listener: tokio::net::TcpListener) {
    let mut tasks = JoinSet::new();
    tasks.spawn({
        let net = net.clone();
        async move { accept(&net, listener).await }
    });
    let mut running = Links::new();
    while !net.inner.stop.is_cancelled() {
        let links = net.inner.links.load_full();
        for (member, link) in links.iter() {
            if !running.get(member).is_some_and(|runs| Arc::ptr_eq(runs, link)) {
                let (net, link) = (net.clone(), link.clone());
                tasks.spawn(async move { link.run(&net).await });
            }
        }
        running.clone_from(&links);
        for member in std::mem::take(&mut *net.inner.orphans.lock()) {
            net.local.snapshot_sent(member, false);
        }
        tokio::select! {
            () = net.inner.stop.cancelled() => {}
            () = net.inner.changed.notified() => {}
            Some(ended) = tasks.join_next() => told(ended),
        }
    }
    while let Some(ended) = tasks.join_next().await {
        told(ended);
    }
}

/// Links and the listener catch what panics below them, so this is one in what a [`Local`] does, in a place where nothing
/// can be done about it.
fn told(ended: Result<(), tokio::task::JoinError>) {
    if let Err(panic) = ended {
        tracing::error!(%panic, "a task of the network between members panicked");
    }
}
