//! Whether the node can take a pod. The scheduler has decided already, but it may not know what the node knows, and a
//! pod may have been bound without it. Pure. A refused pod is Failed with upstream's reason and words.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, NodeSelectorTerm, Pod, PodSpec, Toleration};

use crate::lifecycle::init_containers;
use crate::resources::{ResourceList, milli_of, pod_request, requests};

/// Why a pod is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `status.reason`.
    pub reason: String,
    /// `status.message`.
    pub message: String,
}

/// Whether `pod` fits on `node` beside `others`, which do not count it and not the finished ones.
///
/// # Errors
/// Why not.
pub fn admit(pod: &Pod, others: &[&Pod], node: &Node, max_pods: u32) -> Result<(), Refusal> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let refuse = |reason: &str, message: String| Err(Refusal { reason: reason.to_owned(), message });
    let empty = ResourceList::new();
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref()).unwrap_or(&empty);
    if others.len() >= max_pods as usize {
        let message = unfit("pods", 1, others.len() as i64, i64::from(max_pods));
        return refuse("OutOfpods", message);
    }
    let names: BTreeSet<&str> = init_containers(spec)
        .iter()
        .chain(&spec.containers)
        .filter_map(requests)
        .flat_map(|list| list.keys().map(String::as_str))
        .collect();
    for name in names {
        let wanted = pod_request(spec, name, requests);
        let capacity = milli_of(Some(allocatable), name);
        let used: i64 =
            others.iter().filter_map(|other| other.spec.as_ref()).map(|spec| pod_request(spec, name, requests)).sum();
        if wanted > 0 && wanted > capacity - used {
            let scale = if name == "cpu" { 1 } else { 1000 };
            let message = unfit(name, wanted / scale, used / scale, capacity / scale);
            return refuse(&format!("OutOf{name}"), message);
        }
    }
    if let Some(name) = spec.node_name.as_deref().filter(|name| node.metadata.name.as_deref() != Some(*name)) {
        return refuse(
            "NodeName",
            format!("Predicate NodeName failed: node(s) didn't match the requested node name {name}"),
        );
    }
    if !matches_node(spec, node) {
        const MESSAGE: &str = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        return refuse("NodeAffinity", MESSAGE.to_owned());
    }
    let taken: Vec<HostPort> = others.iter().filter_map(|other| other.spec.as_ref()).flat_map(host_ports).collect();
    if host_ports(spec).iter().any(|wanted| taken.iter().any(|other| wanted.conflicts(other))) {
        const MESSAGE: &str = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return refuse("NodePorts", MESSAGE.to_owned());
    }
    if let Some(key) = untolerated(spec, node) {
        return refuse(
            "TaintToleration",
            format!("Predicate TaintToleration failed: node(s) had untolerated taint {key}"),
        );
    }
    Ok(())
}

fn unfit(name: &str, requested: i64, used: i64, capacity: i64) -> String {
    format!("Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}")
}

/// A port on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HostPort {
    protocol: String,
    ip: String,
    port: i32,
}

impl HostPort {
    fn conflicts(&self, other: &Self) -> bool {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || any(&self.ip) || any(&other.ip))
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let containers = spec.containers.iter().chain(init_containers(spec));
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            Some(HostPort {
                port: port.host_port.filter(|port| *port > 0)?,
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                ip: port.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}

/// The first taint with `NoExecute` that the pod does not tolerate. `NoSchedule` is the scheduler's business alone.
fn untolerated(spec: &PodSpec, node: &Node) -> Option<String> {
    let taints = node.spec.as_ref()?.taints.as_deref()?;
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let found = taints.iter().filter(|taint| taint.effect == "NoExecute").find(|taint| {
        !tolerations.iter().any(|toleration| tolerates(toleration, &taint.key, taint.value.as_deref(), &taint.effect))
    })?;
    Some(format!("{{{}: {}}}", found.key, found.value.as_deref().unwrap_or_default()))
}

fn tolerates(toleration: &Toleration, key: &str, value: Option<&str>, effect: &str) -> bool {
    let set = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
    if set(&toleration.effect).is_some_and(|wanted| wanted != effect) {
        return false;
    }
    if set(&toleration.key).is_some_and(|wanted| wanted != key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        _ => toleration.value.as_deref().unwrap_or_default() == value.unwrap_or_default(),
    }
}

fn matches_node(spec: &PodSpec, node: &Node) -> bool {
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    if spec.node_selector.iter().flatten().any(|(key, value)| labels.get(key) != Some(value)) {
        return false;
    }
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| term_matches(term, node, labels)))
}

fn term_matches(term: &NodeSelectorTerm, node: &Node, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let name = node.metadata.name.clone();
    expressions.iter().all(|e| expression(&e.operator, e.values.as_deref(), labels.get(&e.key)))
        && fields
            .iter()
            .all(|e| e.key == "metadata.name" && expression(&e.operator, e.values.as_deref(), name.as_ref()))
}

fn expression(operator: &str, values: Option<&[String]>, found: Option<&String>) -> bool {
    let values = values.unwrap_or_default();
    let number = || {
        let found: i64 = found?.parse().ok()?;
        let wanted: i64 = values.first()?.parse().ok()?;
        Some((found, wanted))
    };
    match operator {
        "In" => found.is_some_and(|found| values.contains(found)),
        "NotIn" => found.is_none_or(|found| !values.contains(found)),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => number().is_some_and(|(found, wanted)| found > wanted),
        "Lt" => number().is_some_and(|(found, wanted)| found < wanted),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use serde_json::{Value, json};

    fn node() -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n1", "labels": {"disk": "ssd", "gen": "7"}},
            "spec": {"taints": [{"key": "gone", "effect": "NoSchedule"}]},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}}}))
        .unwrap()
    }

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    fn asking(resources: Value) -> Pod {
        pod(json!({"containers": [{"name": "a", "resources": {"requests": resources}}]}))
    }

    fn port(port: i32, ip: &str, protocol: &str) -> Pod {
        let port = json!({"containerPort": 80, "hostPort": port, "hostIP": ip, "protocol": protocol});
        pod(json!({"containers": [{"name": "a", "ports": [port]}]}))
    }

    #[test]
    fn refusals() {
        let affinity = |operator: &str, values: Value| {
            pod(
                json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions":
                    [{"key": "gen", "operator": operator, "values": values}]}]}}}}),
            )
        };
        let cases: Vec<(&str, Pod, Vec<Pod>, Option<&str>)> = vec![
            ("fits", asking(json!({"cpu": "1"})), vec![asking(json!({"cpu": "1"}))], None),
            ("cpu", asking(json!({"cpu": "1"})), vec![asking(json!({"cpu": "1001m"}))], Some("OutOfcpu")),
            ("memory", asking(json!({"memory": "2Gi"})), vec![], Some("OutOfmemory")),
            ("unknown resource", asking(json!({"x.io/gpu": "1"})), vec![], Some("OutOfx.io/gpu")),
            ("zero request", asking(json!({"x.io/gpu": "0"})), vec![], None),
            (
                "count",
                pod(json!({"containers": []})),
                vec![Pod::default(), Pod::default(), Pod::default()],
                Some("OutOfpods"),
            ),
            ("selector", pod(json!({"containers": [], "nodeSelector": {"disk": "hdd"}})), vec![], Some("NodeAffinity")),
            ("selector fits", pod(json!({"containers": [], "nodeSelector": {"disk": "ssd"}})), vec![], None),
            ("gt", affinity("Gt", json!(["6"])), vec![], None),
            ("lt", affinity("Lt", json!(["7"])), vec![], Some("NodeAffinity")),
            ("not in", affinity("NotIn", json!(["7"])), vec![], Some("NodeAffinity")),
            ("same port", port(80, "", "TCP"), vec![port(80, "10.0.0.1", "TCP")], Some("NodePorts")),
            ("other address", port(80, "10.0.0.2", "TCP"), vec![port(80, "10.0.0.1", "TCP")], None),
            ("other protocol", port(80, "", "UDP"), vec![port(80, "", "TCP")], None),
        ];
        for (name, pod, others, expected) in cases {
            let others: Vec<&Pod> = others.iter().collect();
            let result = admit(&pod, &others, &node(), 3);
            assert_eq!(result.err().map(|refusal| refusal.reason).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn message_is_upstreams() {
        let refusal = admit(&asking(json!({"cpu": "3"})), &[], &node(), 3).unwrap_err();
        let expected = "Node didn't have enough resource: cpu, requested: 3000, used: 0, capacity: 2000";
        assert_eq!(refusal.message, expected);
    }

    #[test]
    fn no_execute_taints_count_and_no_schedule_ones_do_not() {
        let mut node = node();
        assert_eq!(admit(&Pod::default(), &[], &node, 3), Ok(()));
        node.spec.as_mut().unwrap().taints.as_mut().unwrap()[0].effect = "NoExecute".into();
        let plain = pod(json!({"containers": []}));
        assert_eq!(admit(&plain, &[], &node, 3).unwrap_err().reason, "TaintToleration");
        let tolerant = pod(json!({"containers": [], "tolerations": [{"operator": "Exists"}]}));
        assert_eq!(admit(&tolerant, &[], &node, 3), Ok(()));
    }
}
