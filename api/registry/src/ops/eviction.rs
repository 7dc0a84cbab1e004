//! `pods/eviction`: a delete that respects disruption budgets.

use std::sync::Arc;

use navarch_types::selector::Selector;
use navarch_types::{ApiError, GroupResource, GroupVersionResource, Object, Reason, Status};
use serde_json::Value;

use crate::call::Call;
use crate::meta;
use crate::ops::binding::created;
use crate::ops::delete::DeleteOptions;
use crate::registry::Registry;
use crate::select::labels_match;

const BUDGETS: GroupVersionResource = GroupVersionResource::new("policy", "v1", "poddisruptionbudgets");
/// So many pods may be on their way out under one budget before it must be looked at again.
const DISRUPTED_PODS_MAX: usize = 2000;

impl Registry {
    /// Evicts the pod of the call.
    ///
    /// # Errors
    /// 429 if a budget forbids it now; otherwise as a delete.
    pub async fn evict_pod(&self, call: &Call<'_>, eviction: &Value) -> Result<Status, ApiError> {
        let options = DeleteOptions::from_value(&eviction["deleteOptions"])?;
        let pod = self.get(call, None).await?;
        let value = meta::value_of(&pod)?;
        if !free_to_go(&value) {
            let budgets = self.budgets_of(call.namespace, &pod)?;
            match budgets.as_slice() {
                [] => {}
                [budget] => self.disrupt(call, meta::text(budget, "name"), &value).await?,
                _ => {
                    return Err(crate::ops::create::unknown_failure(
                        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                    ));
                }
            }
        }
        self.delete(call, &options).await?;
        Ok(created())
    }

    fn budgets_of(&self, namespace: &str, pod: &Arc<Object>) -> Result<Vec<Value>, ApiError> {
        let resource = self.resource(&BUDGETS)?;
        let (_, budgets) = self.cache(resource).list(Some(namespace));
        let mut matching = Vec::new();
        for budget in budgets {
            let value = meta::value_of(&budget)?;
            if labels_match(&Selector::from_value(&value["spec"]["selector"])?, pod) {
                matching.push(value);
            }
        }
        Ok(matching)
    }

    /// Takes one disruption from a budget.
    async fn disrupt(&self, call: &Call<'_>, budget: &str, pod: &Value) -> Result<(), ApiError> {
        let resource = self.resource(&BUDGETS)?;
        let (pod_name, time) = (meta::text(pod, "name"), meta::time_text(call.now));
        let healthy = pod["status"]["conditions"]
            .as_array()
            .is_some_and(|l| l.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
        let budget_call = Call {
            resource,
            user: call.user,
            namespace: call.namespace,
            name: budget,
            subresource: Some("status"),
            write: call.write,
            now: call.now,
            deadline: call.deadline,
            admission: call.admission,
            warnings: parking_lot::Mutex::new(Vec::new()),
        };
        let transform = |old: &Value| -> Result<Value, ApiError> {
            let (spec, status) = (&old["spec"], &old["status"]);
            let number = |v: &Value| v.as_i64().unwrap_or_default();
            if number(&status["observedGeneration"]) < meta::generation(old) {
                return Err(refused("Cannot evict pod as it would violate the pod's disruption budget.")
                    .with_cause(
                        "DisruptionBudget",
                        format!("The disruption budget {budget} is still being processed by the server."),
                        "",
                    )
                    .with_retry_after(10));
            }
            let desired = number(&status["desiredHealthy"]);
            let current = number(&status["currentHealthy"]);
            // A pod that is not ready counts for nothing once the others suffice, or always under AlwaysAllow.
            if !healthy && (spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || (current >= desired && desired > 0))
            {
                return Ok(old.clone());
            }
            if number(&status["disruptionsAllowed"]) <= 0 {
                let why =
                    format!("The disruption budget {budget} needs {desired} healthy pods and has {current} currently");
                return Err(refused("Cannot evict pod as it would violate the pod's disruption budget.").with_cause(
                    "DisruptionBudget",
                    why,
                    "",
                ));
            }
            if status["disruptedPods"].as_object().is_some_and(|m| m.len() > DISRUPTED_PODS_MAX) {
                let resource = GroupResource { group: "policy".into(), resource: "poddisruptionbudgets".into() };
                return Err(ApiError::forbidden(
                    &resource,
                    budget,
                    "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
                ));
            }
            let mut new = old.clone();
            new["status"]["disruptionsAllowed"] = (number(&status["disruptionsAllowed"]) - 1).into();
            new["status"]["disruptedPods"][pod_name] = time.as_str().into();
            Ok(new)
        };
        self.update_with(&budget_call, &transform).await.map(drop)
    }
}

fn refused(message: &str) -> ApiError {
    ApiError::new(Reason::TooManyRequests, message)
}

/// Pods that have ended, have not begun, or are leaving need no budget.
fn free_to_go(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending")) || meta::is_deleting(pod)
}
