//! What an informer knows: the objects of one type in order of namespace and name, with indexes.
//!
//! Written by the informer alone, read by everybody; a reader sees each change whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use navarch_types::Object;
use parking_lot::RwLock;

use crate::client::Resource;

/// Names an object of a known type. The namespace is empty for cluster-scoped objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Where.
    pub namespace: Arc<str>,
    /// Which.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// From its parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Of an object.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self::new(metadata.namespace.as_deref().unwrap_or(""), metadata.name.as_deref().unwrap_or(""))
    }
}

impl fmt::Display for ObjectKey {
    /// `namespace/name`, as logs have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// What an informer can hold.
pub trait Item: Send + Sync + 'static {
    /// Its metadata.
    fn metadata(&self) -> &ObjectMeta;
    /// Decodes it; shared with other informers of the same process where it can be.
    ///
    /// # Errors
    /// If the object is of another type or damaged.
    fn decode(object: &Arc<Object>) -> Result<Arc<Self>, String>;
}

impl<K: Resource> Item for K {
    fn metadata(&self) -> &ObjectMeta {
        k8s_openapi::Metadata::metadata(self)
    }

    fn decode(object: &Arc<Object>) -> Result<Arc<Self>, String> {
        object.typed().map_err(|e| e.to_string())
    }
}

/// An object of any type, of which only the metadata is looked at.
pub struct Partial {
    /// Its metadata.
    pub metadata: Arc<ObjectMeta>,
}

impl Item for Partial {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn decode(object: &Arc<Object>) -> Result<Arc<Self>, String> {
        let metadata = object.metadata().map_err(|e| e.to_string())?;
        Ok(Arc::new(Self { metadata: Arc::clone(metadata) }))
    }
}

/// The values under which an index finds an object.
pub type IndexFn<T> = fn(&T) -> Vec<String>;

struct Index<T> {
    name: &'static str,
    values: IndexFn<T>,
    keys: BTreeMap<String, BTreeSet<ObjectKey>>,
}

struct Inner<T> {
    objects: BTreeMap<ObjectKey, Arc<T>>,
    indexes: Vec<Index<T>>,
    revision: u64,
}

/// The objects of one type.
pub struct Store<T> {
    inner: RwLock<Inner<T>>,
}

/// One change of a store.
pub enum Change<T> {
    /// The object is new or another.
    Applied {
        /// What was there before; also a different object of the same name.
        old: Option<Arc<T>>,
        /// What is there now.
        new: Arc<T>,
    },
    /// The object is gone; its last known value.
    Deleted(Arc<T>),
}

impl<T: Item> Change<T> {
    /// The object: the new one, or the last value.
    pub fn object(&self) -> &Arc<T> {
        match self {
            Self::Applied { new, .. } => new,
            Self::Deleted(last) => last,
        }
    }

    /// Its key.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::of(self.object().metadata())
    }

    /// The value before, if it was there.
    pub fn old(&self) -> Option<&Arc<T>> {
        match self {
            Self::Applied { old, .. } => old.as_ref(),
            Self::Deleted(last) => Some(last),
        }
    }
}

impl<T> Clone for Change<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Applied { old, new } => Self::Applied { old: old.clone(), new: Arc::clone(new) },
            Self::Deleted(last) => Self::Deleted(Arc::clone(last)),
        }
    }
}

impl<T: Item> Default for Store<T> {
    fn default() -> Self {
        Self { inner: RwLock::new(Inner { objects: BTreeMap::new(), indexes: Vec::new(), revision: 0 }) }
    }
}

impl<T> Inner<T> {
    fn index(&mut self, key: &ObjectKey, old: Option<&T>, new: Option<&T>) {
        for index in &mut self.indexes {
            let before = old.map(index.values).unwrap_or_default();
            let after = new.map(index.values).unwrap_or_default();
            if before == after {
                continue;
            }
            for value in before {
                if let Some(keys) = index.keys.get_mut(&value) {
                    keys.remove(key);
                    if keys.is_empty() {
                        index.keys.remove(&value);
                    }
                }
            }
            for value in after {
                index.keys.entry(value).or_default().insert(key.clone());
            }
        }
    }
}

impl<T: Item> Store<T> {
    /// Adds an index; a second one of the same name is ignored.
    pub fn add_index(&self, name: &'static str, values: IndexFn<T>) {
        let mut inner = self.inner.write();
        if inner.indexes.iter().any(|i| i.name == name) {
            return;
        }
        let mut keys: BTreeMap<String, BTreeSet<ObjectKey>> = BTreeMap::new();
        for (key, object) in &inner.objects {
            for value in values(object) {
                keys.entry(value).or_default().insert(key.clone());
            }
        }
        inner.indexes.push(Index { name, values, keys });
    }

    /// The revision of the latest change or bookmark seen.
    pub fn revision(&self) -> u64 {
        self.inner.read().revision
    }

    /// One object.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<T>> {
        self.inner.read().objects.get(key).cloned()
    }

    /// One object by its parts.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.get(&ObjectKey::new(namespace, name))
    }

    /// All objects in order.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.inner.read().objects.values().cloned().collect()
    }

    /// All keys in order.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.inner.read().objects.keys().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.inner.read().objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects of one namespace, in order.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        let from = ObjectKey::new(namespace, "");
        let inner = self.inner.read();
        let range = inner.objects.range(from..).take_while(|(key, _)| &*key.namespace == namespace);
        range.map(|(_, object)| Arc::clone(object)).collect()
    }

    /// The objects that an index finds under a value, in order. Empty if there is no such index.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<T>> {
        let inner = self.inner.read();
        let keys = inner.indexes.iter().find(|i| i.name == name).and_then(|i| i.keys.get(value));
        keys.into_iter().flatten().filter_map(|key| inner.objects.get(key).cloned()).collect()
    }

    pub(crate) fn apply(&self, object: Arc<T>, revision: u64) -> Change<T> {
        let key = ObjectKey::of(object.metadata());
        let mut inner = self.inner.write();
        inner.revision = inner.revision.max(revision);
        let old = inner.objects.insert(key.clone(), Arc::clone(&object));
        inner.index(&key, old.as_deref(), Some(&object));
        Change::Applied { old, new: object }
    }

    pub(crate) fn delete(&self, object: &Arc<T>, revision: u64) -> Option<Change<T>> {
        let key = ObjectKey::of(object.metadata());
        let mut inner = self.inner.write();
        inner.revision = inner.revision.max(revision);
        let old = inner.objects.remove(&key)?;
        inner.index(&key, Some(&old), None);
        Some(Change::Deleted(Arc::clone(object)))
    }

    pub(crate) fn bookmark(&self, revision: u64) {
        let mut inner = self.inner.write();
        inner.revision = inner.revision.max(revision);
    }

    /// Becomes exactly these objects; returns what that changes.
    pub(crate) fn replace(&self, objects: Vec<Arc<T>>, revision: u64) -> Vec<Change<T>> {
        let mut new: BTreeMap<ObjectKey, Arc<T>> =
            objects.into_iter().map(|object| (ObjectKey::of(object.metadata()), object)).collect();
        let mut changes = Vec::new();
        let mut inner = self.inner.write();
        let gone: Vec<ObjectKey> = inner.objects.keys().filter(|key| !new.contains_key(key)).cloned().collect();
        for key in gone {
            if let Some(old) = inner.objects.remove(&key) {
                inner.index(&key, Some(&old), None);
                changes.push(Change::Deleted(old));
            }
        }
        while let Some((key, object)) = new.pop_first() {
            let old = inner.objects.get(&key).cloned();
            let version = |o: &T| o.metadata().resource_version.clone();
            if old.as_ref().is_some_and(|old| version(old) == version(&object)) {
                continue;
            }
            inner.index(&key, old.as_deref(), Some(&object));
            inner.objects.insert(key, Arc::clone(&object));
            changes.push(Change::Applied { old, new: object });
        }
        inner.revision = revision;
        changes
    }
}

/// Values for an index by the controlling owner's uid.
pub fn by_controller<T: Item>(object: &T) -> Vec<String> {
    let owners = object.metadata().owner_references.iter().flatten();
    owners.filter(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, name: &str, version: u64, node: &str) -> Arc<Pod> {
        let value = json!({"metadata": {"namespace": namespace, "name": name, "resourceVersion": version.to_string()},
                           "spec": {"nodeName": node, "containers": []}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn by_node(pod: &Pod) -> Vec<String> {
        pod.spec.as_ref().and_then(|s| s.node_name.clone()).into_iter().collect()
    }

    #[test]
    fn indexes_follow_every_change() {
        let store = Store::default();
        store.apply(pod("a", "1", 1, "x"), 1);
        store.add_index("node", by_node);
        store.apply(pod("b", "2", 2, "x"), 2);
        store.apply(pod("a", "3", 3, "y"), 3);
        let names = |value: &str| -> String {
            store.by_index("node", value).iter().map(|p| p.metadata.name.clone().unwrap()).collect()
        };
        assert_eq!((names("x"), names("y"), names("z")), ("12".into(), "3".into(), String::new()));
        store.apply(pod("a", "1", 4, "y"), 4);
        assert_eq!((names("x"), names("y")), ("2".into(), "13".into()));
        assert!(store.delete(&pod("b", "2", 5, "x"), 5).is_some());
        assert!(store.delete(&pod("b", "2", 6, "x"), 6).is_none());
        assert_eq!((names("x"), store.revision()), (String::new(), 6));
        assert_eq!(store.in_namespace("a").len(), 2);
        assert!(store.in_namespace("b").is_empty());
    }

    #[test]
    fn a_new_list_changes_only_what_differs() {
        let store = Store::default();
        store.add_index("node", by_node);
        store.replace(vec![pod("a", "1", 1, "x"), pod("a", "2", 2, "x")], 2);
        let changes = store.replace(vec![pod("a", "2", 2, "x"), pod("a", "3", 9, "x")], 9);
        let seen: Vec<String> = changes
            .iter()
            .map(|c| format!("{}{}", if matches!(c, Change::Deleted(_)) { '-' } else { '+' }, c.key()))
            .collect();
        assert_eq!(seen, ["-a/1", "+a/3"]);
        assert_eq!(store.by_index("node", "x").len(), 2);
    }
}
