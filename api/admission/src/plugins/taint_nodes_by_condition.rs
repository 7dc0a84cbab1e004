//! TaintNodesByCondition: a new node is tainted as not ready until its status says that it is.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::json::{list_mut, text};
use crate::attributes::AdmissionAttributes;
use crate::plugin::{FINE, Plugin, Verdict};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub(super) struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        attributes.creates() && attributes.is("", "nodes")
    }

    async fn mutate(&self, _attributes: &AdmissionAttributes<'_>, node: &mut Value) -> Verdict {
        if let Some(taints) = list_mut(node, &["spec", "taints"])
            && !taints.iter().any(|t| text(t, &["key"]) == NOT_READY && text(t, &["effect"]) == "NoSchedule")
        {
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
        FINE
    }
}
