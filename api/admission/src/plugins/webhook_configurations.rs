//! Webhooks and policies are not run yet, so their configurations are refused: an accepted one that does nothing would be
//! a guard that sleeps.

use async_trait::async_trait;
use navarch_types::{ApiError, Reason};
use serde_json::Value;

use crate::attributes::{AdmissionAttributes, Operation};
use crate::plugin::{Plugin, Verdict};

pub(super) struct WebhookConfigurations;

#[async_trait]
impl Plugin for WebhookConfigurations {
    fn name(&self) -> &'static str {
        "WebhookConfigurations"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        writes && attributes.resource.group == "admissionregistration.k8s.io"
    }

    async fn validate(&self, attributes: &AdmissionAttributes<'_>, _object: &Value) -> Verdict {
        let why = format!(
            "{} cannot be created: this server does not call admission webhooks or evaluate admission policies, and would \
             silently not enforce it",
            attributes.resource.group_resource()
        );
        Err(ApiError::new(Reason::MethodNotAllowed, why))
    }
}
