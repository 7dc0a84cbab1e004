//! `namespaces/finalize`: the one way to change `spec.finalizers` of a namespace.

use std::sync::Arc;

use navarch_types::{ApiError, Object};
use serde_json::Value;

use crate::call::Call;
use crate::registry::Registry;

impl Registry {
    /// Takes `spec.finalizers` from the given namespace. A namespace that is being deleted goes with its last one.
    ///
    /// # Errors
    /// As an update.
    pub async fn finalize_namespace(&self, call: &Call<'_>, namespace: Value) -> Result<Arc<Object>, ApiError> {
        let transform = move |old: &Value| {
            let mut object = old.clone();
            for field in ["uid", "resourceVersion", "name"] {
                let given = crate::meta::text(&namespace, field);
                if !given.is_empty() {
                    crate::meta::set(&mut object, field, Some(given.into()));
                } else if field == "resourceVersion" {
                    crate::meta::set(&mut object, field, None);
                }
            }
            match namespace["spec"].get("finalizers") {
                Some(finalizers) => object["spec"]["finalizers"] = finalizers.clone(),
                None => {
                    if let Some(spec) = object["spec"].as_object_mut() {
                        spec.remove("finalizers");
                    }
                }
            }
            Ok(object)
        };
        self.update_with(call, &transform).await
    }
}
