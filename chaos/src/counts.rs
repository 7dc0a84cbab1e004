//! What happened in runs, by name: faults, and what they led to. What never happened has proved nothing.

use std::{collections::BTreeMap, fmt};

/// Sums by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<&'static str, u64>);

/// What every batch of runs must have seen.
const ALWAYS: &[&str] = &[
    "elections",
    "conflicts",
    "crashes",
    "kills",
    "failed writes",
    "bytes discarded by crashes",
    "torn writes",
    "pauses",
    "changes of clock speed",
    "slow disks",
    "client: acknowledged writes",
    "client: reads",
    "client: reads not older than",
    "client: no answer",
    "client: paged lists",
    "watch: events",
    "watch: reconnects",
    "watch: 410",
    "watch: lists",
    "watch: 410 by a prefix's floor",
    "past: reads",
    "past: refused, below the floor of all",
    "past: refused, below a prefix's floor",
];

/// What it must have seen if there was more than one member.
const OF_SEVERAL: &[&str] = &[
    "fenced refusals",
    "snapshots installed",
    "membership changes",
    "transfers",
    "packets lost",
    "packets doubled",
    "packets reordered",
    "directions blocked",
    "packet: append",
    "packet: append answer",
    "packet: heartbeat",
    "packet: heartbeat answer",
    "packet: vote",
    "packet: vote answer",
    "packet: pre-vote",
    "packet: pre-vote answer",
    "packet: snapshot",
    "packet: read index",
    "packet: read index answer",
    "packet: take over now",
    "told that a peer cannot be reached",
    "packet: forwarded proposal",
    "packet: proposal's answer",
    "checks made",
    "states damaged",
    "members found damaged",
    "rebuilds",
    "went on without a minority",
];

impl Counts {
    /// Adds.
    pub fn add(&mut self, name: &'static str, count: u64) {
        if count > 0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    /// Adds one.
    pub fn one(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    /// How often it happened.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// What should have happened in a batch of runs of so many members, and did not.
    pub fn missing(&self, members: usize) -> Vec<&'static str> {
        let several = if members > 1 { OF_SEVERAL } else { &[] };
        ALWAYS.iter().chain(several).copied().filter(|name| self.get(name) == 0).collect()
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        other.0.into_iter().for_each(|(name, count)| self.add(name, count));
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.len();
        for (name, count) in &self.0 {
            left -= 1;
            write!(out, "{count:>12}  {name}")?;
            if left > 0 {
                writeln!(out)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_is_named() {
        let mut counts = Counts::default();
        assert_eq!(counts.missing(1), ALWAYS);
        assert_eq!(counts.missing(3).len(), ALWAYS.len() + OF_SEVERAL.len());
        ALWAYS.iter().for_each(|name| counts.one(name));
        assert!(counts.missing(1).is_empty());
        let mut sum = counts.clone();
        sum += counts;
        assert_eq!(sum.get("pauses"), 2);
        assert_eq!(sum.missing(3), OF_SEVERAL);
    }
}
