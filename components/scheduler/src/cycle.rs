//! One scheduling cycle: which node a pod goes to. Pure: the cache, the pod, where to start looking and a number to break
//! ties with go in; a node or the reasons against all of them come out.

use crate::fit_error::FitError;
use crate::framework::{Context, Filtering, Framework, NodeCheck, NodeRejections, Rejection};
use crate::node::{NodeInfo, Slot};

/// Clusters up to this size are searched whole.
const SAMPLE_ALWAYS: usize = 100;
/// The least share of a large cluster that is searched, in percent.
const SAMPLE_PERCENT_MIN: usize = 5;

/// What came of a cycle.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A node.
    Fits {
        /// Its place.
        slot: Slot,
        /// Its name.
        node: String,
        /// How many nodes were looked at: the next cycle starts behind them.
        looked_at: usize,
    },
    /// Nothing fits.
    Unschedulable {
        /// Why.
        error: Box<FitError>,
        /// A node where room is being made.
        nominated: Option<String>,
    },
}

/// How many nodes that fit are enough, of so many.
pub fn sample_size(nodes: usize) -> usize {
    if nodes < SAMPLE_ALWAYS {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(SAMPLE_PERCENT_MIN);
    (nodes * percent / 100).max(SAMPLE_ALWAYS)
}

struct Checks<'a> {
    checks: Vec<(usize, NodeCheck<'a>)>,
    only: Option<(usize, Vec<Slot>)>,
}

/// Finds the node for a pod. `start` is where in the cache's order to begin; `tie` picks among the best.
pub fn schedule(framework: &Framework, ctx: Context<'_>, start: usize, tie: u64) -> Outcome {
    let mut error = FitError { nodes: ctx.cache.node_count(), ..FitError::default() };
    if error.nodes == 0 {
        return Outcome::Unschedulable { error: Box::new(error), nominated: None };
    }
    let checks = match pre_filter(framework, ctx) {
        Ok(checks) => checks,
        Err((plugin, rejection)) => {
            error.plugins.insert(plugin);
            error.pre_filter = Some(rejection.reasons.join(", ").into());
            let rejections = ctx.cache.order().iter().map(|slot| (*slot, rejection.clone())).collect();
            return unschedulable(framework, ctx, error, &rejections);
        }
    };
    let (feasible, looked_at, rejections) = find_feasible(ctx, &checks, start, &mut error);
    let best = match feasible.as_slice() {
        [] => return unschedulable(framework, ctx, error, &rejections),
        [one] => one,
        many => pick(&score(framework, ctx, many), many, tie),
    };
    Outcome::Fits { slot: best.slot, node: best.name().to_owned(), looked_at }
}

fn pre_filter<'a>(framework: &'a Framework, ctx: Context<'a>) -> Result<Checks<'a>, (usize, Rejection)> {
    let mut all = Checks { checks: Vec::with_capacity(4), only: None };
    for (at, plugin) in framework.plugins().enumerate() {
        match plugin.filter(ctx) {
            Filtering::Skip => {}
            Filtering::Reject(rejection) => return Err((at, rejection)),
            Filtering::Check(check) => all.checks.push((at, check)),
            Filtering::Only(slots, check) => {
                all.checks.push((at, check));
                let slots = match all.only.take() {
                    None => slots,
                    Some((_, before)) => before.into_iter().filter(|slot| slots.contains(slot)).collect(),
                };
                all.only = Some((at, slots));
            }
        }
    }
    Ok(all)
}

fn find_feasible<'a>(
    ctx: Context<'a>,
    checks: &Checks<'_>,
    start: usize,
    error: &mut FitError,
) -> (Vec<&'a NodeInfo>, usize, NodeRejections) {
    let order = checks.only.as_ref().map_or(ctx.cache.order(), |(_, slots)| slots.as_slice());
    let enough = sample_size(order.len());
    let mut feasible = Vec::with_capacity(enough);
    let mut rejections = NodeRejections::new();
    let mut looked_at = 0;
    let start = if order.is_empty() { 0 } else { start % order.len() };
    for slot in order[start..].iter().chain(&order[..start]) {
        if feasible.len() == enough {
            break;
        }
        looked_at += 1;
        let Some(node) = ctx.cache.node(*slot) else { continue };
        match checks.checks.iter().find_map(|(at, check)| check(node).err().map(|why| (*at, why))) {
            None => feasible.push(node),
            Some((at, rejection)) => {
                error.plugins.insert(at);
                rejections.push((*slot, rejection));
            }
        }
    }
    if feasible.is_empty() {
        for (_, rejection) in &rejections {
            error.count(rejection, 1);
        }
        if let Some((at, slots)) = &checks.only {
            // Nodes that were not looked at, since a plugin named those that can do.
            error.plugins.insert(*at);
            let left_out = ctx.cache.node_count().saturating_sub(slots.len());
            if left_out > 0 {
                let reason = "node(s) didn't satisfy plugin(s) [NodeAffinity]";
                error.count(&Rejection::unresolvable(reason), left_out);
            }
        }
    }
    (feasible, looked_at, rejections)
}

fn unschedulable(framework: &Framework, ctx: Context<'_>, mut error: FitError, rejections: &NodeRejections) -> Outcome {
    let mut nominated = None;
    let results: Vec<_> = framework.plugins().filter_map(|p| p.post_filter(ctx, rejections)).collect();
    if !results.is_empty() {
        error.post_filter = Some(results.iter().map(|r| r.message.as_str()).collect::<Vec<_>>().join(", "));
        nominated = results.into_iter().find_map(|r| r.nominated);
    }
    Outcome::Unschedulable { error: Box::new(error), nominated }
}

/// The weighted sum of all plugins' scores, one a node.
pub fn score(framework: &Framework, ctx: Context<'_>, nodes: &[&NodeInfo]) -> Vec<i64> {
    let mut totals = vec![0; nodes.len()];
    let mut own = vec![0; nodes.len()];
    for entry in framework.entries().iter().filter(|e| e.weight != 0) {
        own.fill(0);
        if entry.plugin.score(ctx, nodes, &mut own) {
            entry.plugin.normalize(&mut own);
            for (total, score) in totals.iter_mut().zip(&own) {
                *total += score * entry.weight;
            }
        }
    }
    totals
}

fn pick<'a>(scores: &[i64], nodes: &[&'a NodeInfo], tie: u64) -> &'a NodeInfo {
    let best = scores.iter().copied().max().unwrap_or(0);
    let winners = scores.iter().filter(|score| **score == best).count().max(1);
    let wanted = usize::try_from(tie % winners as u64).unwrap_or(0);
    let at = scores.iter().enumerate().filter(|(_, score)| **score == best).nth(wanted).map_or(0, |(at, _)| at);
    nodes[at]
}

#[cfg(test)]
mod tests;
