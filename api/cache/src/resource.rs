//! One resource: its latest objects in order of key, and its window.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use navarch_raft_contract::{Event, EventKind, KeyRange};
use navarch_types::Object;
use parking_lot::RwLock;

use crate::caches::{CacheLimits, Caches, IndexedField};
use crate::event::CacheEvent;
use crate::watcher::{Expired, Scope, WakeIndex, Watcher};
use crate::window::Window;

/// Keys read at a time while loading.
const LOAD_PAGE: usize = 10_000;

/// The cache of one resource. Keys are `namespace/name`, or the name for cluster-scoped resources.
pub struct ResourceCache {
    pub(crate) caches: Arc<Caches>,
    pub(crate) prefix: Bytes,
    pub(crate) inner: RwLock<Inner>,
    pub(crate) field: Option<IndexedField>,
    namespaced: bool,
    limits: CacheLimits,
}

pub(crate) struct Inner {
    pub(crate) view: BTreeMap<Arc<str>, Arc<Object>>,
    pub(crate) window: Window,
    /// The revision that this view has seen for sure: the end of the last batch that had events for it.
    pub(crate) revision: u64,
    /// The last change of this resource, or where it was loaded.
    pub(crate) changed: u64,
    pub(crate) wakes: WakeIndex,
}

/// A page of a list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The revision at which it was read.
    pub revision: u64,
    /// The objects with their keys, in order.
    pub items: Vec<(Arc<str>, Arc<Object>)>,
    /// How many are left behind the last of `items`.
    pub remaining: usize,
}

impl ResourceCache {
    pub(crate) fn load(
        caches: Arc<Caches>,
        prefix: Vec<u8>,
        namespaced: bool,
        limits: CacheLimits,
        field: Option<IndexedField>,
    ) -> Self {
        let prefix = Bytes::from(prefix);
        let (view, revision) = read_view(&caches, &prefix);
        let inner = Inner {
            view,
            window: Window::new(revision, limits.window_events_max, limits.window_bytes_max),
            revision,
            changed: revision,
            wakes: WakeIndex::default(),
        };
        Self { caches, prefix, inner: RwLock::new(inner), field, namespaced, limits }
    }

    pub(crate) fn reload(&self) {
        let (view, revision) = read_view(&self.caches, &self.prefix);
        let mut inner = self.inner.write();
        inner.view = view;
        inner.window = Window::new(revision, self.limits.window_events_max, self.limits.window_bytes_max);
        inner.revision = revision;
        inner.changed = revision;
        inner.wakes.wake_all(revision);
    }

    /// Whether objects live in namespaces.
    pub fn namespaced(&self) -> bool {
        self.namespaced
    }

    /// The revision that a read begun now sees.
    pub fn revision(&self) -> u64 {
        self.at(&self.inner.read())
    }

    pub(crate) fn at(&self, inner: &Inner) -> u64 {
        inner.revision.max(self.caches.revision.load(Ordering::Acquire))
    }

    /// Whether nothing of this resource changed after `revision`: then the view is what it was there.
    pub fn unchanged_since(&self, revision: u64) -> bool {
        self.inner.read().changed <= revision
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.inner.read().view.len()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.inner.read().view.is_empty()
    }

    /// The latest version of an object; `namespace` is empty for cluster-scoped resources.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let inner = self.inner.read();
        if namespace.is_empty() {
            inner.view.get(name).cloned()
        } else {
            inner.view.get(format!("{namespace}/{name}").as_str()).cloned()
        }
    }

    /// All objects, of all namespaces or of one, at one revision, in order of key.
    pub fn list(&self, namespace: Option<&str>) -> (u64, Vec<Arc<Object>>) {
        let inner = self.inner.read();
        let items = range(&inner.view, namespace, None).map(|(_, object)| Arc::clone(object)).collect();
        (self.at(&inner), items)
    }

    /// Up to `limit` objects after the key `after`, with what is left.
    pub fn page(&self, namespace: Option<&str>, after: Option<&str>, limit: usize) -> Page {
        let inner = self.inner.read();
        let mut rest = range(&inner.view, namespace, after);
        let items = rest.by_ref().take(limit).map(|(key, object)| (Arc::clone(key), Arc::clone(object))).collect();
        Page { revision: self.at(&inner), items, remaining: rest.count() }
    }

    /// Follows changes after `after`: each event of the scope once, in order.
    ///
    /// # Errors
    /// [`Expired`] if the history after `after` is no longer retained.
    pub fn watch(self: &Arc<Self>, scope: Scope, after: u64) -> Result<Watcher, Expired> {
        let floor = self.caches.reader.compacted();
        let mut inner = self.inner.write();
        if after < inner.window.base() && after < floor {
            return Err(Expired { asked: after, floor });
        }
        Ok(Watcher::register(Arc::clone(self), &mut inner, scope, after))
    }

    /// The latest objects and a watch that goes on from exactly there.
    pub fn list_and_watch(self: &Arc<Self>, scope: Scope) -> (u64, Vec<Arc<Object>>, Watcher) {
        let mut inner = self.inner.write();
        let items = range(&inner.view, scope.namespace.as_deref(), None).map(|(_, o)| Arc::clone(o)).collect();
        let revision = self.at(&inner);
        let watcher = Watcher::register(Arc::clone(self), &mut inner, scope, revision);
        (revision, items, watcher)
    }

    pub(crate) fn apply(&self, events: &[Event], batch_revision: u64) {
        let mut guard = self.inner.write();
        let inner = &mut *guard;
        let loaded = inner.changed;
        for event in events.iter().filter(|event| event.revision > loaded) {
            let change = self.change(&mut inner.view, event);
            inner.changed = event.revision;
            inner.wakes.wake(&change, self.field.as_ref());
            inner.window.push(Arc::new(change));
        }
        inner.revision = inner.revision.max(batch_revision);
    }

    fn change(&self, view: &mut BTreeMap<Arc<str>, Arc<Object>>, event: &Event) -> CacheEvent {
        let (key, object) = self.decode(&event.key, &event.value, event.revision);
        let deleted = event.kind == EventKind::Delete;
        let previous = if deleted { view.remove(&key) } else { view.insert(Arc::clone(&key), Arc::clone(&object)) };
        CacheEvent { revision: event.revision, key, object, previous, deleted }
    }

    /// An object from its key and stored bytes. The bytes are copied: they may be part of a much larger log entry.
    ///
    /// # Panics
    /// On damage. Only this program writes these bytes; carrying on would serve a state that is not the replicated one.
    pub(crate) fn decode(&self, key: &[u8], value: &[u8], revision: u64) -> (Arc<str>, Arc<Object>) {
        let name = key.get(self.prefix.len()..).and_then(|name| std::str::from_utf8(name).ok());
        let object = Object::from_stored(Bytes::copy_from_slice(value), revision);
        match (name, object) {
            (Some(name), Ok(object)) => (Arc::from(name), Arc::new(object)),
            _ => panic!("damaged object in the store at revision {revision}: {}", String::from_utf8_lossy(key)),
        }
    }
}

/// The part of a view in a namespace, behind a key.
fn range<'a>(
    view: &'a BTreeMap<Arc<str>, Arc<Object>>,
    namespace: Option<&str>,
    after: Option<&str>,
) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Object>)> {
    let prefix = namespace.map(|n| format!("{n}/"));
    let start = match (after, &prefix) {
        (Some(after), _) => Bound::Excluded(after),
        (None, Some(prefix)) => Bound::Included(prefix.as_str()),
        (None, None) => Bound::Unbounded,
    };
    let rest = view.range::<str, _>((start, Bound::Unbounded));
    rest.take_while(move |(key, _)| prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix.as_str())))
}

/// # Panics
/// If the state database cannot be read.
fn read_view(caches: &Arc<Caches>, prefix: &Bytes) -> (BTreeMap<Arc<str>, Arc<Object>>, u64) {
    let mut view = BTreeMap::new();
    let mut rest = KeyRange::prefix(prefix);
    let mut at = None;
    loop {
        let (page, revision) = match caches.reader.range(&rest, at, LOAD_PAGE) {
            Ok(read) => read,
            Err(error) => panic!("cannot load a watch cache: {error}"),
        };
        at = Some(at.unwrap_or(revision));
        let Some(last) = page.items.last() else { return (view, at.unwrap_or(revision)) };
        rest.start = [last.key.as_ref(), &[0]].concat().into();
        for item in page.items {
            let name = String::from_utf8_lossy(item.key.get(prefix.len()..).unwrap_or_default());
            match Object::from_stored(item.value, item.mod_revision) {
                Ok(object) => view.insert(Arc::from(name.as_ref()), Arc::new(object)),
                Err(error) => panic!("damaged object in the store: {name}: {error}"),
            };
        }
        if !page.more {
            return (view, at.unwrap_or(revision));
        }
    }
}
