//! RuntimeClass: a pod's class must exist; its overhead and scheduling rules become the pod's.

use std::sync::Arc;

use async_trait::async_trait;
use navarch_auth::ObjectView;
use navarch_auth::view::RUNTIME_CLASSES;
use navarch_types::ApiError;
use serde_json::Value;

use super::json::{at, list_mut, map_mut, text};
use crate::attributes::AdmissionAttributes;
use crate::plugin::{FINE, Plugin, Verdict};

pub(super) struct RuntimeClass {
    view: Arc<dyn ObjectView>,
}

impl RuntimeClass {
    pub(super) fn new(view: Arc<dyn ObjectView>) -> Self {
        Self { view }
    }

    fn class(&self, attributes: &AdmissionAttributes<'_>, pod: &Value) -> Result<Value, ApiError> {
        let name = text(pod, &["spec", "runtimeClassName"]);
        if name.is_empty() {
            return Ok(Value::Null);
        }
        let object = self.view.get(&RUNTIME_CLASSES, "", name).ok_or_else(|| {
            let missing = ApiError::not_found(&RUNTIME_CLASSES.resource, name);
            attributes.forbidden(format!("pod rejected: RuntimeClass {name:?} not found ({missing})"))
        })?;
        object.to_value().map_err(ApiError::internal)
    }
}

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        attributes.creates() && attributes.is("", "pods")
    }

    async fn mutate(&self, attributes: &AdmissionAttributes<'_>, pod: &mut Value) -> Verdict {
        let class = self.class(attributes, pod)?;
        if let Some(overhead) = at(&class, &["overhead", "podFixed"]) {
            if at(pod, &["spec", "overhead"]).is_some_and(|own| own != overhead) {
                let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
                return Err(attributes.forbidden(why));
            }
            if let Some(spec) = map_mut(pod, &["spec"]) {
                spec.insert("overhead".to_owned(), overhead.clone());
            }
        }
        for (key, value) in at(&class, &["scheduling", "nodeSelector"]).and_then(Value::as_object).into_iter().flatten()
        {
            let Some(selector) = map_mut(pod, &["spec", "nodeSelector"]) else { break };
            if selector.get(key).is_some_and(|own| own != value) {
                let why = format!("conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value} is in the way");
                return Err(attributes.forbidden(why));
            }
            selector.insert(key.clone(), value.clone());
        }
        for toleration in at(&class, &["scheduling", "tolerations"]).and_then(Value::as_array).into_iter().flatten() {
            if let Some(list) = list_mut(pod, &["spec", "tolerations"])
                && !list.contains(toleration)
            {
                list.push(toleration.clone());
            }
        }
        FINE
    }

    async fn validate(&self, attributes: &AdmissionAttributes<'_>, pod: &Value) -> Verdict {
        let class = self.class(attributes, pod)?;
        if at(pod, &["spec", "overhead"]).is_some() && at(&class, &["overhead", "podFixed"]).is_none() {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(attributes.forbidden(why));
        }
        FINE
    }
}
