//! The control-plane member.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Where the API is served, and the store's limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// The address to listen on.
    pub bind_address: IpAddr,
    /// The port to listen on.
    pub port: u16,
    /// The port on which the other members of the control plane are listened to; unset: that of [`Self::peer_address`], or the
    /// one after [`Self::port`]. 0 is any that is free: for a control plane of one member, which nobody looks for.
    pub peer_port: Option<u16>,
    /// The address and port at which the other members are told to reach this one; unset: [`Self::advertise_address`] and
    /// [`Self::peer_port`].
    pub peer_address: Option<SocketAddr>,
    /// The address that clients and pods are told; unset: the machine's own.
    pub advertise_address: Option<IpAddr>,
    /// Further names and addresses for the serving certificate.
    pub extra_sans: Vec<String>,
    /// The first node port that may be allocated.
    pub node_port_min: u16,
    /// The last node port that may be allocated.
    pub node_port_max: u16,
    /// Requests at once, watches apart; more are answered with 429.
    pub requests_in_flight_max: usize,
    /// The store.
    pub store: StoreSettings,
}

/// The store's limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// RocksDB's block caches and memtables together, MiB.
    pub memory_mib: usize,
    /// How long history is kept for watches and reads at a revision, minutes.
    pub retention_minutes: u64,
    /// The same for Leases and Events, which change all the time and are seldom looked back at.
    pub short_retention_minutes: u64,
    /// How much history is kept, MiB: when there is more, it is kept for a shorter time.
    pub history_mib: u64,
    /// How often members compare their states with each other, seconds; 0: never.
    pub check_seconds: u64,
    /// How fast a member reads its own state in the background to find damage on the disk, MiB a second; 0: never.
    pub scrub_mib_per_second: u64,
    /// Time between the end of one such reading and the beginning of the next, minutes; 0: it goes on and on.
    pub scrub_pause_minutes: u64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            memory_mib: 16,
            retention_minutes: 60,
            short_retention_minutes: 5,
            history_mib: 1024,
            check_seconds: 60,
            scrub_mib_per_second: 4,
            scrub_pause_minutes: 60,
        }
    }
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            bind_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 6443,
            peer_port: None,
            peer_address: None,
            advertise_address: None,
            extra_sans: Vec::new(),
            node_port_min: 30_000,
            node_port_max: 32_767,
            requests_in_flight_max: 600,
            store: StoreSettings::default(),
        }
    }
}

impl ServerSettings {
    /// The port on which the other members are listened to.
    pub fn peer_port(&self) -> u16 {
        let told = self.peer_address.map(|address| address.port());
        self.peer_port.or(told).unwrap_or(self.port.saturating_add(1))
    }

    pub(crate) fn validate(&self, findings: &mut Vec<String>) {
        if self.port == 0 {
            findings.push("server.port: 0: must be between 1 and 65535".to_owned());
        }
        if self.node_port_min == 0 || self.node_port_min > self.node_port_max {
            findings.push(format!(
                "server.node_port_min: {}: must be at least 1 and at most node_port_max ({})",
                self.node_port_min, self.node_port_max
            ));
        }
        let node_ports = self.node_port_min..=self.node_port_max;
        if node_ports.contains(&self.port) {
            findings.push(format!("server.port: {}: lies in the range of node ports", self.port));
        } else if node_ports.contains(&self.peer_port()) {
            findings.push(format!("server.peer_port: {}: lies in the range of node ports", self.peer_port()));
        }
        if self.peer_port() == self.port {
            findings.push(format!("server.peer_port: {}: must not be server.port", self.port));
        }
        if let Some(address) = self.peer_address.filter(|address| address.ip().is_unspecified() || address.port() == 0)
        {
            findings.push(format!("server.peer_address: {address}: must be one that other machines reach"));
        }
        if self.requests_in_flight_max == 0 {
            findings.push("server.requests_in_flight_max: 0: must be at least 1".to_owned());
        }
        if self.store.memory_mib < 4 {
            findings.push(format!("server.store.memory_mib: {}: must be at least 4", self.store.memory_mib));
        }
        if self.store.short_retention_minutes == 0 {
            findings.push("server.store.short_retention_minutes: 0: must be at least 1".to_owned());
        }
        if self.store.history_mib == 0 {
            findings.push("server.store.history_mib: 0: must be at least 1".to_owned());
        }
        if self.store.retention_minutes == 0 {
            findings.push("server.store.retention_minutes: 0: must be at least 1".to_owned());
        }
    }
}
