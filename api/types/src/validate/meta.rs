//! What `metadata` must look like, on create and on update.
//!
//! Works on the JSON value, after structural checks: a field of the wrong type counts as absent here.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{invalid_all, names, ranges};
use crate::field::{FieldError, Path};

/// All keys and values of an object's annotations together, in bytes.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// Judges a name; the flag says that it is a prefix (`generateName`).
pub type NameRule<'a> = &'a dyn Fn(&str, bool) -> Vec<String>;

fn text<'a>(map: &'a Value, name: &str) -> &'a str {
    map.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(map: &'a Value, name: &str) -> &'a [Value] {
    map.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Findings on the metadata of a new object, or of any object as a whole.
pub fn validate_object_meta(meta: &Value, namespaced: bool, name_rule: NameRule<'_>) -> Vec<FieldError> {
    validate_object_meta_at(&Path::root("metadata"), meta, namespaced, name_rule)
}

/// The same for metadata that lies elsewhere.
pub fn validate_object_meta_at(
    path: &Path<'_>,
    meta: &Value,
    namespaced: bool,
    name_rule: NameRule<'_>,
) -> Vec<FieldError> {
    let mut findings = Vec::new();
    let generate_name = text(meta, "generateName");
    if !generate_name.is_empty() {
        findings.extend(invalid_all(&path.child("generateName"), generate_name, name_rule(generate_name, true)));
    }
    match text(meta, "name") {
        "" => findings.push(FieldError::required(&path.child("name"), "name or generateName is required")),
        name => findings.extend(invalid_all(&path.child("name"), name, name_rule(name, false))),
    }
    let at = path.child("namespace");
    match (namespaced, text(meta, "namespace")) {
        (true, "") => findings.push(FieldError::required(&at, "")),
        (true, namespace) => findings.extend(invalid_all(&at, namespace, names::dns1123_label(namespace))),
        (false, "") => {}
        (false, _) => findings.push(FieldError::forbidden(&at, "not allowed on this type")),
    }
    findings.extend(validate_common(path, meta));
    findings
}

/// Everything but name and namespace.
fn validate_common(path: &Path<'_>, meta: &Value) -> Vec<FieldError> {
    let mut findings = Vec::new();
    let generation = meta.get("generation").and_then(Value::as_i64).unwrap_or_default();
    findings.extend(ranges::non_negative(&path.child("generation"), generation));
    if let Some(labels) = meta.get("labels").and_then(Value::as_object) {
        findings.extend(validate_labels(&path.child("labels"), labels));
    }
    if let Some(annotations) = meta.get("annotations").and_then(Value::as_object) {
        findings.extend(validate_annotations(&path.child("annotations"), annotations));
    }
    findings.extend(owner_references(&path.child("ownerReferences"), list(meta, "ownerReferences")));
    findings.extend(finalizers(&path.child("finalizers"), list(meta, "finalizers")));
    findings
}

/// Findings on labels.
pub fn validate_labels(path: &Path<'_>, labels: &Map<String, Value>) -> Vec<FieldError> {
    let mut findings = Vec::new();
    for (key, value) in labels {
        findings.extend(invalid_all(path, key, names::qualified_name(key)));
        let value = value.as_str().unwrap_or_default();
        findings.extend(invalid_all(path, value, names::label_value(value)));
    }
    findings
}

/// Findings on annotations, whose keys may be in any case.
pub fn validate_annotations(path: &Path<'_>, annotations: &Map<String, Value>) -> Vec<FieldError> {
    let mut findings = Vec::new();
    let mut bytes = 0;
    for (key, value) in annotations {
        findings.extend(invalid_all(path, key, names::qualified_name(&key.to_lowercase())));
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        findings.push(FieldError::too_long(path, ANNOTATIONS_BYTES_MAX));
    }
    findings
}

fn owner_references(path: &Path<'_>, references: &[Value]) -> Vec<FieldError> {
    let mut findings = Vec::new();
    let mut controller: Option<String> = None;
    for reference in references {
        let (api_version, kind) = (text(reference, "apiVersion"), text(reference, "kind"));
        let version = api_version.rsplit_once('/').map_or(api_version, |(_, version)| version);
        if version.is_empty() {
            findings.push(FieldError::invalid(&path.child("apiVersion"), api_version, "version must not be empty"));
        }
        for field in ["kind", "name", "uid"] {
            if text(reference, field).is_empty() {
                findings.push(FieldError::invalid(&path.child(field), "", "must not be empty"));
            }
        }
        if api_version == "v1" && kind == "Event" {
            const WHY: &str = "/v1, Kind=Event is disallowed from being an owner";
            findings.push(FieldError::invalid(path, reference.clone(), WHY));
        }
        if reference.get("controller") == Some(&Value::Bool(true)) {
            let this = format!("{kind}/{}", text(reference, "name"));
            match &controller {
                None => controller = Some(this),
                Some(first) => {
                    let why = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and \
                         {this}"
                    );
                    findings.push(FieldError::invalid(path, references.to_vec(), why));
                }
            }
        }
    }
    findings
}

/// A finalizer is a qualified name; one without a domain must be one of Kubernetes' own.
fn finalizers(path: &Path<'_>, finalizers: &[Value]) -> Vec<FieldError> {
    let mut findings = Vec::new();
    for (index, name) in finalizers.iter().map(|f| f.as_str().unwrap_or_default()).enumerate() {
        findings.extend(invalid_all(path, name, names::qualified_name(name)));
        if !name.contains('/') && !matches!(name, "orphan" | "foregroundDeletion" | "kubernetes") {
            const WHY: &str = "name is neither a standard finalizer name nor is it fully qualified";
            findings.push(FieldError::invalid(&path.index(index), name, WHY));
        }
    }
    if finalizers.iter().any(|f| f == "orphan") && finalizers.iter().any(|f| f == "foregroundDeletion") {
        const WHY: &str = "finalizer orphan and foregroundDeletion cannot be both set";
        findings.push(FieldError::invalid(path, finalizers.to_vec(), WHY));
    }
    findings
}

/// Findings on changed metadata. Generic code has filled in what clients may leave out (uid, creationTimestamp, deletion
/// fields) from the old object before.
pub fn validate_object_meta_update(meta: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::root("metadata");
    let mut findings = Vec::new();
    if old.get("deletionTimestamp").is_some_and(|t| !t.is_null()) {
        let before: BTreeSet<&str> = list(old, "finalizers").iter().filter_map(Value::as_str).collect();
        let after: BTreeSet<&str> = list(meta, "finalizers").iter().filter_map(Value::as_str).collect();
        let new: Vec<String> = after.difference(&before).map(|f| format!("{f:?}")).collect();
        if !new.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                new.join(", ")
            );
            findings.push(FieldError::forbidden(&path.child("finalizers"), why));
        }
    }
    if text(meta, "resourceVersion").is_empty() {
        findings.push(FieldError::invalid(&path.child("resourceVersion"), "", "must be specified for an update"));
    }
    let generation = |m: &Value| m.get("generation").and_then(Value::as_i64).unwrap_or_default();
    if generation(meta) < generation(old) {
        findings.push(FieldError::invalid(&path.child("generation"), generation(meta), "must not be decremented"));
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        findings.extend(validate_immutable(&path.child(field), meta.get(field), old.get(field)));
    }
    findings.extend(validate_common(&path, meta));
    findings
}

/// `field is immutable`, if the values differ. Null and empty text are the same as nothing.
pub fn validate_immutable(path: &Path<'_>, new: Option<&Value>, old: Option<&Value>) -> Option<FieldError> {
    fn set(value: Option<&Value>) -> Option<&Value> {
        value.filter(|v| !v.is_null() && v.as_str() != Some(""))
    }
    let (new, old) = (set(new), set(old));
    (new != old).then(|| FieldError::invalid(path, new.cloned().unwrap_or_default(), "field is immutable"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn on_create(meta: Value) -> Vec<String> {
        let findings = validate_object_meta(&meta, true, &names::name_is_dns_subdomain);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn metadata_of_new_objects() {
        assert_eq!(on_create(json!({"name": "a", "namespace": "b", "finalizers": ["x.y/z", "orphan"]})), [""; 0]);
        assert_eq!(
            on_create(json!({})),
            ["metadata.name: Required value: name or generateName is required", "metadata.namespace: Required value"]
        );
        for (what, starts) in [
            (json!({"labels": {"a b": "c"}}), "metadata.labels: Invalid value: \"a b\": name part must"),
            (json!({"labels": {"a": "c d"}}), "metadata.labels: Invalid value: \"c d\": a valid label"),
            (json!({"annotations": {"a b": "c"}}), "metadata.annotations: Invalid value: \"a b\""),
            (
                json!({"annotations": {"a": "c".repeat(256 * 1024)}}),
                "metadata.annotations: Too long: may not be more than 262144 bytes",
            ),
            (json!({"generation": -1}), "metadata.generation: Invalid value: -1: must be greater than or equal to 0"),
            (
                json!({"finalizers": ["mine"]}),
                "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it",
            ),
            (
                json!({"finalizers": ["orphan", "foregroundDeletion"]}),
                "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and",
            ),
            (
                json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "a", "uid": "b"}]}),
                "metadata.ownerReferences: Invalid value: {",
            ),
            (
                json!({"ownerReferences": [{"apiVersion": "apps/v1", "kind": "X", "name": "a"}]}),
                "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
            ),
        ] {
            let mut meta = json!({"name": "a", "namespace": "b"});
            meta.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
            let findings = on_create(meta);
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert!(findings[0].starts_with(starts), "{}", findings[0]);
        }
        let cluster = validate_object_meta(&json!({"name": "a", "namespace": "b"}), false, &names::path_segment);
        assert_eq!(cluster[0].to_string(), "metadata.namespace: Forbidden: not allowed on this type");
    }

    #[test]
    fn metadata_of_changed_objects() {
        let old = json!({"name": "a", "uid": "1", "resourceVersion": "5", "generation": 2, "namespace": ""});
        assert!(validate_object_meta_update(&old, &old).is_empty());
        for (change, text) in [
            (json!({"name": "b"}), "metadata.name: Invalid value: \"b\": field is immutable"),
            (json!({"uid": null}), "metadata.uid: Invalid value: null: field is immutable"),
            (json!({"generation": 1}), "metadata.generation: Invalid value: 1: must not be decremented"),
            (
                json!({"resourceVersion": ""}),
                "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
            ),
        ] {
            let mut new = old.clone();
            new.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let findings = validate_object_meta_update(&new, &old);
            assert_eq!(findings.iter().map(ToString::to_string).collect::<Vec<_>>(), [text]);
        }
        let deleting = json!({"deletionTimestamp": "x", "finalizers": ["a/b"], "resourceVersion": "1"});
        let mut new = deleting.clone();
        new["finalizers"] = json!(["a/b", "a/c"]);
        let findings = validate_object_meta_update(&new, &deleting);
        assert_eq!(
            findings[0].to_string(),
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
             finalizers []string{\"a/c\"}"
        );
    }
}
