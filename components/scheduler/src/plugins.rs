//! The table of plugins, in the order they are asked: the cheap and the telling first.

mod binder;
mod image_locality;
mod node_affinity;
mod pod_affinity;
mod ports;
mod preemption;
mod resources;
mod simple;
mod spread;
mod taints;

use crate::framework::{Entry, Framework, Plugin};

pub use binder::DefaultBinder;
pub use image_locality::ImageLocality;
pub use node_affinity::NodeAffinity;
pub use pod_affinity::InterPodAffinity;
pub use ports::NodePorts;
pub use preemption::DefaultPreemption;
pub use resources::{BalancedAllocation, Fit, Strategy};
pub use simple::{NodeName, NodeUnschedulable, SchedulingGates};
pub use spread::PodTopologySpread;
pub use taints::TaintToleration;

/// The profile of `default-scheduler`: Kubernetes' plugins with Kubernetes' weights.
///
/// # Errors
/// Never, as long as the table has at most 32 entries.
pub fn default_profile(strategy: Strategy) -> Result<Framework, &'static str> {
    fn entry(plugin: impl Plugin + 'static, weight: i64) -> Entry {
        Entry { plugin: Box::new(plugin), weight }
    }
    Framework::new(vec![
        entry(SchedulingGates, 0),
        entry(NodeUnschedulable, 0),
        entry(NodeName, 0),
        entry(TaintToleration, 3),
        entry(NodeAffinity, 2),
        entry(NodePorts, 0),
        entry(Fit::new(strategy), 1),
        entry(PodTopologySpread, 2),
        entry(InterPodAffinity, 2),
        entry(BalancedAllocation, 1),
        entry(ImageLocality, 1),
        entry(DefaultPreemption, 0),
        entry(DefaultBinder, 0),
    ])
}
