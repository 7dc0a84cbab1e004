//! InterPodAffinity: pods that want to be beside others, or must not be, and others that say so of them.

use std::collections::HashMap;

use crate::counts::{Counter, Domains};
use crate::framework::{ClusterEvent, Context, Filtering, MAX_NODE_SCORE, Plugin, Rejection};
use crate::node::NodeInfo;
use crate::pod::{AffinityTerm, PodInfo};
use crate::selector::{Labels, Selector, labels_of};

/// See the module.
pub struct InterPodAffinity;

const NOT_BESIDE: &str = "node(s) didn't match pod affinity rules";
const BESIDE: &str = "node(s) didn't match pod anti-affinity rules";
const FORBIDDEN: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

/// Places of a topology with a count each.
struct Places<'a> {
    domains: &'a Domains,
    counts: Vec<i64>,
}

impl<'a> Places<'a> {
    fn new(ctx: Context<'a>, topology_key: &str, counter: &Counter) -> Option<Self> {
        let domains = ctx.cache.topology().get(topology_key)?;
        Some(Self { domains, counts: domains.sum(counter) })
    }

    fn at(&self, node: &NodeInfo) -> Option<i64> {
        self.domains.of(node.slot).map(|domain| self.counts.get(domain).copied().unwrap_or(0))
    }

    fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }
}

fn counter<'a>(ctx: Context<'a>, terms: &[&AffinityTerm]) -> Option<&'a Counter> {
    ctx.cache.count(&ctx.cache.term_key(terms.iter().copied())).filter(|counter| counter.total() > 0)
}

fn own_namespace_labels(ctx: Context<'_>) -> Labels {
    ctx.cache.namespace_labels(ctx.pod.namespace()).cloned().unwrap_or_default()
}

/// Whether a term may be about a pod: one with a namespace selector may be about any namespace.
fn may_match(term: &AffinityTerm, pod: &PodInfo) -> bool {
    let namespace =
        term.namespace_selector != Selector::Nothing || term.namespaces.iter().any(|n| n == pod.namespace());
    namespace && term.selector.matches(pod.labels())
}

fn concerns(pod: &PodInfo, other: &PodInfo, came: bool) -> bool {
    if came {
        pod.terms.required.iter().all(|t| may_match(t, other)) && !pod.terms.required.is_empty()
    } else {
        pod.terms.forbidden.iter().any(|t| may_match(t, other))
            || other.terms.forbidden.iter().any(|t| may_match(t, pod))
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        let terms = || pod.terms.required.iter().chain(&pod.terms.forbidden);
        match event {
            ClusterEvent::NodeAdded(node) => {
                pod.terms.required.iter().all(|t| labels_of(&node.metadata).contains_key(&t.topology_key))
            }
            ClusterEvent::NodeUpdated { old, new, change } => {
                let value =
                    |node: &k8s_openapi::api::core::v1::Node, key: &str| labels_of(&node.metadata).get(key).cloned();
                // Labels also decide where those are that say no.
                change.labels
                    && (pod.terms.is_empty()
                        || terms().any(|t| value(old, &t.topology_key) != value(new, &t.topology_key)))
            }
            ClusterEvent::AssignedPodAdded(other) => concerns(pod, other, true),
            ClusterEvent::AssignedPodDeleted(other) => concerns(pod, other, false),
            ClusterEvent::AssignedPodUpdated { old, new } => {
                old.labels() != new.labels() && (concerns(pod, new, true) || concerns(pod, old, false))
            }
            ClusterEvent::PodUpdated { old, new } => old.labels() != new.labels(),
            ClusterEvent::NamespaceUpdated => true,
        }
    }

    fn filter<'a>(&'a self, ctx: Context<'a>) -> Filtering<'a> {
        let terms = &ctx.pod.terms;
        let forbidden_by_others = places_of_others(ctx);
        if terms.required.is_empty() && terms.forbidden.is_empty() && forbidden_by_others.is_empty() {
            return Filtering::Skip;
        }
        let mut required = Vec::new();
        if !terms.required.is_empty() {
            let all: Vec<_> = terms.required.iter().collect();
            let none = Counter::default();
            let counter = counter(ctx, &all).unwrap_or(&none);
            for term in &terms.required {
                match Places::new(ctx, &term.topology_key, counter) {
                    Some(places) => required.push(places),
                    None => return Filtering::Check(Box::new(|_| Err(Rejection::unresolvable(NOT_BESIDE)))),
                }
            }
        }
        // The first of pods that want to be beside each other has nobody to be beside.
        let labels = own_namespace_labels(ctx);
        let is_first =
            required.iter().all(Places::is_empty) && terms.required.iter().all(|t| t.matches(ctx.pod, &labels));
        let forbidden: Vec<_> = terms
            .forbidden
            .iter()
            .filter_map(|term| Places::new(ctx, &term.topology_key, counter(ctx, &[term])?))
            .collect();
        Filtering::Check(Box::new(move |node| {
            let beside = |places: &Places<'_>| places.at(node).is_some_and(|count| count > 0 || is_first);
            if !required.iter().all(beside) {
                return Err(Rejection::unresolvable(NOT_BESIDE));
            }
            let occupied = |places: &Places<'_>| places.at(node).is_some_and(|count| count > 0);
            if forbidden.iter().any(occupied) {
                return Err(Rejection::unschedulable(BESIDE));
            }
            if forbidden_by_others.iter().any(occupied) {
                return Err(Rejection::unschedulable(FORBIDDEN));
            }
            Ok(())
        }))
    }

    fn score(&self, ctx: Context<'_>, nodes: &[&NodeInfo], scores: &mut [i64]) -> bool {
        let places = weighted_places(ctx);
        if places.is_empty() {
            return false;
        }
        for (score, node) in scores.iter_mut().zip(nodes) {
            *score = places.iter().filter_map(|places| places.at(node)).sum();
        }
        true
    }

    fn normalize(&self, scores: &mut [i64]) {
        let (min, max) = (scores.iter().copied().min().unwrap_or(0), scores.iter().copied().max().unwrap_or(0));
        for score in scores {
            *score = if max > min {
                (MAX_NODE_SCORE as f64 * ((*score - min) as f64 / (max - min) as f64)) as i64
            } else {
                0
            };
        }
    }
}

/// Where pods are that must not have this one beside them.
fn places_of_others(ctx: Context<'_>) -> Vec<Places<'_>> {
    if ctx.cache.terms().is_empty() {
        return Vec::new();
    }
    let labels = own_namespace_labels(ctx);
    let held = ctx.cache.terms().iter().filter(|(held, _)| held.weight.is_none());
    held.filter(|(held, _)| held.term.matches(ctx.pod, &labels))
        .filter_map(|(held, counter)| Places::new(ctx, &held.term.topology_key, counter))
        .collect()
}

/// What every place is worth: own preferences, and those of pods that are there.
fn weighted_places(ctx: Context<'_>) -> Vec<Places<'_>> {
    let mut by_key: HashMap<&str, Places<'_>> = HashMap::new();
    let mut all = Vec::new();
    for (weight, term) in &ctx.pod.terms.preferred {
        if let Some(counter) = counter(ctx, &[term]) {
            all.extend(Places::new(ctx, &term.topology_key, counter).map(|p| (term.topology_key.as_str(), p, *weight)));
        }
    }
    if !ctx.cache.terms().is_empty() {
        let labels = own_namespace_labels(ctx);
        for (held, counter) in ctx.cache.terms().iter() {
            if let Some(weight) = held.weight
                && held.term.matches(ctx.pod, &labels)
            {
                let key = held.term.topology_key.as_str();
                all.extend(Places::new(ctx, key, counter).map(|places| (key, places, weight)));
            }
        }
    }
    for (key, places, weight) in all {
        let sum = by_key
            .entry(key)
            .or_insert_with(|| Places { domains: places.domains, counts: vec![0; places.counts.len()] });
        for (sum, count) in sum.counts.iter_mut().zip(&places.counts) {
            *sum += count * weight;
        }
    }
    by_key.into_values().collect()
}
