//! DefaultIngressClass: an ingress that names no class gets the default one, if there is one.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::networking::v1::IngressClass;
use navarch_auth::ObjectView;
use navarch_auth::view::INGRESS_CLASSES;
use serde_json::{Value, json};

use super::json::{at, map_mut};
use crate::attributes::AdmissionAttributes;
use crate::plugin::{FINE, Plugin, Verdict};

const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
/// Where the class stood before there was a field.
const OLD_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(super) struct DefaultIngressClass {
    view: Arc<dyn ObjectView>,
}

impl DefaultIngressClass {
    pub(super) fn new(view: Arc<dyn ObjectView>) -> Self {
        Self { view }
    }
}

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        attributes.creates() && attributes.is("networking.k8s.io", "ingresses")
    }

    async fn mutate(&self, _attributes: &AdmissionAttributes<'_>, ingress: &mut Value) -> Verdict {
        let named = at(ingress, &["spec", "ingressClassName"]).is_some()
            || at(ingress, &["metadata", "annotations", OLD_ANNOTATION]).is_some();
        if named {
            return FINE;
        }
        let classes = self.view.list(&INGRESS_CLASSES, None);
        let mut defaults: Vec<_> = classes
            .iter()
            .filter_map(|o| o.typed::<IngressClass>().ok())
            .filter(|c| {
                let annotations = c.metadata.annotations.as_ref();
                annotations.and_then(|a| a.get(DEFAULT_ANNOTATION)).is_some_and(|v| v == "true")
            })
            .collect();
        // Of several the newest counts, and of equally old ones the first by name, as with storage classes.
        defaults.sort_by_key(|c| {
            let age = c.metadata.creation_timestamp.as_ref().map(|t| t.0.as_second()).unwrap_or_default();
            (std::cmp::Reverse(age), c.metadata.name.clone())
        });
        if let Some(name) = defaults.first().and_then(|c| c.metadata.name.as_ref())
            && let Some(spec) = map_mut(ingress, &["spec"])
        {
            spec.insert("ingressClassName".to_owned(), json!(name));
        }
        FINE
    }
}
