//! NamespaceLifecycle: nothing is made in a namespace that is missing or going away, and some namespaces never go.

use std::sync::Arc;

use async_trait::async_trait;
use navarch_auth::ObjectView;
use navarch_auth::view::NAMESPACES;
use navarch_types::ApiError;
use serde_json::Value;

use super::json::text;
use crate::attributes::{AdmissionAttributes, Operation};
use crate::plugin::{FINE, Plugin, Verdict};

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

pub(super) struct NamespaceLifecycle {
    view: Arc<dyn ObjectView>,
}

impl NamespaceLifecycle {
    pub(super) fn new(view: Arc<dyn ObjectView>) -> Self {
        Self { view }
    }
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        if attributes.is("", "namespaces") {
            return attributes.operation == Operation::Delete;
        }
        attributes.operation == Operation::Create && !attributes.namespace.is_empty()
    }

    async fn mutate(&self, attributes: &AdmissionAttributes<'_>, _object: &mut Value) -> Verdict {
        self.check(attributes)
    }

    async fn validate(&self, attributes: &AdmissionAttributes<'_>, _object: &Value) -> Verdict {
        self.check(attributes)
    }
}

impl NamespaceLifecycle {
    fn check(&self, attributes: &AdmissionAttributes<'_>) -> Verdict {
        if attributes.is("", "namespaces") {
            let immortal = attributes.subresource.is_empty() && IMMORTAL.contains(&attributes.name);
            return if immortal { Err(attributes.forbidden("this namespace may not be deleted")) } else { FINE };
        }
        // Asking whether something is allowed, and removing pods, must work to the end.
        if attributes.is("authorization.k8s.io", "localsubjectaccessreviews") || attributes.subresource == "eviction" {
            return FINE;
        }
        let namespace = self
            .view
            .get(&NAMESPACES, "", attributes.namespace)
            .ok_or_else(|| ApiError::not_found(&NAMESPACES.resource, attributes.namespace))?;
        let metadata = namespace.metadata().map_err(ApiError::internal)?;
        if metadata.deletion_timestamp.is_some() {
            let value = namespace.to_value().map_err(ApiError::internal)?;
            return self.terminating(attributes, text(&value, &["metadata", "name"]));
        }
        FINE
    }

    fn terminating(&self, attributes: &AdmissionAttributes<'_>, namespace: &str) -> Verdict {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let cause = format!("namespace {namespace} is being terminated");
        Err(attributes.forbidden(why).with_cause("NamespaceTerminating", cause, "metadata.namespace"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::super::testing::Case;
    use serde_json::json;

    fn case() -> Case {
        let case = Case::new();
        case.view.put(&super::NAMESPACES, &json!({"metadata": {"name": "live"}})).unwrap();
        let gone = json!({"metadata": {"name": "gone", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        case.view.put(&super::NAMESPACES, &gone).unwrap();
        case
    }

    #[tokio::test]
    async fn content_needs_a_namespace_that_stays() {
        let case = case();
        let make = |namespace: &'static str| case.create("", "configmaps", namespace, "a");
        assert!(make("live").mutate(&mut json!({})).await.is_ok());
        assert_eq!(make("none").mutate(&mut json!({})).await.unwrap_err().code(), 404);
        let error = make("gone").mutate(&mut json!({})).await.unwrap_err();
        assert_eq!(error.code(), 403);
        assert_eq!(error.status().details.as_ref().unwrap().causes[0].reason.as_deref(), Some("NamespaceTerminating"));
        let mut delete = make("gone");
        delete.operation = super::Operation::Delete;
        assert!(delete.mutate(&mut json!(null)).await.is_ok());
    }

    #[tokio::test]
    async fn some_namespaces_stay() {
        let case = case();
        for (name, fine) in [("default", false), ("kube-system", false), ("live", true)] {
            let mut delete = case.create("", "namespaces", "", name);
            delete.operation = super::Operation::Delete;
            assert_eq!(delete.mutate(&mut json!(null)).await.is_ok(), fine, "{name}");
        }
    }
}
