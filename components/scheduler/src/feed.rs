//! From the informers into the state. Informers only note which objects changed; this task reads their present version,
//! so that ten changes of a pod while a cycle runs are one.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ReplicationController, Service};
use navarch_client::{Informer, InformerFactory, Item, ObjectKey, Subscription};
use navarch_supervision::{TaskContext, fault};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::shared::Shared;
use crate::state::{State, Workload};

/// Objects taken into the state at a time: the loop gets its turn between.
const BATCH: usize = 64;

/// The keys of objects that changed, each once: no more than there are objects.
#[derive(Default)]
struct Noted {
    keys: Mutex<HashSet<ObjectKey>>,
}

impl Noted {
    fn take(&self) -> Vec<ObjectKey> {
        std::mem::take(&mut *self.keys.lock()).into_iter().collect()
    }
}

/// One informer with what changed in it.
struct Source<T: Item> {
    informer: Informer<T>,
    noted: Arc<Noted>,
    _subscription: Subscription,
}

impl<T: Item> Source<T> {
    fn new(informer: Informer<T>, wake: &Arc<Notify>) -> Self {
        let noted = Arc::new(Noted::default());
        let (note, wake) = (Arc::clone(&noted), Arc::clone(wake));
        let subscription = informer.subscribe(move |change| {
            note.keys.lock().insert(change.key());
            wake.notify_one();
        });
        Self { informer, noted, _subscription: subscription }
    }

    fn apply(&self, shared: &Shared, act: impl Fn(&mut State, &ObjectKey, Option<Arc<T>>)) -> bool {
        let keys = self.noted.take();
        for batch in keys.chunks(BATCH) {
            shared.with(|state| {
                for key in batch {
                    act(state, key, self.informer.store().get(key));
                }
            });
        }
        !keys.is_empty()
    }
}

struct Sources {
    nodes: Source<Node>,
    pods: Source<Pod>,
    namespaces: Source<Namespace>,
    services: Source<Service>,
    replica_sets: Source<ReplicaSet>,
    stateful_sets: Source<StatefulSet>,
    replication_controllers: Source<ReplicationController>,
}

impl Sources {
    fn new(informers: &InformerFactory, wake: &Arc<Notify>) -> Self {
        Self {
            nodes: Source::new(informers.informer(), wake),
            pods: Source::new(informers.informer(), wake),
            namespaces: Source::new(informers.informer(), wake),
            services: Source::new(informers.informer(), wake),
            replica_sets: Source::new(informers.informer(), wake),
            stateful_sets: Source::new(informers.informer(), wake),
            replication_controllers: Source::new(informers.informer(), wake),
        }
    }

    async fn synced(&self) {
        self.nodes.informer.synced().await;
        self.pods.informer.synced().await;
        self.namespaces.informer.synced().await;
        self.services.informer.synced().await;
        self.replica_sets.informer.synced().await;
        self.stateful_sets.informer.synced().await;
        self.replication_controllers.informer.synced().await;
    }

    /// Takes in what changed: pods last, so that they are judged by all the rest. Returns whether anything did.
    fn apply(&self, shared: &Shared) -> bool {
        let now = Instant::now();
        let mut any = self.namespaces.apply(shared, |state, key, object| match object {
            Some(namespace) => state.set_namespace(&namespace, now),
            None => state.remove_namespace(&key.name),
        });
        any |= self.services.apply(shared, |state, key, object| match object {
            Some(service) => state.set_service(&service),
            None => state.remove_service(&key.namespace, &key.name),
        });
        any |= self.replica_sets.apply(shared, owner);
        any |= self.stateful_sets.apply(shared, owner);
        any |= self.replication_controllers.apply(shared, owner);
        any |= self.nodes.apply(shared, |state, key, object| match object {
            Some(node) => state.set_node(&node, now),
            None => state.remove_node(&key.name),
        });
        any |= self.pods.apply(shared, |state, key, object| match object {
            Some(pod) => state.set_pod(&pod, now),
            None => state.remove_pod(&key.namespace, &key.name, now),
        });
        any
    }
}

#[allow(clippy::needless_pass_by_value)]
fn owner<K: Workload>(state: &mut State, key: &ObjectKey, object: Option<Arc<K>>) {
    match object {
        Some(object) => state.set_owner(object.as_ref()),
        None => state.remove_owner(K::OWNER, &key.namespace, &key.name),
    }
}

/// The task.
pub(crate) async fn run(shared: Arc<Shared>, informers: InformerFactory, ctx: TaskContext) -> Result<(), Infallible> {
    *shared.state.lock() = None;
    let wake = Arc::new(Notify::new());
    let sources = Sources::new(&informers, &wake);
    tokio::select! {
        () = ctx.stopped() => return Ok(()),
        () = sources.synced() => {}
    }
    let seed = rand::random();
    *shared.state.lock() = Some(State::new(Arc::clone(&shared.framework), seed));
    loop {
        fault::point("scheduler/queue");
        if sources.apply(&shared) {
            shared.wake();
        }
        tokio::select! {
            () = ctx.stopped() => return Ok(()),
            () = wake.notified() => {}
        }
    }
}
