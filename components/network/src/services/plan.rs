//! From Services to the contents of a table: chains with rules, sets, and the elements of maps. Pure.
//!
//! A packet is looked up by address, protocol and port in one map, or by protocol and port among node ports, and goes to
//! the chain of its Service; that picks an endpoint's chain at random, or the one the client had before; that translates.
//! So a packet costs the same however many Services there are, and a Service that changes touches its own chains alone.
//!
//! Traffic whose answer would not come back here otherwise (hairpins, and from outside to another node) is marked, and
//! masqueraded behind the node. A port without endpoints is refused at once; what is addressed to the service range and
//! matches nothing is refused too, and never leaves the node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hash::Hasher as _;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::services::model::{PortName, Protocol, ServicePort, Services, Target};

/// What the table is called and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableConfig {
    /// Its name.
    pub table: String,
    /// Ranges of pod addresses, all nodes'.
    pub cluster_ranges: Vec<Ipv4Net>,
    /// The own node's range of pod addresses.
    pub pod_range: Option<Ipv4Net>,
    /// Ranges of Service addresses.
    pub service_ranges: Vec<Ipv4Net>,
    /// Addresses in the service ranges that the node itself serves.
    pub served_here: BTreeSet<Ipv4Addr>,
    /// The mark's bit of traffic to be masqueraded.
    pub mark: u32,
}

/// A named set of client addresses that forgets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AffinitySet {
    /// Seconds.
    pub timeout_seconds: u32,
}

/// The maps of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Map {
    /// address . protocol . port → Service
    Addresses,
    /// protocol . port → Service
    NodePorts,
    /// address . protocol . port → refusal
    RefusedAddresses,
    /// protocol . port → refusal
    RefusedNodePorts,
    /// address . protocol . port → check of the source
    Firewalled,
}

impl Map {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Addresses, Self::NodePorts, Self::RefusedAddresses, Self::RefusedNodePorts, Self::Firewalled];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Addresses => "service_addresses",
            Self::NodePorts => "node_ports",
            Self::RefusedAddresses => "refused_addresses",
            Self::RefusedNodePorts => "refused_node_ports",
            Self::Firewalled => "firewalled",
        }
    }

    /// The type of its keys.
    pub const fn key_type(self) -> &'static str {
        match self {
            Self::Addresses | Self::RefusedAddresses | Self::Firewalled => "ipv4_addr . inet_proto . inet_service",
            Self::NodePorts | Self::RefusedNodePorts => "inet_proto . inet_service",
        }
    }
}

/// The changing contents of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Chains by name, each with its rules.
    pub chains: BTreeMap<String, Vec<String>>,
    /// Sets by name.
    pub sets: BTreeMap<String, AffinitySet>,
    /// Elements by map and key, each with its verdict.
    pub elements: BTreeMap<(Map, String), String>,
}

/// The chain that marks.
pub const MARK_CHAIN: &str = "mark_for_masquerade";
/// The chain that refuses.
pub const REFUSE_CHAIN: &str = "refuse";

fn list(ranges: &[Ipv4Net]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The script of the table's fixed part: maps, hooks, and the chains they lead to. Replaces a table that is there.
pub fn skeleton(config: &TableConfig) -> String {
    let (table, mark) = (&config.table, config.mark);
    // Adding first makes deleting valid whether it was there or not; all is one transaction.
    let mut script = format!("add table ip {table}\ndelete table ip {table}\nadd table ip {table}\n");
    let mut line = |text: String| {
        let _ = writeln!(script, "{text}");
    };
    for map in Map::ALL {
        line(format!("add map ip {table} {} {{ type {} : verdict; }}", map.name(), map.key_type()));
    }
    for (chain, hook) in [
        // Before translation, so that the address is still the Service's.
        ("check_prerouting", "type filter hook prerouting priority -110; policy accept;"),
        ("check_output", "type filter hook output priority -110; policy accept;"),
        ("nat_prerouting", "type nat hook prerouting priority -100; policy accept;"),
        ("nat_output", "type nat hook output priority -100; policy accept;"),
        ("nat_postrouting", "type nat hook postrouting priority 100; policy accept;"),
        ("stray_forward", "type filter hook forward priority 0; policy accept;"),
        ("stray_output", "type filter hook output priority 0; policy accept;"),
    ] {
        line(format!("add chain ip {table} {chain} {{ {hook} }}"));
    }
    for chain in ["check", "services", "stray", MARK_CHAIN, REFUSE_CHAIN] {
        line(format!("add chain ip {table} {chain}"));
    }
    let mut rule = |chain: &str, rule: &str| line(format!("add rule ip {table} {chain} {rule}"));
    for hook in ["check_prerouting", "check_output"] {
        rule(hook, "ct state new jump check");
    }
    rule("check", &format!("ip daddr . meta l4proto . th dport vmap @{}", Map::Firewalled.name()));
    rule("check", &format!("ip daddr . meta l4proto . th dport vmap @{}", Map::RefusedAddresses.name()));
    let local = "fib daddr type local ip daddr != 127.0.0.0/8";
    rule("check", &format!("{local} meta l4proto . th dport vmap @{}", Map::RefusedNodePorts.name()));
    for hook in ["nat_prerouting", "nat_output"] {
        rule(hook, "jump services");
    }
    rule("services", &format!("ip daddr . meta l4proto . th dport vmap @{}", Map::Addresses.name()));
    rule("services", &format!("{local} meta l4proto . th dport vmap @{}", Map::NodePorts.name()));
    rule(MARK_CHAIN, &format!("meta mark set meta mark or {mark:#x}"));
    // ICMP errors are rate limited: a refused TCP connection must fail at once, always.
    rule(REFUSE_CHAIN, "meta l4proto tcp reject with tcp reset");
    rule(REFUSE_CHAIN, "reject with icmp type port-unreachable");
    rule(
        "nat_postrouting",
        &format!("meta mark & {mark:#x} == {mark:#x} meta mark set meta mark xor {mark:#x} masquerade fully-random"),
    );
    if let Some(pods) = config.pod_range {
        let inside = list(&config.cluster_ranges);
        rule(
            "nat_postrouting",
            &format!("ip saddr {pods} ip daddr != {{ {inside} }} fib daddr type != local masquerade fully-random"),
        );
    }
    for hook in ["stray_forward", "stray_output"] {
        rule(hook, "ct state new,untracked jump stray");
    }
    if !config.service_ranges.is_empty() {
        let served: Vec<_> = config.served_here.iter().map(ToString::to_string).collect();
        if !served.is_empty() {
            rule("stray", &format!("ip daddr {{ {} }} return", served.join(", ")));
        }
        rule("stray", &format!("ip daddr {{ {} }} goto {REFUSE_CHAIN}", list(&config.service_ranges)));
    }
    script
}

/// A short name that stays the same.
fn hash(parts: &[&str]) -> String {
    struct Fnv(u64);
    impl std::hash::Hasher for Fnv {
        fn finish(&self) -> u64 {
            self.0
        }
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    for part in parts {
        hasher.write(part.as_bytes());
        hasher.write(&[0]);
    }
    format!("{:016x}", hasher.finish())
}

struct Names {
    service: String,
    local: String,
    external: String,
    firewall: String,
    id: String,
}

fn names(name: &PortName) -> Names {
    let id = hash(&[&name.namespace, &name.service, &name.port, name.protocol.as_str()]);
    Names {
        service: format!("service_{id}"),
        local: format!("local_{id}"),
        external: format!("external_{id}"),
        firewall: format!("firewall_{id}"),
        id,
    }
}

fn address_key(address: Ipv4Addr, protocol: Protocol, port: u16) -> String {
    format!("{address} . {} . {port}", protocol.as_str())
}

/// The table's changing contents for these Services.
pub fn plan(services: &Services, config: &TableConfig) -> Plan {
    let mut plan = Plan::default();
    // Two Services may claim one external address and port: the first by name has it, and keeps it.
    let mut taken = BTreeSet::new();
    for (name, service) in services {
        add_service(&mut plan, &mut taken, name, service, config);
    }
    plan
}

fn add_service(
    plan: &mut Plan,
    taken: &mut BTreeSet<(Map, String)>,
    name: &PortName,
    service: &ServicePort,
    config: &TableConfig,
) {
    let names = names(name);
    let refuse = format!("goto {REFUSE_CHAIN}");
    let internal = if service.internal_local { &service.local_targets } else { &service.targets };
    for address in &service.cluster_addresses {
        let key = address_key(*address, name.protocol, service.port);
        if internal.is_empty() {
            // Only on other nodes: silence, as upstream. Nowhere: refused at once.
            let verdict = if service.targets.is_empty() { refuse.clone() } else { "drop".to_owned() };
            plan.elements.insert((Map::RefusedAddresses, key), verdict);
        } else {
            let chain = if service.internal_local { &names.local } else { &names.service };
            plan.elements.insert((Map::Addresses, key), format!("goto {chain}"));
        }
    }
    let mut outside = Vec::new();
    for (address, ranges) in &service.external_addresses {
        let key = address_key(*address, name.protocol, service.port);
        outside.push((Map::Addresses, Map::RefusedAddresses, key.clone()));
        if !ranges.is_empty() && taken.insert((Map::Firewalled, key.clone())) {
            plan.elements.insert((Map::Firewalled, key), format!("jump {}", names.firewall));
            let rule = format!("ip saddr != {{ {} }} drop", list(ranges));
            plan.chains.insert(names.firewall.clone(), vec![rule]);
        }
    }
    if let Some(port) = service.node_port {
        outside.push((Map::NodePorts, Map::RefusedNodePorts, format!("{} . {port}", name.protocol.as_str())));
    }
    let mut reachable = false;
    for (map, refused, key) in outside {
        if !taken.insert((map, key.clone())) {
            continue;
        }
        if service.targets.is_empty() {
            plan.elements.insert((refused, key), refuse.clone());
        } else {
            reachable = true;
            plan.elements.insert((map, key), format!("goto {}", names.external));
        }
    }
    if reachable {
        plan.chains.insert(names.external.clone(), external_rules(service, &names, config));
    }
    if !service.targets.is_empty() {
        plan.chains.insert(names.service.clone(), choose(service, &names, &service.targets, config));
    }
    if (service.internal_local || (service.external_local && reachable)) && !service.local_targets.is_empty() {
        plan.chains.insert(names.local.clone(), choose(service, &names, &service.local_targets, config));
    }
    for target in service.targets.union(&service.local_targets) {
        add_endpoint(plan, name, service, &names, *target);
    }
}

fn external_rules(service: &ServicePort, names: &Names, config: &TableConfig) -> Vec<String> {
    if !service.external_local {
        return vec![format!("jump {MARK_CHAIN}"), format!("goto {}", names.service)];
    }
    // Pods and the node itself are inside: for them it is as if they had used the cluster address.
    let mut rules = Vec::new();
    if !config.cluster_ranges.is_empty() {
        rules.push(format!("ip saddr {{ {} }} goto {}", list(&config.cluster_ranges), names.service));
    }
    rules.push(format!("fib saddr type local jump {MARK_CHAIN}"));
    rules.push(format!("fib saddr type local goto {}", names.service));
    rules.push(if service.local_targets.is_empty() { "drop".to_owned() } else { format!("goto {}", names.local) });
    rules
}

fn endpoint_id(names: &Names, target: Target) -> String {
    hash(&[&names.id, &target.address.to_string(), &target.port.to_string()])
}

/// The rules that pick an endpoint.
fn choose(service: &ServicePort, names: &Names, targets: &BTreeSet<Target>, config: &TableConfig) -> Vec<String> {
    let mut rules = Vec::new();
    if !config.cluster_ranges.is_empty() {
        for address in &service.cluster_addresses {
            // From outside to a cluster address: the answer has to come back through here.
            let outside = list(&config.cluster_ranges);
            rules.push(format!("ip daddr {address} ip saddr != {{ {outside} }} jump {MARK_CHAIN}"));
        }
    }
    if service.affinity_seconds.is_some() {
        for target in targets {
            let id = endpoint_id(names, *target);
            rules.push(format!("ip saddr @affinity_{id} goto endpoint_{id}"));
        }
    }
    let chains =
        targets.iter().enumerate().map(|(at, target)| format!("{at} : goto endpoint_{}", endpoint_id(names, *target)));
    let chains: Vec<_> = chains.collect();
    rules.push(format!("numgen random mod {} vmap {{ {} }}", targets.len(), chains.join(", ")));
    rules
}

fn add_endpoint(plan: &mut Plan, name: &PortName, service: &ServicePort, names: &Names, target: Target) {
    let id = endpoint_id(names, target);
    let Target { address, port } = target;
    let mut rules = vec![format!("ip saddr {address} jump {MARK_CHAIN}")];
    if let Some(timeout_seconds) = service.affinity_seconds {
        plan.sets.insert(format!("affinity_{id}"), AffinitySet { timeout_seconds });
        rules.push(format!("update @affinity_{id} {{ ip saddr }}"));
    }
    rules.push(format!("meta l4proto {} dnat to {address}:{port}", name.protocol.as_str()));
    plan.chains.insert(format!("endpoint_{id}"), rules);
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
