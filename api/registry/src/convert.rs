//! One object in another API version.
//!
//! Versions of the same structure differ in `apiVersion` alone. Where structures differ there is a function for each
//! direction, or the version is not served. What a version cannot express is kept in annotations, as upstream does.

use std::sync::Arc;

use navarch_types::{ApiError, GroupVersionKind, Object};
use serde_json::Value;

use crate::meta;
use crate::resource::Resource;

mod autoscaling;
mod events;

/// A stored object as the resource's version shows it. The same object if that is how it is stored.
///
/// # Errors
/// 500 if the stored bytes are damaged.
pub fn present(resource: &Resource, object: Arc<Object>) -> Result<Arc<Object>, ApiError> {
    if resource.serves_stored() {
        return Ok(object);
    }
    let mut value = meta::value_of(&object)?;
    convert(&mut value, &resource.storage_kind, &resource.kind);
    Object::from_value(&value, object.revision()).map(Arc::new).map_err(ApiError::internal)
}

/// A stored value as the resource's version shows it.
pub fn to_served(resource: &Resource, mut value: Value) -> Value {
    if !resource.serves_stored() {
        convert(&mut value, &resource.storage_kind, &resource.kind);
    }
    value
}

/// A client's value as it is stored.
pub fn to_storage(resource: &Resource, mut value: Value) -> Value {
    if !resource.serves_stored() {
        convert(&mut value, &resource.kind, &resource.storage_kind);
    }
    value
}

fn convert(value: &mut Value, from: &GroupVersionKind, to: &GroupVersionKind) {
    match (&*from.group, &*from.version, &*from.kind, &*to.version) {
        ("autoscaling", "v2", "HorizontalPodAutoscaler", "v1") => autoscaling::v2_to_v1(value),
        ("autoscaling", "v1", "HorizontalPodAutoscaler", "v2") => autoscaling::v1_to_v2(value),
        ("", _, "Event", _) if to.group == "events.k8s.io" => events::core_to_events(value),
        ("events.k8s.io", _, "Event", _) if to.group.is_empty() => events::events_to_core(value),
        _ => {}
    }
    value["apiVersion"] = to.api_version().into();
    value["kind"] = to.kind.to_string().into();
}

fn rename(value: &mut Value, from: &str, to: &str) {
    if let Some(map) = value.as_object_mut()
        && let Some(moved) = map.remove(from)
    {
        map.insert(to.to_owned(), moved);
    }
}
