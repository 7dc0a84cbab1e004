//! Patches: what a stored object becomes by a JSON patch, a merge patch or a strategic merge patch.
//!
//! Pure functions on JSON; the object given is never changed. Server-side apply is not a patch in this sense and is refused.

mod merging;
mod operations;

use serde_json::Value;

use crate::decode::{Decoded, FieldValidation, Parsed, conform};
use crate::error::{ApiError, Reason};
use crate::field::{FieldError, Path, into_result};
use crate::name::GroupVersionKind;
use crate::request::PatchType;
use crate::schema::Schema;

/// What `current` becomes by a patch. The result has not been checked: see [`conform_patched`].
///
/// # Errors
/// 400 for what is no patch of this type, 422 for one that does not apply, 415 for types that are not served.
pub fn apply(
    schema: &Schema,
    kind: &GroupVersionKind,
    current: &Value,
    patch_type: PatchType,
    patch: &Value,
) -> Result<Value, ApiError> {
    match patch_type {
        PatchType::Json => json(current.clone(), patch),
        PatchType::Merge => merge(current.clone(), patch),
        PatchType::Strategic => strategic(schema, kind, current.clone(), patch),
        PatchType::Apply => Err(ApiError::new(
            Reason::UnsupportedMediaType,
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json",
        )),
    }
}

/// Applies a JSON patch (RFC 6902).
///
/// # Errors
/// 400 for what is no such patch, 413 for one beyond the limits, 422 for one that does not apply.
pub fn json(current: Value, patch: &Value) -> Result<Value, ApiError> {
    operations::apply(current, patch)
}

/// Applies a merge patch (RFC 7396).
///
/// # Errors
/// 400 for what is no object.
pub fn merge(mut current: Value, patch: &Value) -> Result<Value, ApiError> {
    if !patch.is_object() {
        return Err(ApiError::bad_request("invalid JSON document: a merge patch must be an object"));
    }
    json_patch::merge(&mut current, patch);
    Ok(current)
}

/// Applies a strategic merge patch.
///
/// # Errors
/// 400 for what is no such patch or a kind without rules, 422 for one that does not apply.
pub fn strategic(schema: &Schema, kind: &GroupVersionKind, current: Value, patch: &Value) -> Result<Value, ApiError> {
    merging::apply(schema, kind, current, patch)
}

/// Checks the structure of a patched object.
///
/// # Errors
/// 400 if the patch changed `apiVersion` or `kind`, 422 if a field has the wrong type or, if `validation` is strict, is
/// unknown or was twice in the patch.
pub fn conform_patched(
    schema: &Schema,
    kind: &GroupVersionKind,
    patched: Value,
    patch: &Value,
    duplicates: Vec<String>,
    validation: FieldValidation,
) -> Result<Decoded, ApiError> {
    let api_version = kind.api_version();
    if patched["kind"] != kind.kind.as_ref() || patched["apiVersion"] != api_version.as_str() {
        return Err(ApiError::bad_request(format!(
            "a patch may not change apiVersion or kind of an object: they must stay {api_version} and {}",
            kind.kind
        )));
    }
    conform(schema, Parsed { value: patched, duplicates }, kind, validation).or_else(|why| {
        // The patch is quoted as upstream does, but never one of a Secret.
        let quoted = if kind.kind == "Secret" { String::new() } else { patch.to_string() };
        let finding = FieldError::invalid(&Path::root("patch"), quoted, why);
        into_result(&GroupVersionKind::new("", "", ""), "", vec![finding])?;
        Err(ApiError::internal("a finding was not an error"))
    })
}

/// 422 for a patch that is well formed and cannot be applied, with upstream's odd message and the reason as cause.
fn unprocessable(why: &str) -> ApiError {
    ApiError::new(Reason::Invalid, "the server rejected our request due to an error in our request").with_cause(
        "UnexpectedServerResponse",
        why,
        "",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    const POD: GroupVersionKind = GroupVersionKind::new("", "v1", "Pod");

    fn run(patch_type: PatchType, patch: &Value) -> Result<Value, ApiError> {
        let current = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"x": "y"}}});
        apply(Schema::builtin(), &POD, &current, patch_type, patch)
    }

    #[test]
    fn merge_patches() {
        let patched =
            run(PatchType::Merge, &json!({"metadata": {"labels": {"x": null, "z": "w"}, "finalizers": ["a"]}}));
        assert_eq!(
            patched.unwrap(),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"z": "w"}, "finalizers": ["a"]}})
        );
        assert_eq!(run(PatchType::Merge, &json!([])).unwrap_err().code(), 400);
        assert_eq!(run(PatchType::Apply, &json!({})).unwrap_err().code(), 415);
    }

    #[test]
    fn patched_objects_must_fit() {
        let patch = json!({"spec": {"hostNetwork": "yes", "x": 1}});
        let check = |patch: &Value, validation| {
            let patched = run(PatchType::Merge, patch).unwrap();
            conform_patched(Schema::builtin(), &POD, patched, patch, Vec::new(), validation)
        };
        let error = check(&patch, FieldValidation::Warn).unwrap_err();
        assert_eq!(error.code(), 422);
        assert_eq!(
            error.to_string(),
            " \"\" is invalid: patch: Invalid value: \"{\\\"spec\\\":{\\\"hostNetwork\\\":\\\"yes\\\",\\\"x\\\":1}}\": json: cannot \
             unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool"
        );
        let patch = json!({"spec": {"x": 1}});
        assert_eq!(check(&patch, FieldValidation::Warn).unwrap().warnings, ["unknown field \"spec.x\""]);
        assert_eq!(check(&patch, FieldValidation::Strict).unwrap_err().code(), 422);
        assert_eq!(check(&json!({"kind": "Node"}), FieldValidation::Warn).unwrap_err().code(), 400);
    }
}
