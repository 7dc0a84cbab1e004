//! NodeResourcesFit and NodeResourcesBalancedAllocation: whether a node has what a pod asks for, and how good that is.

use crate::framework::{ClusterEvent, Context, Filtering, MAX_NODE_SCORE, Plugin, Rejection, Text};
use crate::node::{NodeInfo, allocatable_of};
use crate::pod::PodInfo;
use crate::resource::Resource;

/// Which nodes [`Fit`] scores best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The emptiest.
    #[default]
    LeastAllocated,
    /// The fullest.
    MostAllocated,
}

/// Whether a node has what a pod asks for.
#[derive(Default)]
pub struct Fit {
    strategy: Strategy,
}

impl Fit {
    /// With a strategy.
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy }
    }
}

/// What is missing on a node.
fn missing(pod: &PodInfo, pods: usize, allocatable: &Resource, requested: &Resource) -> Option<Rejection> {
    let wanted = &pod.requests;
    let fits = |wanted: i64, allocatable: i64, requested: i64| wanted <= 0 || wanted <= allocatable - requested;
    let too_many = i64::try_from(pods).unwrap_or(i64::MAX) >= allocatable.pods;
    let cpu = fits(wanted.milli_cpu, allocatable.milli_cpu, requested.milli_cpu);
    let memory = fits(wanted.memory, allocatable.memory, requested.memory);
    let storage = fits(wanted.ephemeral_storage, allocatable.ephemeral_storage, requested.ephemeral_storage);
    let mut scalars = wanted.scalars.iter();
    if !too_many
        && cpu
        && memory
        && storage
        && scalars.all(|(name, amount)| fits(*amount, allocatable.scalar(name), requested.scalar(name)))
    {
        return None;
    }
    let mut rejection = Rejection { resolvable: true, reasons: Vec::new() };
    let mut note = |fits: bool, reason: Text, wanted: i64, allocatable: i64| {
        if !fits {
            rejection.reasons.push(reason);
            // More than the whole node has: nobody can make room.
            rejection.resolvable &= wanted <= allocatable;
        }
    };
    note(!too_many, "Too many pods".into(), 0, 0);
    note(cpu, "Insufficient cpu".into(), wanted.milli_cpu, allocatable.milli_cpu);
    note(memory, "Insufficient memory".into(), wanted.memory, allocatable.memory);
    let (asked, there) = (wanted.ephemeral_storage, allocatable.ephemeral_storage);
    note(storage, "Insufficient ephemeral-storage".into(), asked, there);
    for (name, amount) in &wanted.scalars {
        let there = allocatable.scalar(name);
        let enough = fits(*amount, there, requested.scalar(name));
        if !enough {
            note(false, format!("Insufficient {name}").into(), *amount, there);
        }
    }
    Some(rejection)
}

fn fits_empty(pod: &PodInfo, allocatable: &Resource) -> bool {
    missing(pod, 0, allocatable, &Resource::default()).is_none()
}

impl Plugin for Fit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) => fits_empty(pod, &allocatable_of(node)),
            ClusterEvent::NodeUpdated { old, new, change } => {
                let (old, new) = (allocatable_of(old), allocatable_of(new));
                change.allocatable && fits_empty(pod, &new) && new.exceeds(&old)
            }
            ClusterEvent::AssignedPodDeleted(_) => true,
            ClusterEvent::AssignedPodUpdated { old, new } | ClusterEvent::PodUpdated { old, new } => {
                old.requests.exceeds(&new.requests)
            }
            _ => false,
        }
    }

    fn filter<'a>(&'a self, ctx: Context<'a>) -> Filtering<'a> {
        let pod = ctx.pod;
        Filtering::Check(Box::new(move |node| {
            missing(pod, node.pods.len(), &node.allocatable, &node.requested).map_or(Ok(()), Err)
        }))
    }

    fn score(&self, ctx: Context<'_>, nodes: &[&NodeInfo], scores: &mut [i64]) -> bool {
        let (cpu, memory) = ctx.pod.scored;
        for (score, node) in scores.iter_mut().zip(nodes) {
            let shares = [
                share(self.strategy, node.scored.0 + cpu, node.allocatable.milli_cpu),
                share(self.strategy, node.scored.1 + memory, node.allocatable.memory),
            ];
            let known = shares.iter().flatten();
            *score = known.clone().sum::<i64>() / (known.count() as i64).max(1);
        }
        true
    }
}

fn share(strategy: Strategy, requested: i64, allocatable: i64) -> Option<i64> {
    if allocatable <= 0 {
        return None;
    }
    Some(match strategy {
        Strategy::LeastAllocated if requested > allocatable => 0,
        Strategy::LeastAllocated => percent(allocatable - requested, allocatable),
        Strategy::MostAllocated => percent(requested.min(allocatable), allocatable),
    })
}

fn percent(part: i64, whole: i64) -> i64 {
    // Memory in bytes times 100 stays far below 2^63 for anything a machine holds; saturate rather than trust that.
    part.saturating_mul(MAX_NODE_SCORE) / whole
}

/// Prefers nodes on which CPU and memory are used in like shares.
pub struct BalancedAllocation;

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn score(&self, ctx: Context<'_>, nodes: &[&NodeInfo], scores: &mut [i64]) -> bool {
        let wanted = &ctx.pod.requests;
        // A pod that asks for neither changes no balance; scoring it would heap such pods onto one node.
        if wanted.milli_cpu == 0 && wanted.memory == 0 {
            return false;
        }
        for (score, node) in scores.iter_mut().zip(nodes) {
            let cpu = fraction(node.requested.milli_cpu + wanted.milli_cpu, node.allocatable.milli_cpu);
            let memory = fraction(node.requested.memory + wanted.memory, node.allocatable.memory);
            let deviation = match (cpu, memory) {
                (Some(cpu), Some(memory)) => (cpu - memory).abs() / 2.0,
                _ => 0.0,
            };
            *score = ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64;
        }
        true
    }
}

fn fraction(requested: i64, allocatable: i64) -> Option<f64> {
    (allocatable > 0).then(|| (requested as f64 / allocatable as f64).min(1.0))
}
