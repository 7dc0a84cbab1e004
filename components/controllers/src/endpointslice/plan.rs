//! What becomes of a Service's EndpointSlices. Pure.
//!
//! Slices are kept and filled up rather than made anew, so that a change of one pod is a write of one slice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::endpoints::{self, HEADLESS, TRIGGER_TIME};
use crate::{owners, pods};

pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";

/// Upstream's default. More would make each change of a pod a larger write.
const ENDPOINTS_MAX: usize = 100;

/// What is to be written.
#[derive(Debug, Default)]
pub struct Plan {
    /// Slices to make.
    pub create: Vec<EndpointSlice>,
    /// Slices to replace.
    pub update: Vec<EndpointSlice>,
    /// Slices to delete.
    pub delete: Vec<Arc<EndpointSlice>>,
}

type Ports = Vec<EndpointPort>;

fn port_key(ports: &[EndpointPort]) -> String {
    let mut keys: Vec<String> =
        ports.iter().map(|p| format!("{:?}/{:?}/{:?}/{:?}", p.name, p.port, p.protocol, p.app_protocol)).collect();
    keys.sort();
    keys.join(",")
}

fn ports_of(service: &Service, pod: &Pod) -> Ports {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(endpoints::target_port(pod, port)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn endpoint_of(service: &Service, pod: &Pod, ipv6: bool, zone: Option<String>) -> Option<Endpoint> {
    let address = endpoints::address(pod, ipv6)?;
    if pods::is_terminal(pod) {
        return None;
    }
    let serving = pods::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    Some(Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(endpoints::publishes_not_ready(service) || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: endpoints::hostname(service, pod),
        node_name: pods::node_name(pod).map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone,
        ..Endpoint::default()
    })
}

/// By what an endpoint is recognised in the slice where it already is.
fn identity(endpoint: &Endpoint) -> String {
    let target = endpoint.target_ref.as_ref();
    let uid = target.and_then(|t| t.uid.as_deref()).unwrap_or_default();
    format!("{uid}/{}", endpoint.addresses.join(","))
}

/// Plans all families of a Service. `zone_of` tells a node's zone.
pub fn plan(
    service: &Service,
    selected: &[Arc<Pod>],
    existing: &[Arc<EndpointSlice>],
    zone_of: &dyn Fn(&str) -> Option<String>,
) -> Plan {
    let mut plan = Plan::default();
    let families = endpoints::families(service);
    for family in ["IPv4", "IPv6"] {
        let ipv6 = family == "IPv6";
        let (own, wanted): (Vec<_>, _) =
            (existing.iter().filter(|s| s.address_type == family).cloned().collect(), families.contains(&ipv6));
        if wanted {
            plan_family(&mut plan, service, selected, &own, ipv6, zone_of);
        } else {
            plan.delete.extend(own);
        }
    }
    plan.delete.extend(existing.iter().filter(|s| s.address_type != "IPv4" && s.address_type != "IPv6").cloned());
    let trigger = selected.iter().filter_map(|p| endpoints::changed_at(p)).max();
    for slice in plan.create.iter_mut().chain(&mut plan.update) {
        stamp(slice, trigger);
    }
    plan
}

/// Tells since when the slice's content is wanted, for whoever measures how long programming it takes.
fn stamp(slice: &mut EndpointSlice, trigger: Option<Timestamp>) {
    let Some(trigger) = trigger else { return };
    let annotations = slice.metadata.annotations.get_or_insert_default();
    let later = annotations.get(TRIGGER_TIME).and_then(|t| t.parse().ok()).is_none_or(|old: Timestamp| trigger > old);
    if later {
        annotations.insert(TRIGGER_TIME.to_owned(), trigger.to_string());
    } else {
        annotations.remove(TRIGGER_TIME);
    }
}

fn plan_family(
    plan: &mut Plan,
    service: &Service,
    selected: &[Arc<Pod>],
    existing: &[Arc<EndpointSlice>],
    ipv6: bool,
    zone_of: &dyn Fn(&str) -> Option<String>,
) {
    // Pods whose named ports differ need slices of their own.
    let mut groups: BTreeMap<String, (Ports, BTreeMap<String, Endpoint>)> = BTreeMap::new();
    for pod in selected {
        let zone = pods::node_name(pod).and_then(zone_of);
        let Some(endpoint) = endpoint_of(service, pod, ipv6, zone) else { continue };
        let ports = ports_of(service, pod);
        if ports.is_empty() && !endpoints::is_headless(service) {
            continue;
        }
        let group = groups.entry(port_key(&ports)).or_insert_with(|| (ports, BTreeMap::new()));
        group.1.insert(identity(&endpoint), endpoint);
    }
    if groups.is_empty() {
        // A Service without endpoints has one empty slice, so that "none" can be told from "not looked yet".
        groups.insert(port_key(&[]), (Ports::new(), BTreeMap::new()));
    }
    let mut used = BTreeSet::new();
    let no_endpoints = groups.values().all(|(_, endpoints)| endpoints.is_empty());
    for (key, (ports, wanted)) in groups {
        let own: Vec<Arc<EndpointSlice>> =
            existing.iter().filter(|s| port_key(s.ports.as_deref().unwrap_or_default()) == key).cloned().collect();
        used.extend(own.iter().filter_map(|s| s.metadata.name.clone()));
        plan_group(plan, service, ports, wanted, &own, ipv6, no_endpoints);
    }
    let unused = existing.iter().filter(|s| s.metadata.name.as_ref().is_none_or(|n| !used.contains(n)));
    plan.delete.extend(unused.cloned());
}

struct Slot {
    slice: Arc<EndpointSlice>,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

fn plan_group(
    plan: &mut Plan,
    service: &Service,
    ports: Ports,
    mut wanted: BTreeMap<String, Endpoint>,
    existing: &[Arc<EndpointSlice>],
    ipv6: bool,
    keep_one: bool,
) {
    let mut slots: Vec<Slot> = existing.iter().map(|slice| retain(service, slice, &mut wanted)).collect();
    let mut fresh: Vec<Endpoint> = wanted.into_values().collect();
    // First the slices that are written anyway, the fullest first; then one that takes all that is left.
    slots.sort_by_key(|slot| (!slot.changed, std::cmp::Reverse(slot.endpoints.len())));
    for slot in slots.iter_mut().filter(|slot| slot.changed && !slot.endpoints.is_empty()) {
        let room = ENDPOINTS_MAX.saturating_sub(slot.endpoints.len()).min(fresh.len());
        slot.endpoints.extend(fresh.drain(..room));
    }
    if !fresh.is_empty()
        && let Some(slot) = slots.iter_mut().find(|slot| slot.endpoints.len() + fresh.len() <= ENDPOINTS_MAX)
    {
        slot.endpoints.append(&mut fresh);
        slot.changed = true;
    }
    let mut left = 0;
    for slot in slots {
        if slot.endpoints.is_empty() && !(keep_one && left == 0) {
            plan.delete.push(slot.slice);
            continue;
        }
        left += 1;
        if slot.changed {
            let mut slice = (*slot.slice).clone();
            slice.endpoints = Some(slot.endpoints);
            slice.ports = Some(ports.clone());
            describe(service, &mut slice.metadata);
            plan.update.push(slice);
        }
    }
    let address_type = if ipv6 { "IPv6" } else { "IPv4" };
    while !fresh.is_empty() || (keep_one && left == 0) {
        left += 1;
        let endpoints = fresh.drain(..fresh.len().min(ENDPOINTS_MAX)).collect();
        let mut metadata = ObjectMeta {
            generate_name: service.metadata.name.as_ref().map(|name| format!("{name}-")),
            namespace: service.metadata.namespace.clone(),
            owner_references: Some(vec![owners::controller_reference(service)]),
            ..ObjectMeta::default()
        };
        describe(service, &mut metadata);
        let ports = Some(ports.clone());
        plan.create.push(EndpointSlice {
            metadata,
            address_type: address_type.to_owned(),
            endpoints: Some(endpoints),
            ports,
        });
    }
}

/// Keeps of a slice what is still wanted, as it is wanted now.
fn retain(service: &Service, slice: &Arc<EndpointSlice>, wanted: &mut BTreeMap<String, Endpoint>) -> Slot {
    let mut metadata = slice.metadata.clone();
    describe(service, &mut metadata);
    let mut changed = metadata != slice.metadata;
    let mut endpoints = Vec::new();
    for old in slice.endpoints.iter().flatten() {
        match wanted.remove(&identity(old)) {
            Some(new) if endpoints.len() < ENDPOINTS_MAX => {
                changed |= !is_same(old, &new);
                endpoints.push(new);
            }
            Some(new) => {
                wanted.insert(identity(&new), new);
                changed = true;
            }
            None => changed = true,
        }
    }
    Slot { slice: Arc::clone(slice), endpoints, changed }
}

fn is_same(old: &Endpoint, new: &Endpoint) -> bool {
    let mut old = old.clone();
    // What a server may add or leave out.
    old.hints = None;
    old.deprecated_topology = None;
    if let Some(target) = &mut old.target_ref {
        target.resource_version = None;
        target.api_version = None;
    }
    old == *new
}

/// The Service's labels, and those by which slices are found.
fn describe(service: &Service, metadata: &mut ObjectMeta) {
    let name = service.metadata.name.clone().unwrap_or_default();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if endpoints::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    metadata.labels = Some(labels);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use serde_json::{Value, json};

    use super::*;

    fn service(change: Value) -> Service {
        let mut value = json!({"metadata": {"name": "web", "namespace": "d", "uid": "su", "labels": {"l": "1"}},
            "spec": {"clusterIP": "10.0.0.1", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
        if let Some(spec) = change.as_object() {
            for (key, new) in spec {
                value["spec"][key] = new.clone();
            }
        }
        serde_json::from_value(value).unwrap()
    }

    fn pod(n: usize, ready: bool, port: i32) -> Arc<Pod> {
        Arc::new(serde_json::from_value(json!({
            "metadata": {"name": format!("p{n}"), "namespace": "d", "uid": format!("u{n:04}")},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": format!("10.1.{}.{}", n / 250, n % 250)}],
                       "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}})).unwrap())
    }

    fn zone(_: &str) -> Option<String> {
        Some("z".to_owned())
    }

    /// Applies a plan as the server would.
    fn apply(existing: &mut Vec<Arc<EndpointSlice>>, plan: Plan, names: &mut u32) {
        for slice in plan.delete {
            existing.retain(|s| s.metadata.name != slice.metadata.name);
        }
        for slice in plan.update {
            existing.retain(|s| s.metadata.name != slice.metadata.name);
            existing.push(Arc::new(slice));
        }
        for mut slice in plan.create {
            *names += 1;
            slice.metadata.name = Some(format!("web-{names}"));
            existing.push(Arc::new(slice));
        }
    }

    fn counts(plan: &Plan) -> (usize, usize, usize) {
        (plan.create.len(), plan.update.len(), plan.delete.len())
    }

    #[test]
    fn slices_are_filled_kept_and_reused() {
        let (service, mut slices, mut names) = (service(json!({})), Vec::new(), 0);
        let mut pods: Vec<_> = (0..250).map(|n| pod(n, true, 8080)).collect();
        let first = plan(&service, &pods, &slices, &zone);
        assert_eq!(counts(&first), (3, 0, 0));
        apply(&mut slices, first, &mut names);
        assert!(slices.iter().all(|s| s.endpoints.as_ref().map_or(0, Vec::len) <= 100));
        assert_eq!(slices.iter().map(|s| s.endpoints.as_ref().map_or(0, Vec::len)).sum::<usize>(), 250);
        assert_eq!(counts(&plan(&service, &pods, &slices, &zone)), (0, 0, 0), "nothing to do");
        pods[7] = pod(7, false, 8080);
        assert_eq!(counts(&plan(&service, &pods, &slices, &zone)), (0, 1, 0), "one pod, one slice");
        pods.push(pod(900, true, 8080));
        let more = plan(&service, &pods, &slices, &zone);
        assert!(more.create.is_empty() && more.update.len() <= 2);
        apply(&mut slices, more, &mut names);
        pods.truncate(20);
        let fewer = plan(&service, &pods, &slices, &zone);
        apply(&mut slices, fewer, &mut names);
        assert_eq!(slices.iter().map(|s| s.endpoints.as_ref().map_or(0, Vec::len)).sum::<usize>(), 20);
        assert!(slices.iter().all(|s| s.endpoints.iter().flatten().next().is_some()));
        let none = plan(&service, &[], &slices, &zone);
        apply(&mut slices, none, &mut names);
        assert_eq!(slices.len(), 1, "one empty slice stays");
        assert!(slices[0].endpoints.iter().flatten().next().is_none());
        assert_eq!(counts(&plan(&service, &[], &slices, &zone)), (0, 0, 0));
    }

    #[test]
    fn conditions_say_ready_serving_terminating() {
        let going = |ready| {
            let mut value = serde_json::to_value(&*pod(1, ready, 1)).unwrap();
            value["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:00Z".into();
            Arc::new(serde_json::from_value::<Pod>(value).unwrap())
        };
        let table = [
            (pod(1, true, 1), false, (true, true, false)),
            (pod(1, false, 1), false, (false, false, false)),
            (pod(1, false, 1), true, (true, false, false)),
            (going(true), false, (false, true, true)),
            (going(true), true, (true, true, true)),
        ];
        for (pod, publish, want) in table {
            let service = service(json!({"publishNotReadyAddresses": publish}));
            let made = plan(&service, &[pod], &[], &zone);
            let c = made.create[0].endpoints.as_ref().unwrap()[0].conditions.clone().unwrap();
            assert_eq!((c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap()), want);
        }
    }

    #[test]
    fn different_ports_have_their_own_slices_and_labels_tell_whose_they_are() {
        let service = service(json!({"clusterIP": "None"}));
        let made = plan(&service, &[pod(1, true, 80), pod(2, true, 81)], &[], &zone);
        assert_eq!(counts(&made), (2, 0, 0));
        let labels = made.create[0].metadata.labels.clone().unwrap();
        assert_eq!(
            (labels[SERVICE_NAME].as_str(), labels[MANAGED_BY].as_str(), labels["l"].as_str()),
            ("web", MANAGER, "1")
        );
        assert!(labels.contains_key(HEADLESS));
        let endpoint = &made.create[0].endpoints.as_ref().unwrap()[0];
        assert_eq!((endpoint.zone.as_deref(), endpoint.node_name.as_deref()), (Some("z"), Some("n1")));
        assert_eq!(endpoint.target_ref.as_ref().unwrap().name.as_deref(), Some("p1"));
    }

    #[test]
    fn both_families_and_a_change_of_them() {
        let both = service(json!({"ipFamilies": ["IPv4", "IPv6"]}));
        let made = plan(&both, &[pod(1, true, 80)], &[], &zone);
        let types: Vec<_> = made.create.iter().map(|s| s.address_type.as_str()).collect();
        assert_eq!(types, ["IPv4", "IPv6"]);
        let (mut slices, mut names) = (Vec::new(), 0);
        apply(&mut slices, made, &mut names);
        let single = plan(&service(json!({"ipFamilies": ["IPv4"]})), &[pod(1, true, 80)], &slices, &zone);
        assert_eq!(counts(&single), (0, 0, 1));
    }
}
