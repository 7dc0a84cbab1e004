//! StorageObjectInUseProtection: claims and volumes carry a finalizer, so that they outlive their users.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::json::list_mut;
use crate::attributes::AdmissionAttributes;
use crate::plugin::{FINE, Plugin, Verdict};

pub(super) struct StorageObjectInUseProtection;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        attributes.creates() && finalizer(attributes).is_some()
    }

    async fn mutate(&self, attributes: &AdmissionAttributes<'_>, object: &mut Value) -> Verdict {
        if let Some(finalizer) = finalizer(attributes)
            && let Some(list) = list_mut(object, &["metadata", "finalizers"])
            && !list.iter().any(|f| f == finalizer)
        {
            list.push(json!(finalizer));
        }
        FINE
    }
}

fn finalizer(attributes: &AdmissionAttributes<'_>) -> Option<&'static str> {
    match (attributes.resource.group.as_ref(), attributes.resource.resource.as_ref()) {
        ("", "persistentvolumeclaims") => Some("kubernetes.io/pvc-protection"),
        ("", "persistentvolumes") => Some("kubernetes.io/pv-protection"),
        ("storage.k8s.io", "volumeattributesclasses") => Some("kubernetes.io/vac-protection"),
        _ => None,
    }
}
