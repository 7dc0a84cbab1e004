//! Bad network objects and the exact words about them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use navarch_types::UserInfo;
use serde_json::{Value, json};

use super::*;
use crate::kinds::rules::rendered;
use crate::strategy::{Context, Strategy};

fn judge(kind: &Kind, mut object: Value) -> Vec<String> {
    let user = UserInfo::default();
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    kind.default(&mut object);
    rendered(&kind.validate_create(&Context { user: &user, namespace: "d", subresource: None, now }, &object))
}

#[test]
fn objects_are_judged() {
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    let cases: Vec<(&Kind, Value, Vec<&str>)> = vec![
        (&ENDPOINTS, json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}), vec![]),
        (
            &ENDPOINTS,
            json!({"subsets": [{}]}),
            vec!["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"],
        ),
        (
            &ENDPOINTS,
            json!({"subsets": [{"addresses": [{"ip": "169.254.0.1"}]}]}),
            vec![
                "subsets[0].addresses[0].ip: Invalid value: \"169.254.0.1\": may not be in the link-local range (169.254.0.0/16, fe80::/10)",
            ],
        ),
        (
            &ENDPOINT_SLICE,
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}),
            vec![],
        ),
        (
            &ENDPOINT_SLICE,
            json!({"addressType": "x"}),
            vec!["addressType: Unsupported value: \"x\": supported values: \"FQDN\", \"IPv4\", \"IPv6\""],
        ),
        (
            &ENDPOINT_SLICE,
            json!({"addressType": "IPv4", "endpoints": [{}]}),
            vec!["endpoints[0].addresses: Required value: must contain at least 1 address"],
        ),
        (
            &ENDPOINT_SLICE,
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["::1"]}]}),
            vec!["endpoints[0].addresses[0]: Invalid value: \"::1\": must be an IPv4 address"],
        ),
        (
            &ENDPOINT_SLICE,
            json!({"addressType": "IPv4", "ports": [{"port": 1}, {"port": 2}]}),
            vec!["ports[1].name: Duplicate value: \"\""],
        ),
        (&INGRESS, json!({"spec": {"defaultBackend": backend}}), vec![]),
        (
            &INGRESS,
            json!({"spec": {}}),
            vec!["spec: Invalid value: {}: either `defaultBackend` or `rules` must be specified"],
        ),
        (
            &INGRESS,
            json!({"spec": {"rules": [{"host": "1.2.3.4", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]}}),
            vec!["spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address"],
        ),
        (
            &INGRESS,
            json!({"spec": {"rules": [{"http": {"paths": [{"path": "a", "pathType": "Exact", "backend": backend}]}}]}}),
            vec!["spec.rules[0].http.paths[0].path: Invalid value: \"a\": must be an absolute path"],
        ),
        (
            &INGRESS,
            json!({"spec": {"rules": [{"http": {"paths": [{"path": "/", "backend": backend}]}}]}}),
            vec!["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"],
        ),
        (
            &INGRESS_CLASS,
            json!({"spec": {"controller": "x"}}),
            vec!["spec.controller: Invalid value: \"x\": must be a domain-prefixed path (such as \"acme.io/foo\")"],
        ),
        (
            &NETWORK_POLICY,
            json!({"spec": {"podSelector": {}, "ingress": [{"from": [{}]}]}}),
            vec!["spec.ingress[0].from[0]: Required value: must specify a peer"],
        ),
        (
            &NETWORK_POLICY,
            json!({"spec": {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}}]}]}}),
            vec![
                "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/8\": must be a strict subset of `cidr`",
            ],
        ),
        (
            &NETWORK_POLICY,
            json!({"spec": {"policyTypes": ["x"]}}),
            vec!["spec.policyTypes[0]: Unsupported value: \"x\": supported values: \"Egress\", \"Ingress\""],
        ),
        (
            &SERVICE_CIDR,
            json!({"spec": {"cidrs": ["x"]}}),
            vec![
                "spec.cidrs[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ],
        ),
    ];
    for (kind, object, want) in cases {
        assert_eq!(judge(kind, object.clone()), want, "{object}");
    }
    assert_eq!(IP_ADDRESS.validate_name("2001:DB8::1", false), ["must be in canonical form (\"2001:db8::1\")"]);
}

#[test]
fn long_lists_are_cut() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let addresses: Vec<Value> = (1..=5).map(|i| json!({"ip": format!("10.0.0.{i}")})).collect();
    let object = json!({"metadata": {"name": "e"}, "subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]});
    assert_eq!(ENDPOINTS.row(&object, now)[1], "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...");
    assert_eq!(ENDPOINTS.row(&json!({}), now)[1], "<none>");
    let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}, {"port": null}]});
    assert_eq!(ENDPOINT_SLICE.row(&slice, now)[1..4], [json!("IPv4"), json!("80,*"), json!("10.0.0.1")]);
}
