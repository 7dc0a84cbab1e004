//! What the fake stores.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_types::selector::{FieldSelector, Selector};
use navarch_types::{ApiError, GroupResource, Object, ResourceRequest};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::faults::{Fault, Seen};

pub(super) type Key = (GroupResource, String, String);

/// One change. `new` is `None` for a deletion.
#[derive(Clone)]
pub(super) struct Change {
    pub revision: u64,
    pub key: Key,
    pub old: Option<Arc<Object>>,
    /// On deletion the last value, at the deletion's revision.
    pub object: Arc<Object>,
    pub deleted: bool,
}

pub(super) struct State {
    pub revision: u64,
    pub objects: BTreeMap<Key, Arc<Object>>,
    pub history: Vec<Change>,
    pub compacted: u64,
    pub epoch: u64,
    pub changed: watch::Sender<(u64, u64)>,
    pub faults: Vec<Fault>,
    pub seen: Vec<Seen>,
    uids: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            revision: 1,
            objects: BTreeMap::new(),
            history: Vec::new(),
            compacted: 0,
            epoch: 0,
            changed: watch::Sender::new((1, 0)),
            faults: Vec::new(),
            seen: Vec::new(),
            uids: 0,
        }
    }
}

/// What list and watch select.
pub(super) struct Selection {
    labels: Selector,
    fields: FieldSelector,
}

impl Selection {
    pub fn of(request: &ResourceRequest) -> Result<Self, ApiError> {
        let labels = match request.list.label_selector.as_deref() {
            Some(text) => Selector::parse(text)?,
            None => Selector::everything(),
        };
        let fields = FieldSelector::parse(request.list.field_selector.as_deref().unwrap_or_default())?;
        Ok(Self { labels, fields })
    }

    pub fn selects(&self, object: &Object) -> bool {
        let Ok(metadata) = object.metadata() else { return false };
        if !self.labels.matches(&metadata.labels) {
            return false;
        }
        if self.fields.is_everything() {
            return true;
        }
        let Ok(value) = object.to_value() else { return false };
        self.fields.matches(|field| {
            let pointer = format!("/{}", field.replace('.', "/"));
            match value.pointer(&pointer) {
                Some(Value::String(text)) => Cow::Owned(text.clone()),
                None | Some(Value::Null) => Cow::Borrowed(""),
                Some(other) => Cow::Owned(other.to_string()),
            }
        })
    }
}

pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl State {
    pub fn get(&self, resource: &GroupResource, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.objects.get(&(resource.clone(), namespace.to_owned(), name.to_owned())).cloned()
    }

    pub fn list(&self, resource: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Object>> {
        self.objects
            .iter()
            .filter(|((gr, ns, _), _)| gr == resource && namespace.is_none_or(|n| n == ns))
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    pub fn new_uid(&mut self) -> String {
        self.uids += 1;
        format!("00000000-0000-4000-8000-{:012x}", self.uids)
    }

    pub fn put(&mut self, resource: &GroupResource, mut value: Value) -> Arc<Object> {
        let key = (
            resource.clone(),
            text(&value, "/metadata/namespace").to_owned(),
            text(&value, "/metadata/name").to_owned(),
        );
        let old = self.objects.get(&key).and_then(|o| o.metadata().ok()).cloned();
        if text(&value, "/metadata/uid").is_empty() {
            let uid = old.as_ref().and_then(|m| m.uid.clone()).unwrap_or_else(|| self.new_uid());
            value["metadata"]["uid"] = uid.into();
        }
        if text(&value, "/metadata/creationTimestamp").is_empty() {
            value["metadata"]["creationTimestamp"] =
                old.and_then(|m| m.creation_timestamp.clone()).map_or_else(|| json!(now()), |t| json!(t));
        }
        self.store(key, &value)
    }

    /// Writes a value under the next revision.
    pub fn store(&mut self, key: Key, value: &Value) -> Arc<Object> {
        self.revision += 1;
        let object = match Object::from_value(value, self.revision) {
            Ok(object) => Arc::new(object),
            Err(error) => panic!("the fake got no object: {error}"),
        };
        let old = self.objects.insert(key.clone(), Arc::clone(&object));
        self.note(Change { revision: self.revision, key, old, object: Arc::clone(&object), deleted: false });
        object
    }

    pub fn remove(&mut self, resource: &GroupResource, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let key = (resource.clone(), namespace.to_owned(), name.to_owned());
        let old = self.objects.remove(&key)?;
        self.revision += 1;
        let last = Object::from_stored(old.stored().clone(), self.revision).ok().map(Arc::new)?;
        self.note(Change { revision: self.revision, key, old: Some(old), object: Arc::clone(&last), deleted: true });
        Some(last)
    }

    fn note(&mut self, change: Change) {
        self.history.push(change);
        self.changed.send_replace((self.revision, self.epoch));
    }

    pub fn break_watches(&mut self) {
        self.epoch += 1;
        self.changed.send_replace((self.revision, self.epoch));
    }

    pub fn compact(&mut self) {
        self.history.clear();
        // One more revision, so that a watch from the present one is from before the compaction too.
        self.revision += 1;
        self.compacted = self.revision;
        self.changed.send_replace((self.revision, self.epoch));
    }
}

pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
