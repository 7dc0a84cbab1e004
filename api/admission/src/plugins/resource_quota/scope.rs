//! Which pods a quota with scopes is about.

use k8s_openapi::api::core::v1::ResourceQuota;
use navarch_types::GroupResource;
use serde_json::Value;

use super::super::json::{CONTAINERS, at, items, text};
use super::super::limit_ranger::sums::container_amounts;

/// Whether an object is in all scopes of a quota. A quota with scopes is about nothing but pods.
pub(super) fn matches(quota: &ResourceQuota, resource: &GroupResource, object: &Value) -> bool {
    let Some(spec) = quota.spec.as_ref() else { return false };
    let scopes = spec.scopes.as_deref().unwrap_or_default();
    let expressions = spec.scope_selector.as_ref().and_then(|s| s.match_expressions.as_deref()).unwrap_or_default();
    if scopes.is_empty() && expressions.is_empty() {
        return true;
    }
    if !resource.group.is_empty() || resource.resource != "pods" {
        return false;
    }
    let plain = scopes.iter().all(|scope| in_scope(scope, object));
    plain
        && expressions.iter().all(|e| {
            let values = e.values.as_deref().unwrap_or_default();
            let class = text(object, &["spec", "priorityClassName"]);
            match (e.scope_name.as_str(), e.operator.as_str()) {
                ("PriorityClass", "In") => values.iter().any(|v| v == class),
                ("PriorityClass", "NotIn") => !values.iter().any(|v| v == class),
                ("PriorityClass", "Exists") => !class.is_empty(),
                ("PriorityClass", "DoesNotExist") => class.is_empty(),
                (scope, "Exists") => in_scope(scope, object),
                (scope, "DoesNotExist") => !in_scope(scope, object),
                _ => false,
            }
        })
}

fn in_scope(scope: &str, pod: &Value) -> bool {
    let terminating = at(pod, &["spec", "activeDeadlineSeconds"]).and_then(Value::as_i64).is_some_and(|s| s >= 0);
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => !text(pod, &["spec", "priorityClassName"]).is_empty(),
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

fn is_best_effort(pod: &Value) -> bool {
    let nothing = |c: &Value| {
        let amounts = container_amounts(c);
        let compute = ["cpu", "memory"];
        compute.iter().all(|r| amounts.requests.get(*r).is_none_or(|q| q.is_zero()))
    };
    CONTAINERS.iter().flat_map(|list| items(pod, &["spec", list])).all(nothing)
}

fn crosses_namespaces(pod: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let path = |list| ["spec", "affinity", kind, list];
        let required = items(pod, &path("requiredDuringSchedulingIgnoredDuringExecution"));
        let preferred = items(pod, &path("preferredDuringSchedulingIgnoredDuringExecution"))
            .filter_map(|t| at(t, &["podAffinityTerm"]));
        required
            .chain(preferred)
            .any(|term| items(term, &["namespaces"]).next().is_some() || at(term, &["namespaceSelector"]).is_some())
    })
}
