//! Bad Services and the exact words about them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use navarch_types::UserInfo;
use serde_json::{Value, json};

use super::*;
use crate::kinds::rules::rendered;
use crate::strategy::{Context, Strategy};

fn service_of(spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": "s"}, "spec": spec});
    SERVICE.default(&mut object);
    if object["spec"]["type"] != "ExternalName" && object["spec"]["clusterIP"].is_null() {
        object["spec"]["clusterIP"] = json!("10.96.0.1");
        object["spec"]["clusterIPs"] = json!(["10.96.0.1"]);
    }
    object
}

fn judge(object: &Value, old: Option<&Value>) -> Vec<String> {
    let user = UserInfo::default();
    let context =
        Context { user: &user, namespace: "d", subresource: None, now: "2026-01-01T00:00:00Z".parse().unwrap() };
    rendered(&match old {
        None => SERVICE.validate_create(&context, object),
        Some(old) => SERVICE.validate_update(&context, object, old),
    })
}

#[test]
fn services_are_judged() {
    for (spec, want) in [
        (json!({"ports": [{"port": 80}]}), vec![]),
        (json!({"type": "ExternalName", "externalName": "a.b."}), vec![]),
        (json!({"clusterIP": "None", "clusterIPs": ["None"]}), vec![]),
        (json!({}), vec!["spec.ports: Required value"]),
        (
            json!({"ports": [{"port": 0}]}),
            vec![
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
        (json!({"ports": [{"port": 1, "name": "a"}, {"port": 2}]}), vec!["spec.ports[1].name: Required value"]),
        (
            json!({"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]}),
            vec!["spec.ports[1].name: Duplicate value: \"a\""],
        ),
        (
            json!({"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]}),
            vec!["spec.ports[1]: Duplicate value: {\"port\":1,\"protocol\":\"TCP\"}"],
        ),
        (
            json!({"ports": [{"port": 1, "nodePort": 30000}]}),
            vec!["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        (
            json!({"type": "x", "ports": [{"port": 1}]}),
            vec![
                "spec.type: Unsupported value: \"x\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ],
        ),
        (
            json!({"type": "NodePort", "clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 1}]}),
            vec!["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
        ),
        (
            json!({"type": "LoadBalancer", "ports": [{"port": 10250}]}),
            vec![
                "spec.ports[0]: Invalid value: 10250: may not expose port 10250 externally since it is used by kubelet",
            ],
        ),
        (json!({"type": "ExternalName"}), vec!["spec.externalName: Required value"]),
        (
            json!({"sessionAffinity": "x", "ports": [{"port": 1}]}),
            vec!["spec.sessionAffinity: Unsupported value: \"x\": supported values: \"ClientIP\", \"None\""],
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}, "ports": [{"port": 1}]}),
            vec![
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400",
            ],
        ),
        (
            json!({"externalIPs": ["127.0.0.1"], "ports": [{"port": 1}]}),
            vec![
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ],
        ),
        (
            json!({"externalTrafficPolicy": "Local", "ports": [{"port": 1}]}),
            vec![
                "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
            ],
        ),
        (
            json!({"type": "NodePort", "externalTrafficPolicy": "x", "ports": [{"port": 1}]}),
            vec!["spec.externalTrafficPolicy: Unsupported value: \"x\": supported values: \"Cluster\", \"Local\""],
        ),
        (
            json!({"loadBalancerClass": "a/b", "ports": [{"port": 1}]}),
            vec!["spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"],
        ),
        (
            json!({"selector": {"a b": "c"}, "clusterIP": "None", "clusterIPs": ["None"]}),
            vec![
                "spec.selector: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ],
        ),
    ] {
        assert_eq!(judge(&service_of(spec.clone()), None), want, "{spec}");
    }
}

#[test]
fn addresses_are_for_life() {
    let old = service_of(json!({"ports": [{"port": 80}]}));
    let mut object = old.clone();
    object["spec"]["clusterIP"] = json!("10.96.0.2");
    object["spec"]["clusterIPs"] = json!(["10.96.0.2"]);
    assert_eq!(
        judge(&object, Some(&old)),
        ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.2\"]: may not change once set"]
    );
}

#[test]
fn a_change_of_type_takes_what_the_old_one_needed() {
    let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
        "externalTrafficPolicy": "Cluster", "ports": [{"port": 80, "nodePort": 30080}]}});
    let user = UserInfo::default();
    let context =
        Context { user: &user, namespace: "d", subresource: None, now: "2026-01-01T00:00:00Z".parse().unwrap() };
    let mut object = old.clone();
    object["spec"]["type"] = json!("ClusterIP");
    SERVICE.prepare_update(&context, &mut object, &old);
    assert_eq!(
        object["spec"],
        json!({"type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80}]})
    );
    object["spec"]["type"] = json!("ExternalName");
    let old = object.clone();
    let was = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"]}});
    let mut object = old;
    SERVICE.prepare_update(&context, &mut object, &was);
    assert!(object["spec"]["clusterIPs"].is_null());
}

#[test]
fn rows() {
    let now = "2026-01-01T00:05:00Z".parse().unwrap();
    let row = |spec: Value, status: Value| {
        let object = json!({"metadata": {"name": "s", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec, "status": status});
        SERVICE.row(&object, now).iter().map(|c| c.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        row(
            json!({"type": "NodePort", "clusterIPs": ["10.0.0.1"], "selector": {"a": "b"},
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}),
            json!({})
        ),
        ["s", "NodePort", "10.0.0.1", "<none>", "80:30080/TCP,53/UDP", "5m", "a=b"]
    );
    assert_eq!(row(json!({"type": "LoadBalancer"}), json!({}))[3], "<pending>");
    assert_eq!(
        row(json!({"type": "LoadBalancer"}), json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}))[3],
        "1.2.3.4"
    );
    assert_eq!(
        row(json!({"type": "ExternalName", "externalName": "a.b"}), json!({}))[2..5],
        ["<none>", "a.b", "<none>"]
    );
}
