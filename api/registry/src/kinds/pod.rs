//! Pods.

pub(crate) mod defaults;

use serde_json::Value;

use super::fill::put;
use super::kind::Kind;
use crate::strategy::{Context, SelectableField};

const fn field(name: &'static str, path: &'static [&'static str], absent: &'static str) -> SelectableField {
    SelectableField { name, path, absent }
}

/// Fields for selectors.
const SELECTABLE: &[SelectableField] = &[
    field("spec.nodeName", &["spec", "nodeName"], ""),
    field("spec.restartPolicy", &["spec", "restartPolicy"], ""),
    field("spec.schedulerName", &["spec", "schedulerName"], ""),
    field("spec.serviceAccountName", &["spec", "serviceAccountName"], ""),
    field("spec.hostNetwork", &["spec", "hostNetwork"], "false"),
    field("status.phase", &["status", "phase"], ""),
    field("status.podIP", &["status", "podIP"], ""),
    field("status.nominatedNodeName", &["status", "nominatedNodeName"], ""),
];

/// The strategy.
pub(crate) static POD: Kind =
    Kind { default: defaults::pod, prepare_create, selectable: SELECTABLE, grace, ..Kind::FULL };

fn prepare_create(_: &Context<'_>, object: &mut Value) {
    put(object, "status", serde_json::json!({"phase": "Pending"}));
}

/// At once for pods that run nowhere (not scheduled, or ended), else what was asked for, else what the pod says.
fn grace(object: &Value, asked: Option<i64>) -> Option<i64> {
    let placed = object["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty());
    let ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !placed || ended {
        return Some(0);
    }
    let seconds = asked.or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(0);
    Some(if seconds < 0 { 1 } else { seconds })
}
