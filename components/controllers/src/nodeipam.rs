//! Gives every node its part of the cluster's pod range.

use std::collections::HashSet;

use async_trait::async_trait;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use navarch_client::{Client, EventRecorder, EventType, Informer, InformerFactory, ObjectKey, Subscription, WorkQueue};
use navarch_types::{ApiError, PatchType};
use serde_json::json;
use std::time::Duration;

use crate::controller::{Next, Reconcile};

/// Between two looks for a free range when there was none.
const FULL_RETRY: Duration = Duration::from_secs(30);

/// Keys are nodes.
pub(crate) struct NodeIpam {
    client: Client,
    recorder: EventRecorder,
    nodes: Informer<Node>,
    clusters: Vec<(IpNet, u8)>,
}

impl NodeIpam {
    /// Over the cluster's ranges as text, with the lengths of a node's IPv4 and IPv6 range. A range that is none, or none
    /// that can be split so, is left out and logged: the configuration is checked before.
    pub fn new(
        client: Client,
        recorder: EventRecorder,
        informers: &InformerFactory,
        cluster_cidrs: &[String],
        masks: (u8, u8),
    ) -> Self {
        let parse = |text: &String| match text.parse::<IpNet>() {
            Ok(net) => {
                let mask = if matches!(net, IpNet::V4(_)) { masks.0 } else { masks.1 };
                net.subnets(mask).is_ok().then_some((net, mask))
            }
            Err(_) => None,
        };
        let clusters: Vec<_> = cluster_cidrs.iter().filter_map(parse).collect();
        if clusters.len() < cluster_cidrs.len() {
            tracing::error!(?cluster_cidrs, ?masks, "some pod ranges cannot be used");
        }
        Self { client, recorder, nodes: informers.informer(), clusters }
    }
}

/// The first range of the cluster's that no other overlaps.
fn first_free(cluster: IpNet, mask: u8, taken: &HashSet<IpNet>) -> Option<IpNet> {
    // Ranges from elsewhere, of other lengths, must be kept clear of too.
    let foreign: Vec<&IpNet> = taken.iter().filter(|net| net.prefix_len() != mask).collect();
    let overlaps = |net: &IpNet| foreign.iter().any(|other| net.contains(*other) || other.contains(net));
    cluster.subnets(mask).ok()?.find(|net| !taken.contains(net) && !overlaps(net))
}

fn cidrs(node: &Node) -> impl Iterator<Item = IpNet> + '_ {
    let spec = node.spec.as_ref();
    let listed = spec.and_then(|spec| spec.pod_cidrs.as_ref()).into_iter().flatten();
    listed.chain(spec.and_then(|spec| spec.pod_cidr.as_ref())).filter_map(|text| text.parse().ok())
}

#[async_trait(?Send)]
impl Reconcile for NodeIpam {
    fn subscribe(&self, queue: &WorkQueue<ObjectKey>) -> Vec<Subscription> {
        let queue = queue.clone();
        vec![self.nodes.subscribe(move |change| queue.add(change.key()))]
    }

    async fn synced(&self) {
        self.nodes.synced().await;
    }

    /// One at a time: two workers would choose the same range.
    fn workers(&self) -> usize {
        1
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ApiError> {
        let Some(node) = self.nodes.store().get(key) else { return Ok(Next::Done) };
        if cidrs(&node).next().is_some() {
            return Ok(Next::Done);
        }
        // A fresh list, not the informer: the assignment before this one must be in it.
        let list = self.client.all::<Node>().list(navarch_types::ListOptions::default()).await?;
        let mut taken = HashSet::new();
        for object in &list.items {
            let other = object.typed::<Node>().map_err(ApiError::internal)?;
            if other.metadata.uid == node.metadata.uid && cidrs(&other).next().is_some() {
                // Assigned already; the informer has yet to hear of it.
                return Ok(Next::Done);
            }
            taken.extend(cidrs(&other));
        }
        let free = self.clusters.iter().map(|(cluster, mask)| first_free(*cluster, *mask, &taken));
        let Some(ranges) = free.collect::<Option<Vec<_>>>().filter(|r| !r.is_empty()) else {
            if !self.clusters.is_empty() {
                tracing::warn!(node = %key.name, "the pod range has no part left for this node");
                self.recorder.event(
                    &*node,
                    EventType::Normal,
                    "CIDRNotAvailable",
                    "Node status is now: CIDRNotAvailable",
                );
            }
            return Ok(Next::After(FULL_RETRY));
        };
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        let patch = json!({"metadata": {"uid": node.metadata.uid}, "spec": {"podCIDR": ranges[0], "podCIDRs": ranges}});
        self.client.all::<Node>().patch(&key.name, None, PatchType::Merge, patch).await?;
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_are_given_once_and_keep_clear_of_others() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let cluster = net("10.244.0.0/22");
        let free = |taken: &[&str]| first_free(cluster, 24, &taken.iter().map(|t| net(t)).collect());
        assert_eq!(free(&[]), Some(net("10.244.0.0/24")));
        assert_eq!(free(&["10.244.0.0/24", "10.244.2.0/24"]), Some(net("10.244.1.0/24")));
        assert_eq!(free(&["10.244.0.0/23"]), Some(net("10.244.2.0/24")), "a larger range of another's making");
        assert_eq!(free(&["10.244.0.128/25"]), Some(net("10.244.1.0/24")), "a smaller one");
        assert_eq!(free(&["10.244.0.0/23", "10.244.2.0/23"]), None);
    }
}
