//! Reading and writing objects that may have any shape. Admission comes before validation: nothing here takes a shape for
//! granted, and what has the wrong one is left for validation to refuse.

use serde_json::{Map, Value};

/// A text, or the empty one.
pub(super) fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// What is at a path.
pub(super) fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| value.get(step)).filter(|v| !v.is_null())
}

/// The elements of a list at a path.
pub(super) fn items<'a>(value: &'a Value, path: &[&str]) -> impl Iterator<Item = &'a Value> + use<'a> {
    at(value, path).and_then(Value::as_array).into_iter().flatten()
}

/// The map at a path, made if it is absent; `None` if something else is in the way.
pub(super) fn map_mut<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    let mut here = value;
    for step in path {
        let next = here.as_object_mut()?.entry(*step).or_insert(Value::Null);
        if next.is_null() {
            *next = Value::Object(Map::new());
        }
        here = next;
    }
    here.as_object_mut()
}

/// The list at a path, made if it is absent; `None` if something else is in the way.
pub(super) fn list_mut<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Vec<Value>> {
    let (last, parents) = path.split_last()?;
    let list = map_mut(value, parents)?.entry(*last).or_insert(Value::Null);
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    list.as_array_mut()
}

/// The elements of a list at a path that is there already.
pub(super) fn items_mut<'a>(value: &'a mut Value, path: &[&str]) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    let found = path.iter().try_fold(value, |value, step| value.get_mut(step));
    found.and_then(Value::as_array_mut).into_iter().flatten()
}

/// Whether a field is absent, null or the empty text.
pub(super) fn is_unset(value: &Value, path: &[&str]) -> bool {
    at(value, path).is_none_or(|v| v.as_str() == Some(""))
}

/// The lists of a pod that hold containers.
pub(super) const CONTAINERS: [&str; 2] = ["initContainers", "containers"];
