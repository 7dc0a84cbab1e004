//! What the leader does for the store at intervals: expire keys and raise the compaction floor.
//!
//! Each call does one bounded step and proposes with the term in which this member leads; a member that does not lead
//! does nothing. The clock is the caller's.

use std::collections::VecDeque;

use navarch_raft_contract::{CommandBody, Compact, Compare, Expire, Revision};
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

/// Proposes a compaction floor.
///
/// # Errors
/// See [`StoreError`].
pub async fn compact(store: &Store, floor: Revision, deadline: Instant) -> Result<(), StoreError> {
    let Some(term) = store.leading_term() else { return Ok(()) };
    if floor <= store.reader().compacted() {
        return Ok(());
    }
    store.propose(CommandBody::Compact(Compact { floor }), term, deadline).await.map(drop)
}

/// Remembers which revision the store had when, to tell the floor for a retention time. Bounded: samples closer together
/// than a sixtieth of the retention are not kept.
#[derive(Debug)]
pub struct Retention {
    retention_ms: u64,
    samples: VecDeque<(u64, Revision)>,
}

impl Retention {
    /// Keeps history for so many milliseconds.
    pub fn new(retention_ms: u64) -> Self {
        Self { retention_ms, samples: VecDeque::new() }
    }

    /// Notes the present and returns the revision up to which history may go, if any.
    pub fn observe(&mut self, now_ms: u64, revision: Revision) -> Option<Revision> {
        let spacing = self.retention_ms / 60;
        if self.samples.back().is_none_or(|(at, _)| now_ms >= at.saturating_add(spacing)) {
            self.samples.push_back((now_ms, revision));
        }
        let mut floor = None;
        while self.samples.front().is_some_and(|(at, _)| at.saturating_add(self.retention_ms) <= now_ms) {
            floor = self.samples.pop_front().map(|(_, revision)| revision);
        }
        floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_trails_by_the_retention() {
        let mut retention = Retention::new(60_000);
        assert_eq!(retention.observe(0, 10), None);
        assert_eq!(retention.observe(30_000, 20), None);
        assert_eq!(retention.observe(59_999, 30), None);
        assert_eq!(retention.observe(60_000, 40), Some(10));
        assert_eq!(retention.observe(95_000, 50), Some(20));
    }

    #[test]
    fn samples_are_bounded() {
        let mut retention = Retention::new(60_000);
        for ms in 0..200_000 {
            retention.observe(ms, ms);
        }
        assert!(retention.samples.len() <= 62);
    }
}
