//! TaintToleration: nodes with taints take only pods that tolerate them, or take them less gladly.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::framework::{ClusterEvent, Context, Filtering, Plugin, Rejection, normalize_by_max};
use crate::node::{NodeInfo, taints_of};
use crate::pod::PodInfo;

/// See the module.
pub struct TaintToleration;

const PREFER: &str = "PreferNoSchedule";

/// Whether a toleration covers a taint.
pub(crate) fn tolerates(toleration: &Toleration, key: &str, value: &str, effect: &str) -> bool {
    let unset_or =
        |field: &Option<String>, wanted: &str| field.as_deref().is_none_or(|own| own.is_empty() || own == wanted);
    if !unset_or(&toleration.effect, effect) || !unset_or(&toleration.key, key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => toleration.value.as_deref().unwrap_or_default() == value,
        "Exists" => true,
        _ => false,
    }
}

fn is_tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    let value = taint.value.as_deref().unwrap_or_default();
    tolerations.iter().any(|t| tolerates(t, &taint.key, value, &taint.effect))
}

/// Whether a pod may be on a node with these taints.
pub(crate) fn tolerates_all(pod: &PodInfo, taints: &[Taint]) -> bool {
    taints.iter().filter(|t| t.effect != PREFER).all(|t| is_tolerated(t, pod.tolerations()))
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) => tolerates_all(pod, taints_of(node)),
            ClusterEvent::NodeUpdated { old, new, change } => {
                change.taints && !tolerates_all(pod, taints_of(old)) && tolerates_all(pod, taints_of(new))
            }
            ClusterEvent::PodUpdated { old, new } => old.tolerations() != new.tolerations(),
            _ => false,
        }
    }

    fn filter<'a>(&'a self, ctx: Context<'a>) -> Filtering<'a> {
        if !ctx.cache.has_taints() {
            return Filtering::Skip;
        }
        Filtering::Check(Box::new(move |node| {
            if tolerates_all(ctx.pod, node.taints()) {
                return Ok(());
            }
            Err(Rejection::unresolvable("node(s) had untolerated taint(s)"))
        }))
    }

    fn score(&self, ctx: Context<'_>, nodes: &[&NodeInfo], scores: &mut [i64]) -> bool {
        if !ctx.cache.has_taints() {
            return false;
        }
        let mut any = false;
        for (score, node) in scores.iter_mut().zip(nodes) {
            let soft = node.taints().iter().filter(|t| t.effect == PREFER);
            let intolerable = soft.filter(|t| !is_tolerated(t, ctx.pod.tolerations())).count();
            any |= intolerable > 0;
            *score = i64::try_from(intolerable).unwrap_or(i64::MAX);
        }
        // Where nothing speaks against any node, all would score the same: leave it out.
        any
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_by_max(scores, true);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn tolerations_cover_taints_as_documented() {
        let cases = [
            (json!({"key": "a", "operator": "Equal", "value": "1", "effect": "NoSchedule"}), true),
            (json!({"key": "a", "value": "1"}), true),
            (json!({"key": "a", "value": "2"}), false),
            (json!({"key": "a", "operator": "Exists"}), true),
            (json!({"key": "b", "operator": "Exists"}), false),
            (json!({"operator": "Exists"}), true),
            (json!({"key": "a", "operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "a", "operator": "Like", "value": "1"}), false),
        ];
        for (value, expected) in cases {
            let toleration: Toleration = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(tolerates(&toleration, "a", "1", "NoSchedule"), expected, "{value}");
        }
    }
}
