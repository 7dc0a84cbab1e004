//! How many pods a ReplicaSet makes or deletes, which ones, and what its status says. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pods;

/// At most so many pods are made or deleted in one go.
pub(super) const BURST: usize = 500;

/// What is to be done about the number of pods.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Pods to make.
    pub create: usize,
    /// Names of pods to delete.
    pub delete: Vec<String>,
}

/// Decides from the pods that count. `related` are the pods of all ReplicaSets of the same owner: pods go first from nodes
/// that have more of them.
pub fn plan(replicas: i32, active: &[Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) -> Plan {
    let wanted = usize::try_from(replicas).unwrap_or(0);
    if active.len() <= wanted {
        return Plan { create: (wanted - active.len()).min(BURST), delete: Vec::new() };
    }
    let excess = (active.len() - wanted).min(BURST);
    let mut per_node: HashMap<&str, i64> = HashMap::new();
    for pod in related.iter().filter(|p| pods::is_active(p)) {
        *per_node.entry(pods::node_name(pod).unwrap_or("")).or_default() += 1;
    }
    let mut order: Vec<(DeletionRank, &Arc<Pod>)> = active
        .iter()
        .map(|pod| {
            let crowd = per_node.get(pods::node_name(pod).unwrap_or("")).copied().unwrap_or(0);
            (deletion_rank(pod, crowd, now), pod)
        })
        .collect();
    order.sort_by(|a, b| a.0.cmp(&b.0));
    let names = order.into_iter().take(excess).filter_map(|(_, pod)| pod.metadata.name.clone());
    Plan { create: 0, delete: names.collect() }
}

/// Smaller goes first: unassigned, pending, not ready, cheaper, from a crowded node, ready more recently, restarted more
/// often, younger. Ages count by magnitude only, so that equal ones are not always deleted in order of age; the uid
/// decides between them.
type DeletionRank = (bool, u8, bool, i64, i64, u32, i64, u32, String);

fn deletion_rank(pod: &Pod, crowd: i64, now: Timestamp) -> DeletionRank {
    let phase = match pods::phase(pod) {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let since = pods::ready_since(pod);
    let cost = pod.metadata.annotations.as_ref().and_then(|a| a.get("controller.kubernetes.io/pod-deletion-cost"));
    let restarts =
        pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten()).map(|c| i64::from(c.restart_count));
    let created = pod.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    (
        pods::node_name(pod).is_some(),
        phase,
        since.is_some(),
        cost.and_then(|c| c.parse::<i32>().ok()).map_or(0, i64::from),
        -crowd,
        since.map_or(0, |since| magnitude(since, now)),
        -restarts.max().unwrap_or(0),
        magnitude(created, now),
        pod.metadata.uid.clone().unwrap_or_default(),
    )
}

fn magnitude(since: Timestamp, now: Timestamp) -> u32 {
    let age = now.as_nanosecond() - since.as_nanosecond();
    u128::try_from(age).ok().and_then(u128::checked_ilog2).map_or(0, |log| log + 1)
}

/// A failure to bring the number of pods where it should be.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Whether pods could not be made; else they could not be deleted.
    pub creating: bool,
    /// What went wrong.
    pub message: String,
}

/// The status that the pods give, and when it will change without anything happening (a pod becomes available).
pub fn status(
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    failure: Option<&Failure>,
    now: Timestamp,
) -> (ReplicaSetStatus, Option<Timestamp>) {
    let old = set.status.as_ref();
    let min_ready = set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0);
    let template_labels = set.spec.as_ref().and_then(|s| s.template.as_ref()?.metadata.as_ref()?.labels.as_ref());
    let active: Vec<&Arc<Pod>> = pods.iter().filter(|p| pods::is_active(p)).collect();
    let count = |test: &dyn Fn(&Pod) -> bool| nonzero(active.iter().filter(|p| test(p)).count());
    let times: Vec<Timestamp> = active.iter().filter_map(|p| pods::available_at(p, min_ready)).collect();
    let terminating = pods.iter().filter(|p| p.metadata.deletion_timestamp.is_some() && !pods::is_terminal(p)).count();
    let status = ReplicaSetStatus {
        replicas: number(active.len()),
        fully_labeled_replicas: count(&|pod| has_labels(pod, template_labels)),
        ready_replicas: count(&pods::is_ready),
        available_replicas: nonzero(times.iter().filter(|at| **at <= now).count()),
        terminating_replicas: Some(number(terminating)),
        observed_generation: set.metadata.generation,
        conditions: conditions(old, failure, now),
    };
    (status, times.into_iter().filter(|at| *at > now).min())
}

fn number(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn nonzero(n: usize) -> Option<i32> {
    Some(number(n)).filter(|n| *n != 0)
}

fn has_labels(pod: &Pod, labels: Option<&BTreeMap<String, String>>) -> bool {
    let own = pod.metadata.labels.as_ref();
    labels.is_none_or(|wanted| wanted.iter().all(|(key, value)| own.and_then(|l| l.get(key)) == Some(value)))
}

fn conditions(
    old: Option<&ReplicaSetStatus>,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.and_then(|s| s.conditions.clone()).unwrap_or_default();
    let present = conditions.iter().any(|c| c.type_ == "ReplicaFailure");
    match failure {
        None => conditions.retain(|c| c.type_ != "ReplicaFailure"),
        // The first failure stays until it is over, so that a failing set does not write each time.
        Some(_) if present => {}
        Some(failure) => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(if failure.creating { "FailedCreate" } else { "FailedDelete" }.to_owned()),
            message: Some(failure.message.clone()),
            last_transition_time: Timestamp::from_second(now.as_second()).ok().map(Time),
        }),
    }
    Some(conditions).filter(|c| !c.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    fn pod(name: &str, change: Value) -> Arc<Pod> {
        let ago = |s: i64| Timestamp::from_second(NOW - s).unwrap().to_string();
        let mut value = json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": ago(1000)},
            "spec": {"nodeName": "n1", "containers": []},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": ago(900)}]}});
        for (pointer, new) in change.as_object().unwrap() {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            value.pointer_mut(parent).unwrap()[field] = new.clone();
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn numbers() {
        let two = [pod("a", json!({})), pod("b", json!({}))];
        assert_eq!(plan(2, &two, &two, now()), Plan::default());
        assert_eq!(plan(5, &two, &two, now()).create, 3);
        assert_eq!(plan(0, &two, &two, now()).delete.len(), 2);
        assert_eq!(plan(-1, &two, &two, now()).delete.len(), 2);
        assert_eq!(plan(10_000, &two, &two, now()).create, BURST);
    }

    #[test]
    fn who_goes_first() {
        let ago = |s: i64| Timestamp::from_second(NOW - s).unwrap().to_string();
        // Each of these goes before an ordinary pod.
        let table = [
            ("unassigned", json!({"/spec/nodeName": null})),
            ("pending", json!({"/status/phase": "Pending"})),
            ("unknown", json!({"/status/phase": "Unknown"})),
            ("not ready", json!({"/status/conditions": []})),
            ("cheap", json!({"/metadata/annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}})),
            (
                "ready lately",
                json!({"/status/conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ago(1)}]}),
            ),
            (
                "restarted",
                json!({"/status/containerStatuses": [{"name": "c", "restartCount": 3, "image": "i", "imageID": "i", "ready": true}]}),
            ),
            ("young", json!({"/metadata/creationTimestamp": ago(1)})),
        ];
        for (name, change) in table {
            let both = [pod("0-ordinary", json!({})), pod(name, change)];
            assert_eq!(plan(1, &both, &both, now()).delete, [name]);
        }
        let expensive = pod("x", json!({"/metadata/annotations": {"controller.kubernetes.io/pod-deletion-cost": "7"}}));
        assert_eq!(plan(1, &[expensive.clone(), pod("y", json!({}))], &[], now()).delete, ["y"]);
        let crowd =
            [pod("a", json!({})), pod("b", json!({"/spec/nodeName": "n2"})), pod("c", json!({"/spec/nodeName": "n2"}))];
        assert_eq!(plan(1, &crowd[..2], &crowd, now()).delete, ["b"], "n2 has more related pods");
    }

    #[test]
    fn status_counts_and_knows_when_it_changes() {
        let set: ReplicaSet = serde_json::from_value(json!({"metadata": {"name": "s", "generation": 4},
            "spec": {"minReadySeconds": 100, "selector": {}, "template": {"metadata": {"labels": {"app": "web"}}}}}))
        .unwrap();
        let ago = |s: i64| Timestamp::from_second(NOW - s).unwrap().to_string();
        let pods = [
            pod("labelled", json!({"/metadata/labels": {"app": "web", "x": "y"}})),
            pod(
                "waits",
                json!({"/status/conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ago(40)}]}),
            ),
            pod("going", json!({"/metadata/deletionTimestamp": ago(1)})),
            pod("done", json!({"/status/phase": "Failed"})),
        ];
        let (status, change) = status(&set, &pods, None, now());
        assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (2, Some(2), Some(1)));
        assert_eq!((status.fully_labeled_replicas, status.terminating_replicas), (Some(1), Some(1)));
        assert_eq!(status.observed_generation, Some(4));
        assert_eq!(change, Some(Timestamp::from_second(NOW + 60).unwrap()));
    }

    #[test]
    fn a_failure_is_told_once_and_taken_back() {
        let mut set: ReplicaSet =
            serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": {"selector": {}}})).unwrap();
        let failure = Failure { creating: true, message: "quota".into() };
        set.status = Some(status(&set, &[], Some(&failure), now()).0);
        let condition = set.status.as_ref().unwrap().conditions.as_ref().unwrap()[0].clone();
        assert_eq!((condition.reason.as_deref(), condition.message.as_deref()), (Some("FailedCreate"), Some("quota")));
        let other = Failure { creating: false, message: "else".into() };
        assert_eq!(status(&set, &[], Some(&other), now()).0.conditions.unwrap(), [condition]);
        assert_eq!(status(&set, &[], None, now()).0.conditions, None);
    }
}
