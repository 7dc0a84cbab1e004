//! One change of one object.

use std::sync::Arc;

use navarch_types::Object;

/// A change, as watchers see it before their selectors are applied.
#[derive(Clone, Debug)]
pub struct CacheEvent {
    /// The revision of the change.
    pub revision: u64,
    /// `namespace/name`, or the name of a cluster-scoped object.
    pub key: Arc<str>,
    /// The new version; for a deletion the last one, at the deletion's revision.
    pub object: Arc<Object>,
    /// The version before, if there was one.
    pub previous: Option<Arc<Object>>,
    /// Whether the object was removed.
    pub deleted: bool,
}

impl CacheEvent {
    /// The namespace, empty for a cluster-scoped object.
    pub fn namespace(&self) -> &str {
        self.key.rsplit_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.key.rsplit_once('/').map_or(&*self.key, |(_, name)| name)
    }
}
