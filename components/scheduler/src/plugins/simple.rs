//! Plugins of one question each.

use crate::framework::{ClusterEvent, Context, Filtering, Plugin, Rejection};
use crate::node::is_unschedulable;
use crate::plugins::taints::tolerates;
use crate::pod::PodInfo;

/// Holds pods back that have scheduling gates.
pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Rejection> {
        let gates: Vec<&str> = pod.spec().scheduling_gates.iter().flatten().map(|g| g.name.as_str()).collect();
        if gates.is_empty() {
            return Ok(());
        }
        Err(Rejection::unresolvable(format!("waiting for scheduling gates: [{}]", gates.join(" "))))
    }
}

/// A pod that names its node goes there or nowhere.
pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        matches!(event, ClusterEvent::NodeAdded(node) if node.metadata.name.as_deref() == pod.node_name())
    }

    fn filter<'a>(&'a self, ctx: Context<'a>) -> Filtering<'a> {
        let Some(name) = ctx.pod.node_name() else { return Filtering::Skip };
        Filtering::Check(Box::new(move |node| {
            if node.name() == name {
                return Ok(());
            }
            Err(Rejection::unresolvable("node(s) didn't match the requested node name"))
        }))
    }
}

/// Cordoned nodes take only pods that tolerate it.
pub struct NodeUnschedulable;

const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

fn tolerates_cordon(pod: &PodInfo) -> bool {
    pod.tolerations().iter().any(|t| tolerates(t, UNSCHEDULABLE_TAINT, "", "NoSchedule"))
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) => !is_unschedulable(node),
            ClusterEvent::NodeUpdated { old, new, .. } => is_unschedulable(old) && !is_unschedulable(new),
            ClusterEvent::PodUpdated { old, .. } => !tolerates_cordon(old) && tolerates_cordon(pod),
            _ => false,
        }
    }

    fn filter<'a>(&'a self, ctx: Context<'a>) -> Filtering<'a> {
        if !ctx.cache.has_cordoned() || tolerates_cordon(ctx.pod) {
            return Filtering::Skip;
        }
        Filtering::Check(Box::new(|node| {
            if node.unschedulable {
                return Err(Rejection::unresolvable("node(s) were unschedulable"));
            }
            Ok(())
        }))
    }
}
