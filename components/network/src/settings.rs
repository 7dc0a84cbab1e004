//! What the network has to be told.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use ipnet::Ipv4Net;

use crate::services::model::NodeView;
use crate::services::nft::Runner;
use crate::services::plan::TableConfig;

/// The bit of the packet mark that asks for masquerading: the one that Kubernetes' own proxies use.
pub const MASQUERADE_MARK: u32 = 0x4000;

/// Where CNI's things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniSettings {
    /// Where the runtime looks for configurations: `/etc/cni/net.d`.
    pub conf_dir: PathBuf,
    /// Where the plugins are: `/usr/lib/cni`.
    pub plugin_dir: PathBuf,
    /// Where `host-local` keeps which addresses are taken; one for each instance on a machine.
    pub data_dir: PathBuf,
    /// The MTU of pods' links; that of the uplink, if unset.
    pub mtu: Option<u32>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct NetworkSettings {
    /// The node.
    pub node_name: String,
    /// Its own address, the source of its connections to Services.
    pub node_address: Ipv4Addr,
    /// Its range of pod addresses; read from the Node, if unset.
    pub pod_range: Option<Ipv4Net>,
    /// Ranges of pod addresses of the whole cluster.
    pub cluster_ranges: Vec<Ipv4Net>,
    /// Ranges of Service addresses.
    pub service_ranges: Vec<Ipv4Net>,
    /// Where the DNS server listens: the cluster address of `kube-dns`, port 53. `None` leaves DNS to somebody else.
    pub dns_listen: Option<SocketAddrV4>,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// Where names outside the cluster are asked for: `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Pod addresses by CNI. `None` leaves them to somebody else.
    pub cni: Option<CniSettings>,
    /// The nftables table; one for each instance in a network namespace.
    pub table: String,
    /// How commands are run.
    pub runner: Runner,
}

impl NetworkSettings {
    /// With everything that has a usual value.
    pub fn new(node_name: &str, node_address: Ipv4Addr, cluster_range: Ipv4Net, service_range: Ipv4Net) -> Self {
        Self {
            node_name: node_name.to_owned(),
            node_address,
            pod_range: None,
            cluster_ranges: vec![cluster_range],
            service_ranges: vec![service_range],
            dns_listen: None,
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: "/etc/resolv.conf".into(),
            cni: None,
            table: "navarch".to_owned(),
            runner: Runner::default(),
        }
    }

    fn served_here(&self) -> BTreeSet<Ipv4Addr> {
        self.dns_listen
            .iter()
            .map(|listen| *listen.ip())
            .filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
            .collect()
    }

    /// The addresses that the node must have for what it serves itself.
    pub(crate) fn own_addresses(&self) -> Vec<Ipv4Addr> {
        self.served_here().into_iter().filter(|ip| self.service_ranges.iter().any(|range| range.contains(ip))).collect()
    }

    pub(crate) fn table_config(&self) -> TableConfig {
        TableConfig {
            table: self.table.clone(),
            cluster_ranges: self.cluster_ranges.clone(),
            pod_range: self.pod_range,
            service_ranges: self.service_ranges.clone(),
            served_here: self.served_here(),
            mark: MASQUERADE_MARK,
        }
    }

    pub(crate) fn node_view(&self) -> NodeView {
        NodeView { node_name: self.node_name.clone(), served_here: self.served_here() }
    }
}
