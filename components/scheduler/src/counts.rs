//! Counts of pods by node, kept up to date as pods come and go, so that spreading and affinity cost a cycle a sum over
//! nodes and not a look at every pod.
//!
//! Two tables: how many pods match a selector (made when a pod first asks, dropped when unused for long), and how many
//! pods hold a term about other pods. And the topology: which nodes share a label's value.

use std::collections::HashMap;

use crate::node::Slot;
use crate::pod::{AffinityTerm, PodInfo};
use crate::selector::{Labels, Selector};

/// Selectors counted at a time. More distinct ones in use than this cost a count anew; each costs every pod that comes
/// or goes a comparison and 4 bytes a node.
const COUNTERS_MAX: usize = 256;

/// Which pods to count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CountKey {
    /// The namespaces, in order; `None` is all.
    pub namespaces: Option<Vec<String>>,
    /// The pods.
    pub selector: Selector,
    /// Leave out those that are being deleted.
    pub alive_only: bool,
}

impl CountKey {
    /// Whether a pod counts.
    pub fn matches(&self, pod: &PodInfo) -> bool {
        self.namespaces.as_ref().is_none_or(|names| names.iter().any(|n| n == pod.namespace()))
            && !(self.alive_only && pod.is_terminating())
            && self.selector.matches(pod.labels())
    }
}

/// Pods by node.
#[derive(Clone, Debug, Default)]
pub struct Counter {
    by_slot: Vec<u32>,
    total: u64,
    used: u64,
}

impl Counter {
    fn change(&mut self, slot: Slot, up: bool) {
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, 0);
        }
        let count = &mut self.by_slot[slot];
        if up {
            *count += 1;
            self.total += 1;
        } else {
            debug_assert!(*count > 0, "a pod is counted out that was not counted in");
            *count = count.saturating_sub(1);
            self.total = self.total.saturating_sub(1);
        }
    }

    /// On one node.
    pub fn at(&self, slot: Slot) -> i64 {
        self.by_slot.get(slot).copied().unwrap_or(0).into()
    }

    /// On all nodes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The nodes with some.
    pub fn occupied(&self) -> impl Iterator<Item = (Slot, i64)> + '_ {
        self.by_slot.iter().enumerate().filter(|(_, n)| **n > 0).map(|(slot, n)| (slot, i64::from(*n)))
    }
}

/// How many pods match selectors.
#[derive(Debug, Default)]
pub struct SelectorCounts {
    counters: HashMap<CountKey, Counter>,
    clock: u64,
}

impl SelectorCounts {
    /// The counts of a selector, if they are kept.
    pub fn get(&self, key: &CountKey) -> Option<&Counter> {
        self.counters.get(key)
    }

    /// Keeps the counts of a selector from now on; `pods` are all pods there are.
    pub fn ensure<'a>(&mut self, key: &CountKey, pods: impl Iterator<Item = (Slot, &'a PodInfo)>) {
        self.clock += 1;
        let clock = self.clock;
        if let Some(counter) = self.counters.get_mut(key) {
            counter.used = clock;
            return;
        }
        if self.counters.len() >= COUNTERS_MAX {
            self.drop_oldest();
        }
        let mut counter = Counter { used: clock, ..Counter::default() };
        for (slot, _) in pods.filter(|(_, pod)| key.matches(pod)) {
            counter.change(slot, true);
        }
        self.counters.insert(key.clone(), counter);
    }

    fn drop_oldest(&mut self) {
        // An eighth at a time, so that a cluster with many selectors does not look for the oldest at every pod.
        let mut ages: Vec<u64> = self.counters.values().map(|c| c.used).collect();
        ages.sort_unstable();
        let limit = ages.get(COUNTERS_MAX / 8).copied().unwrap_or(u64::MAX);
        self.counters.retain(|_, c| c.used > limit);
    }

    /// A pod came to a node or left it.
    pub fn change(&mut self, slot: Slot, pod: &PodInfo, up: bool) {
        for (key, counter) in &mut self.counters {
            if key.matches(pod) {
                counter.change(slot, up);
            }
        }
    }
}

/// What a term of a pod that has its node means for others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeldTerm {
    /// `None`: pods that match must stay away. Else what a place counts for them.
    pub weight: Option<i64>,
    /// The term.
    pub term: AffinityTerm,
}

/// How many pods hold which terms.
#[derive(Debug, Default)]
pub struct TermCounts {
    held: HashMap<HeldTerm, Counter>,
}

/// What required affinity of a pod counts for others that match it.
const REQUIRED_AFFINITY_WEIGHT: i64 = 1;

impl TermCounts {
    /// A pod came to a node or left it.
    pub fn change(&mut self, slot: Slot, pod: &PodInfo, up: bool) {
        let terms = &pod.terms;
        let forbidden = terms.forbidden.iter().map(|t| (None, t));
        let required = terms.required.iter().map(|t| (Some(REQUIRED_AFFINITY_WEIGHT), t));
        let preferred = terms.preferred.iter().map(|(w, t)| (Some(*w), t));
        for (weight, term) in forbidden.chain(required).chain(preferred) {
            let key = HeldTerm { weight, term: term.clone() };
            let counter = self.held.entry(key.clone()).or_default();
            counter.change(slot, up);
            if counter.total == 0 {
                self.held.remove(&key);
            }
        }
    }

    /// Whether no pod holds any.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// All that are held.
    pub fn iter(&self) -> impl Iterator<Item = (&HeldTerm, &Counter)> {
        self.held.iter()
    }
}

/// The values of one label over all nodes, numbered.
#[derive(Debug, Default)]
pub struct Domains {
    by_slot: Vec<Option<u32>>,
    numbers: HashMap<String, u32>,
}

impl Domains {
    fn set(&mut self, slot: Slot, value: Option<&String>) {
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, None);
        }
        self.by_slot[slot] = value.map(|value| match self.numbers.get(value) {
            Some(number) => *number,
            None => {
                let number = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
                self.numbers.insert(value.clone(), number);
                number
            }
        });
    }

    /// The number of a node's value; `None` without the label.
    pub fn of(&self, slot: Slot) -> Option<usize> {
        self.by_slot.get(slot).copied().flatten().map(|n| n as usize)
    }

    /// One more than the largest number.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether no node ever had the label.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Sums counts by value.
    pub fn sum(&self, counter: &Counter) -> Vec<i64> {
        let mut sums = vec![0; self.len()];
        for (slot, count) in counter.occupied() {
            if let Some(domain) = self.of(slot) {
                sums[domain] += count;
            }
        }
        sums
    }
}

/// The labels that pods' constraints are about, by node.
#[derive(Debug, Default)]
pub struct Topology {
    keys: HashMap<String, Domains>,
}

impl Topology {
    /// The values of a label, if it is followed.
    pub fn get(&self, key: &str) -> Option<&Domains> {
        self.keys.get(key)
    }

    /// Follows a label from now on.
    pub fn ensure<'a>(&mut self, key: &str, nodes: impl Iterator<Item = (Slot, &'a Labels)>) {
        if !self.keys.contains_key(key) {
            let mut domains = Domains::default();
            for (slot, labels) in nodes {
                domains.set(slot, labels.get(key));
            }
            self.keys.insert(key.to_owned(), domains);
        }
    }

    /// A node's labels changed, or it went (`None`).
    pub fn set_node(&mut self, slot: Slot, labels: Option<&Labels>) {
        for (key, domains) in &mut self.keys {
            domains.set(slot, labels.and_then(|l| l.get(key)));
        }
    }
}
