//! What a node's silence and conditions mean: its conditions, taints, and which pods have to go. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
pub(super) const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";

/// The conditions that a kubelet reports, and whose silence therefore means something.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Condition, the status at which it taints, taint.
const TAINTING: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", NETWORK_UNAVAILABLE),
];

/// A node's condition by type.
pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

/// `True`, `False` or `Unknown`; a node that never reported is not ready.
pub fn ready_status(node: &Node) -> &str {
    condition(node, "Ready").map_or("Unknown", |c| c.status.as_str())
}

/// The conditions of a node that has been silent too long; `None` if they already say so.
pub fn silent_conditions(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let at = Timestamp::from_second(now.as_second()).ok().map(Time);
    let mut conditions = node.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let mut changed = false;
    for kind in REPORTED {
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                changed = true;
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time.clone_from(&at);
            }
            None => {
                changed = true;
                conditions.push(NodeCondition {
                    type_: kind.to_owned(),
                    status: "Unknown".to_owned(),
                    reason: Some("NodeStatusNeverUpdated".to_owned()),
                    message: Some("Kubelet never posted node status.".to_owned()),
                    last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                    last_transition_time: at.clone(),
                });
            }
        }
    }
    changed.then_some(conditions)
}

fn is_ours(taint: &Taint) -> bool {
    let by_condition = TAINTING.iter().any(|(_, _, key)| *key == taint.key);
    match taint.effect.as_str() {
        "NoSchedule" => by_condition || taint.key == UNSCHEDULABLE,
        "NoExecute" => taint.key == NOT_READY || taint.key == UNREACHABLE,
        _ => false,
    }
}

/// Whether a node's pods are being evicted because it is silent.
pub fn is_evicted(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    taints.any(|t| t.effect == "NoExecute" && (t.key == NOT_READY || t.key == UNREACHABLE))
}

/// The taints that a node is to have; `None` if it has them. `evict` lets a node's pods be evicted now: eviction is
/// slowed down when many nodes are silent at once, scheduling is not.
pub fn taints(node: &Node, evict: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let mut wanted: Vec<(&str, &str)> = TAINTING
        .iter()
        .filter(|(kind, status, _)| condition(node, kind).is_some_and(|c| c.status == *status))
        .map(|(_, _, key)| (*key, "NoSchedule"))
        .collect();
    if node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let old: Vec<Taint> = node.spec.iter().flat_map(|s| s.taints.iter().flatten()).cloned().collect();
    let executing = match condition(node, "Ready").map(|c| c.status.as_str()) {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    };
    if let Some(key) = executing
        && (evict || is_evicted(node))
    {
        wanted.push((key, "NoExecute"));
    }
    let is = |taint: &Taint, (key, effect): &(&str, &str)| taint.key == *key && taint.effect == *effect;
    let mut new: Vec<Taint> = old.iter().filter(|t| !is_ours(t) || wanted.iter().any(|w| is(t, w))).cloned().collect();
    for want in &wanted {
        if !new.iter().any(|t| is(t, want)) {
            new.push(Taint {
                key: want.0.to_owned(),
                effect: want.1.to_owned(),
                value: None,
                time_added: Timestamp::from_second(now.as_second()).ok().map(Time),
            });
        }
    }
    (new != old).then_some(new)
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let matches = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|w| w.is_empty() || w == value);
    if !matches(&toleration.effect, &taint.effect) || !matches(&toleration.key, &taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        _ => toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or(""),
    }
}

/// When a pod has to leave a node with these taints; `None` if it may stay. The shortest toleration counts, from the
/// latest taint on.
pub fn evict_at(pod: &Pod, taints: &[Taint], now: Timestamp) -> Option<Timestamp> {
    let executing: Vec<&Taint> = taints.iter().filter(|t| t.effect == "NoExecute").collect();
    if executing.is_empty() {
        return None;
    }
    let tolerations: Vec<&Toleration> = pod.spec.iter().flat_map(|s| s.tolerations.iter().flatten()).collect();
    let mut shortest: Option<i64> = None;
    for taint in &executing {
        let matching: Vec<&&Toleration> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
        if matching.is_empty() {
            return Some(now);
        }
        for seconds in matching.iter().filter_map(|t| t.toleration_seconds) {
            shortest = Some(shortest.map_or(seconds, |s| s.min(seconds)).max(0));
        }
    }
    let seconds = shortest?;
    let since = executing.iter().filter_map(|t| t.time_added.as_ref()).map(|t| t.0).max().unwrap_or(now);
    since.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// How much of a zone is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneState {
    /// Most nodes are well.
    Normal,
    /// Many are not: perhaps the network is at fault.
    Partial,
    /// None is.
    Full,
}

/// Judges a zone: (ready, not ready) nodes.
pub fn zone_state(ready: usize, not_ready: usize) -> ZoneState {
    if ready == 0 && not_ready > 0 {
        ZoneState::Full
    } else if not_ready > 2 && not_ready * 100 >= (ready + not_ready) * 55 {
        ZoneState::Partial
    } else {
        ZoneState::Normal
    }
}

/// How long to wait between the evictions of two nodes of a zone; `None` evicts nobody. Upstream's rates: one node in ten
/// seconds; in a large zone of which much is silent one in a hundred, in a small one none. If no zone is well the members
/// themselves are cut off, and nobody is evicted.
pub fn eviction_pause(zone: ZoneState, size: usize, zones: &BTreeMap<String, ZoneState>) -> Option<Duration> {
    const LARGE_ZONE: usize = 50;
    if zones.values().all(|state| *state == ZoneState::Full) && zones.len() > 1 {
        return None;
    }
    match zone {
        ZoneState::Normal | ZoneState::Full => Some(Duration::from_secs(10)),
        ZoneState::Partial if size > LARGE_ZONE => Some(Duration::from_secs(100)),
        ZoneState::Partial => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn node(ready: &str, taints: Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
        .unwrap()
    }

    fn names(taints: Option<Vec<Taint>>) -> Option<Vec<String>> {
        taints.map(|t| t.iter().map(|t| format!("{}:{}", t.key.rsplit('/').next().unwrap(), t.effect)).collect())
    }

    #[test]
    fn silence_makes_all_conditions_unknown_once() {
        let mut silent = node("True", json!([]));
        let conditions = silent_conditions(&silent, at(0)).unwrap();
        let reasons: Vec<_> = conditions.iter().map(|c| (c.type_.as_str(), c.reason.as_deref().unwrap())).collect();
        assert_eq!(
            reasons,
            [
                ("Ready", "NodeStatusUnknown"),
                ("MemoryPressure", "NodeStatusNeverUpdated"),
                ("DiskPressure", "NodeStatusNeverUpdated"),
                ("PIDPressure", "NodeStatusNeverUpdated")
            ]
        );
        silent.status.as_mut().unwrap().conditions = Some(conditions);
        assert_eq!(silent_conditions(&silent, at(9)), None);
    }

    #[test]
    fn taints_follow_conditions_and_leave_others_alone() {
        let own = json!([{"key": "mine", "effect": "NoExecute"}]);
        assert_eq!(names(taints(&node("True", own.clone()), true, at(0))), None);
        assert_eq!(
            names(taints(&node("False", own.clone()), false, at(0))),
            Some(vec!["mine:NoExecute".into(), "not-ready:NoSchedule".into()])
        );
        let silent = taints(&node("Unknown", own), true, at(0));
        assert_eq!(
            names(silent.clone()),
            Some(vec!["mine:NoExecute".into(), "unreachable:NoSchedule".into(), "unreachable:NoExecute".into()])
        );
        let back = node("True", json!(silent.unwrap()));
        assert_eq!(names(taints(&back, true, at(0))), Some(vec!["mine:NoExecute".into()]));
        let swap = node(
            "False",
            json!([{"key": UNREACHABLE, "effect": "NoExecute"}, {"key": UNREACHABLE, "effect": "NoSchedule"}]),
        );
        assert_eq!(
            names(taints(&swap, false, at(0))),
            Some(vec!["not-ready:NoSchedule".into(), "not-ready:NoExecute".into()]),
            "a node that was being evicted goes on being so"
        );
        let mut cordoned = node("True", json!([]));
        cordoned.spec.as_mut().unwrap().unschedulable = Some(true);
        assert_eq!(names(taints(&cordoned, true, at(0))), Some(vec!["unschedulable:NoSchedule".into()]));
    }

    #[test]
    fn eviction_by_toleration() {
        let taint = |key: &str, second| Taint {
            key: key.into(),
            effect: "NoExecute".into(),
            value: None,
            time_added: Some(Time(at(second))),
        };
        let pod = |tolerations: Value| {
            serde_json::from_value::<Pod>(json!({"spec": {"containers": [], "tolerations": tolerations}})).unwrap()
        };
        let both = [taint("a", 10), taint("b", 20)];
        let table = [
            (json!([]), Some(at(50))),
            (json!([{"operator": "Exists"}]), None),
            (json!([{"key": "a", "operator": "Exists"}]), Some(at(50))),
            (
                json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 300}, {"key": "b", "operator": "Exists", "tolerationSeconds": 60}]),
                Some(at(80)),
            ),
            (json!([{"operator": "Exists", "effect": "NoSchedule"}]), Some(at(50))),
            (json!([{"operator": "Exists", "tolerationSeconds": -5}]), Some(at(20))),
            (json!([{"key": "a", "value": "x"}, {"key": "b"}]), Some(at(50))),
        ];
        for (tolerations, want) in table {
            assert_eq!(evict_at(&pod(tolerations.clone()), &both, at(50)), want, "{tolerations}");
        }
        assert_eq!(evict_at(&pod(json!([])), &[], at(0)), None);
    }

    #[test]
    fn zones_slow_eviction_down() {
        assert_eq!(zone_state(10, 0), ZoneState::Normal);
        assert_eq!(zone_state(0, 1), ZoneState::Full);
        assert_eq!(zone_state(2, 2), ZoneState::Normal, "three at least");
        assert_eq!(zone_state(4, 6), ZoneState::Partial);
        let zones = |a, b| BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        let pause = |state, size, zones: &BTreeMap<_, _>| eviction_pause(state, size, zones).map(|p| p.as_secs());
        assert_eq!(pause(ZoneState::Normal, 9, &zones(ZoneState::Normal, ZoneState::Full)), Some(10));
        assert_eq!(pause(ZoneState::Partial, 9, &zones(ZoneState::Partial, ZoneState::Normal)), None);
        assert_eq!(pause(ZoneState::Partial, 90, &zones(ZoneState::Partial, ZoneState::Normal)), Some(100));
        assert_eq!(pause(ZoneState::Full, 9, &zones(ZoneState::Full, ZoneState::Full)), None);
        assert_eq!(pause(ZoneState::Full, 1, &BTreeMap::from([("a".to_owned(), ZoneState::Full)])), Some(10));
    }
}
