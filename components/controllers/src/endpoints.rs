//! Where Services lead: what EndpointSlices and the older Endpoints have in common.
//!
//! Decides from a Service and its pods; knows neither of the two ways to write it down.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pods;

pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
pub(crate) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Whether the controllers make endpoints for a Service: it selects pods and is no mere name.
pub(crate) fn is_managed(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        spec.selector.as_ref().is_some_and(|s| !s.is_empty()) && spec.type_.as_deref() != Some("ExternalName")
    })
}

pub(crate) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None")
}

pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses).unwrap_or(false)
}

/// Whether labels are selected. Pods of other namespaces are the caller's matter.
pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    is_managed(service)
        && service
            .spec
            .iter()
            .flat_map(|s| s.selector.iter().flatten())
            .all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
}

/// A pod's address of a family.
pub(crate) fn address(pod: &Pod, ipv6: bool) -> Option<&str> {
    let status = pod.status.as_ref()?;
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    all.chain(status.pod_ip.as_deref()).find(|ip| !ip.is_empty() && ip.contains(':') == ipv6)
}

/// The address families of a Service: `false` is IPv4.
pub(crate) fn families(service: &Service) -> Vec<bool> {
    let spec = service.spec.as_ref();
    let named: Vec<bool> = spec.iter().flat_map(|s| s.ip_families.iter().flatten()).map(|f| f == "IPv6").collect();
    if !named.is_empty() {
        return named;
    }
    let cluster_ip = spec.and_then(|s| s.cluster_ip.as_deref()).unwrap_or_default();
    vec![cluster_ip.contains(':')]
}

/// The number that a Service's port leads to on a pod; `None` if the pod has no port of that name.
pub(crate) fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars =
                spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let mut ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
            let found =
                ports.find(|p| p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol);
            found.map(|p| p.container_port)
        }
    }
}

/// The name by which a pod is found below its Service, if it asks for one.
pub(crate) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let below = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    spec.hostname.clone().filter(|name| below && !name.is_empty())
}

/// When what a pod means to its Services changed last.
pub(crate) fn changed_at(pod: &Pod) -> Option<Timestamp> {
    let ready = pods::condition(pod, "Ready").and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0);
    let deleted = pod.metadata.deletion_timestamp.as_ref().map(|t| t.0);
    ready.max(deleted)
}

/// Whether a change of a pod can matter to a Service.
pub(crate) fn is_relevant(old: &Pod, new: &Pod) -> bool {
    let status = |p: &Pod| {
        let ips: Vec<String> =
            p.status.iter().flat_map(|s| s.pod_ips.iter().flatten()).map(|ip| ip.ip.clone()).collect();
        (p.status.as_ref().and_then(|s| s.pod_ip.clone()), ips, pods::is_ready(p), pods::is_terminal(p))
    };
    let spec = |p: &Pod| p.spec.as_ref().map(|s| (s.node_name.clone(), s.hostname.clone(), s.subdomain.clone()));
    old.metadata.labels != new.metadata.labels
        || old.metadata.deletion_timestamp != new.metadata.deletion_timestamp
        || old.metadata.uid != new.metadata.uid
        || status(old) != status(new)
        || spec(old) != spec(new)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap()
    }

    #[test]
    fn which_services_are_managed() {
        for (spec, managed) in [
            (json!({"selector": {"a": "b"}}), true),
            (json!({"selector": {}}), false),
            (json!({}), false),
            (json!({"selector": {"a": "b"}, "type": "ExternalName"}), false),
        ] {
            assert_eq!(is_managed(&service(spec.clone())), managed, "{spec}");
        }
    }

    #[test]
    fn ports_by_number_and_by_name() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "ports": [
            {"name": "web", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]}],
            "initContainers": [{"name": "side", "restartPolicy": "Always", "ports": [{"name": "m", "containerPort": 9}]},
                               {"name": "init", "ports": [{"name": "no", "containerPort": 1}]}]}})).unwrap();
        let port = |value: Value| serde_json::from_value::<ServicePort>(value).unwrap();
        for (wanted, want) in [
            (json!({"port": 80}), Some(80)),
            (json!({"port": 80, "targetPort": 81}), Some(81)),
            (json!({"port": 80, "targetPort": "web"}), Some(8080)),
            (json!({"port": 80, "targetPort": "dns"}), None),
            (json!({"port": 80, "targetPort": "dns", "protocol": "UDP"}), Some(53)),
            (json!({"port": 80, "targetPort": "m"}), Some(9)),
            (json!({"port": 80, "targetPort": "no"}), None),
        ] {
            assert_eq!(target_port(&pod, &port(wanted.clone())), want, "{wanted}");
        }
    }

    #[test]
    fn addresses_and_families() {
        let pod: Pod = serde_json::from_value(
            json!({"status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd::1"}]}}),
        )
        .unwrap();
        assert_eq!((address(&pod, false), address(&pod, true)), (Some("10.0.0.1"), Some("fd::1")));
        assert_eq!(families(&service(json!({"ipFamilies": ["IPv4", "IPv6"]}))), [false, true]);
        assert_eq!(families(&service(json!({"clusterIP": "fd::2"}))), [true]);
        assert_eq!(families(&service(json!({"clusterIP": "None"}))), [false]);
    }
}
