//! PodTopologySpread: keeps like pods apart, over zones, nodes, or whatever a constraint names; by default softly, those
//! of one Service or workload.

use std::borrow::Cow;

use crate::cache::{Cache, HOSTNAME, ZONE};
use crate::counts::{Counter, Domains};
use crate::framework::{ClusterEvent, Context, Filtering, MAX_NODE_SCORE, Plugin, Rejection};
use crate::node::NodeInfo;
use crate::plugins::taints::tolerates_all;
use crate::pod::{PodInfo, Spread};
use crate::selector::{Labels, Selector, labels_of};

/// See the module.
pub struct PodTopologySpread;

const REASON: &str = "node(s) didn't match pod topology spread constraints";
const REASON_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

/// A constraint with the counts it is judged by.
struct Counted<'a> {
    spread: &'a Spread,
    counter: &'a Counter,
    domains: &'a Domains,
}

fn counted<'a>(ctx: Context<'a>, spread: &'a Spread) -> Option<Counted<'a>> {
    let key = Cache::spread_key(ctx.pod, spread.selector.clone());
    let counter = ctx.cache.count(&key)?;
    Some(Counted { spread, counter, domains: ctx.cache.topology().get(&spread.topology_key)? })
}

fn counts_in(ctx: Context<'_>, spread: &Spread, node: &NodeInfo) -> bool {
    let wants = &ctx.pod.nodes;
    (!spread.honor_affinity || wants.is_any() || wants.allows(node.name(), node.labels()))
        && (!spread.honor_taints || tolerates_all(ctx.pod, node.taints()))
}

/// Sums by domain over the nodes that count: `None` where no node of the domain does.
fn sums(ctx: Context<'_>, all: &[Counted<'_>], one: &Counted<'_>, need_all: bool) -> Vec<Option<i64>> {
    let mut sums = vec![None; one.domains.len()];
    let simple = (!one.spread.honor_affinity || ctx.pod.nodes.is_any()) && !one.spread.honor_taints;
    for slot in ctx.cache.order() {
        let Some(domain) = one.domains.of(*slot) else { continue };
        if need_all && all.len() > 1 && all.iter().any(|c| c.domains.of(*slot).is_none()) {
            continue;
        }
        if !simple && !ctx.cache.node(*slot).is_some_and(|node| counts_in(ctx, one.spread, node)) {
            continue;
        }
        *sums[domain].get_or_insert(0) += one.counter.at(*slot);
    }
    sums
}

fn matches_all_keys(labels: &Labels, pod: &PodInfo) -> bool {
    pod.spread.iter().filter(|c| c.hard).all(|c| labels.contains_key(&c.topology_key))
}

fn is_counted(pod: &PodInfo, other: &PodInfo) -> bool {
    pod.namespace() == other.namespace()
        && pod.spread.iter().filter(|c| c.hard).any(|c| c.selector.matches(other.labels()))
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) => matches_all_keys(labels_of(&node.metadata), pod),
            ClusterEvent::NodeUpdated { old, new, change } => {
                (change.labels || change.taints)
                    && [old, new].iter().any(|node| matches_all_keys(labels_of(&node.metadata), pod))
            }
            ClusterEvent::AssignedPodAdded(other) | ClusterEvent::AssignedPodDeleted(other) => is_counted(pod, other),
            ClusterEvent::AssignedPodUpdated { old, new } => {
                is_counted(pod, old) != is_counted(pod, new) || (is_counted(pod, new) && new.is_terminating())
            }
            ClusterEvent::PodUpdated { old, new } => old.labels() != new.labels(),
            ClusterEvent::NamespaceUpdated => false,
        }
    }

    fn filter<'a>(&'a self, ctx: Context<'a>) -> Filtering<'a> {
        let hard: Vec<&Spread> = ctx.pod.spread.iter().filter(|c| c.hard).collect();
        if hard.is_empty() {
            return Filtering::Skip;
        }
        let all: Vec<_> = hard.iter().filter_map(|c| counted(ctx, c)).collect();
        if all.len() < hard.len() {
            // A label that no node has.
            return Filtering::Check(Box::new(|_| Err(Rejection::unresolvable(REASON_LABEL))));
        }
        let judged: Vec<_> = all
            .iter()
            .map(|c| {
                let sums = sums(ctx, &all, c, true);
                let present = sums.iter().flatten().count();
                let min = sums.iter().flatten().copied().min().unwrap_or(0);
                let min = if present < c.spread.min_domains { 0 } else { min };
                let own = i64::from(c.spread.selector.matches(ctx.pod.labels()));
                (c.domains, sums, min, own, c.spread.max_skew)
            })
            .collect();
        Filtering::Check(Box::new(move |node| {
            for (domains, sums, min, own, max_skew) in &judged {
                let Some(domain) = domains.of(node.slot) else { return Err(Rejection::unresolvable(REASON_LABEL)) };
                let here = sums.get(domain).copied().flatten().unwrap_or(0);
                if here + own - min > *max_skew {
                    return Err(Rejection::unschedulable(REASON));
                }
            }
            Ok(())
        }))
    }

    fn score(&self, ctx: Context<'_>, nodes: &[&NodeInfo], scores: &mut [i64]) -> bool {
        let (soft, need_all) = soft_constraints(ctx);
        let all: Vec<_> = soft.iter().filter_map(|c| counted(ctx, c)).collect();
        if all.is_empty() {
            return false;
        }
        let mut ignored = vec![false; nodes.len()];
        if need_all {
            let complete = all.len() == soft.len();
            for (ignored, node) in ignored.iter_mut().zip(nodes) {
                *ignored = !complete || all.iter().any(|c| c.domains.of(node.slot).is_none());
            }
        }
        let mut raw = vec![0.0; nodes.len()];
        for constraint in &all {
            add_constraint(ctx, &all, constraint, need_all, nodes, &ignored, &mut raw);
        }
        for (score, raw) in scores.iter_mut().zip(&raw) {
            *score = raw.round() as i64;
        }
        normalize(scores, &ignored);
        true
    }
}

fn soft_constraints(ctx: Context<'_>) -> (Cow<'_, [Spread]>, bool) {
    if !ctx.pod.spread.is_empty() {
        return (ctx.pod.spread.iter().filter(|c| !c.hard).cloned().collect(), true);
    }
    // What Kubernetes spreads by when a pod says nothing. Nodes without a zone are spread over all the same.
    let Some(selector) = ctx.cache.workloads.default_selector(ctx.pod) else { return (Cow::Borrowed(&[]), false) };
    let default = |key: &str, max_skew: i64, selector: Selector| Spread {
        hard: false,
        max_skew,
        min_domains: 1,
        topology_key: key.to_owned(),
        selector,
        honor_affinity: true,
        honor_taints: false,
    };
    (Cow::Owned(vec![default(HOSTNAME, 3, selector.clone()), default(ZONE, 5, selector)]), false)
}

fn add_constraint(
    ctx: Context<'_>,
    all: &[Counted<'_>],
    one: &Counted<'_>,
    need_all: bool,
    nodes: &[&NodeInfo],
    ignored: &[bool],
    raw: &mut [f64],
) {
    let kept = || nodes.iter().zip(ignored).filter(|(_, ignored)| !**ignored).map(|(node, _)| node);
    let by_node = one.spread.topology_key == HOSTNAME;
    let mut present = vec![false; one.domains.len()];
    for domain in kept().filter_map(|node| one.domains.of(node.slot)) {
        present[domain] = true;
    }
    let places = if by_node { kept().count() } else { present.iter().filter(|p| **p).count() };
    if places == 0 {
        return;
    }
    // Few places must not be drowned by many: each constraint counts by the logarithm of how many it has.
    let weight = ((places + 2) as f64).ln();
    let sums = if by_node { Vec::new() } else { sums(ctx, all, one, need_all) };
    for ((raw, node), _) in raw.iter_mut().zip(nodes).zip(ignored).filter(|(_, ignored)| !**ignored) {
        let Some(domain) = one.domains.of(node.slot) else { continue };
        let count = if by_node { one.counter.at(node.slot) } else { sums[domain].unwrap_or(0) };
        *raw += count as f64 * weight + (one.spread.max_skew - 1) as f64;
    }
}

fn normalize(scores: &mut [i64], ignored: &[bool]) {
    let kept = || scores.iter().zip(ignored).filter(|(_, ignored)| !**ignored).map(|(score, _)| *score);
    let (min, max) = (kept().min().unwrap_or(0), kept().max().unwrap_or(0));
    for (score, ignored) in scores.iter_mut().zip(ignored) {
        *score = match (ignored, max) {
            (true, _) => 0,
            (false, 0) => MAX_NODE_SCORE,
            (false, max) => MAX_NODE_SCORE * (max + min - *score) / max,
        };
    }
}
