//! The admission chain as generic operations see it.

use std::sync::Arc;

use async_trait::async_trait;
use navarch_admission::{AdmissionAttributes, AdmissionChain, Operation as ChainOperation};
use navarch_registry::{Admission, Operation, Review};
use navarch_types::{ApiError, GroupVersionResource};
use serde_json::Value;

/// Hands reviews of generic operations to the chain of plugins.
pub struct Chain(pub Arc<AdmissionChain>);

fn attributes<'a>(review: &'a Review<'a>, resource: &'a GroupVersionResource) -> AdmissionAttributes<'a> {
    let call = review.call;
    AdmissionAttributes {
        operation: match review.operation {
            Operation::Create => ChainOperation::Create,
            Operation::Update => ChainOperation::Update,
            Operation::Delete => ChainOperation::Delete,
        },
        user: call.user,
        resource,
        subresource: call.subresource.unwrap_or_default(),
        namespace: call.namespace,
        name: review.name,
        old: review.old,
        dry_run: call.write.dry_run,
        now: call.now,
    }
}

/// Plugins know resources by where their objects are stored.
fn stored(review: &Review<'_>) -> GroupVersionResource {
    let resource = review.call.resource;
    GroupVersionResource {
        group: resource.storage.group.clone(),
        version: resource.storage_kind.version.clone(),
        resource: resource.storage.resource.clone(),
    }
}

#[async_trait]
impl Admission for Chain {
    async fn mutate(&self, review: &Review<'_>, object: &mut Value) -> Result<Vec<String>, ApiError> {
        self.0.mutate(&attributes(review, &stored(review)), object).await
    }

    async fn validate(&self, review: &Review<'_>, object: Option<&Value>) -> Result<Vec<String>, ApiError> {
        self.0.validate(&attributes(review, &stored(review)), object.unwrap_or(&Value::Null)).await
    }
}
