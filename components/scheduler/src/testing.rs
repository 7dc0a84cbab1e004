//! Objects for tests, from JSON.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::cycle::{Outcome, schedule};
use crate::framework::{Context, Framework};
use crate::plugins::{Strategy, default_profile};
use crate::pod::PodInfo;

pub fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// 4 CPUs, 8 GiB, 110 pods; `more` is merged in.
pub fn node(name: &str, more: Value) -> Arc<Node> {
    let mut value = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110", "ephemeral-storage": "10Gi"}},
    });
    merge(&mut value, more);
    Arc::new(serde_json::from_value(value).unwrap())
}

/// A pod in `default` with uid = name; `more` is merged in.
pub fn pod(name: &str, more: Value) -> Arc<Pod> {
    let mut value = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"schedulerName": "default-scheduler", "containers": [{"name": "c", "image": "web"}]},
    });
    merge(&mut value, more);
    Arc::new(serde_json::from_value(value).unwrap())
}

pub fn requests(cpu: &str, memory: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "image": "web", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]}})
}

/// A pod on a node.
pub fn on(node: &str, mut more: Value) -> Value {
    merge(&mut more, json!({"spec": {"nodeName": node}}));
    more
}

pub fn pending(name: &str, more: Value) -> Arc<PodInfo> {
    Arc::new(PodInfo::pending(pod(name, more)))
}

pub fn framework() -> Arc<Framework> {
    Arc::new(default_profile(Strategy::LeastAllocated).unwrap())
}

pub fn cache(nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Cache {
    let mut cache = Cache::new();
    for node in nodes {
        cache.set_node(Arc::clone(node));
    }
    for pod in pods {
        cache.set_pod(Arc::clone(pod));
    }
    cache
}

/// The node for a pod, or why none.
pub fn place(cache: &mut Cache, pod: &PodInfo) -> Result<String, String> {
    cache.prepare(pod);
    match schedule(&framework(), Context { cache, pod }, 0, 0) {
        Outcome::Fits { node, .. } => Ok(node),
        Outcome::Unschedulable { error, .. } => Err(error.to_string()),
    }
}
