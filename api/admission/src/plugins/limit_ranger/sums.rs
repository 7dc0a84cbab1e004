//! What a container or a whole pod asks for.

use std::collections::BTreeMap;

use navarch_types::quantity::Quantity;
use serde_json::Value;

use super::super::json::{at, items, text};

/// Requests and limits by resource.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Amounts {
    pub(in super::super) requests: BTreeMap<String, Quantity>,
    pub(in super::super) limits: BTreeMap<String, Quantity>,
}

fn quantities(value: &Value, path: &[&str]) -> BTreeMap<String, Quantity> {
    let map = at(value, path).and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter_map(|(k, v)| {
            let quantity = match v {
                Value::String(text) => Quantity::parse(text),
                other => Quantity::parse(&other.to_string()),
            };
            Some((k.clone(), quantity.ok()?))
        })
        .collect()
}

/// Of one container.
pub(in super::super) fn container_amounts(container: &Value) -> Amounts {
    let limits = quantities(container, &["resources", "limits"]);
    let mut requests = quantities(container, &["resources", "requests"]);
    for (resource, limit) in &limits {
        requests.entry(resource.clone()).or_insert(*limit);
    }
    Amounts { requests, limits }
}

fn add(to: &mut BTreeMap<String, Quantity>, from: &BTreeMap<String, Quantity>) {
    for (resource, amount) in from {
        let sum = to.get(resource).map_or(*amount, |present| *present + *amount);
        to.insert(resource.clone(), sum);
    }
}

fn raise(to: &mut BTreeMap<String, Quantity>, from: &BTreeMap<String, Quantity>) {
    for (resource, amount) in from {
        if to.get(resource).is_none_or(|present| present < amount) {
            to.insert(resource.clone(), *amount);
        }
    }
}

/// Of a pod: the sum of its containers and sidecars, or what one of its init containers needs if that is more.
pub(in super::super) fn pod_amounts(pod: &Value) -> Amounts {
    let mut sum = Amounts::default();
    for container in items(pod, &["spec", "containers"]) {
        let own = container_amounts(container);
        add(&mut sum.requests, &own.requests);
        add(&mut sum.limits, &own.limits);
    }
    let (mut sidecars, mut peak) = (Amounts::default(), Amounts::default());
    for container in items(pod, &["spec", "initContainers"]) {
        let mut own = container_amounts(container);
        if text(container, &["restartPolicy"]) == "Always" {
            add(&mut sidecars.requests, &own.requests);
            add(&mut sidecars.limits, &own.limits);
            own = sidecars.clone();
        } else {
            add(&mut own.requests, &sidecars.requests);
            add(&mut own.limits, &sidecars.limits);
        }
        raise(&mut peak.requests, &own.requests);
        raise(&mut peak.limits, &own.limits);
    }
    add(&mut sum.requests, &sidecars.requests);
    add(&mut sum.limits, &sidecars.limits);
    raise(&mut sum.requests, &peak.requests);
    raise(&mut sum.limits, &peak.limits);
    // Asked for at the level of the pod, it counts instead.
    let own = container_amounts(&pod["spec"]);
    sum.requests.extend(own.requests);
    sum.limits.extend(own.limits);
    let overhead = quantities(pod, &["spec", "overhead"]);
    add(&mut sum.requests, &overhead);
    for (resource, amount) in &overhead {
        if let Some(limit) = sum.limits.get_mut(resource) {
            *limit += *amount;
        }
    }
    sum
}
