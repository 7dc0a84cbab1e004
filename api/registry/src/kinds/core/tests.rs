//! Bad objects of the core group and the exact words about them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use navarch_types::UserInfo;
use serde_json::{Value, json};

use super::*;
use crate::kinds::rules::rendered;
use crate::strategy::{Context, Strategy};

fn context<'a>(user: &'a UserInfo, subresource: Option<&'a str>) -> Context<'a> {
    Context { user, namespace: "d", subresource, now: "2026-01-01T00:00:00Z".parse().unwrap() }
}

fn create(kind: &Kind, mut object: Value) -> Vec<String> {
    kind.default(&mut object);
    rendered(&kind.validate_create(&context(&UserInfo::default(), None), &object))
}

fn update(kind: &Kind, object: &Value, old: &Value) -> Vec<String> {
    rendered(&kind.validate_update(&context(&UserInfo::default(), None), object, old))
}

#[test]
fn config_is_judged() {
    let big = "x".repeat(1024 * 1024 + 1);
    let cases: Vec<(&Kind, Value, Vec<&str>)> = vec![
        (&CONFIG_MAP, json!({"data": {"a": "b"}, "binaryData": {"c": "ZA=="}}), vec![]),
        (
            &CONFIG_MAP,
            json!({"data": {"a": "b"}, "binaryData": {"a": "ZA=="}}),
            vec!["data[a]: Invalid value: \"a\": duplicate of key present in binaryData"],
        ),
        (
            &CONFIG_MAP,
            json!({"data": {"a b": ""}}),
            vec![
                "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
            ],
        ),
        (&CONFIG_MAP, json!({"data": {"a": big}}), vec!["[]: Too long: may not be more than 1048576 bytes"]),
        (&SECRET, json!({"stringData": {"a": "b"}}), vec![]),
        (&SECRET, json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}), vec!["data[tls.key]: Required value"]),
        (
            &SECRET,
            json!({"type": "kubernetes.io/basic-auth"}),
            vec!["data[username]: Required value", "data[password]: Required value"],
        ),
        (
            &SECRET,
            json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "eA=="}}),
            vec!["data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": must be a JSON object"],
        ),
        (
            &SECRET,
            json!({"type": "kubernetes.io/service-account-token"}),
            vec!["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        ),
    ];
    for (kind, object, want) in cases {
        assert_eq!(create(kind, object), want);
    }
}

#[test]
fn frozen_config_stays() {
    let old = json!({"immutable": true, "data": {"a": "b"}});
    assert_eq!(
        update(&CONFIG_MAP, &json!({"data": {"a": "c"}}), &old),
        [
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set"
        ]
    );
    assert_eq!(
        update(&SECRET, &json!({"type": "b"}), &json!({"type": "a"})),
        ["type: Invalid value: \"b\": field is immutable"]
    );
}

#[test]
fn plain_texts_of_secrets_are_folded_in() {
    let mut object = json!({"data": {"a": "b2xk", "k": "a2VlcA=="}, "stringData": {"a": "new"}});
    SECRET.default(&mut object);
    assert_eq!(object, json!({"type": "Opaque", "data": {"a": "bmV3", "k": "a2VlcA=="}}));
}

#[test]
fn namespaces() {
    let user = UserInfo::default();
    let mut object = json!({"metadata": {"name": "n"}, "status": {"phase": "Terminating"}});
    NAMESPACE.default(&mut object);
    NAMESPACE.prepare_create(&context(&user, None), &mut object);
    assert_eq!(
        object,
        json!({"metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "n"}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
    );
    let old = object.clone();
    object["spec"] = json!({});
    NAMESPACE.prepare_update(&context(&user, None), &mut object, &old);
    assert_eq!(object, old);
    object["spec"] = json!({});
    NAMESPACE.prepare_update(&context(&user, Some("finalize")), &mut object, &old);
    assert_eq!(object["spec"], json!({}));
    object["status"]["phase"] = json!("Terminating");
    assert_eq!(
        rendered(&NAMESPACE.validate_update(&context(&user, Some("status")), &object, &old)),
        ["status.phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"]
    );
    assert_eq!(
        create(&NAMESPACE, json!({"spec": {"finalizers": ["x"]}})),
        ["spec.finalizers: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified"]
    );
}

#[test]
fn nodes() {
    let mut object =
        json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.0.0.0/24"}, "status": {"capacity": {"cpu": "1"}}});
    NODE.default(&mut object);
    assert_eq!(
        (&object["spec"]["podCIDRs"], &object["status"]["allocatable"]),
        (&json!(["10.0.0.0/24"]), &json!({"cpu": "1"}))
    );
    let user = UserInfo::default();
    let mut kept = object.clone();
    NODE.prepare_create(&context(&user, None), &mut kept);
    assert_eq!(kept, object);
    let mut changed = object.clone();
    changed["spec"]["podCIDRs"] = json!(["10.0.1.0/24"]);
    assert_eq!(
        update(&NODE, &changed, &object),
        ["spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"]
    );
    let now = "2026-01-01T00:05:00Z".parse().unwrap();
    let node = json!({"metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian"},
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
    let cells: Vec<String> = NODE.row(&node, now).iter().map(|c| c.as_str().unwrap().to_owned()).collect();
    assert_eq!(
        cells,
        [
            "n",
            "Ready,SchedulingDisabled",
            "control-plane",
            "5m",
            "v1.36.0",
            "10.0.0.1",
            "<none>",
            "Debian",
            "<unknown>",
            "<unknown>"
        ]
    );
}

#[test]
fn events() {
    let event = json!({"metadata": {"name": "e", "namespace": "d"}, "involvedObject": {"kind": "Pod", "namespace": "d", "name": "p"},
        "type": "Normal", "reason": "Started", "message": "up ", "source": {"component": "kubelet", "host": "n"},
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:04:00Z", "count": 3});
    assert_eq!(create(&EVENT, event.clone()), Vec::<String>::new());
    let now = "2026-01-01T00:05:00Z".parse().unwrap();
    assert_eq!(
        EVENT.row(&event, now),
        [
            json!("60s"),
            json!("Normal"),
            json!("Started"),
            json!("pod/p"),
            json!(""),
            json!("kubelet, n"),
            json!("up"),
            json!("5m"),
            json!(3),
            json!("e")
        ]
    );
    let mut other = event.clone();
    other["metadata"]["namespace"] = json!("x");
    assert_eq!(
        create(&EVENT, other),
        ["involvedObject.namespace: Invalid value: \"d\": does not match event.namespace"]
    );
    let mut modern = event;
    modern["eventTime"] = json!("2026-01-01T00:00:00.000000Z");
    modern["type"] = json!("Odd");
    assert_eq!(
        create(&EVENT, modern),
        [
            "reportingComponent: Required value",
            "reportingInstance: Required value",
            "action: Required value",
            "type: Invalid value: \"\": has invalid value: Odd"
        ]
    );
}

#[test]
fn quotas_and_limits() {
    assert_eq!(
        create(&RESOURCE_QUOTA, json!({"spec": {"hard": {"pods": "1500m"}}})),
        ["spec.hard[pods]: Invalid value: \"1500m\": must be an integer"]
    );
    assert_eq!(
        create(&RESOURCE_QUOTA, json!({"spec": {"scopes": ["BestEffort", "NotBestEffort"]}})),
        ["spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes"]
    );
    let mut object =
        json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}});
    LIMIT_RANGE.default(&mut object);
    assert_eq!(
        object["spec"]["limits"][0],
        json!({"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}, "default": {"cpu": "2"},
            "defaultRequest": {"cpu": "2", "memory": "1Mi"}})
    );
    assert_eq!(
        create(&LIMIT_RANGE, json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "2"}}]}})),
        ["spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1"]
    );
    let quota = json!({"metadata": {"name": "q"}, "status": {"hard": {"pods": "10", "limits.cpu": "4"}, "used": {"pods": "3"}}});
    let now = "2026-01-01T00:05:00Z".parse().unwrap();
    assert_eq!(RESOURCE_QUOTA.row(&quota, now)[1..3], [json!("pods: 3/10"), json!("limits.cpu: 0/4")]);
}
