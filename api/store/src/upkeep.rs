//! What the leader does for the store at intervals: expire keys, raise the compaction floors, check the states.
//!
//! Each call does one bounded step and proposes with the term in which this member leads; a member that does not lead
//! does nothing. The clock is the caller's.

use std::collections::VecDeque;

use bytes::Bytes;
use navarch_raft_contract::{Check, CommandBody, Compact, Compare, Expire, KeyRange, PrefixFloor, Revision, Witness};
use tokio::time::Instant;

use crate::error::StoreError;
use crate::store::Store;

/// Keys expired by one command: keeps an entry small and other writes flowing.
const EXPIRE_BATCH: usize = 256;

/// Deletes keys whose time has come. Returns how many there were; as many as a batch holds means: call again at once.
///
/// # Errors
/// See [`StoreError`]; nothing is lost, the next call tries again.
pub async fn expire(store: &Store, now_ms: u64, deadline: Instant) -> Result<usize, StoreError> {
    let Some(term) = store.leading_term() else { return Ok(0) };
    let due = store.reader().expired(now_ms, EXPIRE_BATCH)?;
    if due.is_empty() {
        return Ok(0);
    }
    let count = due.len();
    let keys = due.into_iter().map(|e| Compare { key: e.key, mod_revision: e.mod_revision }).collect();
    store.propose(CommandBody::Expire(Expire { keys }), term, deadline).await?;
    Ok(count)
}

/// Floors up to which history may be forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floors {
    /// Of all keys; 0: none.
    pub all: Revision,
    /// Of keys with a prefix, where that is higher.
    pub prefixes: Vec<PrefixFloor>,
}

/// Proposes compaction floors, if that raises any.
///
/// # Errors
/// See [`StoreError`].
pub async fn compact(store: &Store, floors: Floors, deadline: Instant) -> Result<(), StoreError> {
    let Some(term) = store.leading_term() else { return Ok(()) };
    let reader = store.reader();
    let Floors { all, mut prefixes } = floors;
    prefixes.retain(|at| at.floor > all.max(reader.floor_of(&KeyRange::prefix(&at.prefix))));
    if all <= reader.compacted() && prefixes.is_empty() {
        return Ok(());
    }
    store.propose(CommandBody::Compact(Compact { floor: all, prefixes }), term, deadline).await.map(drop)
}

/// Makes every member note the hash of its state at the same place in the log.
///
/// # Errors
/// See [`StoreError`]; the next one will do.
pub async fn check(store: &Store, deadline: Instant) -> Result<(), StoreError> {
    let Some(term) = store.leading_term() else { return Ok(()) };
    store.propose(CommandBody::Check(Check {}), term, deadline).await.map(drop)
}

/// Says what a member found at a check. Every member does, through whoever leads.
///
/// # Errors
/// See [`StoreError`].
pub async fn testify(store: &Store, witness: Witness, deadline: Instant) -> Result<(), StoreError> {
    store.propose(CommandBody::Witness(witness), 0, deadline).await.map(drop)
}

/// For how long history is kept, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionRules {
    /// History of all keys, milliseconds.
    pub all_ms: u64,
    /// History of keys with a prefix, milliseconds; longer than that of all has no effect.
    pub prefixes: Vec<(Bytes, u64)>,
    /// Bytes of keys and values in the history of all keys; older history is forgotten earlier. What was written before this
    /// process started is not counted: it is gone after [`RetentionRules::all_ms`].
    pub bytes_max: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at_ms: u64,
    revision: Revision,
    bytes: u64,
}

/// Remembers which revision the store had when, to tell the floors. Bounded: samples closer together than a tenth of what is
/// kept shortest are not kept, unless much was written between them.
#[derive(Debug)]
pub struct Retention {
    rules: RetentionRules,
    samples: VecDeque<Sample>,
}

/// Of the shortest retention: between two samples.
const SAMPLES_SHORTEST: u64 = 10;
/// Of the bytes that are kept: between two samples.
const SAMPLES_BYTES: u64 = 16;
/// Samples are not kept more often than every so many of the longest retention.
const SAMPLES_MAX: u64 = 1000;
/// How long history is kept on a disk that is nearly full, milliseconds: who has just lost its connection can go on.
const TIGHT_MS: u64 = 15_000;

impl Retention {
    /// Keeps history by these rules.
    pub fn new(rules: RetentionRules) -> Self {
        Self { rules, samples: VecDeque::new() }
    }

    fn shortest_ms(&self) -> u64 {
        self.rules.prefixes.iter().map(|(_, ms)| *ms).fold(self.rules.all_ms, u64::min)
    }

    /// Notes the present and returns the floors. `bytes` counts what was written, from any beginning. While `tight`, nearly
    /// nothing is kept: the disk is nearly full, and history is what can be done without; what was deleted takes room until
    /// it is forgotten.
    pub fn observe(&mut self, now_ms: u64, revision: Revision, bytes: u64, tight: bool) -> Floors {
        let all_ms = if tight { self.shortest_ms().min(TIGHT_MS) } else { self.rules.all_ms };
        let spacing = (self.shortest_ms().min(all_ms) / SAMPLES_SHORTEST).max(all_ms / SAMPLES_MAX);
        let heavy = self.rules.bytes_max / SAMPLES_BYTES;
        let due = |last: &Sample| now_ms >= last.at_ms.saturating_add(spacing) || bytes - last.bytes.min(bytes) > heavy;
        if self.samples.back().is_none_or(due) {
            self.samples.push_back(Sample { at_ms: now_ms, revision, bytes });
        }
        let mut all = self.aged(now_ms, all_ms);
        // The newest sample after which there is more than is to be kept.
        let excess = |sample: &&Sample| bytes.saturating_sub(sample.bytes) > self.rules.bytes_max;
        all = all.max(self.samples.iter().rev().find(excess).map_or(0, |sample| sample.revision));
        let of_prefix = |(prefix, ms): &(Bytes, u64)| {
            let floor = self.aged(now_ms, *ms);
            (floor > all).then(|| PrefixFloor { prefix: prefix.clone(), floor })
        };
        let prefixes = self.rules.prefixes.iter().filter_map(of_prefix).collect();
        while self.samples.get(1).is_some_and(|next| next.revision <= all) {
            self.samples.pop_front();
        }
        Floors { all, prefixes }
    }

    /// The revision of the newest sample that is so old; 0 if none is.
    fn aged(&self, now_ms: u64, keep_ms: u64) -> Revision {
        let old = |sample: &&Sample| sample.at_ms.saturating_add(keep_ms) <= now_ms;
        self.samples.iter().rev().find(old).map_or(0, |sample| sample.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(bytes_max: u64) -> RetentionRules {
        RetentionRules { all_ms: 60_000, prefixes: vec![("lease/".into(), 10_000)], bytes_max }
    }

    #[test]
    fn the_floors_trail_by_the_retention() {
        let mut retention = Retention::new(rules(u64::MAX));
        let mut at = |now_ms, revision| {
            let floors = retention.observe(now_ms, revision, 0, false);
            (floors.all, floors.prefixes.first().map(|at| at.floor))
        };
        assert_eq!(at(0, 10), (0, None));
        assert_eq!(at(9_999, 20), (0, None));
        assert_eq!(at(10_000, 25), (0, Some(10)));
        assert_eq!(at(30_000, 30), (0, Some(20)), "one so close to the one before was not kept");
        assert_eq!(at(59_999, 35), (0, Some(30)));
        assert_eq!(at(60_000, 40), (10, Some(30)));
        assert_eq!(at(75_000, 50), (20, Some(35)));
        assert_eq!(at(500_000, 60), (50, None), "the same for all, after a long pause");
    }

    #[test]
    fn much_history_is_kept_for_a_shorter_time() {
        let mut retention = Retention::new(rules(100));
        for step in 0..10 {
            retention.observe(step, step, step * 30, false);
        }
        // 300 bytes: what is at or below 200 is before the last hundred.
        assert_eq!(retention.observe(10, 10, 300, false).all, 6);
    }

    #[test]
    fn on_a_full_disk_nearly_no_history_is_kept() {
        let mut retention = Retention::new(rules(u64::MAX));
        for second in 0..40 {
            retention.observe(second * 1000, second, 0, false);
        }
        assert_eq!(retention.observe(40_000, 40, 0, false).all, 0);
        assert_eq!(retention.observe(40_000, 40, 0, true), Floors { all: 30, prefixes: vec![] }, "the shortest");
        let mut retention = Retention::new(RetentionRules { all_ms: 3_600_000, prefixes: vec![], bytes_max: u64::MAX });
        retention.observe(0, 1, 0, false);
        // What is deleted now is forgotten soon, though the last sample before was long ago.
        retention.observe(1_000_000, 50, 0, true);
        assert_eq!(retention.observe(1_002_000, 60, 0, true).all, 1);
        assert_eq!(retention.observe(1_015_000, 70, 0, true).all, 50);
        assert_eq!(retention.observe(1_017_000, 70, 0, true).all, 60);
        assert!(retention.samples.len() < 20);
    }

    #[test]
    fn samples_are_bounded() {
        let mut retention = Retention::new(rules(u64::MAX));
        for ms in 0..200_000 {
            retention.observe(ms, ms, 0, false);
        }
        assert!(retention.samples.len() <= 62, "{}", retention.samples.len());
    }
}
