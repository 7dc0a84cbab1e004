//! NodeAffinity: node selectors, required and preferred node affinity.

use crate::framework::{ClusterEvent, Context, Filtering, Plugin, Rejection, normalize_by_max};
use crate::node::{NodeInfo, name_of};
use crate::pod::PodInfo;
use crate::selector::labels_of;

/// See the module.
pub struct NodeAffinity;

const REASON: &str = "node(s) didn't match Pod's node affinity/selector";

fn allows(pod: &PodInfo, node: &k8s_openapi::api::core::v1::Node) -> bool {
    pod.nodes.allows(name_of(node), labels_of(&node.metadata))
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) => allows(pod, node),
            ClusterEvent::NodeUpdated { old, new, change } => change.labels && !allows(pod, old) && allows(pod, new),
            ClusterEvent::PodUpdated { old, new } => old.nodes != new.nodes,
            _ => false,
        }
    }

    fn filter<'a>(&'a self, ctx: Context<'a>) -> Filtering<'a> {
        let wants = &ctx.pod.nodes;
        if wants.is_any() {
            return Filtering::Skip;
        }
        let check = Box::new(move |node: &NodeInfo| {
            if wants.allows(node.name(), node.labels()) {
                return Ok(());
            }
            Err(Rejection::unresolvable(REASON))
        });
        match wants.names() {
            // DaemonSets name one node a pod: no need to look at the others.
            Some(names) if names.is_empty() => {
                Filtering::Reject(Rejection::unresolvable("pod affinity terms conflict"))
            }
            Some(names) => {
                let slots = names.iter().filter_map(|name| ctx.cache.node_named(name)).map(|n| n.slot).collect();
                Filtering::Only(slots, check)
            }
            None => Filtering::Check(check),
        }
    }

    fn score(&self, ctx: Context<'_>, nodes: &[&NodeInfo], scores: &mut [i64]) -> bool {
        let preferred = &ctx.pod.nodes.preferred;
        if preferred.is_empty() {
            return false;
        }
        for (score, node) in scores.iter_mut().zip(nodes) {
            *score =
                preferred.iter().filter(|(_, term)| term.matches(node.name(), node.labels())).map(|(w, _)| w).sum();
        }
        true
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_by_max(scores, false);
    }
}
