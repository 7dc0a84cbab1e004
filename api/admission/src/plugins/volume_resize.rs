//! PersistentVolumeClaimResize: a claim grows only if its class lets volumes expand.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::storage::v1::StorageClass;
use navarch_auth::ObjectView;
use navarch_auth::view::STORAGE_CLASSES;
use navarch_types::quantity::Quantity;
use serde_json::Value;

use super::json::text;
use crate::attributes::AdmissionAttributes;
use crate::plugin::{FINE, Plugin, Verdict};

pub(super) struct PersistentVolumeClaimResize {
    view: Arc<dyn ObjectView>,
}

impl PersistentVolumeClaimResize {
    pub(super) fn new(view: Arc<dyn ObjectView>) -> Self {
        Self { view }
    }
}

fn size(claim: &Value) -> Option<Quantity> {
    Quantity::parse(text(claim, &["spec", "resources", "requests", "storage"])).ok()
}

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        attributes.updates() && attributes.is("", "persistentvolumeclaims")
    }

    async fn validate(&self, attributes: &AdmissionAttributes<'_>, claim: &Value) -> Verdict {
        let (Some(old), Some(new)) = (attributes.old, size(claim)) else { return FINE };
        if size(old).is_none_or(|old| new <= old) {
            return FINE;
        }
        if text(old, &["status", "phase"]) != "Bound" {
            return Err(attributes.forbidden("Only bound persistent volume claims can be expanded"));
        }
        let class = text(claim, &["spec", "storageClassName"]);
        let object = self.view.get(&STORAGE_CLASSES, "", class).and_then(|o| o.typed::<StorageClass>().ok());
        if object.is_some_and(|c| c.allow_volume_expansion == Some(true)) {
            return FINE;
        }
        Err(attributes.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support \
             resize",
        ))
    }
}
