//! The garbage collector: what has no owner left goes; an owner deleted in the foreground waits for its dependents; one
//! that orphans lets them go first.
//!
//! Every resource that can be listed, watched and deleted is followed by its metadata. An object is deleted only after a
//! fresh look at it and at each owner that the graph does not know.

mod graph;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use navarch_client::{Change, Client, Informer, InformerFactory, ObjectKey, Partial, Subscription, WorkQueue};
use navarch_types::{
    ApiError, Body, GroupVersionResource, Object, PatchType, Propagation, Reason, ResourceRequest, ResourceResponse,
    Verb,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::controller::{Next, Reconcile, gone};
use crate::registry::{Discover, ServedResource};
use graph::{FOREGROUND, Graph, Node, ORPHAN, Owner, Verdict};

/// The key under which the list of resources is looked at again. No uid is empty.
const DISCOVERY: &str = "";
const DISCOVER_EVERY: Duration = Duration::from_secs(30);
/// A resource that cannot be listed for so long does not hold up the others.
const SYNC_PATIENCE: Duration = Duration::from_secs(30);
const SYNC_RECHECK: Duration = Duration::from_millis(100);
/// Owners known to be absent; a bound, not a need.
const ABSENT_MAX: usize = 4096;

struct Monitor {
    informer: Informer<Partial>,
    since: Instant,
    _subscription: Subscription,
}

pub(crate) struct GarbageCollector {
    client: Client,
    informers: InformerFactory,
    discover: Discover,
    graph: Arc<Mutex<Graph>>,
    monitors: Mutex<BTreeMap<GroupVersionResource, Monitor>>,
    served: Mutex<Vec<ServedResource>>,
    absent: Mutex<HashSet<String>>,
    queue: Mutex<Option<WorkQueue<ObjectKey>>>,
}

fn key_of(uid: &str) -> ObjectKey {
    ObjectKey::new("", uid)
}

fn is_collected(served: &ServedResource) -> bool {
    let has = |verb: &str| served.verbs.iter().any(|v| v == verb);
    // Events expire by themselves, and there are many.
    has("list") && has("watch") && has("delete") && served.resource.resource != "events"
}

impl GarbageCollector {
    pub fn new(client: Client, informers: &InformerFactory, discover: Discover) -> Self {
        Self {
            client,
            informers: informers.clone(),
            discover,
            graph: Arc::default(),
            monitors: Mutex::default(),
            served: Mutex::default(),
            absent: Mutex::default(),
            queue: Mutex::default(),
        }
    }

    fn look_at(&self, uids: impl IntoIterator<Item = String>) {
        if let Some(queue) = &*self.queue.lock() {
            uids.into_iter().for_each(|uid| queue.add(key_of(&uid)));
        }
    }

    /// Follows what is served now, and no more what is not.
    fn rediscover(&self) -> Result<(), ApiError> {
        let served = (self.discover)()?;
        let Some(queue) = self.queue.lock().clone() else { return Ok(()) };
        let mut monitors = self.monitors.lock();
        monitors.retain(|resource, _| served.iter().any(|s| s.resource == *resource));
        for served in served.iter().filter(|s| is_collected(s)) {
            let resource = &served.resource;
            if monitors.contains_key(resource) {
                continue;
            }
            let informer = self.informers.partial(resource);
            let (graph, queue, of) = (Arc::clone(&self.graph), queue.clone(), resource.clone());
            let subscription = informer.subscribe(move |change| {
                let look = match change {
                    Change::Applied { old, new } => {
                        let replaced = old.as_ref().filter(|old| old.metadata.uid != new.metadata.uid);
                        let mut graph = graph.lock();
                        let mut look = replaced
                            .and_then(|old| old.metadata.uid.as_deref())
                            .map(|uid| graph.delete(uid))
                            .unwrap_or_default();
                        look.extend(Node::new(&of, &new.metadata).map(|node| graph.apply(node)).unwrap_or_default());
                        look
                    }
                    Change::Deleted(last) => graph.lock().delete(last.metadata.uid.as_deref().unwrap_or_default()),
                };
                look.into_iter().for_each(|uid| queue.add(key_of(&uid)));
            });
            let monitor = Monitor { informer, since: Instant::now(), _subscription: subscription };
            monitors.insert(resource.clone(), monitor);
        }
        *self.served.lock() = served;
        Ok(())
    }

    /// Whether the graph is complete, as far as can be waited for.
    fn is_synced(&self) -> bool {
        let monitors = self.monitors.lock();
        !monitors.is_empty() && monitors.values().all(|m| m.informer.is_synced() || m.since.elapsed() >= SYNC_PATIENCE)
    }

    fn request(&self, verb: Verb, node: &Node) -> ResourceRequest {
        let mut request = ResourceRequest::new(verb, node.resource.clone());
        request.namespace = Some(node.namespace.clone()).filter(|n| !n.is_empty());
        request.name = Some(node.name.clone());
        request
    }

    async fn object(&self, request: ResourceRequest) -> Result<Option<Arc<Object>>, ApiError> {
        match self.client.send(request).await {
            Ok(ResourceResponse::Object(object)) => Ok(Some(object)),
            Ok(_) => Err(ApiError::internal("the server answered with something that is no object")),
            Err(error) if error.is(Reason::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The object as it is now; `None` if it is gone or another of the same name.
    async fn fresh(&self, node: &Node) -> Result<Option<Arc<ObjectMeta>>, ApiError> {
        let object = self.object(self.request(Verb::Get, node)).await?;
        let Some(object) = object else { return Ok(None) };
        let metadata = object.metadata().map_err(ApiError::internal)?;
        Ok(Some(Arc::clone(metadata)).filter(|m| m.uid.as_deref() == Some(&node.uid)))
    }

    async fn patch(&self, node: &Node, metadata: &ObjectMeta, mut change: Value) -> Result<(), ApiError> {
        change["resourceVersion"] = json!(metadata.resource_version);
        change["uid"] = json!(metadata.uid);
        let mut request = self.request(Verb::Patch, node);
        request.patch = Some(PatchType::Merge);
        request.body = Body::Value(json!({"metadata": change}));
        gone(self.client.send(request).await)
    }

    async fn delete(&self, node: &Node, metadata: &ObjectMeta, policy: Propagation) -> Result<(), ApiError> {
        let mut request = self.request(Verb::Delete, node);
        request.body = Body::Value(json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy,
            "preconditions": {"uid": metadata.uid, "resourceVersion": metadata.resource_version}}));
        gone(self.client.send(request).await)
    }

    async fn drop_finalizer(&self, node: &Node, finalizer: &str) -> Result<(), ApiError> {
        let Some(metadata) = self.fresh(node).await? else { return Ok(()) };
        let all = metadata.finalizers.iter().flatten();
        let kept: Vec<&String> = all.filter(|f| *f != finalizer).collect();
        if Some(kept.len()) == metadata.finalizers.as_ref().map(Vec::len) {
            return Ok(());
        }
        self.patch(node, &metadata, json!({"finalizers": kept})).await
    }

    /// Rewrites an object's owner references.
    async fn change_owners(
        &self,
        node: &Node,
        change: impl Fn(&OwnerReference) -> Option<OwnerReference>,
    ) -> Result<(), ApiError> {
        let Some(metadata) = self.fresh(node).await? else { return Ok(()) };
        let before = metadata.owner_references.clone().unwrap_or_default();
        let after: Vec<OwnerReference> = before.iter().filter_map(&change).collect();
        if after == before {
            return Ok(());
        }
        self.patch(node, &metadata, json!({"ownerReferences": after})).await
    }

    async fn orphan_dependents(&self, node: &Node) -> Result<(), ApiError> {
        let dependents: Vec<Node> = self.graph.lock().dependents(&node.uid).cloned().collect();
        for dependent in &dependents {
            self.change_owners(dependent, |owner| (owner.uid != node.uid).then(|| owner.clone())).await?;
        }
        self.drop_finalizer(node, ORPHAN).await
    }

    async fn delete_dependents(&self, node: &Node) -> Result<(), ApiError> {
        let (all, blocking) = {
            let graph = self.graph.lock();
            let all: Vec<String> = graph.dependents(&node.uid).map(|d| d.uid.clone()).collect();
            let blocks = |d: &Node| d.owners.iter().any(|owner| owner.uid == node.uid && owner.blocks);
            (all, graph.dependents(&node.uid).any(blocks))
        };
        self.look_at(all);
        // Each dependent's end brings the owner back here.
        if blocking { Ok(()) } else { self.drop_finalizer(node, FOREGROUND).await }
    }

    /// What has become of an owner.
    async fn owner_state(&self, node: &Node, owner: &OwnerReference) -> Result<Owner, ApiError> {
        if let Some(known) = self.graph.lock().get(&owner.uid)
            && (known.namespace.is_empty() || known.namespace == node.namespace)
        {
            return Ok(if known.foreground { Owner::Waiting } else { Owner::Solid });
        }
        if self.absent.lock().contains(&owner.uid) {
            return Ok(Owner::Dangling);
        }
        let (resource, namespaced) = {
            let served = self.served.lock();
            let (group, _) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
            let found = served.iter().find(|s| s.resource.group == group && s.kind == owner.kind);
            let Some(found) = found else {
                // Perhaps not served yet. What cannot be looked up is never taken for absent.
                return Err(ApiError::new(
                    Reason::ServiceUnavailable,
                    format!("no resource is served for owner kind {} of {}", owner.kind, owner.api_version),
                ));
            };
            (found.resource.clone(), found.namespaced)
        };
        let mut request = ResourceRequest::new(Verb::Get, resource);
        if namespaced {
            if node.namespace.is_empty() {
                // A cluster-scoped object cannot have an owner in a namespace: there is no such owner.
                return Ok(self.note_absent(&owner.uid));
            }
            request.namespace = Some(node.namespace.clone());
        }
        request.name = Some(owner.name.clone());
        let Some(object) = self.object(request).await? else { return Ok(self.note_absent(&owner.uid)) };
        let metadata = object.metadata().map_err(ApiError::internal)?;
        if metadata.uid.as_deref() != Some(&owner.uid) {
            return Ok(self.note_absent(&owner.uid));
        }
        let waits = metadata.deletion_timestamp.is_some()
            && metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FOREGROUND);
        Ok(if waits { Owner::Waiting } else { Owner::Solid })
    }

    /// A uid never comes back, so absence is worth remembering.
    fn note_absent(&self, uid: &str) -> Owner {
        let mut absent = self.absent.lock();
        if absent.len() >= ABSENT_MAX {
            absent.clear();
        }
        absent.insert(uid.to_owned());
        Owner::Dangling
    }

    async fn collect(&self, node: &Node) -> Result<(), ApiError> {
        let Some(metadata) = self.fresh(node).await? else { return Ok(()) };
        if metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let mut states = Vec::new();
        for owner in metadata.owner_references.iter().flatten() {
            states.push((owner.uid.clone(), self.owner_state(node, owner).await?));
        }
        let dependents: Vec<Node> = self.graph.lock().dependents(&node.uid).cloned().collect();
        let owners: Vec<Owner> = states.iter().map(|(_, state)| *state).collect();
        match graph::judge(&owners, !dependents.is_empty()) {
            Verdict::Keep => Ok(()),
            Verdict::DropReferences => {
                let solid = |uid: &str| states.iter().any(|(of, state)| of == uid && *state == Owner::Solid);
                self.change_owners(node, |owner| solid(&owner.uid).then(|| owner.clone())).await
            }
            Verdict::DeleteForeground => {
                // A ring of objects that wait for each other would wait for ever.
                if dependents.iter().any(|d| d.foreground) {
                    let unblocked = |owner: &OwnerReference| {
                        Some(OwnerReference { block_owner_deletion: Some(false), ..owner.clone() })
                    };
                    self.change_owners(node, unblocked).await?;
                    let Some(metadata) = self.fresh(node).await? else { return Ok(()) };
                    return self.delete(node, &metadata, Propagation::Foreground).await;
                }
                self.delete(node, &metadata, Propagation::Foreground).await
            }
            Verdict::Delete => {
                let policy = if node.orphans_dependents {
                    Propagation::Orphan
                } else if node.blocks_on_dependents {
                    Propagation::Foreground
                } else {
                    Propagation::Background
                };
                self.delete(node, &metadata, policy).await
            }
        }
    }
}

#[async_trait(?Send)]
impl Reconcile for GarbageCollector {
    fn workers(&self) -> usize {
        20
    }

    async fn synced(&self) {}

    fn subscribe(&self, queue: &WorkQueue<ObjectKey>) -> Vec<Subscription> {
        *self.queue.lock() = Some(queue.clone());
        self.monitors.lock().clear();
        *self.graph.lock() = Graph::default();
        queue.add(key_of(DISCOVERY));
        Vec::new()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ApiError> {
        if &*key.name == DISCOVERY {
            self.rediscover()?;
            return Ok(Next::After(DISCOVER_EVERY));
        }
        let Some(node) = self.graph.lock().get(&key.name).cloned() else { return Ok(Next::Done) };
        if !node.deleting {
            return self.collect(&node).await.map(|()| Next::Done);
        }
        if (node.orphaning || node.foreground) && !self.is_synced() {
            return Ok(Next::After(SYNC_RECHECK));
        }
        if node.orphaning {
            self.orphan_dependents(&node).await?;
        } else if node.foreground {
            self.delete_dependents(&node).await?;
        }
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use navarch_client::DeleteOptions;
    use navarch_client::testing::{FakeServer, Fault};

    use super::*;
    use crate::testbed::Testbed;

    const NAME: &str = "garbage-collector";

    fn owner(kind: &str, name: &str, uid: &Option<String>) -> Value {
        let version = if kind == "ConfigMap" { "v1" } else { "apps/v1" };
        json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true, "blockOwnerDeletion": true})
    }

    /// A Deployment w with a ReplicaSet r with pods p0, p1.
    fn family(server: &FakeServer) {
        let d = server.put_json::<Deployment>(
            json!({"metadata": {"name": "w", "namespace": "d"}, "spec": {"selector": {}, "template": {}}}),
        );
        let r = server.put_json::<ReplicaSet>(json!({"metadata": {"name": "r", "namespace": "d",
            "ownerReferences": [owner("Deployment", "w", &d.metadata.uid)]}, "spec": {"selector": {}}}));
        for n in 0..2 {
            server.put_json::<Pod>(json!({"metadata": {"name": format!("p{n}"), "namespace": "d",
                "ownerReferences": [owner("ReplicaSet", "r", &r.metadata.uid)]}, "spec": {"containers": []}}));
        }
    }

    async fn delete(server: &FakeServer, policy: Propagation) {
        let options = DeleteOptions { propagation: Some(policy), ..DeleteOptions::default() };
        server.client().namespaced::<Deployment>("d").delete("w", &options).await.unwrap();
    }

    #[actix::test]
    async fn background_takes_all_below() {
        let bed = Testbed::new(&[NAME]).await;
        family(&bed.server);
        bed.server.inject(Fault::lost_connection().on(Verb::Delete, "replicasets"));
        bed.server.inject(Fault::lost_answer().on(Verb::Delete, "pods"));
        bed.quiet().await;
        assert_eq!(bed.server.writes(), [], "nothing to do while all is well");
        delete(&bed.server, Propagation::Background).await;
        bed.until("all gone", |s| s.list::<ReplicaSet>().is_empty() && s.list::<Pod>().is_empty()).await;
    }

    #[actix::test]
    async fn foreground_waits_from_the_leaves_up() {
        let bed = Testbed::new(&[NAME]).await;
        family(&bed.server);
        bed.change::<Pod>("d", "p1", |p| p["metadata"]["finalizers"] = json!(["x/y"]));
        bed.quiet().await;
        delete(&bed.server, Propagation::Foreground).await;
        bed.until("p0", |s| s.get::<Pod>("d", "p0").is_none()).await;
        bed.quiet().await;
        assert!(bed.server.get::<Deployment>("d", "w").is_some() && bed.server.get::<ReplicaSet>("d", "r").is_some());
        bed.server.remove::<Pod>("d", "p1");
        bed.until("all gone", |s| s.list::<Deployment>().is_empty() && s.list::<ReplicaSet>().is_empty()).await;
    }

    #[actix::test]
    async fn orphans_stay() {
        let bed = Testbed::new(&[NAME]).await;
        family(&bed.server);
        bed.quiet().await;
        delete(&bed.server, Propagation::Orphan).await;
        bed.until("owner gone", |s| s.list::<Deployment>().is_empty()).await;
        bed.quiet().await;
        let set = bed.server.get::<ReplicaSet>("d", "r").unwrap();
        assert!(set.metadata.owner_references.iter().flatten().next().is_none());
        assert_eq!(bed.server.list::<Pod>().len(), 2);
    }

    #[actix::test]
    async fn absent_owners_are_verified_and_a_second_owner_keeps() {
        let server = FakeServer::new();
        let solid = server.put_json::<ConfigMap>(json!({"metadata": {"name": "solid", "namespace": "d"}}));
        let absent = Some("no-such-uid".to_owned());
        let made = |name: &str, owners: Value| {
            server
                .put_json::<ConfigMap>(json!({"metadata": {"name": name, "namespace": "d", "ownerReferences": owners}}))
        };
        made("dangling", json!([owner("ConfigMap", "gone", &absent)]));
        // Same name, other uid: another object.
        made("mistaken", json!([owner("ConfigMap", "solid", &Some("other".to_owned()))]));
        made("half", json!([owner("ConfigMap", "gone", &absent), owner("ConfigMap", "solid", &solid.metadata.uid)]));
        made("unknown", json!([{"apiVersion": "x.io/v1", "kind": "Unknown", "name": "u", "uid": "u"}]));
        let bed = Testbed::with(&[NAME], server.clone(), crate::registry::Config::default()).await;
        bed.until("dangling", |s| {
            s.get::<ConfigMap>("d", "dangling").is_none() && s.get::<ConfigMap>("d", "mistaken").is_none()
        })
        .await;
        bed.until("half", |s| {
            let half = s.get::<ConfigMap>("d", "half").unwrap();
            half.metadata.owner_references.as_ref().is_some_and(|o| o.len() == 1)
        })
        .await;
        assert!(bed.server.get::<ConfigMap>("d", "unknown").is_some(), "never on a guess");
    }
}
