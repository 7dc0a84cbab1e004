//! Cases for `queue`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::json;

use super::*;
use crate::testing::{framework, node, pending};

struct Fixture {
    queue: Queue,
    framework: Arc<Framework>,
    start: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self { queue: Queue::new(), framework: framework(), start: Instant::now() }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn add(&mut self, name: &str, more: serde_json::Value, ms: u64) {
        let now = self.at(ms);
        self.queue.set(&self.framework, pending(name, more), now);
    }

    fn pop(&mut self, ms: u64) -> Option<String> {
        self.queue.pop(self.at(ms)).map(|p| p.pod.name().to_owned())
    }

    /// The place of a plugin in the table.
    fn refused_by(&self, name: &str) -> PluginSet {
        let mut set = PluginSet::default();
        set.insert(self.framework.plugins().position(|p| p.name() == name).unwrap());
        set
    }
}

#[test]
fn priority_then_age() {
    let mut f = Fixture::new();
    f.add("old", json!({}), 0);
    f.add("young", json!({}), 1);
    f.add("urgent", json!({"spec": {"priority": 10}}), 2);
    f.add("urgent", json!({"spec": {"priority": 20}}), 3);
    assert_eq!([f.pop(4), f.pop(4), f.pop(4), f.pop(4)].map(|p| p.unwrap_or_default()), ["urgent", "old", "young", ""]);
    assert_eq!(f.queue.depth().in_flight, 3);
}

#[test]
fn gated_pods_wait_for_their_gates() {
    let mut f = Fixture::new();
    f.add("p", json!({"spec": {"schedulingGates": [{"name": "example.com/g"}]}}), 0);
    assert_eq!((f.pop(1), f.queue.depth().gated), (None, 1));
    f.add("p", json!({}), 2);
    assert_eq!(f.pop(3), Some("p".into()));
}

#[test]
fn errors_back_off_and_double() {
    let mut f = Fixture::new();
    f.add("p", json!({}), 0);
    let mut now = 0;
    for wait in [1000, 2000, 4000, 8000, 10_000, 10_000] {
        assert_eq!(f.pop(now), Some("p".into()));
        f.queue.failed("p", f.at(now));
        assert_eq!(f.pop(now + wait - 1), None, "{wait}");
        assert_eq!(f.queue.next_due(), Some(f.at(now + wait)));
        now += wait;
    }
}

#[test]
fn an_idle_queue_does_not_wait_out_the_back_off_of_pods_that_may_fit_now() {
    let mut f = Fixture::new();
    f.add("p", json!({}), 0);
    f.pop(0);
    let set = f.refused_by("NodeResourcesFit");
    f.queue.unschedulable("p", set, f.at(0));
    assert_eq!(f.pop(1), None);
    let n = node("n", json!({}));
    assert_eq!(f.queue.on_event(&f.framework, &ClusterEvent::NodeAdded(&n), f.at(10)), 1);
    assert_eq!(f.queue.depth().backoff, 1);
    f.add("q", json!({}), 11);
    assert_eq!([f.pop(12), f.pop(12)], [Some("q".into()), Some("p".into())]);
}

#[test]
fn forgotten_pods_are_flushed() {
    let mut f = Fixture::new();
    f.add("p", json!({}), 0);
    f.pop(0);
    let set = f.refused_by("NodeAffinity");
    f.queue.unschedulable("p", set, f.at(0));
    f.queue.flush(f.at(299_999));
    assert_eq!(f.pop(299_999), None);
    f.queue.flush(f.at(300_000));
    assert_eq!(f.pop(300_000), Some("p".into()));
}

#[test]
fn lost_pods_come_back_and_removed_ones_do_not() {
    let mut f = Fixture::new();
    f.add("p", json!({}), 0);
    f.add("q", json!({}), 0);
    f.pop(0);
    f.pop(0);
    f.queue.recover(|pod| pod.name() == "q", f.at(1));
    assert_eq!((f.pop(2), f.pop(1001)), (None, Some("p".into())));
    f.queue.remove("q");
    f.queue.failed("q", f.at(3));
    assert_eq!(f.pop(20_000), None);
}

/// Which events let out a pod that a plugin refused.
#[test]
fn hints() {
    let web = || json!({"metadata": {"labels": {"app": "web"}}});
    let big = crate::testing::requests("3", "1Gi");
    let port = json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80}]}]}});
    let anti = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}]}}}});
    let near = json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}]}}}});
    let spread = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"topologySpreadConstraints": [{"maxSkew": 1,
        "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]}});
    let selector = json!({"spec": {"nodeSelector": {"zone": "a"}}});
    let plain = node("n", json!({}));
    let small = node("n", json!({"status": {"allocatable": {"cpu": "1"}}}));
    let zoned = node("n", json!({"metadata": {"labels": {"zone": "a"}}}));
    let tainted = node("n", json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}));
    let cordoned = node("n", json!({"spec": {"unschedulable": true}}));
    let (other, like, holder) = (pending("o", json!({})), pending("l", web()), pending("h", port.clone()));
    fn update<'a>(
        old: &'a k8s_openapi::api::core::v1::Node,
        new: &'a k8s_openapi::api::core::v1::Node,
    ) -> ClusterEvent<'a> {
        ClusterEvent::NodeUpdated { old, new, change: crate::node::NodeChange::between(old, new) }
    }
    use ClusterEvent::{AssignedPodAdded as Came, AssignedPodDeleted as Went, NodeAdded};
    let cases: Vec<(&str, &serde_json::Value, ClusterEvent<'_>, bool)> = vec![
        ("NodeResourcesFit", &big, NodeAdded(&plain), true),
        ("NodeResourcesFit", &big, NodeAdded(&small), false),
        ("NodeResourcesFit", &big, update(&small, &plain), true),
        ("NodeResourcesFit", &big, update(&plain, &zoned), false),
        ("NodeResourcesFit", &big, Went(&other), true),
        ("NodeResourcesFit", &big, Came(&other), false),
        ("TaintToleration", &big, NodeAdded(&tainted), false),
        ("TaintToleration", &big, update(&tainted, &plain), true),
        ("TaintToleration", &big, update(&plain, &zoned), false),
        ("NodeUnschedulable", &big, update(&cordoned, &plain), true),
        ("NodeUnschedulable", &big, NodeAdded(&cordoned), false),
        ("NodeAffinity", &selector, NodeAdded(&plain), false),
        ("NodeAffinity", &selector, update(&plain, &zoned), true),
        ("NodeAffinity", &selector, update(&zoned, &plain), false),
        ("NodePorts", &port, Went(&holder), true),
        ("NodePorts", &port, Went(&other), false),
        ("InterPodAffinity", &near, Came(&like), true),
        ("InterPodAffinity", &near, Came(&other), false),
        ("InterPodAffinity", &anti, Went(&like), true),
        ("InterPodAffinity", &anti, Went(&other), false),
        ("InterPodAffinity", &anti, update(&plain, &zoned), true),
        ("PodTopologySpread", &spread, Came(&like), true),
        ("PodTopologySpread", &spread, Went(&other), false),
        ("PodTopologySpread", &spread, NodeAdded(&zoned), true),
        ("PodTopologySpread", &spread, NodeAdded(&plain), false),
    ];
    for (at, (plugin, wanted, event, expected)) in cases.iter().enumerate() {
        let mut f = Fixture::new();
        f.add("p", (*wanted).clone(), 0);
        f.pop(0);
        let set = f.refused_by(plugin);
        f.queue.unschedulable("p", set, f.at(0));
        let moved = f.queue.on_event(&f.framework, event, f.at(10_000));
        assert_eq!(moved == 1, *expected, "case {at}: {plugin}");
        assert_eq!(f.pop(10_000).is_some(), *expected, "case {at}: {plugin}");
    }
}

#[test]
fn a_changed_pod_is_tried_again_only_if_the_change_may_help() {
    let mut f = Fixture::new();
    f.add("p", json!({}), 0);
    f.pop(0);
    let set = f.refused_by("TaintToleration");
    f.queue.unschedulable("p", set, f.at(0));
    f.add("p", json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False"}]}}), 5000);
    assert_eq!(f.pop(5000), None);
    f.add("p", json!({"spec": {"tolerations": [{"key": "k", "operator": "Exists"}]}}), 6000);
    assert_eq!(f.pop(6000), Some("p".into()));
}
