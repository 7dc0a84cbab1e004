//! What authentication, authorization and admission see of the cluster: current objects, by resource.
//!
//! Reads only, from memory, and never waits. The watch caches are the implementation that serves; tests bring their own.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use navarch_cache::{Caches, ResourceCache};
use navarch_types::{GroupResource, Object};
use parking_lot::RwLock;

/// A resource that can be looked into.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Viewed {
    /// Which one.
    pub resource: GroupResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Viewed {
    /// A resource whose objects live in namespaces.
    pub const fn namespaced(group: &'static str, resource: &'static str) -> Self {
        let resource = GroupResource { group: Cow::Borrowed(group), resource: Cow::Borrowed(resource) };
        Self { resource, namespaced: true }
    }

    /// A resource of the whole cluster.
    pub const fn cluster(group: &'static str, resource: &'static str) -> Self {
        let resource = GroupResource { group: Cow::Borrowed(group), resource: Cow::Borrowed(resource) };
        Self { resource, namespaced: false }
    }
}

/// Current objects. Every committed write is visible before its writer is answered.
pub trait ObjectView: Send + Sync {
    /// One object; `namespace` is empty for resources of the cluster.
    fn get(&self, resource: &Viewed, namespace: &str, name: &str) -> Option<Arc<Object>>;

    /// All objects, or those of one namespace, in order of key and of one moment.
    fn list(&self, resource: &Viewed, namespace: Option<&str>) -> Vec<Arc<Object>>;

    /// Up to where a read begun now sees all changes, at least.
    fn revision(&self) -> u64;

    /// Whether nothing of a resource has changed after a revision: what was derived from it then still holds.
    fn unchanged_since(&self, resource: &Viewed, revision: u64) -> bool;
}

/// The watch caches as a view.
pub struct CachesView {
    caches: Arc<Caches>,
    /// Looked up once each; the caches' own table is keyed by encoded names.
    resources: RwLock<HashMap<Viewed, Arc<ResourceCache>>>,
}

impl CachesView {
    /// Over the caches of this member.
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches, resources: RwLock::default() }
    }

    fn cache(&self, resource: &Viewed) -> Arc<ResourceCache> {
        if let Some(cache) = self.resources.read().get(resource) {
            return Arc::clone(cache);
        }
        let cache = self.caches.resource(&resource.resource, resource.namespaced);
        self.resources.write().insert(resource.clone(), Arc::clone(&cache));
        cache
    }
}

impl ObjectView for CachesView {
    fn get(&self, resource: &Viewed, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.cache(resource).get(namespace, name)
    }

    fn list(&self, resource: &Viewed, namespace: Option<&str>) -> Vec<Arc<Object>> {
        self.cache(resource).list(namespace).1
    }

    fn revision(&self) -> u64 {
        self.caches.revision()
    }

    fn unchanged_since(&self, resource: &Viewed, revision: u64) -> bool {
        self.cache(resource).unchanged_since(revision)
    }
}

/// `pods`.
pub static PODS: Viewed = Viewed::namespaced("", "pods");
/// `nodes`.
pub static NODES: Viewed = Viewed::cluster("", "nodes");
/// `namespaces`.
pub static NAMESPACES: Viewed = Viewed::cluster("", "namespaces");
/// `secrets`.
pub static SECRETS: Viewed = Viewed::namespaced("", "secrets");
/// `serviceaccounts`.
pub static SERVICE_ACCOUNTS: Viewed = Viewed::namespaced("", "serviceaccounts");
/// `limitranges`.
pub static LIMIT_RANGES: Viewed = Viewed::namespaced("", "limitranges");
/// `resourcequotas`.
pub static RESOURCE_QUOTAS: Viewed = Viewed::namespaced("", "resourcequotas");
/// `persistentvolumes`.
pub static PERSISTENT_VOLUMES: Viewed = Viewed::cluster("", "persistentvolumes");
/// `persistentvolumeclaims`.
pub static PERSISTENT_VOLUME_CLAIMS: Viewed = Viewed::namespaced("", "persistentvolumeclaims");
/// `priorityclasses`.
pub static PRIORITY_CLASSES: Viewed = Viewed::cluster("scheduling.k8s.io", "priorityclasses");
/// `runtimeclasses`.
pub static RUNTIME_CLASSES: Viewed = Viewed::cluster("node.k8s.io", "runtimeclasses");
/// `storageclasses`.
pub static STORAGE_CLASSES: Viewed = Viewed::cluster("storage.k8s.io", "storageclasses");
/// `volumeattachments`.
pub static VOLUME_ATTACHMENTS: Viewed = Viewed::cluster("storage.k8s.io", "volumeattachments");
/// `ingressclasses`.
pub static INGRESS_CLASSES: Viewed = Viewed::cluster("networking.k8s.io", "ingressclasses");
/// `roles`.
pub static ROLES: Viewed = Viewed::namespaced("rbac.authorization.k8s.io", "roles");
/// `clusterroles`.
pub static CLUSTER_ROLES: Viewed = Viewed::cluster("rbac.authorization.k8s.io", "clusterroles");
/// `rolebindings`.
pub static ROLE_BINDINGS: Viewed = Viewed::namespaced("rbac.authorization.k8s.io", "rolebindings");
/// `clusterrolebindings`.
pub static CLUSTER_ROLE_BINDINGS: Viewed = Viewed::cluster("rbac.authorization.k8s.io", "clusterrolebindings");

type Key = (Viewed, String, String);

/// A view of objects that are put into it by hand.
#[derive(Default)]
pub struct FixedView {
    revision: AtomicU64,
    objects: RwLock<BTreeMap<Key, Arc<Object>>>,
}

impl FixedView {
    /// Puts an object in under its own namespace and name.
    ///
    /// # Errors
    /// If the value is not an object with metadata.
    pub fn put(&self, resource: &Viewed, value: &serde_json::Value) -> Result<(), navarch_types::object::DecodeError> {
        let object = Object::from_value(value, 1)?;
        let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = (resource.clone(), text("namespace"), text("name"));
        self.objects.write().insert(key, Arc::new(object));
        self.revision.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Takes an object out.
    pub fn remove(&self, resource: &Viewed, namespace: &str, name: &str) {
        self.objects.write().remove(&(resource.clone(), namespace.to_owned(), name.to_owned()));
        self.revision.fetch_add(1, Ordering::AcqRel);
    }
}

impl ObjectView for FixedView {
    fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    fn unchanged_since(&self, _resource: &Viewed, revision: u64) -> bool {
        self.revision() <= revision
    }

    fn get(&self, resource: &Viewed, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.objects.read().get(&(resource.clone(), namespace.to_owned(), name.to_owned())).cloned()
    }

    fn list(&self, resource: &Viewed, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let objects = self.objects.read();
        let chosen = objects.iter().filter(|(k, _)| k.0 == *resource && namespace.is_none_or(|n| n == k.1));
        chosen.map(|(_, object)| Arc::clone(object)).collect()
    }
}
