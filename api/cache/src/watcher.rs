//! Watches: cursors on a resource's window.
//!
//! An event wakes only the watches it concerns, by an index over scopes. A watcher keeps no queue: it remembers the last
//! revision it looked at and the first pending one. Behind the window it continues from the store's history.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use navarch_raft_contract::ReadError;
use tokio::sync::Notify;

use crate::caches::IndexedField;
use crate::event::CacheEvent;
use crate::history;
use crate::resource::{Inner, ResourceCache};

/// What a watch is about. Label and other field selectors are applied by the caller, who sees each event's version before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only this name (in `namespace`, or of a cluster-scoped resource).
    pub name: Option<String>,
    /// Only objects whose indexed field has this value, or had it before the event. Ignored for a field that the resource
    /// does not index.
    pub field: Option<(&'static str, String)>,
}

/// History that a watch needs is no longer retained: list anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({floor})")]
pub struct Expired {
    /// The revision asked for.
    pub asked: u64,
    /// The oldest that can be watched from.
    pub floor: u64,
}

/// Why a watch ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// It fell behind what is retained: list anew.
    #[error(transparent)]
    Expired(#[from] Expired),
    /// History could not be read.
    #[error(transparent)]
    Read(ReadError),
}

/// What wakes a watcher.
#[derive(Default)]
pub(crate) struct Slot {
    notify: Notify,
    /// The revision of the first event since the watcher last looked, 0 if there was none.
    pending: AtomicU64,
}

impl Slot {
    fn wake(&self, revision: u64) {
        if self.pending.compare_exchange(0, revision, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.notify.notify_one();
        }
    }
}

/// A part of the scope that is looked up by an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum WakeKey {
    All,
    Namespace(String),
    Key(String),
    Field(String),
}

/// Which watchers an event concerns.
#[derive(Default)]
pub(crate) struct WakeIndex {
    slots: HashMap<WakeKey, HashMap<u64, Arc<Slot>>>,
    next_id: u64,
}

impl WakeIndex {
    pub(crate) fn wake(&self, event: &CacheEvent, field: Option<&IndexedField>) {
        if self.slots.is_empty() {
            return;
        }
        self.wake_key(&WakeKey::All, event.revision);
        if self.slots.len() == 1 && self.slots.contains_key(&WakeKey::All) {
            return;
        }
        self.wake_key(&WakeKey::Namespace(event.namespace().to_owned()), event.revision);
        self.wake_key(&WakeKey::Key(event.key.to_string()), event.revision);
        if let Some(field) = field {
            for object in event.previous.iter().chain([&event.object]) {
                if let Some(value) = (field.extract)(object) {
                    self.wake_key(&WakeKey::Field(value), event.revision);
                }
            }
        }
    }

    fn wake_key(&self, key: &WakeKey, revision: u64) {
        for slot in self.slots.get(key).into_iter().flat_map(HashMap::values) {
            slot.wake(revision);
        }
    }

    pub(crate) fn wake_all(&self, revision: u64) {
        for slot in self.slots.values().flat_map(HashMap::values) {
            slot.wake(revision);
        }
    }

    fn insert(&mut self, key: WakeKey) -> (u64, Arc<Slot>) {
        let slot = Arc::new(Slot::default());
        self.next_id += 1;
        self.slots.entry(key).or_default().insert(self.next_id, Arc::clone(&slot));
        (self.next_id, slot)
    }

    fn remove(&mut self, key: &WakeKey, id: u64) {
        if let Some(slots) = self.slots.get_mut(key) {
            slots.remove(&id);
            if slots.is_empty() {
                self.slots.remove(key);
            }
        }
    }
}

/// A watch. Dropping it unregisters it.
pub struct Watcher {
    cache: Arc<ResourceCache>,
    scope: Scope,
    wake_key: WakeKey,
    id: u64,
    slot: Arc<Slot>,
    /// Everything of the scope up to here was returned.
    cursor: u64,
    /// A chunk of history, while the window does not reach back to the cursor.
    history: VecDeque<Arc<CacheEvent>>,
}

impl Watcher {
    pub(crate) fn register(cache: Arc<ResourceCache>, inner: &mut Inner, scope: Scope, after: u64) -> Self {
        let indexed = scope.field.as_ref().filter(|(name, _)| cache.field.is_some_and(|f| f.name == *name));
        let wake_key = match (&scope.name, indexed, &scope.namespace) {
            (Some(name), _, Some(namespace)) => WakeKey::Key(format!("{namespace}/{name}")),
            (Some(name), _, None) if !cache.namespaced() => WakeKey::Key(name.clone()),
            (_, Some((_, value)), _) => WakeKey::Field(value.clone()),
            (_, None, Some(namespace)) => WakeKey::Namespace(namespace.clone()),
            (_, None, None) => WakeKey::All,
        };
        let (id, slot) = inner.wakes.insert(wake_key.clone());
        // Whatever happened between `after` and now is pending.
        slot.wake(after.saturating_add(1));
        Self { cache, scope, wake_key, id, slot, cursor: after, history: VecDeque::new() }
    }

    /// The next event. Cancel-safe: an event is taken only when it is returned.
    ///
    /// # Errors
    /// When the watch cannot go on; see [`WatchError`].
    pub async fn next(&mut self) -> Result<Arc<CacheEvent>, WatchError> {
        loop {
            if let Some(event) = self.poll_ready().await? {
                return Ok(event);
            }
            self.slot.notify.notified().await;
        }
    }

    /// The next event if there is one already.
    ///
    /// # Errors
    /// As [`Watcher::next`].
    pub async fn poll_ready(&mut self) -> Result<Option<Arc<CacheEvent>>, WatchError> {
        loop {
            while let Some(event) = self.history.pop_front() {
                self.cursor = event.revision;
                if self.concerns(&event) {
                    return Ok(Some(event));
                }
            }
            match self.next_in_window() {
                Some(event) => return Ok(event),
                None => self.read_history().await?,
            }
        }
    }

    /// All events of the scope up to this revision have been returned: what a bookmark may say. A watcher with events
    /// pending answers its cursor.
    pub fn revision(&self) -> u64 {
        let inner = self.cache.inner.read();
        let idle = self.history.is_empty() && self.slot.pending.load(Ordering::Acquire) == 0;
        if idle { self.cache.at(&inner).max(self.cursor) } else { self.cursor }
    }

    /// `None` if the window does not reach back to what is pending.
    fn next_in_window(&mut self) -> Option<Option<Arc<CacheEvent>>> {
        // The applier holds this lock for writing while it wakes, so `pending` cannot change meanwhile.
        let inner = self.cache.inner.read();
        let pending = self.slot.pending.load(Ordering::Acquire);
        if pending == 0 {
            return Some(None);
        }
        let from = self.cursor.max(pending - 1);
        let found = inner.window.after(from)?.find(|event| self.concerns(event)).cloned();
        match &found {
            Some(event) => {
                self.cursor = event.revision;
                self.slot.pending.store(event.revision + 1, Ordering::Release);
            }
            None => {
                self.cursor = self.cursor.max(inner.changed);
                self.slot.pending.store(0, Ordering::Release);
            }
        }
        Some(found)
    }

    async fn read_history(&mut self) -> Result<(), WatchError> {
        let pending = self.slot.pending.load(Ordering::Acquire);
        let from = self.cursor.max(pending.saturating_sub(1));
        let (events, reached) = history::read(Arc::clone(&self.cache), self.scope.clone(), from).await?;
        if events.is_empty() {
            self.cursor = self.cursor.max(reached);
        }
        self.history.extend(events);
        Ok(())
    }

    fn concerns(&self, event: &CacheEvent) -> bool {
        let Scope { namespace, name, field } = &self.scope;
        namespace.as_deref().is_none_or(|namespace| event.namespace() == namespace)
            && name.as_deref().is_none_or(|name| event.name() == name)
            && field.as_ref().is_none_or(|(field_name, value)| self.field_matches(event, field_name, value))
    }

    fn field_matches(&self, event: &CacheEvent, field_name: &str, value: &str) -> bool {
        let Some(field) = self.cache.field.filter(|field| field.name == field_name) else { return true };
        let matches = |object: &_| (field.extract)(object).is_none_or(|found| found == value);
        matches(&event.object) || event.previous.as_deref().is_some_and(matches)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.cache.inner.write().wakes.remove(&self.wake_key, self.id);
    }
}
