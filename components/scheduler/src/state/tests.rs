//! Cases for `state`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::testing::{framework, node, on, pod, requests};

struct Fixture {
    state: State,
    start: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self { state: State::new(framework(), 1), start: Instant::now() }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// The next decision as text.
    fn next(&mut self, ms: u64) -> String {
        match self.state.next(self.at(ms)) {
            None => String::new(),
            Some(Decision::Bind { pod, node }) => format!("{} -> {node}", pod.name()),
            Some(Decision::Unschedulable { pod, error }) => format!("{}: {}", pod.name(), error.nodes),
        }
    }
}

#[test]
fn an_assumed_pod_counts_until_it_is_shown_or_fails() {
    let mut f = Fixture::new();
    let now = f.at(0);
    f.state.set_node(&node("n", json!({})), now);
    f.state.set_pod(&pod("a", requests("3", "1Gi")), now);
    f.state.set_pod(&pod("b", requests("3", "1Gi")), f.at(1));
    assert_eq!(f.next(2), "a -> n");
    assert_eq!(f.next(2), "b: 1");
    // Binding fails: there is room again, and b is let out.
    let a = crate::testing::pending("a", requests("3", "1Gi"));
    f.state.bound(&a, "n", Some(&ApiError::internal("lost")), f.at(3));
    assert_eq!(f.next(4), "b -> n");
    f.state.bound(&crate::testing::pending("b", requests("3", "1Gi")), "n", None, f.at(5));
    f.state.set_pod(&pod("b", on("n", requests("3", "1Gi"))), f.at(6));
    assert_eq!(f.next(1500), "a: 1");
    f.state.remove_pod("default", "b", f.at(1600));
    assert_eq!(f.next(1600), "a -> n");
}

#[test]
fn a_binding_that_failed_but_took_place_is_kept() {
    let mut f = Fixture::new();
    let now = f.at(0);
    f.state.set_node(&node("n", json!({})), now);
    f.state.set_pod(&pod("a", json!({})), now);
    assert_eq!(f.next(0), "a -> n");
    f.state.set_pod(&pod("a", on("n", json!({}))), f.at(1));
    f.state.bound(&crate::testing::pending("a", json!({})), "n", Some(&ApiError::internal("timeout")), f.at(2));
    assert_eq!((f.next(60_000), f.state.cache().pod_count()), (String::new(), 1));
}

#[test]
fn only_pods_of_ours_that_wait() {
    let mut f = Fixture::new();
    let now = f.at(0);
    f.state.set_node(&node("n", json!({})), now);
    for more in [
        json!({"spec": {"schedulerName": "other"}}),
        json!({"spec": {"nodeName": "n"}}),
        json!({"status": {"phase": "Failed"}}),
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        json!({"spec": {"schedulingGates": [{"name": "g"}]}}),
    ] {
        f.state.set_pod(&pod("a", more.clone()), now);
        assert_eq!(f.next(0), "", "{more}");
        f.state.remove_pod("default", "a", now);
    }
}

#[test]
fn a_pod_replaced_unseen_frees_its_node() {
    let mut f = Fixture::new();
    let now = f.at(0);
    f.state.set_node(&node("n", json!({})), now);
    f.state.set_pod(&pod("a", on("n", requests("4", "1Gi"))), now);
    let mut again = requests("4", "1Gi");
    crate::testing::merge(&mut again, json!({"metadata": {"uid": "another"}}));
    f.state.set_pod(&pod("a", again), now);
    assert_eq!(f.next(0), "a -> n");
}

#[test]
fn what_was_on_its_way_is_recovered() {
    let mut f = Fixture::new();
    let now = f.at(0);
    f.state.set_node(&node("n", json!({})), now);
    f.state.set_pod(&pod("a", requests("4", "1Gi")), now);
    assert_eq!(f.next(0), "a -> n");
    f.state.recover_cycles(f.at(1));
    assert_eq!(f.next(2000), "", "it is being bound");
    // One whose binding is still to be carried out is not lost: it must not wait for nothing.
    let waiting = HashSet::from([crate::testing::pending("a", json!({})).uid().to_owned()]);
    f.state.recover_bindings(&waiting, f.at(2000));
    assert_eq!(f.next(2999), "");
    f.state.recover_bindings(&HashSet::new(), f.at(3000));
    assert_eq!(f.next(4000), "a -> n");
}

#[test]
fn a_first_node_lets_all_pods_out() {
    let mut f = Fixture::new();
    let now = f.at(0);
    f.state.set_pod(&pod("a", json!({})), now);
    assert_eq!(f.next(0), "a: 0");
    f.state.set_node(&node("n", json!({})), f.at(1));
    assert_eq!(f.next(1), "a -> n");
}
