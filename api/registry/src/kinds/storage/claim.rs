//! PersistentVolumeClaims.

use jiff::Timestamp;
use navarch_types::field::FieldError;
use navarch_types::quantity::Quantity;
use navarch_types::validate::names;
use serde_json::{Value, json};

use super::{access_modes, short_modes};
use crate::kinds::at::{At, same};
use crate::kinds::cells::{UNSET, age_cell, list, name, text, text_or};
use crate::kinds::fill::{drop_field, ensure, fill, fill_zero, put, restore, within};
use crate::kinds::kind::{AGE, Findings, Kind, NAME, column, wide};
use crate::kinds::rules::{label_selector, quantity, required, shape, supported_if_set};
use crate::strategy::{Column, Context};

/// The strategy.
pub(crate) static CLAIM: Kind = Kind {
    default,
    prepare_create: |_, object| put(object, "status", json!({"phase": "Pending"})),
    prepare_update: |context, object, old| {
        if context.subresource == Some("status") {
            restore(object, old, "spec");
        }
    },
    create: |_, object, out| claim_spec(&At::root(object, "spec"), out),
    update: Some(update),
    columns: COLUMNS,
    row,
    ..Kind::WITH_STATUS
};

fn default(object: &mut Value) {
    if let Some(spec) = within(object, "spec") {
        fill(spec, "volumeMode", "Filesystem");
        mirror_data_source(spec);
    }
    if let Some(status) = ensure(object, "status") {
        fill_zero(status, "phase", "Pending");
    }
}

/// `dataSource` is the old name of `dataSourceRef`; both are kept in step where the old one can say it.
fn mirror_data_source(spec: &mut Value) {
    let (old, new) = (spec["dataSource"].clone(), spec["dataSourceRef"].clone());
    if !old.is_null() && new.is_null() {
        fill(spec, "dataSourceRef", old);
    } else if old.is_null() && !new.is_null() && new["namespace"].is_null() {
        let group = new["apiGroup"].as_str().unwrap_or("");
        let kind = new["kind"].as_str().unwrap_or("");
        if matches!((group, kind), ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")) {
            fill(spec, "dataSource", new);
        }
    }
}

/// Rules for a claim's spec, also where it is a template.
pub(crate) fn claim_spec(at: &At<'_, '_>, out: &mut Findings) {
    let modes = at.child("accessModes");
    access_modes(&modes, out);
    label_selector(&at.child("selector"), out);
    let resources = at.child("resources");
    let storage = resources.value["requests"]["storage"].clone();
    let path = resources.path.key("storage");
    match quantity(&storage) {
        None => out.push(FieldError::required(&path, "")),
        Some(amount) if amount <= Quantity::ZERO => {
            out.push(FieldError::invalid(&path, storage, "must be greater than zero"));
        }
        Some(_) => {}
    }
    shape(&at.child("storageClassName"), names::dns1123_subdomain, out);
    supported_if_set(&at.child("volumeMode"), &["Block", "Filesystem"], out);
    shape(&at.child("volumeAttributesClassName"), names::dns1123_subdomain, out);
    for key in ["dataSource", "dataSourceRef"] {
        data_source(&at.child(key), out);
    }
}

fn data_source(at: &At<'_, '_>, out: &mut Findings) {
    if !at.is_set() {
        return;
    }
    required(&at.child("name"), out);
    required(&at.child("kind"), out);
    let (group, kind) = (at.child("apiGroup"), at.child("kind"));
    if group.is_empty() && kind.text() != "PersistentVolumeClaim" {
        out.push(at.invalid("must be 'PersistentVolumeClaim' when referencing the default apiGroup"));
    }
    shape(&group, names::dns1123_subdomain, out);
}

fn update(_: &Context<'_>, object: &Value, old: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    claim_spec(&spec, out);
    let mut allowed = object["spec"].clone();
    let before = &old["spec"];
    // The binder fills in the volume once; only bound claims may grow.
    if before["volumeName"].as_str().is_none_or(str::is_empty) {
        restore(&mut allowed, before, "volumeName");
    }
    let bound = old["status"]["phase"] == "Bound";
    if bound {
        restore(&mut allowed, before, "volumeAttributesClassName");
        if let Some(resources) = within(&mut allowed, "resources") {
            restore(resources, &before["resources"], "requests");
        }
    }
    if before["storageClassName"].is_null() {
        drop_field(&mut allowed, "storageClassName");
    }
    if !same(&allowed, before) {
        const WHY: &str =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        out.push(spec.forbidden(WHY));
    }
    if bound {
        let amount = |v: &Value| quantity(&v["resources"]["requests"]["storage"]);
        let capacity = quantity(&old["status"]["capacity"]["storage"]);
        if let (Some(new), Some(was)) = (amount(&object["spec"]), amount(before))
            && new < was
            && capacity.is_none_or(|capacity| new < capacity)
        {
            let (resources, requests) = (spec.child("resources"), "requests");
            let requests = resources.child(requests);
            out.push(requests.child("storage").forbidden("field can not be less than status.capacity"));
        }
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", "Phase of the claim"),
    column("Volume", "string", "Volume that the claim is bound to"),
    column("Capacity", "string", "Size of that volume"),
    column("Access Modes", "string", "How that volume may be mounted"),
    column("StorageClass", "string", "Class that the claim asks for"),
    column("VolumeAttributesClass", "string", "Class of attributes that the claim asks for"),
    AGE,
    wide("VolumeMode", "string", "File system or block device"),
];

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let bound = !text(object, &["spec", "volumeName"]).is_empty();
    let phase = if object["metadata"]["deletionTimestamp"].is_null() {
        text(object, &["status", "phase"])
    } else {
        "Terminating"
    };
    let beta = &object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    let class = beta.as_str().unwrap_or_else(|| text(object, &["spec", "storageClassName"]));
    let modes = if bound { short_modes(list(object, &["status", "accessModes"])) } else { String::new() };
    vec![
        name(object),
        phase.into(),
        text(object, &["spec", "volumeName"]).into(),
        if bound { text(object, &["status", "capacity", "storage"]) } else { "" }.into(),
        modes.into(),
        class.into(),
        text_or(object, &["spec", "volumeAttributesClassName"], UNSET).into(),
        age_cell(object, now),
        text_or(object, &["spec", "volumeMode"], UNSET).into(),
    ]
}
