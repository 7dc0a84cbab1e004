//! Tokens that a node may ask for: of pods that run on it, for audiences that these pods ask for.

use navarch_auth::ObjectView;
use navarch_auth::view::PODS;
use navarch_types::ApiError;
use serde_json::Value;

use super::super::json::{items, text};
use crate::attributes::AdmissionAttributes;
use crate::plugin::{FINE, Verdict};

pub(super) fn check(
    attributes: &AdmissionAttributes<'_>,
    node: &str,
    view: &dyn ObjectView,
    request: &Value,
) -> Verdict {
    let reference = |field| text(request, &["spec", "boundObjectRef", field]);
    if reference("kind") != "Pod" || !matches!(reference("apiVersion"), "v1" | "") {
        return Err(attributes.forbidden("node requested token not bound to a pod"));
    }
    let (name, uid) = (reference("name"), reference("uid"));
    if uid.is_empty() {
        return Err(attributes.forbidden("node requested token with a pod binding without a uid"));
    }
    let object =
        view.get(&PODS, attributes.namespace, name).ok_or_else(|| ApiError::not_found(&PODS.resource, name))?;
    let pod = object.to_value().map_err(ApiError::internal)?;
    let found = text(&pod, &["metadata", "uid"]);
    if found != uid {
        let why = format!("the UID in the bound object reference ({uid}) does not match the UID in record ({found})");
        return Err(attributes.forbidden(why));
    }
    if text(&pod, &["spec", "nodeName"]) != node {
        return Err(attributes.forbidden("node requested token bound to a pod scheduled on a different node"));
    }
    let wanted: Vec<_> = items(&pod, &["spec", "volumes"])
        .flat_map(|v| items(v, &["projected", "sources"]))
        .map(|s| text(s, &["serviceAccountToken", "audience"]))
        .collect();
    for audience in items(request, &["spec", "audiences"]).filter_map(Value::as_str).filter(|a| !a.is_empty()) {
        if !wanted.contains(&audience) {
            let why = format!("audience {audience:?} not found in pod spec volume");
            return Err(attributes.forbidden(why));
        }
    }
    FINE
}
