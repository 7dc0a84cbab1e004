//! Cases for `env`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use serde_json::json;
use std::sync::Arc;

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web-0", "namespace": "shop", "uid": "u-1", "labels": {"app": "web"},
            "annotations": {"note": "a \"b\"\nc"}},
        "spec": {"nodeName": "n1", "serviceAccountName": "sa", "containers": [
            {"name": "main", "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "100M"}}}]}}))
    .unwrap()
}

fn facts() -> NodeFacts {
    let allocatable = serde_json::from_value(json!({"cpu": "4", "memory": "8Gi"})).unwrap();
    NodeFacts { node_ip: "10.0.0.1".into(), pod_ips: vec!["10.1.0.2".into()], allocatable }
}

fn referred() -> Referred {
    let map: ConfigMap = serde_json::from_value(json!({"data": {"mode": "fast", "A": "from-map"}})).unwrap();
    let secret: Secret = serde_json::from_value(json!({"data": {"pw": "aHVzaA==", "A": "c2VjcmV0"}})).unwrap();
    let service = |namespace: &str, name: &str, ip: &str, port: i32| -> Arc<Service> {
        let value = json!({"metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": ip, "ports": [{"port": port, "name": "http-x", "protocol": "TCP"}]}});
        Arc::new(serde_json::from_value(value).unwrap())
    };
    Referred {
        config_maps: [("cfg".to_owned(), Arc::new(map))].into(),
        secrets: [("sec".to_owned(), Arc::new(secret))].into(),
        services: vec![
            service("default", "kubernetes", "10.96.0.1", 443),
            service("shop", "back-end", "10.96.0.7", 80),
            service("shop", "headless", "None", 80),
            service("other", "hidden", "10.96.0.9", 80),
        ],
    }
}

fn run(container: serde_json::Value) -> Result<BTreeMap<String, String>, EnvError> {
    let container: Container = serde_json::from_value(container).unwrap();
    let result = environment(&pod(), &container, &referred(), &facts())?;
    Ok(result.into_iter().map(|(name, value)| (name, String::from_utf8(value).unwrap())).collect())
}

#[test]
fn every_source() {
    let env = run(json!({"name": "main",
        "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "100M"}},
        "envFrom": [{"configMapRef": {"name": "cfg"}}, {"prefix": "S_", "secretRef": {"name": "sec"}},
            {"configMapRef": {"name": "nope", "optional": true}}],
        "env": [
            {"name": "PLAIN", "value": "x"},
            {"name": "JOINED", "value": "$(PLAIN)-$(A)-$(BACK_END_SERVICE_HOST)-$(NOPE)-$$(PLAIN)"},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "MCPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "REQ", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory"}}},
            {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "mode"}}},
            {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pw"}}},
            {"name": "GONE", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "x", "optional": true}}},
            {"name": "PLAIN", "value": "y"}]}))
    .unwrap();
    let expected = [
        ("PLAIN", "y"),
        ("JOINED", "x-from-map-10.96.0.7-$(NOPE)-$(PLAIN)"),
        ("NAME", "web-0"),
        ("IP", "10.1.0.2"),
        ("APP", "web"),
        ("CPU", "2"),
        ("MCPU", "1500"),
        ("MEM", "8192"),
        ("REQ", "100000000"),
        ("MODE", "fast"),
        ("PW", "hush"),
        ("A", "from-map"),
        ("S_A", "secret"),
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
        ("BACK_END_SERVICE_PORT_HTTP_X", "80"),
        ("BACK_END_PORT_80_TCP", "tcp://10.96.0.7:80"),
    ];
    for (name, value) in expected {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
    for name in ["GONE", "HEADLESS_SERVICE_HOST", "HIDDEN_SERVICE_HOST"] {
        assert_eq!(env.get(name), None, "{name}");
    }
}

#[test]
fn missing_references_have_upstreams_words() {
    let cases = [
        (json!({"envFrom": [{"configMapRef": {"name": "nope"}}]}), "configmap \"nope\" not found"),
        (json!({"envFrom": [{"secretRef": {"name": "nope"}}]}), "secret \"nope\" not found"),
        (
            json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "k"}}}]}),
            "couldn't find key k in ConfigMap shop/cfg",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "k"}}}]}),
            "couldn't find key k in Secret shop/sec",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.secretThing"}}}]}),
            "unsupported fieldPath: spec.secretThing",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.love"}}}]}),
            "unsupported container resource : limits.love",
        ),
    ];
    for (mut container, message) in cases {
        container["name"] = "main".into();
        assert_eq!(run(container.clone()).unwrap_err().0, message, "{container}");
    }
}

#[test]
fn maps_are_quoted_and_sorted() {
    assert_eq!(field_value(&pod(), "metadata.annotations", &facts()).unwrap(), r#"note="a \"b\"\nc""#);
}
