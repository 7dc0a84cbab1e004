//! What has to be reachable where, read from Services and EndpointSlices. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// The label of an EndpointSlice that names its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Services with this label are somebody else's.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// As nft has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    fn parse(text: Option<&str>) -> Option<Self> {
        match text.unwrap_or("TCP") {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// Names one port of one Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service.
    pub service: String,
    /// The port's name; empty for a single one.
    pub port: String,
    /// The protocol.
    pub protocol: Protocol,
}

/// Where a connection can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The address.
    pub address: Ipv4Addr,
    /// The port.
    pub port: u16,
}

/// One port of one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePort {
    /// Cluster addresses.
    pub cluster_addresses: BTreeSet<Ipv4Addr>,
    /// Addresses from outside: `externalIPs` and those of load balancers, each with the ranges that may use it (none: all).
    pub external_addresses: BTreeMap<Ipv4Addr, Vec<Ipv4Net>>,
    /// The Service's port.
    pub port: u16,
    /// The port on every node.
    pub node_port: Option<u16>,
    /// How long a client stays with its endpoint, in seconds.
    pub affinity_seconds: Option<u32>,
    /// From inside the cluster only endpoints on the own node are used.
    pub internal_local: bool,
    /// From outside only endpoints on the own node are used, and sources are kept.
    pub external_local: bool,
    /// Endpoints to use, all nodes'.
    pub targets: BTreeSet<Target>,
    /// Endpoints to use on the own node.
    pub local_targets: BTreeSet<Target>,
}

/// All ports of all Services.
pub type Services = BTreeMap<PortName, ServicePort>;

/// What the node is, as far as Services care.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Its name.
    pub node_name: String,
    /// Addresses that are served on the node itself and must not be translated: the DNS server's.
    pub served_here: BTreeSet<Ipv4Addr>,
}

/// Reads all Services.
pub fn read<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    view: &NodeView,
) -> Services {
    let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices.into_iter().filter(|s| s.address_type == "IPv4") {
        let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
        if let Some(service) = slice.metadata.labels.as_ref().and_then(|l| l.get(SERVICE_NAME)) {
            by_service.entry((namespace, service)).or_default().push(slice);
        }
    }
    let mut all = Services::new();
    for service in services {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let slices = by_service.get(&(namespace, name)).map(Vec::as_slice).unwrap_or_default();
        all.extend(read_service(namespace, name, service, slices, view));
    }
    all
}

fn addresses<'a>(list: impl IntoIterator<Item = &'a String>) -> BTreeSet<Ipv4Addr> {
    list.into_iter().filter_map(|ip| ip.parse().ok()).collect()
}

fn port_of(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port > 0)
}

fn read_service(
    namespace: &str,
    name: &str,
    service: &Service,
    slices: &[&EndpointSlice],
    view: &NodeView,
) -> Vec<(PortName, ServicePort)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let elsewhere = service.metadata.labels.as_ref().is_some_and(|l| l.contains_key(PROXY_NAME));
    let mut cluster_addresses = addresses(spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip));
    cluster_addresses.retain(|ip| !view.served_here.contains(ip));
    if elsewhere || spec.type_.as_deref() == Some("ExternalName") || cluster_addresses.is_empty() {
        return Vec::new();
    }
    let mut external_addresses: BTreeMap<_, _> =
        addresses(spec.external_ips.iter().flatten()).into_iter().map(|ip| (ip, Vec::new())).collect();
    if spec.type_.as_deref() == Some("LoadBalancer") {
        let ranges: Vec<Ipv4Net> =
            spec.load_balancer_source_ranges.iter().flatten().filter_map(|r| r.trim().parse().ok()).collect();
        let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
        for ingress in status.into_iter().flat_map(|l| l.ingress.iter().flatten()) {
            // A load balancer in proxy mode wants to see its own traffic first.
            if ingress.ip_mode.as_deref() != Some("Proxy")
                && let Some(ip) = ingress.ip.as_deref().and_then(|ip| ip.parse().ok())
            {
                external_addresses.insert(ip, ranges.clone());
            }
        }
    }
    let affinity_seconds = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
        config.and_then(|c| c.timeout_seconds).and_then(|s| u32::try_from(s).ok()).filter(|s| *s > 0).unwrap_or(10_800)
    });
    let has_node_ports = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    let read_port = |port: &k8s_openapi::api::core::v1::ServicePort| {
        let protocol = Protocol::parse(port.protocol.as_deref())?;
        let port_name = port.name.clone().unwrap_or_default();
        let endpoints = endpoints(slices, &port_name, protocol);
        let local: Vec<_> =
            endpoints.iter().filter(|(_, e)| e.node_name.as_deref() == Some(&view.node_name)).copied().collect();
        let read = ServicePort {
            cluster_addresses: cluster_addresses.clone(),
            external_addresses: external_addresses.clone(),
            port: port_of(port.port)?,
            node_port: port.node_port.and_then(port_of).filter(|_| has_node_ports),
            affinity_seconds,
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            targets: usable(&endpoints),
            local_targets: usable(&local),
        };
        let key = PortName { namespace: namespace.to_owned(), service: name.to_owned(), port: port_name, protocol };
        Some((key, read))
    };
    spec.ports.iter().flatten().filter_map(read_port).collect()
}

type Found<'a> = (Target, &'a Endpoint);

fn endpoints<'a>(slices: &[&'a EndpointSlice], port_name: &str, protocol: Protocol) -> Vec<Found<'a>> {
    let mut found = Vec::new();
    for slice in slices {
        let port = slice.ports.iter().flatten().find(|p| {
            p.name.as_deref().unwrap_or_default() == port_name
                && Protocol::parse(p.protocol.as_deref()) == Some(protocol)
        });
        let Some(port) = port.and_then(|p| p.port).and_then(port_of) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            // All addresses of an endpoint are the same thing; upstream uses the first too.
            if let Some(address) = endpoint.addresses.first().and_then(|a| a.parse().ok()) {
                found.push((Target { address, port }, endpoint));
            }
        }
    }
    found
}

/// The ready endpoints; without any, those that still serve while they terminate.
fn usable(endpoints: &[Found<'_>]) -> BTreeSet<Target> {
    let condition = |e: &Endpoint,
                     read: fn(&k8s_openapi::api::discovery::v1::EndpointConditions) -> Option<bool>,
                     default| { e.conditions.as_ref().and_then(read).unwrap_or(default) };
    let ready: BTreeSet<_> =
        endpoints.iter().filter(|(_, e)| condition(e, |c| c.ready, true)).map(|(target, _)| *target).collect();
    if !ready.is_empty() {
        return ready;
    }
    let still_serves = |e: &Endpoint| {
        let ready = condition(e, |c| c.ready, true);
        condition(e, |c| c.serving, ready) && condition(e, |c| c.terminating, false)
    };
    endpoints.iter().filter(|(_, e)| still_serves(e)).map(|(target, _)| *target).collect()
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
