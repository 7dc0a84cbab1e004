//! `pods/binding`: puts a pod on a node, once.

use navarch_types::{ApiError, GroupResource, Status};
use serde_json::{Value, json};

use crate::call::Call;
use crate::meta;
use crate::registry::Registry;

impl Registry {
    /// Binds the pod of the call to the target of a `Binding`.
    ///
    /// # Errors
    /// `Conflict` if the pod is bound, gated or on its way out; `NotFound`; 400 for a target that is no node.
    pub async fn bind_pod(&self, call: &Call<'_>, binding: &Value) -> Result<Status, ApiError> {
        let resource = GroupResource { group: "".into(), resource: "pods/binding".into() };
        let node = check_target(binding)?;
        let uid = meta::text(binding, "uid");
        let revision = meta::given_revision(binding)?;
        let time = meta::time_text(call.now);
        let transform = |old: &Value| -> Result<Value, ApiError> {
            let refuse = |why: String| Err(ApiError::conflict(&resource, call.name, &why));
            meta::check_uid(uid, old, call.resource)?;
            if meta::is_deleting(old) {
                return refuse(format!("pod {} is being deleted, cannot be assigned to a host", call.name));
            }
            if let Some(present) = old["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
                return refuse(format!("pod {} is already assigned to node {present:?}", call.name));
            }
            if old["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
                return refuse(format!("pod {} has non-empty .spec.schedulingGates", call.name));
            }
            let mut pod = old.clone();
            if let Some(revision) = revision {
                meta::set(&mut pod, "resourceVersion", Some(revision.to_string().into()));
            }
            pod["spec"]["nodeName"] = node.into();
            for field in ["annotations", "labels"] {
                if let Some(added) = binding["metadata"][field].as_object() {
                    for (key, value) in added {
                        pod["metadata"][field][key.as_str()] = value.clone();
                    }
                }
            }
            set_scheduled(&mut pod, &time);
            Ok(pod)
        };
        self.update_with(call, &transform).await?;
        Ok(created())
    }
}

/// The node's name.
fn check_target(binding: &Value) -> Result<&str, ApiError> {
    use navarch_types::field::{FieldError, Path, into_result};
    let target = Path::root("target");
    let mut findings = Vec::new();
    let kind = binding["target"]["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        findings.push(FieldError::not_supported(&target.child("kind"), kind, &["Node", "<empty>"]));
    }
    let name = binding["target"]["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        findings.push(FieldError::required(&target.child("name"), ""));
    }
    let kind = navarch_types::GroupVersionKind::new("", "v1", "Binding");
    into_result(&kind, meta::text(binding, "name"), findings)?;
    Ok(name)
}

fn set_scheduled(pod: &mut Value, time: &str) {
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": time,
    });
    let mut condition = condition;
    if let Some(generation) = pod["metadata"]["generation"].as_i64().filter(|g| *g > 0) {
        condition["observedGeneration"] = generation.into();
    }
    if !pod["status"].is_object() {
        pod["status"] = json!({});
    }
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    if let Some(conditions) = pod["status"]["conditions"].as_array_mut() {
        match conditions.iter_mut().find(|c| c["type"] == "PodScheduled") {
            Some(present) => *present = condition,
            None => conditions.push(condition),
        }
    }
}

/// What upstream answers a post that made nothing that can be shown.
pub(crate) fn created() -> Status {
    Status {
        kind: "Status".into(),
        api_version: "v1".into(),
        metadata: serde_json::Map::new(),
        status: "Success".into(),
        message: String::new(),
        reason: String::new(),
        details: None,
        code: 201,
    }
}
