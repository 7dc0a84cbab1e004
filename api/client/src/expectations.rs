//! What a controller did and its informer has not shown yet.
//!
//! A controller that counts from a stale store would create or delete twice. It notes each write here and leaves a key
//! alone until the store has caught up. Creations are remembered by revision, deletions by uid, so that no event has to be
//! counted and none can be missed.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::informer::Informer;
use crate::store::{Item, ObjectKey};

/// After so long an expectation is dropped: whatever went wrong, the next look decides.
const TIMEOUT: Duration = Duration::from_secs(300);

struct Expected {
    revision: u64,
    deletions: Vec<(ObjectKey, String)>,
    since: Instant,
}

/// By the controller's own keys.
pub struct Expectations<K> {
    expected: Mutex<HashMap<K, Expected>>,
}

impl<K: Eq + Hash> Default for Expectations<K> {
    fn default() -> Self {
        Self { expected: Mutex::default() }
    }
}

impl<K: Eq + Hash + Clone> Expectations<K> {
    fn change(&self, key: &K, change: impl FnOnce(&mut Expected)) {
        let mut expected = self.expected.lock();
        let since = Instant::now();
        let entry =
            expected.entry(key.clone()).or_insert_with(|| Expected { revision: 0, deletions: Vec::new(), since });
        entry.since = since;
        change(entry);
    }

    /// An object was created or changed and answered with this `resourceVersion`.
    pub fn expect_version(&self, key: &K, resource_version: Option<&str>) {
        if let Some(revision) = resource_version.and_then(|v| v.parse::<u64>().ok()) {
            self.change(key, |e| e.revision = e.revision.max(revision));
        }
    }

    /// An object was deleted.
    pub fn expect_deletion(&self, key: &K, object: ObjectKey, uid: &str) {
        self.change(key, |e| e.deletions.push((object, uid.to_owned())));
    }

    /// Whether the store shows everything that was done for a key.
    pub fn satisfied<T: Item>(&self, key: &K, informer: &Informer<T>) -> bool {
        let mut expected = self.expected.lock();
        let Some(entry) = expected.get_mut(key) else { return true };
        entry.deletions.retain(|(object, uid)| {
            informer.store().get(object).is_some_and(|found| {
                found.metadata().uid.as_deref() == Some(uid) && found.metadata().deletion_timestamp.is_none()
            })
        });
        let done = entry.deletions.is_empty() && informer.store().revision() >= entry.revision;
        if done || entry.since.elapsed() >= TIMEOUT {
            expected.remove(key);
            return true;
        }
        false
    }

    /// The key is gone.
    pub fn forget(&self, key: &K) {
        self.expected.lock().remove(key);
    }
}
