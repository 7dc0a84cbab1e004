//! What a Service must look like. Addresses were allotted before these rules are asked.

use std::collections::HashSet;
use std::net::IpAddr;

use navarch_types::field::FieldError;
use navarch_types::validate::{names, ranges};
use serde_json::{Value, json};

use super::{is_external, takes_health_check_port};
use crate::kinds::at::{At, same};
use crate::kinds::kind::Findings;
use crate::kinds::rules::{
    ip, labels, non_special_ip, one_of, parse_ip, port_number_or_name, required, supported_if_set, texts,
};

/// The agent's own port, which no load balancer may show to the world.
const AGENT_PORT: i64 = 10_250;
/// An affinity lasts at most a day.
const AFFINITY_SECONDS_MAX: i64 = 86_400;
const BALANCER_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";

/// Rules for a Service.
pub(super) fn service(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    let kind = spec.child("type");
    let ports = spec.child("ports");
    let headless = spec.value["clusterIP"] == "None";
    if ports.is_empty() && !headless && kind.text() != "ExternalName" {
        out.push(ports.required(""));
    }
    by_type(&spec, headless, out);
    let mut seen = HashSet::new();
    for port in ports.items() {
        service_port(&port, ports.len() > 1, &mut seen, out);
    }
    labels(&spec.child("selector"), out);
    affinity(&spec, out);
    if kind.text() != "ExternalName" {
        cluster_ips(&spec, out);
    }
    for address in spec.child("externalIPs").items() {
        let before = out.len();
        ip(&address, out);
        if out.len() == before {
            non_special_ip(&address, out);
        }
    }
    one_of(&kind, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], out);
    port_clashes(&ports, kind.text(), out);
    balancer(&spec, kind.text(), out);
    traffic(object, &spec, out);
}

fn by_type(spec: &At<'_, '_>, headless: bool, out: &mut Findings) {
    let addresses = spec.child("clusterIPs");
    let kind = spec.child("type");
    match kind.text() {
        "LoadBalancer" | "NodePort" => {
            for port in spec.child("ports").items() {
                let number = port.child("port");
                if kind.text() == "LoadBalancer" && number.int() == Some(AGENT_PORT) {
                    let why = format!("may not expose port {AGENT_PORT} externally since it is used by kubelet");
                    out.push(FieldError::invalid(&port.path, AGENT_PORT, why));
                }
            }
            if headless {
                let first = addresses.path.index(0);
                let why = format!("may not be set to 'None' for {} services", kind.text());
                out.push(FieldError::invalid(&first, "None", why));
            }
        }
        "ExternalName" => {
            for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let field = spec.child(key);
                if !field.is_empty() {
                    out.push(field.forbidden("may not be set for ExternalName services"));
                }
            }
            let name = spec.child("externalName");
            if required(&name, out) {
                let bare = name.text().strip_suffix('.').unwrap_or(name.text());
                let wrong = names::dns1123_subdomain(bare);
                out.extend(wrong.into_iter().map(|t| FieldError::invalid(&name.path, bare, t)));
            }
        }
        _ => {}
    }
}

fn service_port<'v>(at: &At<'v, '_>, named: bool, seen: &mut HashSet<&'v str>, out: &mut Findings) {
    let name = at.child("name");
    if named && name.is_empty() {
        out.push(name.required(""));
    } else if !name.is_empty() {
        texts(&name, names::dns1123_label(name.text()), out);
        if !seen.insert(name.text()) {
            out.push(name.duplicate());
        }
    }
    let number = at.child("port");
    let wrong = ranges::port_number(number.int_or_zero());
    out.extend(wrong.into_iter().map(|t| FieldError::invalid(&number.path, number.int_or_zero(), t)));
    one_of(&at.child("protocol"), &["SCTP", "TCP", "UDP"], out);
    port_number_or_name(&at.child("targetPort"), out);
    let protocol = at.child("appProtocol");
    if protocol.is_set() {
        texts(&protocol, names::qualified_name(protocol.text()), out);
    }
}

fn affinity(spec: &At<'_, '_>, out: &mut Findings) {
    let (kind, config) = (spec.child("sessionAffinity"), spec.child("sessionAffinityConfig"));
    one_of(&kind, &["ClientIP", "None"], out);
    match kind.text() {
        "ClientIP" => {
            let client = config.child("clientIP");
            let seconds = client.child("timeoutSeconds");
            if !config.is_set() {
                out.push(config.required("when session affinity type is ClientIP"));
            } else if !seconds.is_set() {
                out.push(seconds.required("when session affinity type is ClientIP"));
            } else if !(1..=AFFINITY_SECONDS_MAX).contains(&seconds.int_or_zero()) {
                let why = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
                out.push(seconds.invalid(why));
            }
        }
        "None" if config.is_set() => {
            out.push(config.forbidden("must not be set when session affinity is None"));
        }
        _ => {}
    }
}

fn cluster_ips(spec: &At<'_, '_>, out: &mut Findings) {
    let (first, all) = (spec.child("clusterIP"), spec.child("clusterIPs"));
    let families = spec.child("ipFamilies");
    let mut seen = HashSet::new();
    for family in families.items() {
        if !matches!(family.text(), "IPv4" | "IPv6") {
            out.push(family.not_supported(&["IPv4", "IPv6"]));
        } else if !seen.insert(family.text()) {
            out.push(family.duplicate());
        }
    }
    let policy = spec.child("ipFamilyPolicy");
    supported_if_set(&policy, &["PreferDualStack", "RequireDualStack", "SingleStack"], out);
    if !all.is_empty() && first.value != &all.value[0] {
        out.push(all.invalid("first value must match `clusterIP`"));
        return;
    }
    let mut parsed: Vec<IpAddr> = Vec::new();
    for address in all.items() {
        match address.text() {
            "None" if all.len() > 1 => out.push(all.invalid("'None' must be the first and only value")),
            "None" => {}
            text => match parse_ip(text) {
                Some(address) => parsed.push(address),
                None => ip(&address, out),
            },
        }
    }
    if all.len() > 2 {
        out.push(all.invalid("may only hold up to 2 values"));
    } else if let [a, b] = parsed[..]
        && a.is_ipv4() == b.is_ipv4()
    {
        out.push(all.invalid("may specify no more than one IP for each IP family"));
    }
    if policy.text() == "SingleStack" && all.len() > 1 {
        const WHY: &str = "may be SingleStack only when there is a single cluster IP";
        out.push(policy.invalid(WHY));
    }
}

fn port_clashes(ports: &At<'_, '_>, kind: &str, out: &mut Findings) {
    let (mut node_ports, mut numbers) = (HashSet::new(), HashSet::new());
    for port in ports.items() {
        let (node_port, protocol) = (port.child("nodePort"), port.child("protocol"));
        if node_port.int_or_zero() != 0 {
            if kind == "ClusterIP" {
                out.push(node_port.forbidden("may not be used when `type` is 'ClusterIP'"));
            }
            if !node_ports.insert((protocol.text(), node_port.int_or_zero())) {
                out.push(node_port.duplicate());
            }
        }
        let number = port.child("port").int_or_zero();
        if !numbers.insert((protocol.text(), number)) {
            out.push(FieldError::duplicate(&port.path, json!({"port": number, "protocol": protocol.text()})));
        }
    }
}

fn balancer(spec: &At<'_, '_>, kind: &str, out: &mut Findings) {
    let is_balancer = kind == "LoadBalancer";
    let sources = spec.child("loadBalancerSourceRanges");
    if !sources.is_empty() && !is_balancer {
        out.push(sources.forbidden(BALANCER_ONLY));
    }
    for source in sources.items().filter(|_| is_balancer) {
        if source.text().trim().parse::<ipnet::IpNet>().is_err() {
            out.push(source.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"));
        }
    }
    let allocate = spec.child("allocateLoadBalancerNodePorts");
    match (allocate.is_set(), is_balancer) {
        (true, false) => out.push(allocate.forbidden(BALANCER_ONLY)),
        (false, true) => out.push(allocate.required("field is required when `type` is 'LoadBalancer'")),
        _ => {}
    }
    let class = spec.child("loadBalancerClass");
    if class.is_set() {
        if !is_balancer {
            out.push(class.forbidden(BALANCER_ONLY));
        }
        texts(&class, names::qualified_name(class.text()), out);
    }
}

fn traffic(object: &Value, spec: &At<'_, '_>, out: &mut Findings) {
    let external = spec.child("externalTrafficPolicy");
    match (external.is_empty(), is_external(object)) {
        (true, true) => out.push(external.required("")),
        (false, false) => out.push(external.invalid("may only be set for externally-accessible services")),
        (false, true) => supported_if_set(&external, &["Cluster", "Local"], out),
        (true, false) => {}
    }
    let check = spec.child("healthCheckNodePort");
    if check.int_or_zero() != 0 && !takes_health_check_port(object) {
        const WHY: &str = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        out.push(check.invalid(WHY));
    }
    let internal = spec.child("internalTrafficPolicy");
    if !internal.is_set() {
        if matches!(spec.value["type"].as_str(), Some("ClusterIP" | "NodePort" | "LoadBalancer")) {
            out.push(internal.required(""));
        }
    } else {
        supported_if_set(&internal, &["Cluster", "Local"], out);
    }
    let distribution = spec.child("trafficDistribution");
    supported_if_set(&distribution, &["PreferClose", "PreferSameNode", "PreferSameZone"], out);
}

/// Rules for a changed Service: its address is for life.
pub(super) fn update(object: &Value, old: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    let before = &old["spec"];
    let addressed = |object: &Value| object["spec"]["type"] != "ExternalName";
    let addresses = spec.child("clusterIPs");
    if addressed(old) && addressed(object) {
        for (index, was) in before["clusterIPs"].as_array().into_iter().flatten().enumerate() {
            let now = &addresses.value[index];
            if now != was && (index == 0 || !now.is_null()) {
                let path = addresses.path.index(index);
                out.push(FieldError::invalid(&path, addresses.value.clone(), "may not change once set"));
            }
        }
        let families = spec.child("ipFamilies");
        let (now, was) = (&families.value[0], &before["ipFamilies"][0]);
        if !was.is_null() && !now.is_null() && now != was {
            let path = families.path.index(0);
            out.push(FieldError::invalid(&path, families.value.clone(), "may not change once set"));
        }
    }
    let class = spec.child("loadBalancerClass");
    let balancers = before["type"] == "LoadBalancer" && spec.value["type"] == "LoadBalancer";
    if balancers && !same(class.value, &before["loadBalancerClass"]) {
        out.push(class.invalid("may not change once set"));
    }
    service(object, out);
}

/// Rules for the status of a Service.
pub(super) fn status(object: &Value, out: &mut Findings) {
    let status = At::root(object, "status");
    let balancer = status.child("loadBalancer");
    let ingress = balancer.child("ingress");
    if !ingress.is_empty() && object["spec"]["type"] != "LoadBalancer" {
        out.push(ingress.forbidden("may only be used when `spec.type` is \"LoadBalancer\""));
    }
    for point in ingress.items() {
        let (address, mode, host) = (point.child("ip"), point.child("ipMode"), point.child("hostname"));
        if !address.is_empty() {
            ip(&address, out);
            if !mode.is_set() {
                out.push(mode.required("must be specified when `ip` is set"));
            }
        } else if mode.is_set() {
            out.push(mode.forbidden("may not be specified when `ip` is not set"));
        }
        supported_if_set(&mode, &["Proxy", "VIP"], out);
        if !host.is_empty() {
            texts(&host, names::dns1123_subdomain(host.text()), out);
            if parse_ip(host.text()).is_some() {
                out.push(host.invalid("must be a DNS name, not an IP address"));
            }
        }
    }
}
