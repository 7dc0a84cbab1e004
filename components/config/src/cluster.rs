//! What all members and nodes of a cluster must agree on.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// Names and address ranges. Not to be changed once a cluster has objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterSettings {
    /// The name in kubeconfig files.
    pub name: String,
    /// The DNS domain of Services and pods.
    pub domain: String,
    /// Where Service addresses come from. The first is the `kubernetes` Service, the tenth the DNS Service.
    pub service_cidr: Ipv4Net,
    /// Where pod addresses come from; each node gets a part of it.
    pub pod_cidr: Ipv4Net,
    /// The length of a node's part.
    pub node_cidr_mask_size: u8,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        let net = |a, b, c, d, length| Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length);
        Self {
            name: "navarch".to_owned(),
            domain: "cluster.local".to_owned(),
            service_cidr: net(10, 96, 0, 0, 16),
            pod_cidr: net(10, 244, 0, 0, 16),
            node_cidr_mask_size: 24,
        }
    }
}

impl ClusterSettings {
    /// The n-th address of the Service range.
    fn service_address(&self, n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(u32::from(self.service_cidr.network()).saturating_add(n)))
    }

    /// The address of the `kubernetes` Service.
    pub fn kubernetes_service_ip(&self) -> IpAddr {
        self.service_address(1)
    }

    /// The address of the DNS Service.
    pub fn dns_service_ip(&self) -> IpAddr {
        self.service_address(10)
    }

    pub(crate) fn validate(&self, findings: &mut Vec<String>) {
        if !(12..=28).contains(&self.service_cidr.prefix_len()) {
            findings.push(format!("cluster.service_cidr: {}: the length must be between 12 and 28", self.service_cidr));
        }
        let pods = self.pod_cidr.prefix_len();
        if self.node_cidr_mask_size < pods || self.node_cidr_mask_size > 30 || self.node_cidr_mask_size - pods > 16 {
            findings.push(format!(
                "cluster.node_cidr_mask_size: {}: must be at least the length of pod_cidr ({pods}), at most 16 above it, and at most 30",
                self.node_cidr_mask_size
            ));
        }
        if self.service_cidr.contains(&self.pod_cidr) || self.pod_cidr.contains(&self.service_cidr) {
            findings.push(format!(
                "cluster.pod_cidr: {} overlaps cluster.service_cidr {}",
                self.pod_cidr, self.service_cidr
            ));
        }
        let domain_ok = !self.domain.is_empty()
            && self
                .domain
                .split('.')
                .all(|l| !l.is_empty() && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        if !domain_ok {
            findings.push(format!("cluster.domain: {:?}: must be a lower-case DNS name", self.domain));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_services_have_their_addresses() {
        let cluster = ClusterSettings::default();
        assert_eq!(cluster.kubernetes_service_ip().to_string(), "10.96.0.1");
        assert_eq!(cluster.dns_service_ip().to_string(), "10.96.0.10");
    }

    #[test]
    fn overlapping_ranges_are_refused() {
        let cluster =
            ClusterSettings { pod_cidr: "10.96.8.0/22".parse().ok().unwrap_or_default(), ..Default::default() };
        let mut findings = Vec::new();
        cluster.validate(&mut findings);
        assert_eq!(findings, ["cluster.pod_cidr: 10.96.8.0/22 overlaps cluster.service_cidr 10.96.0.0/16"]);
    }
}
