//! Drives the whole chain on objects put into a view by hand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use jiff::Timestamp;
use navarch_auth::view::FixedView;
use navarch_auth::{Authorizer, ObjectView};
use navarch_types::{GroupVersionResource, UserInfo};
use serde_json::Value;

use super::super::{AdmissionAttributes, AdmissionChain, Operation, Verdict};

pub(super) struct Case {
    pub(super) view: Arc<FixedView>,
    chain: AdmissionChain,
}

/// A request that can be changed before it is sent.
pub(super) struct Request<'a> {
    case: &'a Case,
    pub(super) operation: Operation,
    pub(super) user: UserInfo,
    resource: GroupVersionResource,
    pub(super) subresource: &'static str,
    namespace: String,
    name: String,
    pub(super) old: Option<Value>,
}

impl Case {
    pub(super) fn new() -> Self {
        let view = Arc::new(FixedView::default());
        let shared: Arc<dyn ObjectView> = view.clone();
        let authorizer = Arc::new(Authorizer::new(Arc::clone(&shared)));
        Self { view, chain: AdmissionChain::new(shared, authorizer) }
    }

    /// A case with namespace `default` in it.
    pub(super) fn with_namespace() -> Self {
        let case = Self::new();
        let namespace = serde_json::json!({"metadata": {"name": "default"}});
        case.view.put(&navarch_auth::view::NAMESPACES, &namespace).unwrap();
        let account = serde_json::json!({"metadata": {"name": "default", "namespace": "default", "uid": "u"}});
        case.view.put(&navarch_auth::view::SERVICE_ACCOUNTS, &account).unwrap();
        case
    }

    pub(super) fn create(
        &self,
        group: &'static str,
        resource: &'static str,
        namespace: &str,
        name: &str,
    ) -> Request<'_> {
        Request {
            case: self,
            operation: Operation::Create,
            user: UserInfo::new("admin", &["system:masters"]),
            resource: GroupVersionResource::new(group, "v1", resource),
            subresource: "",
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            old: None,
        }
    }
}

impl Request<'_> {
    pub(super) fn attributes(&self) -> AdmissionAttributes<'_> {
        AdmissionAttributes {
            operation: self.operation,
            user: &self.user,
            resource: &self.resource,
            subresource: self.subresource,
            namespace: &self.namespace,
            name: &self.name,
            old: self.old.as_ref(),
            dry_run: false,
            now: Timestamp::UNIX_EPOCH,
        }
    }

    pub(super) async fn mutate(&self, object: &mut Value) -> Verdict {
        self.case.chain.mutate(&self.attributes(), object).await
    }

    pub(super) async fn validate(&self, object: &Value) -> Verdict {
        self.case.chain.validate(&self.attributes(), object).await
    }
}
