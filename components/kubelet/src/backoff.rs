//! Exponential back-off by key, as upstream reckons it: the wait doubles with every failure and starts anew after a
//! while without one. Pure: the caller brings the time.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

/// Waits of one kind (restarts, image pulls).
#[derive(Clone, Debug)]
pub struct BackOff {
    first: SignedDuration,
    longest: SignedDuration,
    entries: HashMap<String, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    wait: SignedDuration,
    updated: Timestamp,
}

impl BackOff {
    /// Starting at `first`, doubling up to `longest`.
    pub fn new(first: SignedDuration, longest: SignedDuration) -> Self {
        Self { first, longest, entries: HashMap::new() }
    }

    /// Kubernetes' waits between restarts and between pulls: 10 s to 5 min.
    pub fn kubernetes() -> Self {
        Self::new(SignedDuration::from_secs(10), SignedDuration::from_mins(5))
    }

    fn expired(&self, entry: Entry, at: Timestamp) -> bool {
        at.duration_since(entry.updated) > self.longest * 2
    }

    /// The wait for `key` now in force.
    pub fn wait(&self, key: &str) -> SignedDuration {
        self.entries.get(key).map_or(SignedDuration::ZERO, |entry| entry.wait)
    }

    /// Until when `key` has to wait, given when it failed last. `None`: it may go on.
    pub fn until(&self, key: &str, failed: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let entry = self.entries.get(key)?;
        if self.expired(*entry, failed) {
            return None;
        }
        let until = failed.checked_add(entry.wait).ok()?;
        (until > now).then_some(until)
    }

    /// Until when `key` has to wait since its last failure was recorded.
    pub fn until_since_update(&self, key: &str, now: Timestamp) -> Option<Timestamp> {
        let entry = self.entries.get(key)?;
        let until = entry.updated.checked_add(entry.wait).ok()?;
        (until > now).then_some(until)
    }

    /// Records one more failure or attempt.
    pub fn next(&mut self, key: &str, now: Timestamp) {
        let entry = match self.entries.get(key).copied() {
            Some(entry) if !self.expired(entry, now) => {
                Entry { wait: (entry.wait * 2).min(self.longest), updated: now }
            }
            _ => Entry { wait: self.first, updated: now },
        };
        self.entries.insert(key.to_owned(), entry);
    }

    /// Forgets `key`.
    pub fn reset(&mut self, key: &str) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn doubles_up_to_the_longest_and_starts_anew_after_ten_minutes() {
        let mut backoff = BackOff::kubernetes();
        let mut now = 1_000;
        assert_eq!(backoff.until("a", at(now), at(now)), None);
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            backoff.next("a", at(now));
            assert_eq!(backoff.until("a", at(now), at(now)), Some(at(now + expected)), "after {expected}");
            assert_eq!(backoff.until("a", at(now), at(now + expected)), None);
            now += expected;
        }
        now += 601;
        assert_eq!(backoff.until("a", at(now), at(now)), None);
        backoff.next("a", at(now));
        assert_eq!(backoff.wait("a"), SignedDuration::from_secs(10));
    }
}
