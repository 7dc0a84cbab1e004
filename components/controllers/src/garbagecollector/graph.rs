//! Who owns whom, as the informers of all resources tell. Pure bookkeeping; knows no server.
//!
//! Nothing is deleted on the graph's word alone: it says what is worth a look. An owner that is not in it may exist all
//! the same, in a resource whose informer is behind.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use navarch_types::GroupVersionResource;

pub(super) const ORPHAN: &str = "orphan";
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// An object, as far as ownership goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its resource.
    pub resource: GroupVersionResource,
    /// Where; empty for cluster-scoped objects.
    pub namespace: String,
    /// Which.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its owners.
    pub owners: Vec<OwnerRef>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it waits until its dependents have let go of it.
    pub orphaning: bool,
    /// Whether it waits until its dependents are gone.
    pub foreground: bool,
    /// What deletion of it would do to its dependents, by its finalizers.
    pub orphans_dependents: bool,
    /// As above.
    pub blocks_on_dependents: bool,
}

/// An owner, as an object refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerRef {
    /// The owner's uid.
    pub uid: String,
    /// Whether the owner, deleted in the foreground, waits for the object.
    pub blocks: bool,
}

impl From<&OwnerReference> for OwnerRef {
    fn from(owner: &OwnerReference) -> Self {
        Self { uid: owner.uid.clone(), blocks: owner.block_owner_deletion == Some(true) }
    }
}

impl Node {
    /// From an object's metadata; `None` without a uid.
    pub fn new(resource: &GroupVersionResource, metadata: &ObjectMeta) -> Option<Self> {
        let has = |finalizer: &str| metadata.finalizers.iter().flatten().any(|f| f == finalizer);
        let deleting = metadata.deletion_timestamp.is_some();
        Some(Self {
            resource: resource.clone(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            owners: metadata.owner_references.iter().flatten().map(OwnerRef::from).collect(),
            deleting,
            orphaning: deleting && has(ORPHAN),
            foreground: deleting && has(FOREGROUND),
            orphans_dependents: has(ORPHAN),
            blocks_on_dependents: has(FOREGROUND),
        })
    }
}

/// The graph.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<String, Node>,
    /// By the owner's uid, also of owners that are not there.
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    /// An object by its uid.
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// The objects that an owner has.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Node> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|dependent| self.nodes.get(dependent))
    }

    /// Notes an object's present state. Returns the uids that are worth a look.
    pub fn apply(&mut self, node: Node) -> Vec<String> {
        let old = self.nodes.insert(node.uid.clone(), node.clone());
        if old.as_ref() == Some(&node) {
            return Vec::new();
        }
        let before = old.as_ref().map(|o| o.owners.clone()).unwrap_or_default();
        self.unlink(&node.uid, &before);
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(node.uid.clone());
        }
        let changed = old.as_ref().is_none_or(|old| {
            (&old.owners, old.deleting, old.orphaning, old.foreground)
                != (&node.owners, node.deleting, node.orphaning, node.foreground)
        });
        let mut look = Vec::new();
        if changed && (!node.owners.is_empty() || node.deleting) {
            look.push(node.uid.clone());
        }
        if before != node.owners {
            look.extend(self.waiting(&before));
        }
        look
    }

    /// Forgets an object that is gone. Returns the uids that are worth a look.
    pub fn delete(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        self.unlink(uid, &node.owners);
        let mut look: Vec<String> = self.dependents(uid).map(|dependent| dependent.uid.clone()).collect();
        look.extend(self.waiting(&node.owners));
        look
    }

    fn unlink(&mut self, uid: &str, owners: &[OwnerRef]) {
        for owner in owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }

    /// Those of the owners that wait for their dependents.
    fn waiting<'a>(&'a self, owners: &'a [OwnerRef]) -> impl Iterator<Item = String> + 'a {
        let nodes = owners.iter().filter_map(|owner| self.nodes.get(&owner.uid));
        nodes.filter(|node| node.foreground || node.orphaning).map(|node| node.uid.clone())
    }
}

/// What is known of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It exists and stays.
    Solid,
    /// It does not exist.
    Dangling,
    /// It is being deleted and waits for its dependents.
    Waiting,
}

/// What to do with an object by the state of its owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has an owner that stays, or none at all.
    Keep,
    /// It has an owner that stays; references to the others go.
    DropReferences,
    /// Its owners wait for it, and it has dependents itself, which go first.
    DeleteForeground,
    /// No owner is left.
    Delete,
}

/// Decides about an object that is not being deleted.
pub fn judge(owners: &[Owner], has_dependents: bool) -> Verdict {
    let has = |kind: Owner| owners.contains(&kind);
    if owners.is_empty() {
        Verdict::Keep
    } else if has(Owner::Solid) {
        if has(Owner::Dangling) || has(Owner::Waiting) { Verdict::DropReferences } else { Verdict::Keep }
    } else if has(Owner::Waiting) && has_dependents {
        Verdict::DeleteForeground
    } else {
        Verdict::Delete
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use serde_json::json;

    use super::*;

    fn node(uid: &str, owners: &[&str], deleting: bool, finalizer: &str) -> Node {
        let owners: Vec<_> =
            owners.iter().map(|o| json!({"uid": o, "apiVersion": "v1", "kind": "K", "name": "n"})).collect();
        let metadata: ObjectMeta = serde_json::from_value(json!({"name": uid, "uid": uid, "ownerReferences": owners,
            "deletionTimestamp": deleting.then_some("2024-01-01T00:00:00Z"), "finalizers": [finalizer]}))
        .unwrap();
        Node::new(&GroupVersionResource::new("", "v1", "things"), &metadata).unwrap()
    }

    #[test]
    fn verdicts() {
        use Owner::{Dangling, Solid, Waiting};
        let table = [
            (vec![], true, Verdict::Keep),
            (vec![Solid], true, Verdict::Keep),
            (vec![Solid, Dangling], false, Verdict::DropReferences),
            (vec![Solid, Waiting], true, Verdict::DropReferences),
            (vec![Dangling], true, Verdict::Delete),
            (vec![Dangling, Waiting], true, Verdict::DeleteForeground),
            (vec![Waiting], false, Verdict::Delete),
        ];
        for (owners, dependents, want) in table {
            assert_eq!(judge(&owners, dependents), want, "{owners:?}");
        }
    }

    #[test]
    fn what_is_worth_a_look() {
        let mut graph = Graph::default();
        assert!(graph.apply(node("owner", &[], false, "x")).is_empty());
        assert_eq!(graph.apply(node("a", &["owner"], false, "x")), ["a"]);
        assert!(graph.apply(node("a", &["owner"], false, "x")).is_empty(), "nothing new");
        assert_eq!(graph.apply(node("b", &["owner", "absent"], false, "x")), ["b"]);
        assert_eq!(graph.apply(node("owner", &[], true, FOREGROUND)), ["owner"]);
        assert_eq!(graph.apply(node("b", &["absent"], false, "x")), ["b", "owner"], "the owner waited for b");
        assert_eq!(graph.delete("a"), ["owner"]);
        assert!(graph.delete("owner").is_empty());
        assert_eq!(graph.dependents("absent").count(), 1);
        graph.delete("b");
        assert!(graph.dependents.is_empty() && graph.nodes.is_empty());
    }

    #[test]
    fn dependents_of_what_is_gone_are_looked_at() {
        let mut graph = Graph::default();
        graph.apply(node("a", &["owner"], false, "x"));
        graph.apply(node("owner", &[], false, "x"));
        assert_eq!(graph.delete("owner"), ["a"]);
    }
}
