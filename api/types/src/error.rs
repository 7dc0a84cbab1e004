//! The error that every layer of the API speaks: a Kubernetes `Status`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::{GroupResource, GroupVersionKind};

/// `meta/v1` `Status`, without the type's own list metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Always `Status`.
    pub kind: String,
    /// Always `v1`.
    pub api_version: String,
    /// Empty list metadata, as upstream sends.
    #[serde(default)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// `Success` or `Failure`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// For programs; see [`Reason`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// More about the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<StatusDetails>,
    /// The HTTP status code.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub code: u16,
}

fn is_zero(n: &u16) -> bool {
    *n == 0
}

/// What a failure is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusDetails {
    /// The object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The object's group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The resource, or for `Invalid` the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The object's uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The single findings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    /// Try again after so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// One finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusCause {
    /// For programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The field, `spec.replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// Kubernetes' reasons, each with its HTTP code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 409 on create.
    AlreadyExists,
    /// 409 on a stale resourceVersion or a precondition.
    Conflict,
    /// 410: the resource is gone.
    Gone,
    /// 422.
    Invalid,
    /// 504: the server gave up; the outcome may be unknown.
    ServerTimeout,
    /// 504: the client's own deadline passed.
    Timeout,
    /// 429.
    TooManyRequests,
    /// 400.
    BadRequest,
    /// 405.
    MethodNotAllowed,
    /// 406.
    NotAcceptable,
    /// 413.
    RequestEntityTooLarge,
    /// 415.
    UnsupportedMediaType,
    /// 500.
    InternalError,
    /// 410: the resourceVersion or continue token is too old.
    Expired,
    /// 503.
    ServiceUnavailable,
}

impl Reason {
    /// The HTTP code.
    pub const fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError => 500,
            Self::ServiceUnavailable => 503,
            Self::ServerTimeout | Self::Timeout => 504,
        }
    }

    /// As it stands in `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::Invalid => "Invalid",
            Self::ServerTimeout => "ServerTimeout",
            Self::Timeout => "Timeout",
            Self::TooManyRequests => "TooManyRequests",
            Self::BadRequest => "BadRequest",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::InternalError => "InternalError",
            Self::Expired => "Expired",
            Self::ServiceUnavailable => "ServiceUnavailable",
        }
    }
}

/// A failed request. Boxed, so that results stay small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError(Box<Status>);

impl ApiError {
    /// A failure with a message.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Status {
            kind: "Status".into(),
            api_version: "v1".into(),
            metadata: serde_json::Map::new(),
            status: "Failure".into(),
            message: message.into(),
            reason: reason.as_str().into(),
            details: None,
            code: reason.code(),
        }))
    }

    /// A failure that a server answered.
    pub fn from_status(status: Status) -> Self {
        Self(Box::new(status))
    }

    /// Adds details.
    #[must_use]
    pub fn with_details(mut self, details: StatusDetails) -> Self {
        self.0.details = Some(details);
        self
    }

    /// Adds one cause.
    #[must_use]
    pub fn with_cause(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        let details = self.0.details.get_or_insert_default();
        details.causes.push(StatusCause {
            reason: Some(reason.to_owned()).filter(|r| !r.is_empty()),
            message: Some(message.into()),
            field: Some(field.to_owned()).filter(|f| !f.is_empty()),
        });
        self
    }

    /// Tells the client when to come back.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.0.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    fn about(reason: Reason, message: String, resource: &GroupResource, name: &str) -> Self {
        Self::new(reason, message).with_details(StatusDetails {
            name: Some(name.to_owned()).filter(|n| !n.is_empty()),
            group: Some(resource.group.to_string()).filter(|g| !g.is_empty()),
            kind: Some(resource.resource.to_string()).filter(|k| !k.is_empty()),
            ..StatusDetails::default()
        })
    }

    /// `pods "web" not found`.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::about(Reason::NotFound, format!("{resource} {name:?} not found"), resource, name)
    }

    /// `pods "web" already exists`.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::about(Reason::AlreadyExists, format!("{resource} {name:?} already exists"), resource, name)
    }

    /// `Operation cannot be fulfilled on pods "web": why`.
    pub fn conflict(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::about(Reason::Conflict, message, resource, name)
    }

    /// The conflict of a stale resourceVersion, as clients know it.
    pub fn stale(resource: &GroupResource, name: &str) -> Self {
        const WHY: &str = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, WHY)
    }

    /// `pods "web" is forbidden: why`.
    pub fn forbidden(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} {name:?} is forbidden: {why}")
        };
        Self::about(Reason::Forbidden, message, resource, name)
    }

    /// `Pod "web" is invalid: findings`. See [`crate::field::into_result`].
    pub fn invalid(kind: &GroupVersionKind, name: &str, findings: String, causes: Vec<StatusCause>) -> Self {
        let group_kind =
            if kind.group.is_empty() { kind.kind.to_string() } else { format!("{}.{}", kind.kind, kind.group) };
        Self::new(Reason::Invalid, format!("{group_kind} {name:?} is invalid: {findings}")).with_details(
            StatusDetails {
                name: Some(name.to_owned()).filter(|n| !n.is_empty()),
                group: Some(kind.group.to_string()).filter(|g| !g.is_empty()),
                kind: Some(kind.kind.to_string()),
                causes,
                ..StatusDetails::default()
            },
        )
    }

    /// 400 with a message.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// 500 with upstream's prefix. The text must hold no secret.
    pub fn internal(why: impl fmt::Display) -> Self {
        let mut error = Self::new(Reason::InternalError, format!("Internal error occurred: {why}"));
        error.0.details = Some(StatusDetails {
            causes: vec![StatusCause { message: Some(why.to_string()), ..StatusCause::default() }],
            ..StatusDetails::default()
        });
        error
    }

    /// The answer to send.
    pub fn status(&self) -> &Status {
        &self.0
    }

    /// The HTTP code.
    pub fn code(&self) -> u16 {
        self.0.code
    }

    /// Whether the reason is this one.
    pub fn is(&self, reason: Reason) -> bool {
        self.0.reason == reason.as_str()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for ApiError {}
