//! The `scale` subresource: `autoscaling/v1` Scale as a view of a workload.

use std::sync::Arc;

use navarch_types::field::{FieldError, Path};
use navarch_types::{ApiError, GroupVersionKind, Object, field};
use serde_json::{Value, json};

use crate::call::Call;
use crate::meta;
use crate::registry::Registry;

/// The kind of the view.
pub const SCALE: GroupVersionKind = GroupVersionKind {
    group: std::borrow::Cow::Borrowed("autoscaling"),
    version: std::borrow::Cow::Borrowed("v1"),
    kind: std::borrow::Cow::Borrowed("Scale"),
};

impl Registry {
    /// Reads the scale of the object of the call.
    ///
    /// # Errors
    /// As a get.
    pub async fn get_scale(&self, call: &Call<'_>) -> Result<Value, ApiError> {
        let object = self.get(call, None).await?;
        scale_of(&meta::value_of(&object)?)
    }

    /// Changes the scale by a function from Scale to Scale.
    ///
    /// # Errors
    /// As an update; `Invalid` for a negative number of replicas.
    pub async fn update_scale(
        &self,
        call: &Call<'_>,
        change: &(dyn Fn(&Value) -> Result<Value, ApiError> + Send + Sync),
    ) -> Result<Value, ApiError> {
        let transform = |old: &Value| -> Result<Value, ApiError> {
            let scale = change(&scale_of(old)?)?;
            let replicas = scale["spec"]["replicas"].as_i64().unwrap_or_default();
            if replicas < 0 {
                let spec = Path::root("spec");
                let path = spec.child("replicas");
                let finding = FieldError::invalid(&path, replicas, "must be greater than or equal to 0");
                field::into_result(&SCALE, call.name, vec![finding])?;
            }
            let name = meta::text(&scale, "name");
            if !name.is_empty() && name != call.name {
                return Err(ApiError::bad_request(format!(
                    "the name of the object ({name}) does not match the name on the URL ({})",
                    call.name
                )));
            }
            let mut object = old.clone();
            object["spec"]["replicas"] = replicas.into();
            meta::set(&mut object, "resourceVersion", scale["metadata"].get("resourceVersion").cloned());
            let uid = meta::text(&scale, "uid");
            if !uid.is_empty() {
                meta::set(&mut object, "uid", Some(uid.into()));
            }
            Ok(object)
        };
        let object: Arc<Object> = self.update_with(call, &transform).await?;
        scale_of(&meta::value_of(&object)?)
    }
}

/// The view of one object.
fn scale_of(object: &Value) -> Result<Value, ApiError> {
    let metadata = &object["metadata"];
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {},
        "status": {"replicas": object["status"]["replicas"].as_i64().unwrap_or_default()},
    });
    let replicas = object["spec"]["replicas"].as_i64().unwrap_or_default();
    if replicas != 0 {
        scale["spec"]["replicas"] = replicas.into();
    }
    let selector = selector_text(object);
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    Ok(scale)
}

/// The selector of a workload in the form of a query: a plain map for replication controllers, else a LabelSelector.
fn selector_text(object: &Value) -> String {
    let selector = &object["spec"]["selector"];
    let labels = if selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some() {
        &selector["matchLabels"]
    } else {
        selector
    };
    let mut parts: Vec<String> = labels
        .as_object()
        .map(|m| m.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect())
        .unwrap_or_default();
    for expression in selector["matchExpressions"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let key = expression["key"].as_str().unwrap_or_default();
        let mut values: Vec<&str> =
            expression["values"].as_array().map(|l| l.iter().filter_map(Value::as_str).collect()).unwrap_or_default();
        values.sort_unstable();
        match expression["operator"].as_str() {
            Some("In") => parts.push(format!("{key} in ({})", values.join(","))),
            Some("NotIn") => parts.push(format!("{key} notin ({})", values.join(","))),
            Some("Exists") => parts.push(key.to_owned()),
            Some("DoesNotExist") => parts.push(format!("!{key}")),
            _ => {}
        }
    }
    parts.sort();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn selectors_as_queries() {
        for (selector, text) in [
            (json!({"matchLabels": {"b": "2", "a": "1"}}), "a=1,b=2"),
            (json!({"app": "web"}), "app=web"),
            (
                json!({"matchExpressions": [{"key": "k", "operator": "In", "values": ["z", "y"]}, {"key": "e", "operator": "Exists"}]}),
                "e,k in (y,z)",
            ),
            (json!({}), ""),
        ] {
            assert_eq!(selector_text(&json!({"spec": {"selector": selector}})), text);
        }
    }
}
