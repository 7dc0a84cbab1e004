//! `SubjectAccessReview` and its relatives: may this user do that?

use std::collections::BTreeMap;

use navarch_types::field::{FieldError, Path, into_result};
use navarch_types::{ApiError, GroupVersionKind, UserInfo};
use serde_json::{Map, Value, json};

use crate::attributes::{Attributes, Decision};
use crate::authorize::Authorizer;

/// Answers one of the three reviews.
pub(super) fn review(
    authorizer: &Authorizer,
    caller: &UserInfo,
    resource: &str,
    namespace: &str,
    mut object: Value,
) -> Result<Value, ApiError> {
    let myself = resource == "selfsubjectaccessreviews";
    let spec = object["spec"].take();
    validate(resource, namespace, &spec)?;
    let user = if myself { caller.clone() } else { subject(&spec) };
    let (decision, allowed_why) = authorizer.authorize_with_reason(&attributes(&user, &spec));
    let mut status = match &decision {
        Decision::Allow => json!({"allowed": true, "reason": allowed_why}),
        Decision::Deny(why) => json!({"allowed": false, "denied": true, "reason": why}),
        Decision::NoOpinion(why) => json!({"allowed": false, "reason": why}),
    };
    if status["reason"] == "" {
        status.as_object_mut().map(|s| s.remove("reason"));
    }
    object["spec"] = spec;
    object["status"] = status;
    Ok(object)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn subject(spec: &Value) -> UserInfo {
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let extra: BTreeMap<_, _> =
        spec["extra"].as_object().unwrap_or(&Map::new()).iter().map(|(k, v)| (k.to_lowercase(), list(v))).collect();
    UserInfo {
        name: text(spec, "user").to_owned(),
        uid: text(spec, "uid").to_owned(),
        groups: list(&spec["groups"]),
        extra,
    }
}

fn attributes<'a>(user: &'a UserInfo, spec: &'a Value) -> Attributes<'a> {
    let asked = &spec["resourceAttributes"];
    if !asked.is_object() {
        let path = &spec["nonResourceAttributes"];
        return Attributes::path(user, text(path, "verb"), text(path, "path"));
    }
    let mut attributes = Attributes::resource(
        user,
        text(asked, "verb"),
        text(asked, "group"),
        text(asked, "version"),
        text(asked, "resource"),
    );
    attributes.subresource = text(asked, "subresource");
    attributes.namespace = text(asked, "namespace");
    attributes.name = text(asked, "name");
    attributes.field_selector = text(&asked["fieldSelector"], "rawSelector");
    attributes
}

fn validate(resource: &str, namespace: &str, spec: &Value) -> Result<(), ApiError> {
    let kind = match resource {
        "selfsubjectaccessreviews" => "SelfSubjectAccessReview",
        "localsubjectaccessreviews" => "LocalSubjectAccessReview",
        _ => "SubjectAccessReview",
    };
    let path = Path::root("spec");
    let mut errors = Vec::new();
    match (spec["resourceAttributes"].is_object(), spec["nonResourceAttributes"].is_object()) {
        (true, true) => errors.push(FieldError::invalid(
            &path.child("nonResourceAttributes"),
            Value::Null,
            "cannot be specified in combination with resourceAttributes",
        )),
        (false, false) => errors.push(FieldError::invalid(
            &path.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    let no_groups = spec["groups"].as_array().is_none_or(Vec::is_empty);
    if resource != "selfsubjectaccessreviews" && text(spec, "user").is_empty() && no_groups {
        let why = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&path.child("user"), "", why));
    }
    if resource == "localsubjectaccessreviews" {
        if spec["nonResourceAttributes"].is_object() {
            let why = "disallowed on this kind of request";
            errors.push(FieldError::invalid(&path.child("nonResourceAttributes"), Value::Null, why));
        }
        let asked = text(&spec["resourceAttributes"], "namespace");
        if asked != namespace {
            let why = format!("must match metadata.namespace: {namespace}");
            errors.push(FieldError::invalid(&path.child("resourceAttributes").child("namespace"), asked, why));
        }
    }
    into_result(&GroupVersionKind { kind: kind.into(), ..GROUP_VERSION }, "", errors)
}

const GROUP_VERSION: GroupVersionKind = GroupVersionKind::new("authorization.k8s.io", "v1", "");
