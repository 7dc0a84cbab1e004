//! A node as the scheduler sees it: its object, and the sums over the pods on it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use crate::pod::{HostPort, PodInfo};
use crate::resource::Resource;
use crate::selector::{Labels, labels_of};

/// The place of a node in the cache: small, dense, and its own as long as the node exists.
pub type Slot = usize;

/// A node with its pods.
#[derive(Debug)]
pub struct NodeInfo {
    /// Its place in the cache.
    pub slot: Slot,
    /// What pods may take.
    pub allocatable: Resource,
    /// What its pods take.
    pub requested: Resource,
    /// What its pods count as when nodes are scored: CPU in thousandths, memory in bytes.
    pub scored: (i64, i64),
    /// Whether it takes no new pods.
    pub unschedulable: bool,
    /// The pods on it, those on their way included.
    pub pods: Vec<Arc<PodInfo>>,
    /// The ports they occupy.
    pub ports: Vec<HostPort>,
    /// The object.
    pub node: Arc<Node>,
}

/// What changed in a node, as far as pods that wait may care.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeChange {
    /// What pods may take.
    pub allocatable: bool,
    /// Labels.
    pub labels: bool,
    /// Taints.
    pub taints: bool,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
}

impl NodeChange {
    /// Between two versions.
    pub fn between(old: &Node, new: &Node) -> Self {
        let allocatable = |n: &Node| n.status.as_ref().and_then(|s| s.allocatable.clone());
        Self {
            allocatable: allocatable(old) != allocatable(new),
            labels: labels_of(&old.metadata) != labels_of(&new.metadata),
            taints: taints_of(old) != taints_of(new),
            unschedulable: is_unschedulable(old) != is_unschedulable(new),
        }
    }

    /// Whether anything did.
    pub fn any(self) -> bool {
        self.allocatable || self.labels || self.taints || self.unschedulable
    }
}

/// The taints of a node.
pub fn taints_of(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default()
}

/// Whether a node is cordoned.
pub fn is_unschedulable(node: &Node) -> bool {
    node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false)
}

/// What pods may take of a node.
pub fn allocatable_of(node: &Node) -> Resource {
    Resource::from_list(node.status.as_ref().and_then(|s| s.allocatable.as_ref()))
}

/// The name of a node.
pub fn name_of(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

impl NodeInfo {
    /// Without pods.
    pub fn new(slot: Slot, node: Arc<Node>) -> Self {
        Self {
            slot,
            allocatable: allocatable_of(&node),
            requested: Resource::default(),
            scored: (0, 0),
            unschedulable: is_unschedulable(&node),
            pods: Vec::new(),
            ports: Vec::new(),
            node,
        }
    }

    /// Takes a new version of the object.
    pub fn set_node(&mut self, node: Arc<Node>) {
        self.allocatable = allocatable_of(&node);
        self.unschedulable = is_unschedulable(&node);
        self.node = node;
    }

    /// The name.
    pub fn name(&self) -> &str {
        name_of(&self.node)
    }

    /// The labels.
    pub fn labels(&self) -> &Labels {
        labels_of(&self.node.metadata)
    }

    /// The taints.
    pub fn taints(&self) -> &[Taint] {
        taints_of(&self.node)
    }

    /// Counts a pod in.
    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests, 1);
        self.scored.0 += pod.scored.0;
        self.scored.1 += pod.scored.1;
        self.ports.extend(pod.ports.iter().cloned());
        self.pods.push(pod);
    }

    /// Counts a pod out. Returns whether it was there.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(at) = self.pods.iter().position(|p| p.uid() == uid) else { return false };
        let pod = self.pods.swap_remove(at);
        self.requested.add(&pod.requests, -1);
        self.scored.0 -= pod.scored.0;
        self.scored.1 -= pod.scored.1;
        for port in &pod.ports {
            if let Some(at) = self.ports.iter().position(|p| p == port) {
                self.ports.swap_remove(at);
            }
        }
        true
    }
}
