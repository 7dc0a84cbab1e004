//! Queue and cache together: what an object's change means for both, and what a cycle's outcome does to them. Pure: the
//! caller brings the time and carries out the decisions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ReplicationController, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use navarch_types::{ApiError, Reason};

use crate::cache::{Cache, PodChange};
use crate::cycle::{self, Outcome};
use crate::fit_error::FitError;
use crate::framework::{ClusterEvent, Context, Framework};
use crate::pod::PodInfo;
use crate::queue::{Depth, Queue};
use crate::selector::{Selector, labels_of};
use crate::workloads::OwnerKind;

/// The name by which pods ask for this scheduler.
pub const SCHEDULER_NAME: &str = "default-scheduler";

/// What is to be done about a pod.
#[derive(Debug)]
pub enum Decision {
    /// Bind it; then call [`State::bound`].
    Bind {
        /// The pod.
        pod: Arc<PodInfo>,
        /// Its node.
        node: String,
    },
    /// Tell its user why it fits nowhere.
    Unschedulable {
        /// The pod.
        pod: Arc<PodInfo>,
        /// Why.
        error: Box<FitError>,
    },
}

/// See the module.
pub struct State {
    framework: Arc<Framework>,
    cache: Cache,
    queue: Queue,
    /// The uid behind each name, to notice an object that was replaced unseen.
    uids: HashMap<(String, String), String>,
    start: usize,
    random: u64,
}

fn name_of(metadata: &ObjectMeta) -> (&str, &str) {
    (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

impl State {
    /// Knows nothing yet. `seed` is for ties between nodes.
    pub fn new(framework: Arc<Framework>, seed: u64) -> Self {
        Self { framework, cache: Cache::new(), queue: Queue::new(), uids: HashMap::new(), start: 0, random: seed | 1 }
    }

    /// What is known of the cluster.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// How many pods wait where.
    pub fn depth(&self) -> Depth {
        self.queue.depth()
    }

    /// When something becomes ready by itself.
    pub fn next_due(&self) -> Option<Instant> {
        self.queue.next_due()
    }

    fn happened(&mut self, event: &ClusterEvent<'_>, now: Instant) {
        self.queue.on_event(&self.framework, event, now);
    }

    /// A node came or changed.
    pub fn set_node(&mut self, node: &Arc<Node>, now: Instant) {
        let old = self.cache.node_named(name_of(&node.metadata).1).map(|info| Arc::clone(&info.node));
        let change = self.cache.set_node(Arc::clone(node));
        match (old, change) {
            (Some(old), Some(change)) if change.any() => {
                self.happened(&ClusterEvent::NodeUpdated { old: &old, new: node, change }, now);
            }
            (Some(_), _) => {}
            (None, _) => self.happened(&ClusterEvent::NodeAdded(node), now),
        }
    }

    /// A node went.
    pub fn remove_node(&mut self, name: &str) {
        self.cache.remove_node(name);
    }

    /// A pod came or changed.
    pub fn set_pod(&mut self, pod: &Arc<Pod>, now: Instant) {
        let (namespace, name) = name_of(&pod.metadata);
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(old) = self.uids.get(&key).filter(|old| *old != uid).cloned() {
            self.drop_pod(namespace, &old, now);
        }
        self.uids.insert(key, uid.to_owned());
        let spec = pod.spec.as_ref();
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            self.drop_pod(namespace, uid, now);
        } else if spec.is_some_and(|s| s.node_name.as_deref().is_some_and(|n| !n.is_empty())) {
            self.set_assigned(pod, uid, now);
        } else if spec.is_some_and(|s| s.scheduler_name.as_deref().unwrap_or(SCHEDULER_NAME) == SCHEDULER_NAME) {
            if pod.metadata.deletion_timestamp.is_some() {
                self.queue.remove(uid);
            } else {
                self.queue.set(&self.framework, Arc::new(PodInfo::pending(Arc::clone(pod))), now);
            }
        }
    }

    fn set_assigned(&mut self, pod: &Arc<Pod>, uid: &str, now: Instant) {
        self.queue.remove(uid);
        let change = self.cache.set_pod(Arc::clone(pod));
        let info = Arc::new(PodInfo::assigned(Arc::clone(pod)));
        match change {
            PodChange::Added | PodChange::Confirmed => self.happened(&ClusterEvent::AssignedPodAdded(&info), now),
            PodChange::Updated(old) => {
                // Status alone changes often and helps nobody.
                if old.labels() != info.labels()
                    || old.requests != info.requests
                    || old.is_terminating() != info.is_terminating()
                {
                    self.happened(&ClusterEvent::AssignedPodUpdated { old: &old, new: &info }, now);
                }
            }
        }
    }

    /// A pod went.
    pub fn remove_pod(&mut self, namespace: &str, name: &str, now: Instant) {
        if let Some(uid) = self.uids.remove(&(namespace.to_owned(), name.to_owned())) {
            self.drop_pod(namespace, &uid, now);
        }
    }

    fn drop_pod(&mut self, namespace: &str, uid: &str, now: Instant) {
        self.queue.remove(uid);
        if let Some(gone) = self.cache.remove_pod(namespace, uid) {
            self.happened(&ClusterEvent::AssignedPodDeleted(&gone), now);
        }
    }

    /// A namespace came or changed.
    pub fn set_namespace(&mut self, namespace: &Namespace, now: Instant) {
        if self.cache.set_namespace(name_of(&namespace.metadata).1, labels_of(&namespace.metadata)) {
            self.happened(&ClusterEvent::NamespaceUpdated, now);
        }
    }

    /// A namespace went.
    pub fn remove_namespace(&mut self, name: &str) {
        self.cache.remove_namespace(name);
    }

    /// A Service came or changed.
    pub fn set_service(&mut self, service: &Service) {
        let (namespace, name) = name_of(&service.metadata);
        let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
        self.cache.workloads.set_service(namespace, name, selector);
    }

    /// A Service went.
    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        self.cache.workloads.remove_service(namespace, name);
    }

    /// A workload came or changed.
    pub fn set_owner<K: Workload>(&mut self, object: &K) {
        let (namespace, name) = name_of(object.metadata());
        self.cache.workloads.set_owner(K::OWNER, namespace, name, object.pod_selector());
    }

    /// A workload went.
    pub fn remove_owner(&mut self, kind: OwnerKind, namespace: &str, name: &str) {
        self.cache.workloads.remove_owner(kind, namespace, name);
    }

    /// Runs the next cycle, if a pod is ready.
    pub fn next(&mut self, now: Instant) -> Option<Decision> {
        let pod = self.queue.pop(now)?.pod;
        self.cache.prepare(&pod);
        self.random = next_random(self.random);
        let ctx = Context { cache: &self.cache, pod: &pod };
        match cycle::schedule(&self.framework, ctx, self.start, self.random >> 11) {
            Outcome::Fits { node, looked_at, .. } => {
                self.start = (self.start + looked_at) % self.cache.node_count().max(1);
                let allowed = self.framework.reserve(&pod, &node).and_then(|()| {
                    self.framework.permit(&pod, &node).inspect_err(|_| self.framework.unreserve(&pod, &node))
                });
                if let Err((plugin, rejection)) = allowed {
                    let mut error = FitError { nodes: self.cache.node_count(), ..FitError::default() };
                    error.plugins.insert(plugin);
                    error.count(&rejection, 1);
                    return Some(self.refused(pod, Box::new(error), now));
                }
                self.cache.assume(Arc::clone(&pod), &node);
                Some(Decision::Bind { pod, node })
            }
            Outcome::Unschedulable { error, .. } => Some(self.refused(pod, error, now)),
        }
    }

    fn refused(&mut self, pod: Arc<PodInfo>, error: Box<FitError>, now: Instant) -> Decision {
        self.queue.unschedulable(pod.uid(), error.plugins, now);
        Decision::Unschedulable { pod, error }
    }

    /// A pod was bound, or was not.
    pub fn bound(&mut self, pod: &PodInfo, node: &str, failure: Option<&ApiError>, now: Instant) {
        let Some(error) = failure else { return };
        if !self.cache.forget(pod.namespace(), pod.uid()) {
            // It is shown on a node meanwhile, or gone: nothing to take back.
            return;
        }
        self.framework.unreserve(pod, node);
        if error.is(Reason::NotFound) {
            self.queue.remove(pod.uid());
        } else {
            self.queue.failed(pod.uid(), now);
        }
        self.happened(&ClusterEvent::AssignedPodDeleted(pod), now);
    }

    /// Pods in a cycle that broke come back into the queue.
    pub fn recover_cycles(&mut self, now: Instant) {
        let cache = &self.cache;
        self.queue.recover(|pod| cache.is_assumed(pod.namespace(), pod.uid()), now);
    }

    /// Pods whose binding was lost come back into the queue: all that are assumed to be somewhere, but for those whose
    /// binding still waits to be carried out (by uid). Those that were bound all the same are shown so later.
    pub fn recover_bindings(&mut self, waiting: &HashSet<String>, now: Instant) {
        for pod in self.cache.assumed() {
            if !waiting.contains(pod.uid()) {
                self.cache.forget(pod.namespace(), pod.uid());
            }
        }
        self.queue.recover(|pod| waiting.contains(pod.uid()), now);
    }

    /// Lets pods try again that have waited for long.
    pub fn flush(&mut self, now: Instant) {
        self.queue.flush(now);
    }
}

/// A workload whose pods default spreading keeps apart.
pub trait Workload: Metadata<Ty = ObjectMeta> {
    /// Its kind.
    const OWNER: OwnerKind;
    /// Its pods.
    fn pod_selector(&self) -> Selector;
}

impl Workload for ReplicaSet {
    const OWNER: OwnerKind = OwnerKind::ReplicaSet;
    fn pod_selector(&self) -> Selector {
        Selector::from_labels(self.spec.as_ref().map(|s| &s.selector))
    }
}

impl Workload for StatefulSet {
    const OWNER: OwnerKind = OwnerKind::StatefulSet;
    fn pod_selector(&self) -> Selector {
        Selector::from_labels(self.spec.as_ref().map(|s| &s.selector))
    }
}

impl Workload for ReplicationController {
    const OWNER: OwnerKind = OwnerKind::ReplicationController;
    fn pod_selector(&self) -> Selector {
        self.spec.as_ref().and_then(|s| s.selector.as_ref()).map_or(Selector::Nothing, Selector::from_map)
    }
}

/// xorshift64: good enough to break ties, and repeatable from its seed.
fn next_random(mut x: u64) -> u64 {
    x ^= x << 13;
    x ^= x >> 7;
    x ^ (x << 17)
}

#[cfg(test)]
mod tests;
