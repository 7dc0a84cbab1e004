//! The node's network: addresses for pods by CNI, Services by nftables, and names by a DNS server of its own.
//!
//! Follows the API through informers and writes only the node itself. What it writes is its own and named so: one CNI
//! configuration, one nftables table, one route and one address on the loopback device; [`cleanup`] removes all of it.
//!
//! Pods hang on point-to-point links (CNI `ptp`) and not on a bridge: all their traffic then passes the node's IP layer,
//! where Services are translated, also between two pods of one node, whatever the kernel makes of bridged packets. The
//! DNS server listens on the cluster address of `kube-dns` itself, which every node has on its loopback device: a pod
//! asks its own node, with one node or many, and no translation stands between.

pub mod cni;
pub mod dns;
pub mod node;
pub mod services;
pub mod settings;

use std::io;

use navarch_client::InformerFactory;
use navarch_supervision::ChildSpec;
use tokio::sync::watch;

pub use services::nft::{CommandError, Runner};
pub use settings::{CniSettings, NetworkSettings};

/// What the network needs.
#[derive(Clone)]
pub struct NetworkContext {
    /// Informers of Services, EndpointSlices, Namespaces and Nodes, run by somebody else.
    pub informers: InformerFactory,
    /// What the node is and has.
    pub settings: NetworkSettings,
}

/// The network's children, to be started in this order and restarted one by one.
pub fn specs(context: &NetworkContext) -> Vec<ChildSpec> {
    let settings = &context.settings;
    let (pod_range, known) = watch::channel(settings.pod_range);
    let mut all = Vec::new();
    let task = node::NodeTask { informers: context.informers.clone(), settings: settings.clone(), pod_range };
    all.push(ChildSpec::task("pod-network", move |ctx| node::run(task.clone(), ctx)));
    let task = services::apply::ServicesTask {
        informers: context.informers.clone(),
        runner: settings.runner.clone(),
        config: settings.table_config(),
        view: settings.node_view(),
        pod_range: known,
    };
    all.push(ChildSpec::task("services", move |ctx| services::apply::run(task.clone(), ctx)));
    if let Some(listen) = settings.dns_listen {
        let task = dns::server::DnsTask::new(context.informers.clone(), listen, settings);
        all.push(ChildSpec::task("dns", move |ctx| dns::server::run(task.clone(), ctx)));
    }
    all
}

/// What of the network's things could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// A command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file stayed.
    #[error("cannot remove {path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Removes what the network wrote: table, route, address, CNI configuration and its records of addresses. To be called
/// after the pods are gone.
///
/// # Errors
/// The first thing that could not be removed; the rest is tried all the same.
pub async fn cleanup(settings: &NetworkSettings) -> Result<(), CleanupError> {
    let mut result = settings.runner.delete_table(&settings.table).await.map_err(CleanupError::from);
    result = result.and(node::remove(settings).await);
    if let Some(cni) = &settings.cni {
        result = result.and(cni::remove(cni));
    }
    result
}
