//! Namespaces.

use navarch_types::validate::names;
use serde_json::{Value, json};

use crate::kinds::at::At;
use crate::kinds::cells::{age_cell, name, text};
use crate::kinds::fill::{ensure, fill_zero, put, restore};
use crate::kinds::kind::{AGE, Findings, Kind, NAME, column};
use crate::strategy::SelectableField;

/// What keeps a namespace until its contents are gone.
const FINALIZER: &str = "kubernetes";
/// The label by which selectors name a namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The strategy.
pub(crate) static NAMESPACE: Kind = Kind {
    default,
    prepare_create: |_, object| {
        put(object, "status", json!({"phase": "Active"}));
        label(object);
        if let Some(spec) = ensure(object, "spec") {
            let mut finalizers: Vec<Value> = spec["finalizers"].as_array().cloned().unwrap_or_default();
            if !finalizers.iter().any(|f| f == FINALIZER) {
                finalizers.push(FINALIZER.into());
            }
            put(spec, "finalizers", finalizers);
        }
    },
    prepare_update: |context, object, old| {
        // Only `finalize` changes the finalizers of the spec.
        if context.subresource.is_none() {
            restore(object, old, "spec");
            restore(object, old, "status");
        }
        label(object);
    },
    create: |_, object, out| finalizers(object, out),
    status_update: |context, object, _, out| match context.subresource {
        Some("status") => phase(object, out),
        _ => finalizers(object, out),
    },
    name: names::name_is_dns_label,
    selectable: &[
        SelectableField { name: "status.phase", path: &["status", "phase"], absent: "" },
        SelectableField { name: "name", path: &["metadata", "name"], absent: "" },
    ],
    columns: &[NAME, column("Status", "string", "Whether it is active or going"), AGE],
    row: |object, now| vec![name(object), text(object, &["status", "phase"]).into(), age_cell(object, now)],
    ..Kind::WITH_STATUS
};

fn default(object: &mut Value) {
    label(object);
    if let Some(status) = ensure(object, "status") {
        fill_zero(status, "phase", "Active");
    }
}

/// The label follows the name, whatever the user says.
fn label(object: &mut Value) {
    let Some(own) = object["metadata"]["name"].as_str().filter(|n| !n.is_empty()).map(str::to_owned) else { return };
    if let Some(labels) = ensure(object, "metadata").and_then(|m| ensure(m, "labels")) {
        put(labels, NAME_LABEL, own);
    }
}

fn finalizers(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    let list = spec.child("finalizers");
    for finalizer in list.items() {
        let text = finalizer.text();
        for wrong in names::qualified_name(text) {
            out.push(navarch_types::field::FieldError::invalid(&list.path, text, wrong));
        }
        if !text.contains('/') && text != FINALIZER {
            out.push(navarch_types::field::FieldError::invalid(
                &list.path,
                text,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
}

fn phase(object: &Value, out: &mut Findings) {
    let status = At::root(object, "status");
    let phase = status.child("phase");
    let going = !object["metadata"]["deletionTimestamp"].is_null();
    if going && phase.text() != "Terminating" {
        out.push(phase.invalid("may only be 'Terminating' if `deletionTimestamp` is not empty"));
    } else if !going && phase.text() != "Active" {
        out.push(phase.invalid("may only be 'Active' if `deletionTimestamp` is empty"));
    }
}
