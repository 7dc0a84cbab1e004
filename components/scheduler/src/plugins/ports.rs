//! NodePorts: two pods cannot have one port of a node.

use crate::framework::{ClusterEvent, Context, Filtering, Plugin, Rejection};
use crate::pod::PodInfo;

/// See the module.
pub struct NodePorts;

fn conflicts(one: &PodInfo, two: &PodInfo) -> bool {
    one.ports.iter().any(|p| two.ports.iter().any(|q| p.conflicts(q)))
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::AssignedPodDeleted(gone) => conflicts(pod, gone),
            _ => false,
        }
    }

    fn filter<'a>(&'a self, ctx: Context<'a>) -> Filtering<'a> {
        let wanted = &ctx.pod.ports;
        if wanted.is_empty() {
            return Filtering::Skip;
        }
        Filtering::Check(Box::new(move |node| {
            if wanted.iter().any(|port| node.ports.iter().any(|taken| port.conflicts(taken))) {
                return Err(Rejection::unschedulable("node(s) didn't have free ports for the requested pod ports"));
            }
            Ok(())
        }))
    }
}
