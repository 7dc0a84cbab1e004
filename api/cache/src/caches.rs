//! All resources' caches, and the sink that feeds them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use navarch_raft_contract::{AppliedBatch, ApplySink, Event, StateReader};
use navarch_store::key;
use navarch_types::{GroupResource, Object};
use parking_lot::RwLock;

use crate::resource::ResourceCache;

/// A field by which watches are woken selectively, such as a pod's `spec.nodeName`.
#[derive(Clone, Copy)]
pub struct IndexedField {
    /// As in field selectors.
    pub name: &'static str,
    /// Its value in an object; `None` if the object cannot be decoded.
    pub extract: fn(&Object) -> Option<String>,
}

/// How much each resource's window may hold.
#[derive(Clone, Copy, Debug)]
pub struct CacheLimits {
    /// Events in the window of one resource.
    pub window_events_max: usize,
    /// Bytes of objects in the window of one resource. Objects that are still the latest count too.
    pub window_bytes_max: usize,
}

impl Default for CacheLimits {
    /// A few seconds of heavy writing; a watcher that is further behind continues from the store's history.
    fn default() -> Self {
        Self { window_events_max: 8192, window_bytes_max: 8 << 20 }
    }
}

/// The caches of all resources.
pub struct Caches {
    pub(crate) reader: Arc<dyn StateReader>,
    pub(crate) revision: AtomicU64,
    limits: CacheLimits,
    resources: RwLock<HashMap<Vec<u8>, Arc<ResourceCache>>>,
}

impl Caches {
    /// Empty caches; each resource is loaded at its first use.
    pub fn new(reader: Arc<dyn StateReader>, limits: CacheLimits) -> Arc<Self> {
        let revision = AtomicU64::new(reader.revision());
        Arc::new(Self { reader, revision, limits, resources: RwLock::default() })
    }

    /// The revision up to which every cache is.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// The cache of a resource, loaded if need be. While it loads, applying waits: objects of a resource are few when it
    /// is first asked for (at start, or when its definition was made).
    pub fn resource(self: &Arc<Self>, resource: &GroupResource, namespaced: bool) -> Arc<ResourceCache> {
        let prefix = key::resource_prefix(resource).into_bytes();
        if let Some(cache) = self.resources.read().get(&prefix) {
            return Arc::clone(cache);
        }
        let mut resources = self.resources.write();
        if let Some(cache) = resources.get(&prefix) {
            return Arc::clone(cache);
        }
        let field = indexed_field(resource);
        let cache = Arc::new(ResourceCache::load(Arc::clone(self), prefix.clone(), namespaced, self.limits, field));
        resources.insert(prefix, Arc::clone(&cache));
        cache
    }
}

impl ApplySink for Caches {
    fn applied(&self, batch: &AppliedBatch) {
        {
            let resources = self.resources.read();
            let mut events = batch.events.as_slice();
            while let Some(first) = events.first() {
                // Runs of events of one resource are applied under one lock.
                let prefix = key::prefix_of(&first.key).unwrap_or_default();
                let run = events.iter().take_while(|e| same_prefix(e, prefix)).count().max(1);
                let (these, rest) = events.split_at(run);
                if let Some(cache) = resources.get(prefix) {
                    cache.apply(these, batch.revision);
                }
                events = rest;
            }
        }
        self.revision.store(batch.revision, Ordering::Release);
    }

    fn replaced(&self) {
        let resources = self.resources.write();
        for cache in resources.values() {
            cache.reload();
        }
        self.revision.store(self.reader.revision(), Ordering::Release);
    }
}

fn same_prefix(event: &Event, prefix: &[u8]) -> bool {
    key::prefix_of(&event.key).unwrap_or_default() == prefix
}

fn indexed_field(resource: &GroupResource) -> Option<IndexedField> {
    fn node_name(object: &Object) -> Option<String> {
        let pod = object.typed::<k8s_openapi::api::core::v1::Pod>().ok()?;
        Some(pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default())
    }
    (resource.group.is_empty() && resource.resource == "pods")
        .then_some(IndexedField { name: "spec.nodeName", extract: node_name })
}
