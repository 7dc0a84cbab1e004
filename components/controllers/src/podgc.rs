//! Collects pods that nobody else will: on nodes that are gone, unscheduled and terminating, on nodes declared out of
//! service, and ended ones beyond a number.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Pod};
use navarch_client::{Client, DeleteOptions, Informer, InformerFactory, ObjectKey, Subscription, WorkQueue};
use navarch_types::{ApiError, PatchType, Reason};
use parking_lot::Mutex;
use serde_json::json;

use crate::controller::{Next, Reconcile, gone};
use crate::{pods, sources};

/// Between two rounds, as upstream.
const EVERY: Duration = Duration::from_secs(20);
/// How long a node must be missing before its pods go, as upstream.
const QUARANTINE: Duration = Duration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// There is one key: the whole cluster.
pub(crate) struct PodGc {
    client: Client,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    missing: Mutex<HashMap<String, Instant>>,
    ended_max: usize,
}

/// Why a pod is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Orphaned,
    Unscheduled,
    OutOfService,
    TooMany,
}

/// What is to be collected. `gone_nodes` are those known to be gone; `out` those out of service.
fn plan(
    all: &[Arc<Pod>],
    gone_nodes: impl Fn(&str) -> bool,
    out: impl Fn(&str) -> bool,
    ended_max: usize,
) -> Vec<(&Arc<Pod>, Cause)> {
    let mut collected = Vec::new();
    let mut old: Vec<&Arc<Pod>> = Vec::new();
    for pod in all {
        let (node, terminating) = (pods::node_name(pod).unwrap_or_default(), pod.metadata.deletion_timestamp.is_some());
        if !node.is_empty() && gone_nodes(node) {
            collected.push((pod, Cause::Orphaned));
        } else if node.is_empty() && terminating {
            collected.push((pod, Cause::Unscheduled));
        } else if terminating && out(node) {
            collected.push((pod, Cause::OutOfService));
        } else if pods::is_terminal(pod) {
            old.push(pod);
        }
    }
    if old.len() > ended_max {
        let surplus = old.len() - ended_max;
        old.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        collected.extend(old.into_iter().take(surplus).map(|pod| (pod, Cause::TooMany)));
    }
    collected
}

impl PodGc {
    /// Over shared informers; keeps `ended_max` pods that ended.
    pub fn new(client: Client, informers: &InformerFactory, ended_max: usize) -> Self {
        let (pods, nodes) = (sources::pods(informers), informers.informer());
        Self { client, pods, nodes, missing: Mutex::default(), ended_max }
    }

    /// Nodes that pods name, that have been missing for long enough, and that the API does not know either.
    async fn gone_nodes(&self, all: &[Arc<Pod>], now: Instant) -> Result<Vec<String>, ApiError> {
        let due: Vec<String> = {
            let mut missing = self.missing.lock();
            let known = |node: &str| self.nodes.store().find("", node).is_some();
            missing.retain(|node, _| {
                !known(node) && all.iter().any(|pod| pods::node_name(pod).unwrap_or_default() == node)
            });
            for node in all
                .iter()
                .map(|pod| pods::node_name(pod).unwrap_or_default())
                .filter(|node| !node.is_empty() && !known(node))
            {
                missing.entry(node.to_owned()).or_insert(now);
            }
            missing.iter().filter(|(_, since)| now - **since >= QUARANTINE).map(|(node, _)| node.clone()).collect()
        };
        let mut gone = Vec::new();
        for node in due {
            match self.client.all::<Node>().get(&node).await {
                Err(error) if error.is(Reason::NotFound) => gone.push(node),
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(gone)
    }

    async fn collect(&self, pod: &Pod, cause: Cause) -> Result<(), ApiError> {
        let (namespace, name) =
            (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default());
        let api = self.client.namespaced::<Pod>(namespace);
        if cause != Cause::TooMany && !pods::is_terminal(pod) {
            let message = match cause {
                Cause::Orphaned => "PodGC: node no longer exists",
                Cause::OutOfService => "PodGC: node is out of service",
                Cause::Unscheduled | Cause::TooMany => "PodGC: terminating pod was never scheduled",
            };
            let patch = json!({
                "metadata": {"uid": pod.metadata.uid},
                "status": {"phase": "Failed", "conditions": [{
                    "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": message,
                    "lastTransitionTime": jiff::Timestamp::now().to_string(),
                }]},
            });
            gone(api.patch(name, Some("status".into()), PatchType::Strategic, patch).await)?;
        }
        let options =
            DeleteOptions { uid: pod.metadata.uid.clone(), grace_period_seconds: Some(0), ..DeleteOptions::default() };
        gone(api.delete(name, &options).await)
    }
}

#[async_trait(?Send)]
impl Reconcile for PodGc {
    fn subscribe(&self, queue: &WorkQueue<ObjectKey>) -> Vec<Subscription> {
        queue.add(ObjectKey::new("", "cluster"));
        Vec::new()
    }

    async fn synced(&self) {
        self.pods.synced().await;
        self.nodes.synced().await;
    }

    fn workers(&self) -> usize {
        1
    }

    async fn reconcile(&self, _key: &ObjectKey) -> Result<Next, ApiError> {
        let all = self.pods.store().all();
        let gone_nodes = self.gone_nodes(&all, Instant::now()).await?;
        let out_of_service = |node: &str| {
            let found = self.nodes.store().find("", node);
            let taints = found.as_ref().and_then(|node| node.spec.as_ref()).and_then(|spec| spec.taints.as_ref());
            taints.is_some_and(|taints| taints.iter().any(|taint| taint.key == OUT_OF_SERVICE))
        };
        let is_gone = |node: &str| gone_nodes.iter().any(|gone| gone == node);
        for (pod, cause) in plan(&all, is_gone, out_of_service, self.ended_max) {
            tracing::info!(pod = ?pod.metadata.name, namespace = ?pod.metadata.namespace, ?cause, "collecting pod");
            self.collect(pod, cause).await?;
        }
        Ok(Next::After(EVERY))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pod(name: &str, node: &str, phase: &str, terminating: bool, created: &str) -> Arc<Pod> {
        let mut value = json!({"metadata": {"name": name, "namespace": "a", "creationTimestamp": created},
            "spec": {"containers": []}, "status": {"phase": phase}});
        if !node.is_empty() {
            value["spec"]["nodeName"] = node.into();
        }
        if terminating {
            value["metadata"]["deletionTimestamp"] = created.into();
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn each_cause_takes_its_pods_and_no_other() {
        let pods = [
            pod("on-gone", "n9", "Running", false, "2026-01-01T00:00:00Z"),
            pod("running", "n1", "Running", false, "2026-01-01T00:00:00Z"),
            pod("terminating", "n1", "Running", true, "2026-01-01T00:00:00Z"),
            pod("never-scheduled", "", "Pending", true, "2026-01-01T00:00:00Z"),
            pod("pending", "", "Pending", false, "2026-01-01T00:00:00Z"),
            pod("out", "n2", "Running", true, "2026-01-01T00:00:00Z"),
            pod("stays-on-out", "n2", "Running", false, "2026-01-01T00:00:00Z"),
            pod("younger", "n1", "Failed", false, "2026-01-03T00:00:00Z"),
            pod("oldest", "n1", "Succeeded", false, "2026-01-02T00:00:00Z"),
        ];
        let planned: Vec<(&str, Cause)> = plan(&pods, |node| node == "n9", |node| node == "n2", 1)
            .into_iter()
            .map(|(pod, cause)| (pod.metadata.name.as_deref().unwrap(), cause))
            .collect();
        assert_eq!(
            planned,
            [
                ("on-gone", Cause::Orphaned),
                ("never-scheduled", Cause::Unscheduled),
                ("out", Cause::OutOfService),
                ("oldest", Cause::TooMany),
            ]
        );
    }
}
