//! What one object counts for, by the names that quotas use.

use std::collections::BTreeMap;

use navarch_types::GroupResource;
use navarch_types::quantity::{Format, Quantity};
use serde_json::Value;

use super::super::json::{CONTAINERS, at, items, text};
use super::super::limit_ranger::sums::{container_amounts, pod_amounts};

/// Amounts by canonical name.
pub(super) type Usage = BTreeMap<String, Quantity>;

/// Resources that quotas may count by their bare name.
const COUNTED: [&str; 8] = [
    "pods",
    "services",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "resourceclaims",
];
/// Resources whose bare name means requests.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// `cpu` is short for `requests.cpu`.
pub(super) fn canonical(name: &str) -> String {
    if COMPUTE.contains(&name) { format!("requests.{name}") } else { name.to_owned() }
}

fn one() -> Quantity {
    Quantity::new(1, Format::DecimalSi)
}

/// What an object counts for.
pub(super) fn of(resource: &GroupResource, object: &Value) -> Usage {
    let mut usage = Usage::new();
    let name = resource.resource.as_ref();
    usage.insert(format!("count/{resource}"), one());
    if !resource.group.is_empty() {
        return usage;
    }
    let is_pod = name == "pods";
    if is_pod && matches!(text(object, &["status", "phase"]), "Succeeded" | "Failed") {
        // Finished pods use nothing but their place in the store.
        return usage;
    }
    if COUNTED.contains(&name) {
        usage.insert(name.to_owned(), one());
    }
    match name {
        "pods" => pod(object, &mut usage),
        "services" => service(object, &mut usage),
        "persistentvolumeclaims" => claim(object, &mut usage),
        _ => {}
    }
    usage
}

fn pod(object: &Value, usage: &mut Usage) {
    let amounts = pod_amounts(object);
    for (resource, amount) in amounts.requests {
        usage.insert(format!("requests.{resource}"), amount);
    }
    for (resource, amount) in amounts.limits {
        usage.insert(format!("limits.{resource}"), amount);
    }
}

fn service(object: &Value, usage: &mut Usage) {
    let ports = items(object, &["spec", "ports"]).count();
    let count = Quantity::new(i64::try_from(ports).unwrap_or(i64::MAX), Format::DecimalSi);
    match text(object, &["spec", "type"]) {
        "NodePort" => drop(usage.insert("services.nodeports".to_owned(), count)),
        "LoadBalancer" => {
            usage.insert("services.loadbalancers".to_owned(), one());
            if at(object, &["spec", "allocateLoadBalancerNodePorts"]) != Some(&Value::Bool(false)) {
                usage.insert("services.nodeports".to_owned(), count);
            }
        }
        _ => {}
    }
}

fn claim(object: &Value, usage: &mut Usage) {
    let Ok(size) = Quantity::parse(text(object, &["spec", "resources", "requests", "storage"])) else { return };
    usage.insert("requests.storage".to_owned(), size);
    let class = text(object, &["spec", "storageClassName"]);
    if !class.is_empty() {
        usage.insert(format!("{class}.storageclass.storage.k8s.io/requests.storage"), size);
        usage.insert(format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), one());
    }
}

/// A quota on what pods ask for wants every container to say it.
pub(super) fn check_required(
    resource: &GroupResource,
    object: &Value,
    hard: &BTreeMap<String, Quantity>,
) -> Result<(), String> {
    if !resource.group.is_empty() || resource.resource != "pods" {
        return Ok(());
    }
    let whole = pod_level(object);
    let mut missing = Vec::new();
    for key in hard.keys() {
        let Some((kind, compute)) =
            key.split_once('.').filter(|(k, c)| matches!(*k, "requests" | "limits") && matches!(*c, "cpu" | "memory"))
        else {
            continue;
        };
        let says = |amounts: &super::super::limit_ranger::sums::Amounts| {
            let map = if kind == "requests" { &amounts.requests } else { &amounts.limits };
            map.contains_key(compute)
        };
        if says(&whole) {
            continue;
        }
        let mut names: Vec<_> = CONTAINERS
            .iter()
            .flat_map(|list| items(object, &["spec", list]))
            .filter(|c| !says(&container_amounts(c)))
            .map(|c| text(c, &["name"]))
            .collect();
        names.sort_unstable();
        if !names.is_empty() {
            missing.push(format!("{key} for: {}", names.join(",")));
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(format!("must specify {}", missing.join("; "))) }
}

fn pod_level(object: &Value) -> super::super::limit_ranger::sums::Amounts {
    at(object, &["spec"]).map(container_amounts).unwrap_or_default()
}
