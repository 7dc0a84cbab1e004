//! `metadata`: what the server fills in, what clients may not change, and what is refused.
//!
//! Pure: time, uid and names come from the caller.

use jiff::Timestamp;
use navarch_types::field::{FieldError, Path};
use navarch_types::validate::{validate_object_meta, validate_object_meta_update};
use navarch_types::{ApiError, Object, Reason};
use serde_json::{Map, Value};

use crate::resource::Resource;

/// Findings on the metadata of a new object (`old` is `None`) or of a changed one.
pub fn validate_metadata(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let rule = |name: &str, prefix: bool| resource.strategy.validate_name(name, prefix);
    match old {
        None => validate_object_meta(&object["metadata"], resource.namespaced, &rule),
        Some(old) => validate_object_meta_update(&object["metadata"], &old["metadata"]),
    }
}

/// A text of `metadata`; empty if it is absent.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or_default()
}

/// `metadata` for changing; made if it is absent. `None` if the object is none.
pub fn metadata_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let map = object.as_object_mut()?;
    let metadata = map.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut()
}

/// Sets or, with `None`, removes a field of `metadata`.
pub fn set(object: &mut Value, field: &str, value: Option<Value>) {
    if let Some(metadata) = metadata_mut(object) {
        match value {
            Some(value) => metadata.insert(field.to_owned(), value),
            None => metadata.remove(field),
        };
    }
}

/// The finalizers.
pub fn finalizers(object: &Value) -> Vec<String> {
    let list = object.get("metadata").and_then(|m| m.get("finalizers")).and_then(Value::as_array);
    list.map(|l| l.iter().filter_map(|f| f.as_str().map(str::to_owned)).collect()).unwrap_or_default()
}

/// Sets the finalizers; none at all are left out.
pub fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    let value = if finalizers.is_empty() { None } else { Some(Value::from(finalizers.to_vec())) };
    set(object, "finalizers", value);
}

/// Whether deletion has begun.
pub fn is_deleting(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// `metadata.generation`; 0 if it is absent.
pub fn generation(object: &Value) -> i64 {
    object.get("metadata").and_then(|m| m.get("generation")).and_then(Value::as_i64).unwrap_or_default()
}

/// A time as objects carry it: whole seconds, UTC.
pub fn time_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Refuses a namespace other than the request's, and fills it in.
pub fn settle_namespace(object: &mut Value, resource: &Resource, namespace: &str) -> Result<(), ApiError> {
    let given = text(object, "namespace");
    if !resource.namespaced {
        if !given.is_empty() {
            // Upstream drops a namespace on cluster-scoped objects only where it is the one of the request: none.
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        return Ok(());
    }
    if given.is_empty() {
        set(object, "namespace", Some(namespace.into()));
        return Ok(());
    }
    if given != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Removes what only the server may set, before a create.
pub fn strip_system_fields(object: &mut Value) {
    let Some(metadata) = metadata_mut(object) else { return };
    for field in [
        "selfLink",
        "managedFields",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "uid",
        "resourceVersion",
    ] {
        metadata.remove(field);
    }
    drop_empty(metadata);
}

/// Empty lists and maps of metadata are not stored, as upstream's `omitempty` has it.
fn drop_empty(metadata: &mut Map<String, Value>) {
    for field in ["labels", "annotations", "finalizers", "ownerReferences", "name", "generateName", "namespace"] {
        let empty = match metadata.get(field) {
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Null) => true,
            _ => false,
        };
        if empty {
            metadata.remove(field);
        }
    }
}

/// Sets what the server gives a new object.
pub fn fill_new(object: &mut Value, uid: &str, now: Timestamp, has_generation: bool) {
    let Some(metadata) = metadata_mut(object) else { return };
    metadata.insert("uid".to_owned(), uid.into());
    metadata.insert("creationTimestamp".to_owned(), time_text(now).into());
    if has_generation {
        metadata.insert("generation".to_owned(), 1.into());
    }
}

/// Sets the fields that a client cannot change back to what they were.
pub fn carry_over(object: &mut Value, old: &Value) {
    let Some(metadata) = metadata_mut(object) else { return };
    metadata.remove("selfLink");
    metadata.remove("managedFields");
    for field in
        ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "generateName"]
    {
        match old.get("metadata").and_then(|m| m.get(field)) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None => metadata.remove(field),
        };
    }
    drop_empty(metadata);
}

/// The resourceVersion in an object: `None` if it is absent, empty or 0.
///
/// # Errors
/// 400 if it is no number.
pub fn given_revision(object: &Value) -> Result<Option<u64>, ApiError> {
    match text(object, "resourceVersion") {
        "" | "0" => Ok(None),
        given => given.parse().map(Some).map_err(|_| {
            let path = Path::root("metadata");
            let field = path.child("resourceVersion");
            ApiError::new(
                Reason::BadRequest,
                FieldError::invalid(&field, given, "must be an unsigned integer").to_string(),
            )
        }),
    }
}

/// Refuses the update of an object that was deleted and made anew.
pub fn check_uid(given: &str, existing: &Value, resource: &Resource) -> Result<(), ApiError> {
    let uid = text(existing, "uid");
    if given.is_empty() || given == uid {
        return Ok(());
    }
    let why = format!("Precondition failed: UID in precondition: {given}, UID in object meta: {uid}");
    Err(ApiError::conflict(&resource.group_resource(), text(existing, "name"), &why))
}

/// A stored object as a value in its storage version, with resourceVersion.
///
/// # Errors
/// 500 if the stored bytes are damaged.
pub fn value_of(object: &Object) -> Result<Value, ApiError> {
    object.to_value().map_err(ApiError::internal)
}

/// A name from `generateName`: five characters that make no words.
pub fn generated_name(prefix: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    /// A label has at most 63 bytes, and the suffix five of them.
    const PREFIX_BYTES_MAX: usize = 58;
    let mut end = prefix.len().min(PREFIX_BYTES_MAX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = prefix[..end].to_owned();
    for _ in 0..5 {
        let at = rand::random_range(0..ALPHABET.len());
        name.push(char::from(ALPHABET[at]));
    }
    name
}
