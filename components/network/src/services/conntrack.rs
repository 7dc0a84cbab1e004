//! Which UDP connections the kernel still remembers are wrong after a change. UDP has no end: a client that keeps sending
//! from one port would stay with an endpoint that is gone, or with having none. Pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::services::model::{Protocol, ServicePort, Services};

/// Connections to forget.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stale {
    /// The address that was dialled; `None` is any of the node's.
    pub address: Option<Ipv4Addr>,
    /// The port that was dialled.
    pub port: u16,
    /// Where it was translated to; `None` is anywhere, untranslated too.
    pub endpoint: Option<Ipv4Addr>,
}

impl Stale {
    /// As `conntrack` takes it.
    pub fn arguments(&self) -> Vec<String> {
        let mut all: Vec<String> = ["-D", "-p", "udp"].map(str::to_owned).into();
        if let Some(address) = self.address {
            all.extend(["--orig-dst".to_owned(), address.to_string()]);
        }
        all.extend(["--orig-port-dst".to_owned(), self.port.to_string()]);
        if let Some(endpoint) = self.endpoint {
            all.extend(["--dst-nat".to_owned(), endpoint.to_string()]);
        }
        all
    }
}

/// What a change from `old` to `new` makes stale.
pub fn stale(old: &Services, new: &Services) -> BTreeSet<Stale> {
    let mut all = BTreeSet::new();
    let nothing = ServicePort::default();
    for (name, before) in old.iter().filter(|(name, _)| name.protocol == Protocol::Udp) {
        let after = new.get(name).unwrap_or(&nothing);
        for gone in before.targets.difference(&after.targets) {
            add(&mut all, before, Some(gone.address));
        }
    }
    for (name, after) in new.iter().filter(|(name, _)| name.protocol == Protocol::Udp) {
        let before = old.get(name).unwrap_or(&nothing);
        // What was sent while there was nobody is remembered as going nowhere.
        if before.targets.is_empty() && !after.targets.is_empty() {
            add(&mut all, after, None);
        }
    }
    all
}

fn add(all: &mut BTreeSet<Stale>, service: &ServicePort, endpoint: Option<Ipv4Addr>) {
    for address in service.cluster_addresses.iter().chain(service.external_addresses.keys()) {
        all.insert(Stale { address: Some(*address), port: service.port, endpoint });
    }
    if let Some(port) = service.node_port {
        all.insert(Stale { address: None, port, endpoint });
    }
}
