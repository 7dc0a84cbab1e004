//! `/pods`, `/metrics` and `/stats/summary`.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::cri::CriError;
use crate::labels;
use crate::runtime::{is_ours, timestamp};
use crate::shared::Shared;

/// All pods of the node, with the status last worked out.
pub(super) fn pods(shared: &Shared) -> Value {
    let handles: Vec<_> = shared.pods.lock().values().cloned().collect();
    let items: Vec<Value> = handles
        .iter()
        .map(|handle| {
            let mut pod = (*handle.desired.borrow().pod).clone();
            if let Some(status) = handle.status.lock().clone() {
                pod.status = Some(status);
            }
            serde_json::to_value(pod).unwrap_or_default()
        })
        .collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}

/// How many pods there are by phase, in Prometheus' text format.
pub(super) fn metrics(shared: &Shared) -> String {
    let mut phases: BTreeMap<String, usize> = BTreeMap::new();
    for handle in shared.pods.lock().values() {
        let phase = handle.status.lock().as_ref().and_then(|status| status.phase.clone());
        *phases.entry(phase.unwrap_or_else(|| "Pending".to_owned())).or_default() += 1;
    }
    let mut out = String::from("# HELP kubelet_pods Pods of this node by phase.\n# TYPE kubelet_pods gauge\n");
    for (phase, count) in phases {
        let _ = writeln!(out, "kubelet_pods{{phase=\"{phase}\"}} {count}");
    }
    out
}

/// Use of processor and memory by pod and container.
pub(super) async fn summary(shared: &Shared) -> Result<Value, CriError> {
    let stats = shared.cri.list_container_stats().await?;
    let mut pods: BTreeMap<(String, String, String), Vec<Value>> = BTreeMap::new();
    for one in stats {
        let Some(attributes) = one.attributes.filter(|found| is_ours(&found.labels, &shared.config.node_name)) else {
            continue;
        };
        let label = |key: &str| attributes.labels.get(key).cloned().unwrap_or_default();
        let time = |nanoseconds: i64| timestamp(nanoseconds).map(Time);
        let cpu = one.cpu.map(|cpu| {
            json!({"time": time(cpu.timestamp), "usageCoreNanoSeconds": cpu.usage_core_nano_seconds.map(|used| used.value)})
        });
        let memory = one.memory.map(|memory| {
            json!({"time": time(memory.timestamp), "workingSetBytes": memory.working_set_bytes.map(|used| used.value)})
        });
        let key = (label(labels::POD_NAMESPACE), label(labels::POD_NAME), label(labels::POD_UID));
        pods.entry(key).or_default().push(json!({"name": label(labels::CONTAINER_NAME), "cpu": cpu, "memory": memory}));
    }
    let pods: Vec<Value> = pods
        .into_iter()
        .map(|((namespace, name, uid), containers)| {
            json!({"podRef": {"namespace": namespace, "name": name, "uid": uid}, "containers": containers})
        })
        .collect();
    let node = json!({"nodeName": shared.config.node_name});
    Ok(json!({"node": node, "pods": pods}))
}
