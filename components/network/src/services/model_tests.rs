//! Cases for `model_tests`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};

use super::*;

fn view() -> NodeView {
    NodeView { node_name: "n1".into(), served_here: ["10.96.0.10".parse().unwrap()].into() }
}

fn read_one(spec: Value, endpoints: Value) -> Option<ServicePort> {
    let service: Service =
        serde_json::from_value(json!({"metadata": {"namespace": "d", "name": "s"}, "spec": spec})).unwrap();
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"namespace": "d", "name": "s-1", "labels": {SERVICE_NAME: "s"}}, "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints,
    }))
    .unwrap();
    let mut all = read([&service], [&slice], &view());
    assert!(all.len() <= 1);
    all.pop_first().map(|(_, port)| port)
}

fn spec(more: Value) -> Value {
    let mut spec = json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

fn targets(list: &BTreeSet<Target>) -> Vec<String> {
    list.iter().map(|t| format!("{}:{}", t.address, t.port)).collect()
}

#[test]
fn ready_endpoints_or_else_those_that_still_serve() {
    let endpoint = |ip: &str, ready: bool, serving: bool, terminating: bool| {
        json!({"addresses": [ip], "nodeName": if ip.ends_with('1') { "n1" } else { "n2" },
            "conditions": {"ready": ready, "serving": serving, "terminating": terminating}})
    };
    let cases = [
        (
            json!([endpoint("10.0.0.1", true, true, false), endpoint("10.0.0.2", false, true, true)]),
            vec!["10.0.0.1:8080"],
        ),
        (
            json!([endpoint("10.0.0.1", false, true, true), endpoint("10.0.0.2", false, false, true)]),
            vec!["10.0.0.1:8080"],
        ),
        (json!([endpoint("10.0.0.1", false, false, false), endpoint("10.0.0.2", false, true, false)]), vec![]),
        (json!([{"addresses": ["10.0.0.3"]}]), vec!["10.0.0.3:8080"]),
        (json!([{"addresses": ["nonsense"]}, {"addresses": []}]), vec![]),
    ];
    for (endpoints, expected) in cases {
        let port = read_one(spec(json!({})), endpoints.clone()).unwrap();
        assert_eq!(targets(&port.targets), expected, "{endpoints}");
    }
    // On the own node the fallback is decided by itself.
    let mixed = json!([endpoint("10.0.0.1", false, true, true), endpoint("10.0.0.2", true, true, false)]);
    let port = read_one(spec(json!({})), mixed).unwrap();
    assert_eq!(
        (targets(&port.targets), targets(&port.local_targets)),
        (vec!["10.0.0.2:8080".into()], vec!["10.0.0.1:8080".into()])
    );
}

#[test]
fn what_is_not_translated() {
    for more in [
        json!({"clusterIP": "None", "clusterIPs": ["None"]}),
        json!({"type": "ExternalName"}),
        json!({"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"]}),
        json!({"ports": [{"name": "http", "port": 0}]}),
        json!({"ports": [{"name": "http", "port": 80, "protocol": "QUIC"}]}),
        json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]}),
    ] {
        assert_eq!(read_one(spec(more.clone()), json!([])), None, "{more}");
    }
}

#[test]
fn kinds_of_service() {
    let port = read_one(spec(json!({})), json!([])).unwrap();
    assert_eq!((port.node_port, port.affinity_seconds, port.internal_local), (None, None, false));
    let port = read_one(
        spec(json!({"type": "NodePort", "externalTrafficPolicy": "Local", "externalIPs": ["1.2.3.4"]})),
        json!([]),
    );
    let port = port.unwrap();
    assert_eq!((port.node_port, port.external_local), (Some(30080), true));
    assert_eq!(port.external_addresses.keys().map(ToString::to_string).collect::<Vec<_>>(), ["1.2.3.4"]);
    let port =
        read_one(spec(json!({"sessionAffinity": "ClientIP", "internalTrafficPolicy": "Local"})), json!([])).unwrap();
    assert_eq!((port.affinity_seconds, port.internal_local), (Some(10_800), true));
    let config = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}});
    assert_eq!(read_one(spec(config), json!([])).unwrap().affinity_seconds, Some(5));
}
