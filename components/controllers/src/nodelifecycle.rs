//! Nodes that fall silent: their conditions become unknown, taints keep pods away and send pods away.
//!
//! Silence is measured on this process' own clock from what the informers bring: a node's clock says nothing. After a
//! change of leader every node therefore has a full grace period again.

mod plan;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeStatus, Pod};
use navarch_client::{
    Change, Client, DeleteOptions, EventRecorder, EventType, Informer, InformerFactory, ObjectKey, Subscription,
    WorkQueue,
};
use navarch_types::{ApiError, PatchType};
use parking_lot::Mutex;
use serde_json::json;

use crate::controller::{Next, Reconcile, gone, own_key};
use crate::{pods, sources};
use plan::ZoneState;

const LEASES: &str = "kube-node-lease";
/// How often a node is looked at, as upstream does.
const RECHECK: Duration = Duration::from_secs(5);

struct Heard {
    at: Instant,
    lease: Option<String>,
    status: Option<NodeStatus>,
}

/// Keys are nodes.
pub(crate) struct NodeLifecycle {
    client: Client,
    recorder: EventRecorder,
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    pods: Informer<Pod>,
    grace: Duration,
    heard: Mutex<HashMap<String, Heard>>,
    evicted: Mutex<HashMap<String, Instant>>,
}

impl NodeLifecycle {
    pub fn new(client: Client, recorder: EventRecorder, informers: &InformerFactory, grace: Duration) -> Self {
        Self {
            client,
            recorder,
            nodes: informers.informer(),
            leases: informers.informer(),
            pods: sources::pods(informers),
            grace,
            heard: Mutex::default(),
            evicted: Mutex::default(),
        }
    }

    /// How long a node has been silent.
    fn silence(&self, node: &Node, now: Instant) -> Duration {
        let name = node.metadata.name.clone().unwrap_or_default();
        let lease = self.leases.store().find(LEASES, &name).and_then(|l| l.metadata.resource_version.clone());
        let mut heard = self.heard.lock();
        let last =
            heard.entry(name).or_insert_with(|| Heard { at: now, lease: lease.clone(), status: node.status.clone() });
        // What this controller itself writes to the status is not the node speaking.
        let changed = last.status != node.status;
        let spoke = changed && plan::ready_status(node) != "Unknown";
        if last.lease != lease || spoke {
            *last = Heard { at: now, lease, status: node.status.clone() };
        } else if changed {
            // Remembered, so that a node which comes back as it left is heard.
            last.status = node.status.clone();
        }
        now.saturating_duration_since(last.at)
    }

    /// Whether this node's turn to be evicted has come.
    fn may_evict(&self, node: &Node, now: Instant) -> bool {
        let nodes = self.nodes.store().all();
        let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for other in &nodes {
            let count = counts.entry(zone_of(other)).or_default();
            if plan::ready_status(other) == "True" { count.0 += 1 } else { count.1 += 1 }
        }
        let zones: BTreeMap<String, ZoneState> =
            counts.iter().map(|(zone, (up, down))| (zone.clone(), plan::zone_state(*up, *down))).collect();
        let zone = zone_of(node);
        let (up, down) = counts.get(&zone).copied().unwrap_or_default();
        let state = zones.get(&zone).copied().unwrap_or(ZoneState::Normal);
        let Some(pause) = plan::eviction_pause(state, up + down, &zones) else { return false };
        let mut evicted = self.evicted.lock();
        let due = evicted.get(&zone).is_none_or(|last| now.saturating_duration_since(*last) >= pause);
        if due {
            evicted.insert(zone, now);
        }
        due
    }

    async fn mark_silent(&self, node: &Node) -> Result<bool, ApiError> {
        let Some(conditions) = plan::silent_conditions(node, Timestamp::now()) else { return Ok(false) };
        let mut changed = node.clone();
        changed.status.get_or_insert_default().conditions = Some(conditions);
        // With its version: a node that speaks at this very moment wins.
        self.client.all::<Node>().update_status(&changed).await?;
        Ok(true)
    }

    /// Tells the pods of a node that is not ready that they are not either, so that Services leave them out.
    async fn mark_pods(&self, name: &str) -> Result<(), ApiError> {
        for pod in self.pods.store().by_index(sources::NODE, name).iter().filter(|p| pods::is_ready(p)) {
            let api = self.client.namespaced::<Pod>(pod.metadata.namespace.as_deref().unwrap_or_default());
            let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default().to_string();
            let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [
                {"type": "Ready", "status": "False", "lastTransitionTime": now, "reason": "NodeNotReady"}]}});
            let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
            gone(api.patch(pod_name, Some("status".into()), PatchType::Strategic, patch).await)?;
            self.recorder.event(&**pod, EventType::Warning, "NodeNotReady", "Node is not ready");
        }
        Ok(())
    }

    async fn write_taints(&self, node: &Node, evict: bool) -> Result<(), ApiError> {
        let Some(taints) = plan::taints(node, evict, Timestamp::now()) else { return Ok(()) };
        let patch = json!({"metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
            "spec": {"taints": taints}});
        let name = node.metadata.name.as_deref().unwrap_or_default();
        self.client.all::<Node>().patch(name, None, PatchType::Merge, patch).await.map(drop)
    }

    /// Deletes the pods whose time on a tainted node is over; tells when the next one's is.
    async fn evict_pods(&self, node: &Node) -> Result<Next, ApiError> {
        let taints = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
        if !taints.iter().any(|t| t.effect == "NoExecute") {
            return Ok(Next::Done);
        }
        let mut next = Next::Done;
        let name = node.metadata.name.as_deref().unwrap_or_default();
        for pod in self.pods.store().by_index(sources::NODE, name) {
            let now = Timestamp::now();
            let Some(at) = plan::evict_at(&pod, &taints, now) else { continue };
            if !pods::is_active(&pod) {
                continue;
            }
            if at > now {
                let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
                next = next.sooner(Next::After(wait));
                continue;
            }
            let (namespace, pod_name) = (
                pod.metadata.namespace.as_deref().unwrap_or_default(),
                pod.metadata.name.as_deref().unwrap_or_default(),
            );
            let message = format!("Marking for deletion Pod {namespace}/{pod_name}");
            self.recorder.event(&*pod, EventType::Normal, "TaintManagerEviction", message);
            let api = self.client.namespaced::<Pod>(namespace);
            let stamp = Timestamp::from_second(now.as_second()).unwrap_or(now).to_string();
            let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [{
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
                "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": stamp}]}});
            gone(api.patch(pod_name, Some("status".into()), PatchType::Strategic, patch).await)?;
            let options = DeleteOptions { uid: pod.metadata.uid.clone(), ..DeleteOptions::default() };
            gone(api.delete(pod_name, &options).await)?;
        }
        Ok(next)
    }
}

fn zone_of(node: &Node) -> String {
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|l| l.get(key)).cloned().unwrap_or_default();
    format!("{}:{}", label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
}

#[async_trait(?Send)]
impl Reconcile for NodeLifecycle {
    async fn synced(&self) {
        self.nodes.synced().await;
        self.leases.synced().await;
        self.pods.synced().await;
    }

    fn subscribe(&self, queue: &WorkQueue<ObjectKey>) -> Vec<Subscription> {
        let wanted = queue.clone();
        let of_pod = move |change: &Change<Pod>| {
            let pod = change.object();
            let node = pods::node_name(pod);
            let came = change
                .old()
                .is_none_or(|old| pods::node_name(old) != node || pods::is_ready(old) != pods::is_ready(pod));
            if let Some(node) = node.filter(|_| came) {
                wanted.add_after(ObjectKey::new("", node), Duration::from_millis(50));
            }
        };
        vec![self.nodes.subscribe(own_key(queue)), self.pods.subscribe(of_pod)]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ApiError> {
        let Some(node) = self.nodes.store().get(key) else {
            self.heard.lock().remove(&*key.name);
            return Ok(Next::Done);
        };
        let now = Instant::now();
        let silence = self.silence(&node, now);
        if silence >= self.grace && self.mark_silent(&node).await? {
            let name = &key.name;
            self.recorder.event(
                &*node,
                EventType::Normal,
                "NodeNotReady",
                format!("Node {name} status is now: NodeNotReady"),
            );
            // The change comes back as an event, and the taints with it.
            return Ok(Next::After(RECHECK));
        }
        let ready = plan::condition(&node, "Ready").map(|c| c.status.as_str());
        let is_silent = matches!(ready, Some("False" | "Unknown"));
        let evict = is_silent && !plan::is_evicted(&node) && self.may_evict(&node, now);
        self.write_taints(&node, evict).await?;
        if is_silent {
            self.mark_pods(&key.name).await?;
        }
        let evicting = self.evict_pods(&node).await?;
        // When a Lease was renewed is known only as exactly as it is looked at.
        let look = self.grace.saturating_sub(silence).clamp(Duration::from_millis(10), RECHECK);
        Ok(evicting.sooner(Next::After(look)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use navarch_client::testing::{FakeServer, Fault};
    use navarch_types::Verb;

    use super::*;
    use crate::registry::Config;
    use crate::testbed::Testbed;

    fn has_taint(server: &FakeServer, key: &str, effect: &str) -> bool {
        let node = server.get::<Node>("", "n").unwrap();
        node.spec.iter().flat_map(|s| s.taints.iter().flatten()).any(|t| t.key == key && t.effect == effect)
    }

    #[actix::test]
    async fn a_silent_node_is_tainted_its_pods_evicted_and_it_comes_back() {
        let config = Config { node_monitor_grace_period: Duration::from_millis(300), ..Config::default() };
        let server = FakeServer::new();
        server.put_json::<Node>(
            json!({"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
        );
        for (name, tolerations) in [("leaves", json!([])), ("stays", json!([{"operator": "Exists"}]))] {
            server.put_json::<Pod>(json!({"metadata": {"name": name, "namespace": "d"},
                "spec": {"nodeName": "n", "containers": [], "tolerations": tolerations},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}));
        }
        server.inject(Fault::conflict("nodes"));
        server.inject(Fault::lost_connection().on(Verb::Patch, "nodes"));
        let bed = Testbed::with(&["node-lifecycle-controller"], server, config).await;
        bed.until("unreachable", |s| {
            has_taint(s, plan::UNREACHABLE, "NoSchedule") && has_taint(s, plan::UNREACHABLE, "NoExecute")
        })
        .await;
        bed.until("evicted", |s| s.get::<Pod>("d", "leaves").is_none_or(|p| p.metadata.deletion_timestamp.is_some()))
            .await;
        bed.until("not ready", |s| !pods::is_ready(&s.get::<Pod>("d", "stays").unwrap())).await;
        assert!(bed.server.get::<Pod>("d", "stays").unwrap().metadata.deletion_timestamp.is_none());
        bed.change::<Node>("", "n", |n| n["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]));
        bed.until("back", |s| {
            !has_taint(s, plan::UNREACHABLE, "NoSchedule") && !has_taint(s, plan::UNREACHABLE, "NoExecute")
        })
        .await;
    }
}
