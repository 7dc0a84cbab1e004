//! Cases for `services`: each rule with what it takes and what it refuses.

use navarch_types::{GroupVersionResource, ListOptions, PatchType, Verb};
use serde_json::{Value, json};

use crate::requests::{PODS, SERVICES, names, request, start};

const ADDRESSES: GroupVersionResource = GroupVersionResource::new("networking.k8s.io", "v1", "ipaddresses");

fn service(name: &str, spec: &Value) -> Value {
    let mut service = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
    for (key, value) in spec.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    service
}

#[tokio::test]
async fn services_take_addresses_and_give_them_back() {
    let (_dir, _world, client) = start().await;
    let made = client.create(&SERVICES, Some("default"), service("a", &json!({}))).await.unwrap();
    let address = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(address.starts_with("10.96."), "{address}");
    let held = client.list(&ADDRESSES, None, ListOptions::default()).await.unwrap();
    assert_eq!(names(&held), std::slice::from_ref(&address));
    let error =
        client.create(&SERVICES, Some("default"), service("b", &json!({"clusterIP": address}))).await.unwrap_err();
    assert_eq!(error.code(), 422);
    assert!(error.to_string().contains("provided IP is already allocated"), "{error}");
    client.delete(&SERVICES, "a", json!({})).await.unwrap();
    assert!(client.list(&ADDRESSES, None, ListOptions::default()).await.unwrap().items.is_empty());
    client.create(&SERVICES, Some("default"), service("b", &json!({"clusterIP": address}))).await.unwrap();
}

#[tokio::test]
async fn node_ports_are_exclusive() {
    let (_dir, _world, client) = start().await;
    let node_port = |port: u64| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    client.create(&SERVICES, Some("default"), service("a", &node_port(30080))).await.unwrap();
    let error = client.create(&SERVICES, Some("default"), service("b", &node_port(30080))).await.unwrap_err();
    assert!(error.to_string().contains("provided port is already allocated"), "{error}");
    client.patch(&SERVICES, "a", PatchType::Merge, json!({"spec": {"type": "ClusterIP"}})).await.unwrap();
    client.create(&SERVICES, Some("default"), service("b", &node_port(30080))).await.unwrap();
    let many = (0..20).map(|i| {
        let client = client.clone();
        async move {
            let made = client
                .create(&SERVICES, Some("default"), service(&format!("s{i}"), &json!({"type": "NodePort"})))
                .await
                .unwrap();
            made["spec"]["ports"][0]["nodePort"].as_u64().unwrap()
        }
    });
    let ports: std::collections::BTreeSet<u64> = futures::future::join_all(many).await.into_iter().collect();
    assert_eq!(ports.len(), 20);
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let (_dir, _world, client) = start().await;
    client.create(&PODS, Some("default"), pod("a")).await.unwrap();
    let bind = |node: &str| {
        let mut bind = request(Verb::Create, &PODS, Some("default"), Some("a"));
        bind.subresource = Some("binding".into());
        let metadata = json!({"name": "a", "annotations": {"x": "y"}});
        bind.body = navarch_types::Body::Value(json!({"metadata": metadata, "target": {"kind": "Node", "name": node}}));
        bind
    };
    client.object(bind("n1")).await.unwrap();
    let bound = client.get(&PODS, "a").await.unwrap();
    assert_eq!((&bound["spec"]["nodeName"], &bound["metadata"]["annotations"]["x"]), (&json!("n1"), &json!("y")));
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let error = client.object(bind("n2")).await.unwrap_err();
    assert!(error.to_string().contains("pod a is already assigned to node \"n1\""), "{error}");
}

#[tokio::test]
async fn pods_are_deleted_with_grace_once_they_run_somewhere() {
    let (_dir, _world, client) = start().await;
    client.create(&PODS, Some("default"), pod("loose")).await.unwrap();
    client.delete(&PODS, "loose", json!({})).await.unwrap();
    assert_eq!(client.get(&PODS, "loose").await.unwrap_err().code(), 404);
    let mut running = pod("a");
    running["spec"]["nodeName"] = "n1".into();
    client.create(&PODS, Some("default"), running).await.unwrap();
    let deleted = client.delete(&PODS, "a", json!({})).await.unwrap();
    assert_eq!(deleted["metadata"]["deletionGracePeriodSeconds"], 30);
    let shorter = client.delete(&PODS, "a", json!({"gracePeriodSeconds": 5})).await.unwrap();
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    client.delete(&PODS, "a", json!({"gracePeriodSeconds": 0})).await.unwrap();
    assert_eq!(client.get(&PODS, "a").await.unwrap_err().code(), 404);
}

#[tokio::test]
async fn evictions_respect_budgets() {
    let (_dir, _world, client) = start().await;
    const BUDGETS: GroupVersionResource = GroupVersionResource::new("policy", "v1", "poddisruptionbudgets");
    let mut running = pod("a");
    running["spec"]["nodeName"] = "n1".into();
    client.create(&PODS, Some("default"), running).await.unwrap();
    let mut status = request(Verb::Patch, &PODS, Some("default"), Some("a"));
    status.subresource = Some("status".into());
    status.patch = Some(PatchType::Merge);
    let ready = json!([{"type": "Ready", "status": "True"}]);
    status.body = navarch_types::Body::Value(json!({"status": {"phase": "Running", "conditions": ready}}));
    client.object(status).await.unwrap();
    let budget =
        json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}});
    client.create(&BUDGETS, Some("default"), budget).await.unwrap();
    let set = |allowed: u64| {
        let mut status = request(Verb::Patch, &BUDGETS, Some("default"), Some("b"));
        status.subresource = Some("status".into());
        status.patch = Some(PatchType::Merge);
        let observed = json!({"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 1,
            "desiredHealthy": 1, "expectedPods": 1});
        status.body = navarch_types::Body::Value(json!({"status": observed}));
        status
    };
    let evict = || {
        let mut evict = request(Verb::Create, &PODS, Some("default"), Some("a"));
        evict.subresource = Some("eviction".into());
        evict.body = navarch_types::Body::Value(json!({"metadata": {"name": "a"}}));
        evict
    };
    client.object(set(0)).await.unwrap();
    let error = client.object(evict()).await.unwrap_err();
    assert_eq!(error.code(), 429);
    assert_eq!(error.to_string(), "Cannot evict pod as it would violate the pod's disruption budget.");
    client.object(set(1)).await.unwrap();
    client.object(evict()).await.unwrap();
    assert!(client.get(&PODS, "a").await.unwrap()["metadata"]["deletionTimestamp"].is_string());
    let budget = client.get(&BUDGETS, "b").await.unwrap();
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    assert!(budget["status"]["disruptedPods"]["a"].is_string());
}
