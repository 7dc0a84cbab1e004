//! Fills ClusterRoles that have an aggregation rule with the rules of the roles it selects.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use navarch_client::{Client, Informer, InformerFactory, ObjectKey, Subscription, WorkQueue};
use navarch_types::selector::Selector;
use navarch_types::{ApiError, PatchType};
use serde_json::json;

use crate::controller::{Next, Reconcile, gone};

/// Keys are ClusterRoles with an aggregation rule.
pub(crate) struct ClusterRoleAggregation {
    client: Client,
    roles: Informer<ClusterRole>,
}

impl ClusterRoleAggregation {
    /// Over shared informers.
    pub fn new(client: Client, informers: &InformerFactory) -> Self {
        Self { client, roles: informers.informer() }
    }
}

/// The rules that the selected roles have together, each once, in the order of the selectors and of the roles' names.
fn aggregated(role: &ClusterRole, roles: &[Arc<ClusterRole>]) -> Result<Vec<PolicyRule>, ApiError> {
    let mut rules: Vec<PolicyRule> = Vec::new();
    let selectors = role.aggregation_rule.as_ref().and_then(|rule| rule.cluster_role_selectors.as_ref());
    let empty = std::collections::BTreeMap::new();
    for selector in selectors.into_iter().flatten() {
        let value = serde_json::to_value(selector).map_err(ApiError::internal)?;
        let selector = Selector::from_value(&value).map_err(ApiError::internal)?;
        for other in roles.iter().filter(|other| other.metadata.name != role.metadata.name) {
            if selector.matches(other.metadata.labels.as_ref().unwrap_or(&empty)) {
                for rule in other.rules.iter().flatten() {
                    if !rules.contains(rule) {
                        rules.push(rule.clone());
                    }
                }
            }
        }
    }
    Ok(rules)
}

#[async_trait(?Send)]
impl Reconcile for ClusterRoleAggregation {
    fn subscribe(&self, queue: &WorkQueue<ObjectKey>) -> Vec<Subscription> {
        let queue = queue.clone();
        let roles = self.roles.clone();
        vec![self.roles.subscribe(move |change| {
            if change.object().aggregation_rule.is_some() {
                queue.add(change.key());
            }
            for role in roles.store().all().iter().filter(|role| role.aggregation_rule.is_some()) {
                queue.add(ObjectKey::of(&role.metadata));
            }
        })]
    }

    async fn synced(&self) {
        self.roles.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ApiError> {
        let Some(role) = self.roles.store().get(key) else { return Ok(Next::Done) };
        if role.aggregation_rule.is_none() {
            return Ok(Next::Done);
        }
        let rules = aggregated(&role, &self.roles.store().all())?;
        if role.rules.as_deref().unwrap_or_default() != rules {
            let patch = json!({"metadata": {"resourceVersion": role.metadata.resource_version}, "rules": rules});
            gone(self.client.all::<ClusterRole>().patch(&key.name, None, PatchType::Merge, patch).await)?;
        }
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn selected_roles_give_each_rule_once() {
        let role = |name: &str, label: &str, verbs: &[&str]| -> Arc<ClusterRole> {
            let rules: Vec<_> =
                verbs.iter().map(|v| json!({"verbs": [v], "resources": ["pods"], "apiGroups": [""]})).collect();
            let value = json!({"metadata": {"name": name, "labels": {"to": label}}, "rules": rules});
            Arc::new(serde_json::from_value(value).unwrap())
        };
        let view: ClusterRole = serde_json::from_value(json!({"metadata": {"name": "view", "labels": {"to": "view"}},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}]},
            "rules": [{"verbs": ["own"]}]}))
        .unwrap();
        let roles = [
            role("a", "view", &["get", "list"]),
            role("b", "edit", &["create"]),
            role("c", "view", &["list", "watch"]),
        ];
        let verbs: Vec<String> = aggregated(&view, &roles).unwrap().into_iter().flat_map(|rule| rule.verbs).collect();
        assert_eq!(verbs, ["get", "list", "watch"]);
    }
}
