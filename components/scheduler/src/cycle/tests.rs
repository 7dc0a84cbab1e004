//! Cases for `cycle`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};

use super::*;
use crate::testing::{cache, framework, node, on, pending, place, pod, requests};

fn taint(key: &str, value: &str, effect: &str) -> Value {
    json!({"spec": {"taints": [{"key": key, "value": value, "effect": effect}]}})
}

fn labelled(key: &str, value: &str) -> Value {
    json!({"metadata": {"labels": {key: value}}})
}

fn affinity(value: Value) -> Value {
    json!({"spec": {"affinity": value}})
}

fn with_labels(app: &str, mut more: Value) -> Value {
    crate::testing::merge(&mut more, json!({"metadata": {"labels": {"app": app}}}));
    more
}

#[test]
fn samples_shrink_as_clusters_grow() {
    for (nodes, expected) in [(1, 1), (99, 99), (100, 100), (250, 120), (1000, 420), (5000, 500), (6000, 300)] {
        assert_eq!(sample_size(nodes), expected, "{nodes}");
    }
}

const NOT_HELPFUL: &str = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
const NO_VICTIMS: &str = "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";

/// One node, one pod: each filter's yes and no.
#[test]
#[allow(clippy::type_complexity)]
fn filters() {
    let anti = |app: &str| {
        affinity(json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}}}]}}))
    };
    let near = |app: &str| {
        affinity(json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}}}]}}))
    };
    let spread = |key: &str, skew: i32| {
        json!({"spec": {"topologySpreadConstraints": [{"maxSkew": skew, "topologyKey": key,
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]}})
    };
    let port = |ip: &str| json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80, "hostIP": ip}]}]}});
    let required = |terms: Value| {
        affinity(
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}),
        )
    };
    let term = |operator: &str, value: &str| json!([{"matchExpressions": [{"key": "zone", "operator": operator, "values": [value]}]}]);
    let zone = labelled("zone", "a");
    let (yes, unresolvable, resolvable) = (None, NOT_HELPFUL, NO_VICTIMS);
    let no = |reason: &'static str, after: &'static str| Some((reason, after));
    // name, node, pods there, pod, refusal
    let cases: Vec<(&str, Value, Vec<Value>, Value, Option<(&str, &str)>)> = vec![
        ("plain", json!({}), vec![], json!({}), yes),
        (
            "cordoned",
            json!({"spec": {"unschedulable": true}}),
            vec![],
            json!({}),
            no("node(s) were unschedulable", unresolvable),
        ),
        (
            "cordon tolerated",
            json!({"spec": {"unschedulable": true}}),
            vec![],
            json!({"spec": {"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}}),
            yes,
        ),
        (
            "taint",
            taint("k", "v", "NoSchedule"),
            vec![],
            json!({}),
            no("node(s) had untolerated taint(s)", unresolvable),
        ),
        (
            "taint NoExecute",
            taint("k", "v", "NoExecute"),
            vec![],
            json!({}),
            no("node(s) had untolerated taint(s)", unresolvable),
        ),
        ("soft taint", taint("k", "v", "PreferNoSchedule"), vec![], json!({}), yes),
        (
            "taint tolerated",
            taint("k", "v", "NoSchedule"),
            vec![],
            json!({"spec": {"tolerations": [{"key": "k", "value": "v"}]}}),
            yes,
        ),
        ("selector", zone.clone(), vec![], json!({"spec": {"nodeSelector": {"zone": "a"}}}), yes),
        (
            "selector misses",
            zone.clone(),
            vec![],
            json!({"spec": {"nodeSelector": {"zone": "b"}}}),
            no("node(s) didn't match Pod's node affinity/selector", unresolvable),
        ),
        ("affinity In", zone.clone(), vec![], required(term("In", "a")), yes),
        (
            "affinity NotIn",
            zone.clone(),
            vec![],
            required(term("NotIn", "a")),
            no("node(s) didn't match Pod's node affinity/selector", unresolvable),
        ),
        (
            "affinity by field",
            json!({}),
            vec![],
            required(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}])),
            yes,
        ),
        (
            "affinity by another's field",
            json!({}),
            vec![],
            required(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["m"]}]}])),
            no("node(s) didn't satisfy plugin(s) [NodeAffinity]", unresolvable),
        ),
        (
            "no term",
            json!({}),
            vec![],
            required(json!([])),
            no("node(s) didn't match Pod's node affinity/selector", unresolvable),
        ),
        ("port free", json!({}), vec![json!({})], port("0.0.0.0"), yes),
        (
            "port taken",
            json!({}),
            vec![port("10.0.0.1")],
            port(""),
            no("node(s) didn't have free ports for the requested pod ports", resolvable),
        ),
        ("port on another address", json!({}), vec![port("10.0.0.1")], port("10.0.0.2"), yes),
        ("fits", json!({}), vec![requests("3", "1Gi")], requests("1", "7Gi"), yes),
        ("cpu", json!({}), vec![requests("3", "1Gi")], requests("1001m", "1Gi"), no("Insufficient cpu", resolvable)),
        ("cpu never", json!({}), vec![], requests("4001m", "1Gi"), no("Insufficient cpu", unresolvable)),
        ("memory", json!({}), vec![requests("1", "8Gi")], requests("0", "1"), no("Insufficient memory", resolvable)),
        (
            "pods",
            json!({"status": {"allocatable": {"pods": "1"}}}),
            vec![json!({})],
            json!({}),
            no("Too many pods", resolvable),
        ),
        (
            "extended",
            json!({"status": {"allocatable": {"example.com/gpu": "1"}}}),
            vec![],
            json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"example.com/gpu": "1"}}}]}}),
            yes,
        ),
        (
            "extended missing",
            json!({}),
            vec![],
            json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"example.com/gpu": "1"}}}]}}),
            no("Insufficient example.com/gpu", unresolvable),
        ),
        ("beside", zone.clone(), vec![with_labels("db", json!({}))], near("db"), yes),
        (
            "not beside",
            zone.clone(),
            vec![with_labels("db", json!({}))],
            near("cache"),
            no("node(s) didn't match pod affinity rules", unresolvable),
        ),
        ("first of its kind", zone.clone(), vec![], with_labels("web", near("web")), yes),
        (
            "first, but no such place",
            json!({}),
            vec![],
            with_labels("web", near("web")),
            no("node(s) didn't match pod affinity rules", unresolvable),
        ),
        (
            "kept apart",
            zone.clone(),
            vec![with_labels("web", json!({}))],
            anti("web"),
            no("node(s) didn't match pod anti-affinity rules", resolvable),
        ),
        ("apart from others", zone.clone(), vec![with_labels("db", json!({}))], anti("web"), yes),
        (
            "not wanted there",
            zone.clone(),
            vec![anti("web")],
            with_labels("web", json!({})),
            no("node(s) didn't satisfy existing pods anti-affinity rules", resolvable),
        ),
        ("spread", zone.clone(), vec![], with_labels("web", spread("zone", 1)), yes),
        (
            "spread without label",
            json!({}),
            vec![],
            with_labels("web", spread("zone", 1)),
            no("node(s) didn't match pod topology spread constraints (missing required label)", unresolvable),
        ),
    ];
    for (name, more, there, wanted, expected) in cases {
        let pods: Vec<_> = there.into_iter().enumerate().map(|(i, p)| pod(&format!("p{i}"), on("n", p))).collect();
        let got = place(&mut cache(&[node("n", more)], &pods), &pending("new", wanted));
        let expected = expected
            .map_or(Ok("n".to_owned()), |(reason, after)| Err(format!("0/1 nodes are available: 1 {reason}. {after}")));
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn reasons_are_counted_over_nodes() {
    let nodes = [
        node("full", json!({})),
        node("tainted", taint("k", "v", "NoSchedule")),
        node("small", json!({"status": {"allocatable": {"cpu": "1", "memory": "1Mi"}}})),
    ];
    let there = [pod("p", on("full", requests("4", "1Gi")))];
    let got = place(&mut cache(&nodes, &there), &pending("new", requests("2", "1Gi")));
    assert_eq!(
        got.unwrap_err(),
        "0/3 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint(s), 2 Insufficient cpu. \
         preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, \
         2 Preemption is not helpful for scheduling."
    );
    assert_eq!(
        place(&mut cache(&[], &[]), &pending("new", json!({}))).unwrap_err(),
        "no nodes available to schedule pods"
    );
    let never = json!({"spec": {"preemptionPolicy": "Never", "nodeSelector": {"x": "y"}}});
    assert_eq!(
        place(&mut cache(&[node("n", json!({}))], &[]), &pending("new", never)).unwrap_err(),
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. \
         preemption: not eligible due to preemptionPolicy=Never."
    );
}

/// Two nodes, `a` and `b`; which is better.
#[test]
fn scores() {
    let preferred = affinity(json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 5, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}}]}}));
    let soft = |kind: &str, app: &str| {
        affinity(json!({kind: {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 10, "podAffinityTerm":
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}}}]}}))
    };
    let image =
        |size: u64| json!({"status": {"images": [{"names": ["docker.io/x", "web:latest"], "sizeBytes": size}]}});
    let none = || json!({});
    let spread = json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "web"}}}]}});
    // name, node a, node b, pods on a, pod; the better is always b
    let cases: Vec<(&str, Value, Value, Vec<Value>, Value)> = vec![
        ("emptier", none(), none(), vec![requests("1", "1Gi")], requests("1", "1Gi")),
        ("emptier, without requests", none(), none(), vec![none()], none()),
        ("soft taint", taint("k", "v", "PreferNoSchedule"), none(), vec![], none()),
        ("preferred label", none(), labelled("disk", "ssd"), vec![], preferred),
        ("image", none(), image(900 << 20), vec![], none()),
        ("away from like pods", none(), none(), vec![with_labels("web", none())], with_labels("web", spread)),
        ("soft anti-affinity", none(), none(), vec![with_labels("db", none())], soft("podAntiAffinity", "db")),
        (
            "balance",
            json!({"status": {"allocatable": {"cpu": "4", "memory": "100Gi"}}}),
            none(),
            vec![],
            requests("3", "6Gi"),
        ),
    ];
    for (name, a, b, there, wanted) in cases {
        let pods: Vec<_> = there.into_iter().enumerate().map(|(i, p)| pod(&format!("p{i}"), on("a", p))).collect();
        let got = place(&mut cache(&[node("a", a), node("b", b)], &pods), &pending("new", wanted));
        assert_eq!(got, Ok("b".into()), "{name}");
    }
    // Affinity of either side pulls towards a pod, past the emptier node.
    let pulled = [
        (soft("podAffinity", "db"), with_labels("db", none())),
        (with_labels("web", none()), soft("podAffinity", "web")),
    ];
    for (wanted, there) in pulled {
        let got = place(
            &mut cache(&[node("a", none()), node("b", none())], &[pod("p", on("b", there))]),
            &pending("new", wanted),
        );
        assert_eq!(got, Ok("b".into()));
    }
}

#[test]
fn most_allocated_fills_nodes_up() {
    let framework = crate::plugins::default_profile(crate::plugins::Strategy::MostAllocated).unwrap();
    let mut cache = cache(&[node("a", json!({})), node("b", json!({}))], &[pod("p", on("b", requests("2", "4Gi")))]);
    let new = pending("new", requests("1", "2Gi"));
    cache.prepare(&new);
    let outcome = schedule(&framework, Context { cache: &cache, pod: &new }, 0, 0);
    assert!(matches!(outcome, Outcome::Fits { node, .. } if node == "b"));
}

#[test]
fn hard_spreading_over_zones() {
    let zone = |zone: &str| labelled("topology.kubernetes.io/zone", zone);
    let nodes = [node("a1", zone("a")), node("a2", zone("a")), node("b1", zone("b"))];
    let spread = |extra: Value| {
        let mut constraint = json!({"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}});
        crate::testing::merge(&mut constraint, extra);
        with_labels("web", json!({"spec": {"topologySpreadConstraints": [constraint]}}))
    };
    let one_in_a = [pod("p", on("a1", with_labels("web", json!({}))))];
    assert_eq!(place(&mut cache(&nodes, &one_in_a), &pending("new", spread(json!({})))), Ok("b1".into()));
    // Three zones are wanted and two are there: each may have one.
    let both = [one_in_a[0].clone(), pod("q", on("b1", with_labels("web", json!({}))))];
    let got = place(&mut cache(&nodes, &both), &pending("new", spread(json!({"minDomains": 3}))));
    assert!(
        got.unwrap_err()
            .starts_with("0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints.")
    );
    // A pod on its way out does not count.
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let mut gone = with_labels("web", leaving);
    crate::testing::merge(&mut gone, requests("0", "0"));
    let mut known = cache(&nodes, &[pod("p", on("a1", gone))]);
    assert!(place(&mut known, &pending("new", spread(json!({})))).is_ok());
}

#[test]
fn default_spreading_follows_services_and_owners() {
    let mut cache = cache(
        &[node("a", json!({})), node("b", json!({}))],
        // b is fuller, but a has a pod of the same Service.
        &[pod("p", on("a", with_labels("web", json!({})))), pod("q", on("b", requests("100m", "200Mi")))],
    );
    let new = pending("new", with_labels("web", json!({})));
    let selector = [("app".to_owned(), "web".to_owned())].into();
    cache.workloads.set_service("default", "web", Some(&selector));
    assert_eq!(place(&mut cache, &new), Ok("b".into()));
    cache.workloads.remove_service("default", "web");
    let owned = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "u", "controller": true}]}});
    let new = pending("new", with_labels("web", owned));
    let selector = crate::selector::Selector::from_map(&selector);
    cache.workloads.set_owner(crate::workloads::OwnerKind::ReplicaSet, "default", "rs", selector);
    assert_eq!(place(&mut cache, &new), Ok("b".into()));
}

#[test]
fn counts_follow_pods_and_nodes() {
    let anti = affinity(json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}]}}));
    let new = pending("new", with_labels("web", anti));
    let mut cache = cache(&[node("a", json!({}))], &[]);
    assert_eq!(place(&mut cache, &new), Ok("a".into()));
    // A pod that comes before its node counts once the node is there.
    cache.set_pod(pod("p", on("b", with_labels("web", json!({})))));
    cache.set_node(node("b", json!({})));
    cache.assume(std::sync::Arc::clone(&new), "a");
    let again = pending(
        "again",
        with_labels("web", new.pod.spec.as_ref().map_or(json!({}), |s| json!({"spec": {"affinity": s.affinity}}))),
    );
    assert!(place(&mut cache, &again).unwrap_err().contains("2 node(s) didn't match pod anti-affinity rules"));
    assert!(cache.forget("default", "new") && !cache.forget("default", "new"));
    assert_eq!(place(&mut cache, &again), Ok("a".into()));
    cache.remove_node("a");
    cache.remove_pod("default", "p");
    assert_eq!(place(&mut cache, &again), Ok("b".into()));
    assert_eq!((cache.node_count(), cache.pod_count()), (1, 0));
}

#[test]
fn ties_are_broken_by_the_number_given_and_search_goes_on_where_it_ended() {
    let nodes: Vec<_> = (0..200).map(|i| node(&format!("n{i:03}"), json!({}))).collect();
    let mut cache = cache(&nodes, &[]);
    let new = pending("new", json!({}));
    cache.prepare(&new);
    let framework = framework();
    let run = |start, tie| match schedule(&framework, Context { cache: &cache, pod: &new }, start, tie) {
        Outcome::Fits { node, looked_at, .. } => (node, looked_at),
        Outcome::Unschedulable { error, .. } => panic!("{error}"),
    };
    assert_eq!(run(0, 0), ("n000".into(), 100));
    assert_eq!(run(0, 7), ("n007".into(), 100));
    assert_eq!(run(100, 0), ("n100".into(), 100));
    assert_eq!(run(150, 60), ("n010".into(), 100));
}
