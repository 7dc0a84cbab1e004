//! Small steps of which defaults are made. They change only what is absent, and ignore what has an unexpected type.

use serde_json::{Map, Value};

/// Sets a field that is absent or `null` (a nil pointer upstream).
pub(crate) fn fill(object: &mut Value, key: &str, default: impl Into<Value>) {
    if let Some(map) = object.as_object_mut()
        && map.get(key).is_none_or(Value::is_null)
    {
        map.insert(key.to_owned(), default.into());
    }
}

/// Sets a field that is absent, `null`, `""` or `0` (a zero value upstream).
pub(crate) fn fill_zero(object: &mut Value, key: &str, default: impl Into<Value>) {
    let Some(map) = object.as_object_mut() else { return };
    let zero = match map.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(s)) => s.is_empty(),
        Some(Value::Number(n)) => n.as_i64() == Some(0),
        Some(_) => false,
    };
    if zero {
        map.insert(key.to_owned(), default.into());
    }
}

/// A field that is an object, made if it is absent or `null`; `None` if it is something else.
pub(crate) fn ensure<'a>(object: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let map = object.as_object_mut()?;
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), Value::Object(Map::new()));
    }
    map.get_mut(key).filter(|v| v.is_object())
}

/// A field that is a present object.
pub(crate) fn within<'a>(object: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    object.get_mut(key).filter(|v| v.is_object())
}

/// The way down to a present object.
pub(crate) fn down<'a>(object: &'a mut Value, way: &[&str]) -> Option<&'a mut Value> {
    way.iter().try_fold(object, |at, key| within(at, key))
}

/// Each object of a list.
pub(crate) fn each(object: &mut Value, key: &str, mut change: impl FnMut(&mut Value)) {
    if let Some(list) = object.get_mut(key).and_then(Value::as_array_mut) {
        list.iter_mut().filter(|v| v.is_object()).for_each(&mut change);
    }
}

/// Removes a field.
pub(crate) fn drop_field(object: &mut Value, key: &str) {
    if let Some(map) = object.as_object_mut() {
        map.remove(key);
    }
}

/// Sets a field, whatever it was; for what the server alone decides.
pub(crate) fn put(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut() {
        map.insert(key.to_owned(), value.into());
    }
}

/// Makes a field what it was before.
pub(crate) fn restore(object: &mut Value, old: &Value, key: &str) {
    match (object.as_object_mut(), old.get(key)) {
        (Some(map), Some(value)) => {
            map.insert(key.to_owned(), value.clone());
        }
        (Some(map), None) => {
            map.remove(key);
        }
        (None, _) => {}
    }
}
