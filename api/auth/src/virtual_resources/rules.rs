//! `SelfSubjectRulesReview`: all that the caller may do in a namespace.

use k8s_openapi::api::rbac::v1::PolicyRule;
use navarch_types::{ApiError, UserInfo};
use serde_json::{Value, json};

use crate::rbac::Rbac;

/// Answers the review.
pub(super) fn review(rbac: &Rbac, user: &UserInfo, mut object: Value) -> Result<Value, ApiError> {
    let namespace = object["spec"]["namespace"].as_str().unwrap_or_default().to_owned();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let (mut rules, errors) = rbac.rules_for(user, &namespace);
    if user.groups.iter().any(|g| g == crate::PRIVILEGED_GROUP) {
        let all = || vec!["*".to_owned()];
        rules.push(PolicyRule {
            api_groups: Some(all()),
            resources: Some(all()),
            verbs: all(),
            ..PolicyRule::default()
        });
        rules.push(PolicyRule { non_resource_urls: Some(all()), verbs: all(), ..PolicyRule::default() });
    }
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in rules {
        if rule.resources.as_ref().is_some_and(|r| !r.is_empty()) {
            let mut value = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
            if let Some(names) = rule.resource_names.filter(|n| !n.is_empty()) {
                value["resourceNames"] = json!(names);
            }
            resources.push(value);
        } else if let Some(urls) = rule.non_resource_urls {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": urls}));
        }
    }
    // Nodes have more than RBAC tells.
    let incomplete = crate::node::node_name(user).is_some() || !errors.is_empty();
    object["status"] = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": incomplete});
    if !errors.is_empty() {
        object["status"]["evaluationError"] = json!(errors.join(", "));
    }
    Ok(object)
}
