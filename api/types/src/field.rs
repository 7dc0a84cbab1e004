//! Paths into an object, and what validation has to say about the value there; as `k8s.io/apimachinery`'s `field` package
//! words it.

use std::fmt;

use serde_json::Value;

use crate::error::{ApiError, StatusCause};
use crate::name::GroupVersionKind;

/// A path such as `spec.containers[0].ports[1].name` or `metadata.labels[a/b]`. Cheap to extend, only rendered for errors.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The first field.
    pub const fn root(name: &'a str) -> Self {
        Self { parent: None, step: Step::Field(name) }
    }

    /// A field of what this path names. `child("a.b")` renders as two steps.
    pub const fn child(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Field(name) }
    }

    /// An element of the list that this path names.
    pub const fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// An entry of the map that this path names.
    pub const fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}")?;
        }
        match self.step {
            Step::Field(name) if self.parent.is_none() => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// The kinds of validation error; [`ErrorType::reason`] is the cause's `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// A value is absent that must be there.
    Required,
    /// A value is malformed.
    Invalid,
    /// A value is not one of an enumeration.
    NotSupported,
    /// A value is well formed and not allowed here.
    Forbidden,
    /// A value occurs twice in a set.
    Duplicate,
    /// A value refers to what does not exist.
    NotFound,
    /// A text is longer than allowed.
    TooLong,
    /// A list is longer than allowed.
    TooMany,
    /// A value's type is wrong.
    TypeInvalid,
    /// The server failed to judge.
    Internal,
}

impl ErrorType {
    /// The `reason` of a Status cause.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotFound => "FieldValueNotFound",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::Duplicate => "Duplicate value",
            Self::NotFound => "Not found",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One finding of validation.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// The kind of finding.
    pub error_type: ErrorType,
    /// Where, rendered.
    pub field: String,
    /// The value found; rendered as upstream does (strings quoted). `Null` and the value-less types render nothing.
    pub bad_value: Value,
    /// What is wrong with it.
    pub detail: String,
}

impl FieldError {
    fn new(error_type: ErrorType, path: &Path<'_>, bad_value: Value, detail: impl Into<String>) -> Self {
        Self { error_type, field: path.to_string(), bad_value, detail: detail.into() }
    }

    /// `path: Required value: detail`.
    pub fn required(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Required, path, Value::Null, detail)
    }

    /// `path: Invalid value: value: detail`.
    pub fn invalid(path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Invalid, path, value.into(), detail)
    }

    /// `path: Invalid value: value: detail`, for a value of the wrong type.
    pub fn type_invalid(path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::TypeInvalid, path, value.into(), detail)
    }

    /// `path: Unsupported value: value: supported values: "a", "b"`.
    pub fn not_supported(path: &Path<'_>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let detail = if supported.is_empty() {
            String::new()
        } else {
            let quoted: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
            format!("supported values: {}", quoted.join(", "))
        };
        Self::new(ErrorType::NotSupported, path, value.into(), detail)
    }

    /// `path: Forbidden: detail`.
    pub fn forbidden(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Forbidden, path, Value::Null, detail)
    }

    /// `path: Duplicate value: value`.
    pub fn duplicate(path: &Path<'_>, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::Duplicate, path, value.into(), "")
    }

    /// `path: Not found: value`.
    pub fn not_found(path: &Path<'_>, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::NotFound, path, value.into(), "")
    }

    /// `path: Too long: may not be more than max bytes`.
    pub fn too_long(path: &Path<'_>, max_bytes: usize) -> Self {
        let unit = if max_bytes == 1 { "byte" } else { "bytes" };
        Self::new(ErrorType::TooLong, path, Value::Null, format!("may not be more than {max_bytes} {unit}"))
    }

    /// `path: Too many: actual: must have at most max items`.
    pub fn too_many(path: &Path<'_>, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::new(ErrorType::TooMany, path, actual.into(), format!("must have at most {max} {unit}"))
    }

    /// What stands behind the path in a message, and alone in a cause.
    pub fn body(&self) -> String {
        use ErrorType::{Forbidden, Internal, Required, TooLong};
        let text = self.error_type.text();
        let mut out = match self.error_type {
            Required | Forbidden | TooLong | Internal => text.to_owned(),
            _ => match &self.bad_value {
                Value::Null => format!("{text}: null"),
                value => format!("{text}: {value}"),
            },
        };
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// Makes the 422 `Invalid` answer for an object, or nothing if there are no findings.
pub fn into_result(kind: &GroupVersionKind, name: &str, errors: Vec<FieldError>) -> Result<(), ApiError> {
    if errors.is_empty() {
        return Ok(());
    }
    let causes = errors
        .iter()
        .map(|e| StatusCause {
            reason: Some(e.error_type.reason().to_owned()),
            message: Some(e.body()),
            field: Some(e.field.clone()),
        })
        .collect();
    let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let list = if let [one] = text.as_slice() { one.clone() } else { format!("[{}]", text.join(", ")) };
    Err(ApiError::invalid(kind, name, list, causes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_messages_read_as_upstream() {
        let spec = Path::root("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        let name = first.child("name");
        assert_eq!(FieldError::required(&name, "").to_string(), "spec.containers[0].name: Required value");
        assert_eq!(
            FieldError::invalid(&name, "A", "must be lower case").to_string(),
            "spec.containers[0].name: Invalid value: \"A\": must be lower case"
        );
        let policy = spec.child("restartPolicy");
        assert_eq!(
            FieldError::not_supported(&policy, "x", &["Always", "Never"]).to_string(),
            "spec.restartPolicy: Unsupported value: \"x\": supported values: \"Always\", \"Never\""
        );
        let labels = Path::root("metadata");
        assert_eq!(labels.child("labels").key("a/b").to_string(), "metadata.labels[a/b]");
    }

    #[test]
    fn several_findings_are_listed_in_brackets() {
        let kind = GroupVersionKind::new("apps", "v1", "Deployment");
        let spec = Path::root("spec");
        let errors = vec![FieldError::required(&spec.child("selector"), ""), FieldError::forbidden(&spec, "no")];
        let error = into_result(&kind, "web", errors).err().map(|e| e.to_string());
        assert_eq!(
            error.as_deref(),
            Some("Deployment.apps \"web\" is invalid: [spec.selector: Required value, spec: Forbidden: no]")
        );
    }
}
