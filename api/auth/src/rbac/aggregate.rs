//! Aggregated cluster roles: their rules are those of all cluster roles that their selectors match.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};

use super::bootstrap::{Write, WriteKind};
use crate::view::{CLUSTER_ROLES, ObjectView};

/// The updates that bring all aggregated roles to what they should be. Roles may aggregate aggregated ones: apply and ask
/// again, until there is nothing left.
pub fn plan(view: &dyn ObjectView) -> Vec<Write> {
    let objects = view.list(&CLUSTER_ROLES, None);
    let roles: Vec<_> = objects.iter().filter_map(|o| o.typed::<ClusterRole>().ok()).collect();
    let mut writes = Vec::new();
    for (object, role) in objects.iter().zip(&roles) {
        if role.aggregation_rule.is_none() || role.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let rules = rules(role, roles.iter().map(|r| &**r));
        if role.rules.as_deref().unwrap_or_default() == rules {
            continue;
        }
        let Ok(mut value) = object.to_value() else { continue };
        value["rules"] = json!(rules);
        writes.push(Write { resource: &CLUSTER_ROLES, object: value, kind: WriteKind::Update });
    }
    writes
}

/// The rules that an aggregated role should have, given all roles in order of name.
pub fn rules<'a>(role: &ClusterRole, all: impl Iterator<Item = &'a ClusterRole> + Clone) -> Vec<PolicyRule> {
    let selectors =
        role.aggregation_rule.as_ref().and_then(|a| a.cluster_role_selectors.as_deref()).unwrap_or_default();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        for other in all.clone() {
            if other.metadata.name == role.metadata.name || !selects(selector, other) {
                continue;
            }
            for rule in other.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    rules
}

fn selects(selector: &LabelSelector, role: &ClusterRole) -> bool {
    let label = |key: &str| role.metadata.labels.as_ref().and_then(|l| l.get(key)).map(String::as_str);
    let labels = selector.match_labels.iter().flatten().all(|(k, v)| label(k) == Some(v));
    let expressions = selector.match_expressions.iter().flatten().all(|e| {
        let (value, values) = (label(&e.key), e.values.as_deref().unwrap_or_default());
        let among = value.is_some_and(|v| values.iter().any(|w| w == v));
        match e.operator.as_str() {
            "In" => among,
            "NotIn" => !among,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    });
    labels && expressions
}

/// The value of a role's `aggregationRule` that matches one label.
pub(super) fn by_label(label: &str) -> Value {
    json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]})
}
