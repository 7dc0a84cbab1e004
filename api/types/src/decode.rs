//! From the bytes of a request to an object that fits its kind.
//!
//! [`parse`] reads JSON, YAML or protobuf and notes duplicate fields; [`decode`] makes sure of the kind, checks the structure and
//! settles unknown and duplicate fields by `fieldValidation`. Errors are 400 in upstream's words and never quote the body,
//! which may be a Secret.

mod json;
mod protobuf;
mod yaml;

use serde_json::Value;

use crate::error::{ApiError, Reason};
use crate::field::{FieldError, Path, into_result};
use crate::name::{GroupVersion, GroupVersionKind};
use crate::schema::Schema;

pub use json::parse_json;
pub use yaml::parse_yaml;

/// What becomes of unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped with a warning.
    #[default]
    Warn,
    /// The request fails.
    Strict,
}

impl FieldValidation {
    /// From the query's `fieldValidation`; absent and empty are `Warn`. `options` is the kind that a refusal names:
    /// `CreateOptions`, `UpdateOptions`, `PatchOptions`.
    ///
    /// # Errors
    /// 422 for any other text.
    pub fn parse(text: Option<&str>, options: &'static str) -> Result<Self, ApiError> {
        match text.unwrap_or_default() {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => {
                let path = Path::root("fieldValidation");
                let finding = FieldError::not_supported(&path, other, &["", "Ignore", "Strict", "Warn"]);
                into_result(&GroupVersionKind::new("meta.k8s.io", "v1", options), "", vec![finding])?;
                Ok(Self::Warn)
            }
        }
    }
}

/// A parsed body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// The value; the last of duplicate fields counts.
    pub value: Value,
    /// A text for each duplicate: `duplicate field "spec.replicas"`.
    pub duplicates: Vec<String>,
}

impl From<Value> for Parsed {
    fn from(value: Value) -> Self {
        Self { value, duplicates: Vec::new() }
    }
}

/// Why a body does not parse: where, and what is wrong there. Never quotes the body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

/// An object that fits its kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object, with `apiVersion` and `kind`.
    pub value: Value,
    /// For `Warning` headers.
    pub warnings: Vec<String>,
}

/// Reads a body by its media type; parameters after `;` are ignored, and no type at all is JSON.
///
/// # Errors
/// 415 for other types, 400 for what does not parse.
pub fn parse(media_type: &str, body: &[u8], expected: &GroupVersionKind) -> Result<Parsed, ApiError> {
    let unrecognized = |what: &str, error: ParseError| {
        let summary = if body.is_empty() { " (<empty>)" } else { "" };
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {what}{error}{summary}",
            expected.kind
        ))
    };
    match media_type.split(';').next().unwrap_or_default().trim() {
        "" | "application/json" | "*/*" => {
            parse_json(body).map_err(|e| unrecognized("couldn't get version/kind; json parse error: ", e))
        }
        "application/yaml" => parse_yaml(body).map_err(|e| unrecognized("error converting YAML to JSON: ", e)),
        crate::protobuf::MEDIA_TYPE => protobuf::parse(body, expected),
        other => Err(unsupported_media_type(other)),
    }
}

/// 415 for a body's type.
fn unsupported_media_type(found: &str) -> ApiError {
    const KNOWN: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    ApiError::new(
        Reason::UnsupportedMediaType,
        format!(
            "the body of the request was in an unknown format - accepted media types include: {KNOWN}; got {found:?}"
        ),
    )
}

/// Makes an object of the expected kind out of a parsed body.
///
/// # Errors
/// 400 if it is of another kind, a field has the wrong type, or, if `validation` is strict, a field is unknown or twice.
pub fn decode(
    schema: &Schema,
    parsed: Parsed,
    expected: &GroupVersionKind,
    validation: FieldValidation,
) -> Result<Decoded, ApiError> {
    let Parsed { mut value, duplicates } = parsed;
    let Some(object) = value.as_object_mut() else {
        let why = "couldn't get version/kind; json parse error: json: cannot unmarshal into Go value of type struct";
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {why}",
            expected.kind
        )));
    };
    let text = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: \
             {name} is not a string",
            expected.kind
        ))),
    };
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    check_kind(schema, &api_version, &kind, expected)?;
    object.insert("apiVersion".to_owned(), expected.api_version().into());
    object.insert("kind".to_owned(), expected.kind.as_ref().into());
    conform(schema, Parsed { value, duplicates }, expected, validation).map_err(|why| {
        ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {why}",
            expected.kind, expected.version, expected.kind
        ))
    })
}

fn check_kind(schema: &Schema, api_version: &str, kind: &str, expected: &GroupVersionKind) -> Result<(), ApiError> {
    let want = expected.group_version();
    let got = match api_version {
        "" => want.clone(),
        text => GroupVersion::parse(text)
            .ok_or_else(|| ApiError::bad_request(format!("unexpected GroupVersion string: {text}")))?,
    };
    let kind = if kind.is_empty() { expected.kind.as_ref() } else { kind };
    if kind != expected.kind {
        let why = if schema.by_kind(&got.group, &got.version, kind).is_some() {
            format!("it is not a {}", expected.kind)
        } else {
            format!("no kind {kind:?} is registered for version {:?}", got.to_string())
        };
        let text = format!("{kind} in version {:?} cannot be handled as a {}: {why}", got.version, expected.kind);
        return Err(ApiError::bad_request(text));
    }
    if got != want {
        let text = format!("the API version in the data ({got}) does not match the expected API version ({want})");
        return Err(ApiError::bad_request(text));
    }
    Ok(())
}

/// Checks the structure of a value that is known to be of a kind, and settles findings.
///
/// # Errors
/// The text of what is wrong, for the caller to put into its kind of error.
pub fn conform(
    schema: &Schema,
    parsed: Parsed,
    kind: &GroupVersionKind,
    validation: FieldValidation,
) -> Result<Decoded, String> {
    let Parsed { mut value, duplicates } = parsed;
    let id = schema
        .by_gvk(kind)
        .ok_or_else(|| format!("no kind {:?} is registered for version {:?}", kind.kind, kind.api_version()))?;
    let mut findings = schema.check(id, &mut value).map_err(|e| e.to_string())?.unknown;
    findings.splice(0..0, duplicates);
    match validation {
        FieldValidation::Ignore => Ok(Decoded { value, warnings: Vec::new() }),
        FieldValidation::Warn => Ok(Decoded { value, warnings: findings }),
        FieldValidation::Strict if findings.is_empty() => Ok(Decoded { value, warnings: Vec::new() }),
        FieldValidation::Strict => Err(format!("strict decoding error: {}", findings.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    const DEPLOYMENT: GroupVersionKind = GroupVersionKind::new("apps", "v1", "Deployment");

    fn run(body: &str, validation: FieldValidation) -> Result<Decoded, String> {
        let parsed = parse("application/json", body.as_bytes(), &DEPLOYMENT).map_err(|e| e.to_string())?;
        decode(Schema::builtin(), parsed, &DEPLOYMENT, validation).map_err(|e| {
            assert_eq!(e.code(), 400);
            e.to_string()
        })
    }

    #[test]
    fn missing_kind_is_filled_in_and_findings_are_settled() {
        let body = r#"{"metadata":{"name":"a","name":"b"},"spec":{"replicas":1,"x":2}}"#;
        let clean =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "b"}, "spec": {"replicas": 1}});
        let findings = ["duplicate field \"metadata.name\"", "unknown field \"spec.x\""];
        let ignored = run(body, FieldValidation::Ignore).unwrap();
        assert_eq!((&ignored.value, ignored.warnings.len()), (&clean, 0));
        let warned = run(body, FieldValidation::Warn).unwrap();
        assert_eq!((&warned.value, &warned.warnings[..]), (&clean, &findings.map(str::to_owned)[..]));
        assert_eq!(
            run(body, FieldValidation::Strict).unwrap_err(),
            "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: duplicate field \
             \"metadata.name\", unknown field \"spec.x\""
        );
    }

    #[test]
    fn bodies_of_the_wrong_kind_are_refused() {
        for (body, starts) in [
            (
                "",
                "the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse",
            ),
            ("[]", "the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json"),
            ("{", "the object provided is unrecognized"),
            (r#"{"kind":5}"#, "the object provided is unrecognized"),
            (
                r#"{"kind":"Pod","apiVersion":"v1"}"#,
                "Pod in version \"v1\" cannot be handled as a Deployment: it is not a Deployment",
            ),
            (
                r#"{"kind":"Po","apiVersion":"v1"}"#,
                "Po in version \"v1\" cannot be handled as a Deployment: no kind \"Po\" is registered for version \"v1\"",
            ),
            (
                r#"{"kind":"Deployment","apiVersion":"apps/v1beta1"}"#,
                "the API version in the data (apps/v1beta1) does not match the expected API version (apps/v1)",
            ),
            (r#"{"apiVersion":"a/b/c"}"#, "unexpected GroupVersion string: a/b/c"),
            (
                r#"{"spec":{"replicas":"1"}}"#,
                "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into",
            ),
        ] {
            let error = run(body, FieldValidation::Warn).unwrap_err();
            assert!(error.starts_with(starts), "{body}: {error}");
        }
        assert_eq!(parse("text/plain", b"{}", &DEPLOYMENT).unwrap_err().code(), 415);
        let error = FieldValidation::parse(Some("x"), "CreateOptions").unwrap_err();
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            (
                422,
                "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"x\": supported values: \
                 \"\", \"Ignore\", \"Strict\", \"Warn\""
            )
        );
    }
}
