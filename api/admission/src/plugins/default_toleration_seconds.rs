//! DefaultTolerationSeconds: pods stay five minutes on a node that is not ready or unreachable, unless they say otherwise.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::json::{items, list_mut, text};
use crate::attributes::{AdmissionAttributes, Operation};
use crate::plugin::{FINE, Plugin, Verdict};

const SECONDS: u64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub(super) struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        writes && attributes.subresource.is_empty() && attributes.is("", "pods")
    }

    async fn mutate(&self, _attributes: &AdmissionAttributes<'_>, pod: &mut Value) -> Verdict {
        for key in TAINTS {
            let tolerated = items(pod, &["spec", "tolerations"]).any(|t| {
                let (its_key, effect) = (text(t, &["key"]), text(t, &["effect"]));
                (its_key == key || its_key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
            });
            if !tolerated && let Some(list) = list_mut(pod, &["spec", "tolerations"]) {
                list.push(json!({
                    "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
                }));
            }
        }
        FINE
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::super::testing::Case;
    use super::*;

    #[tokio::test]
    async fn what_is_tolerated_already_stays_as_it_is() {
        let case = Case::with_namespace();
        for (present, expected) in [
            (json!([]), 2),
            (json!([{"key": TAINTS[0], "operator": "Exists", "effect": "NoExecute"}]), 2),
            (json!([{"key": TAINTS[0], "operator": "Exists", "effect": "NoSchedule"}]), 3),
            (json!([{"operator": "Exists"}]), 1),
        ] {
            let mut pod = json!({"spec": {"containers": [], "tolerations": present}});
            case.create("", "pods", "default", "web").mutate(&mut pod).await.unwrap();
            assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), expected, "{present}");
        }
    }
}
