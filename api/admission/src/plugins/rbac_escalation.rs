//! Writes of roles and bindings give away no more than their writer has. Upstream does this in the storage of these kinds;
//! here it is a plugin of its own.

use std::sync::Arc;

use async_trait::async_trait;
use navarch_auth::Authorizer;
use navarch_auth::rbac::{GROUP, escalation};
use serde_json::Value;

use crate::attributes::{AdmissionAttributes, Operation};
use crate::plugin::{FINE, Plugin, Verdict};

pub(super) struct RbacEscalation {
    authorizer: Arc<Authorizer>,
}

impl RbacEscalation {
    pub(super) fn new(authorizer: Arc<Authorizer>) -> Self {
        Self { authorizer }
    }
}

#[async_trait]
impl Plugin for RbacEscalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        writes && attributes.subresource.is_empty() && attributes.resource.group == GROUP
    }

    async fn validate(&self, attributes: &AdmissionAttributes<'_>, object: &Value) -> Verdict {
        let resource = attributes.resource.resource.as_ref();
        escalation::check(&self.authorizer, attributes.user, resource, attributes.namespace, object, attributes.old)?;
        FINE
    }
}
