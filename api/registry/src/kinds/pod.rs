//! Pods: the strategy; what is decided is in the modules below.

pub(crate) mod columns;
pub(crate) mod containers;
pub(crate) mod defaults;
mod dns;
pub(crate) mod resources;
pub(crate) mod scheduling;
mod security;
pub(crate) mod spec;
mod update;
pub(crate) mod volumes;

use jiff::fmt::temporal::DateTimePrinter;
use serde_json::{Value, json};

use super::at::At;
use super::fill::put;
use super::kind::{Findings, Kind};
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
pub(crate) static POD: Kind = Kind {
    default: defaults::pod,
    prepare_create,
    prepare_update: update::prepare,
    create,
    update: Some(update::object),
    status_update: update::subresource,
    selectable: SELECTABLE,
    grace,
    columns: columns::COLUMNS,
    row: columns::row,
    ..Kind::FULL
};

/// A new pod is Pending, has its quality of service for life, and says when gates hold it back.
fn prepare_create(context: &Context<'_>, object: &mut Value) {
    let mut status = json!({"phase": "Pending", "qosClass": resources::quality_of_service(&object["spec"])});
    if object["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
        const WHY: &str = "Scheduling is blocked due to non-empty scheduling gates";
        let mut now = String::new();
        // Whole seconds, as Kubernetes writes times; writing to a String does not fail.
        let _ = DateTimePrinter::new().precision(Some(0)).print_timestamp(&context.now, &mut now);
        put(
            &mut status,
            "conditions",
            json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": WHY,
                "lastProbeTime": null, "lastTransitionTime": now}]),
        );
    }
    put(object, "status", status);
}

fn create(_: &Context<'_>, object: &Value, out: &mut Findings) {
    spec::pod(object, out);
    let spec = At::root(object, "spec");
    let ephemeral = spec.child("ephemeralContainers");
    if !ephemeral.is_empty() {
        out.push(ephemeral.forbidden("cannot be set on create"));
    }
    let node = spec.child("nodeName");
    if !spec.child("schedulingGates").is_empty() && !node.is_empty() {
        out.push(node.forbidden("cannot be set until all schedulingGates have been cleared"));
    }
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

#[cfg(test)]
mod tests;
