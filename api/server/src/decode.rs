//! From a request's body to a value that fits its kind.

use navarch_registry::Call;
use navarch_registry::ops::delete::DeleteOptions;
use navarch_types::decode::{self, FieldValidation, Parsed};
use navarch_types::patch;
use navarch_types::schema::Schema;
use navarch_types::{ApiError, Body, GroupVersionKind, PatchType, Reason, WriteOptions};
use serde_json::Value;

const JSON: &str = "application/json";
const DELETE_OPTIONS: GroupVersionKind = GroupVersionKind::new("", "v1", "DeleteOptions");

/// What a patch says, before it is applied.
#[derive(Clone, Debug)]
pub struct Patch {
    patch_type: PatchType,
    content: Value,
    /// Fields that stood twice in it.
    duplicates: Vec<String>,
}

/// An object of a kind. Findings that are no errors become warnings of the call.
///
/// # Errors
/// 400 and 415 as upstream words them.
pub fn object(call: &Call<'_>, kind: &GroupVersionKind, body: &Body) -> Result<Value, ApiError> {
    let parsed = match body {
        Body::Empty => decode::parse(JSON, b"", kind)?,
        Body::Bytes { media_type, content } => decode::parse(media_type, content, kind)?,
        Body::Value(value) => Parsed::from(value.clone()),
    };
    checked(call, kind, parsed, "CreateOptions")
}

fn checked(call: &Call<'_>, kind: &GroupVersionKind, parsed: Parsed, options: &'static str) -> Result<Value, ApiError> {
    let validation = FieldValidation::parse(call.write.field_validation.as_deref(), options)?;
    let decoded = decode::decode(Schema::builtin(), parsed, kind, validation)?;
    call.warn(decoded.warnings);
    Ok(decoded.value)
}

/// `DeleteOptions` from a body, if there is one, and what of them stood in the query.
///
/// # Errors
/// 400 for what does not parse, 422 for what makes no sense.
pub fn delete_options(body: &Body, write: &mut WriteOptions) -> Result<DeleteOptions, ApiError> {
    let mut value = match body {
        Body::Empty => return Ok(DeleteOptions::default()),
        Body::Bytes { content, .. } if content.is_empty() => return Ok(DeleteOptions::default()),
        Body::Bytes { media_type, content } => decode::parse(media_type, content, &DELETE_OPTIONS)?.value,
        Body::Value(value) => value.clone(),
    };
    // Any group's DeleteOptions are these; clients send them in the group of what they delete.
    if value.get("kind").is_some_and(|k| k != "DeleteOptions") {
        return Err(ApiError::bad_request(format!("{} is no DeleteOptions", value["kind"])));
    }
    if let Some(map) = value.as_object_mut() {
        map.remove("apiVersion");
    }
    let parsed = Parsed::from(value);
    let value = decode::decode(Schema::builtin(), parsed, &DELETE_OPTIONS, FieldValidation::Ignore)?.value;
    if let Some(dry_run) = value["dryRun"].as_array() {
        if dry_run.iter().any(|d| d != "All") {
            use navarch_types::field::{FieldError, Path, into_result};
            let finding = FieldError::not_supported(&Path::root("dryRun"), Value::from(dry_run.clone()), &["All"]);
            into_result(&GroupVersionKind::new("meta.k8s.io", "v1", "DeleteOptions"), "", vec![finding])?;
        }
        write.dry_run |= !dry_run.is_empty();
    }
    DeleteOptions::from_value(&value)
}

impl Patch {
    /// Reads a patch; it is parsed once, however often it is applied.
    ///
    /// # Errors
    /// 415 for apply patches, 400 for what does not parse.
    pub fn read(patch_type: Option<PatchType>, body: &Body) -> Result<Self, ApiError> {
        let patch_type = patch_type.ok_or_else(unknown_patch)?;
        if patch_type == PatchType::Apply {
            return Err(ApiError::new(
                Reason::UnsupportedMediaType,
                "server-side apply (application/apply-patch+yaml) is not supported by this server; use client-side apply \
                 or one of application/json-patch+json, application/merge-patch+json, \
                 application/strategic-merge-patch+json",
            ));
        }
        let Parsed { value: content, duplicates } = match body {
            Body::Value(value) => Parsed::from(value.clone()),
            Body::Bytes { content, .. } => {
                decode::parse_json(content).map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?
            }
            Body::Empty => return Err(ApiError::bad_request("error decoding patch: unexpected end of JSON input")),
        };
        Ok(Self { patch_type, content, duplicates })
    }

    /// Applies the patch to an object of a kind and checks what comes out.
    ///
    /// # Errors
    /// 400 and 422 for patches that do not apply, and what decoding says about the result.
    pub fn apply(&self, call: &Call<'_>, kind: &GroupVersionKind, object: Value) -> Result<Value, ApiError> {
        let schema = Schema::builtin();
        let patched = match self.patch_type {
            PatchType::Json => patch::json(object, &self.content)?,
            PatchType::Merge => patch::merge(object, &self.content)?,
            PatchType::Strategic => patch::strategic(schema, kind, object, &self.content)?,
            PatchType::Apply => return Err(unknown_patch()),
        };
        let validation = FieldValidation::parse(call.write.field_validation.as_deref(), "PatchOptions")?;
        let duplicates = self.duplicates.clone();
        let decoded = patch::conform_patched(schema, kind, patched, &self.content, duplicates, validation)?;
        call.warn(decoded.warnings);
        Ok(decoded.value)
    }
}

fn unknown_patch() -> ApiError {
    ApiError::new(
        Reason::UnsupportedMediaType,
        "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, \
         application/merge-patch+json, application/strategic-merge-patch+json",
    )
}
