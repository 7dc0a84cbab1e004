//! PersistentVolumes.

use jiff::Timestamp;
use navarch_types::field::{FieldError, Path};
use navarch_types::quantity::Quantity;
use navarch_types::validate::names;
use serde_json::{Value, json};

use super::{access_modes, short_modes};
use crate::kinds::at::{At, same};
use crate::kinds::cells::{UNSET, age_cell, list, name, text, text_or};
use crate::kinds::fill::{ensure, fill, fill_zero, put, within};
use crate::kinds::kind::{AGE, Findings, Kind, NAME, column, wide};
use crate::kinds::pod::defaults::remote_volume;
use crate::kinds::pod::scheduling::node_selector;
use crate::kinds::pod::volumes::{host_path, remote};
use crate::kinds::rules::{IMMUTABLE, quantity, shape, supported_if_set};
use crate::strategy::{Column, Context};

/// The strategy.
pub(crate) static VOLUME: Kind = Kind {
    default,
    prepare_create: |_, object| put(object, "status", json!({"phase": "Pending"})),
    create: |_, object, out| volume(object, out),
    update: Some(update),
    columns: COLUMNS,
    row,
    ..Kind::WITH_STATUS
};

const SOURCES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

fn default(object: &mut Value) {
    if let Some(spec) = within(object, "spec") {
        fill_zero(spec, "persistentVolumeReclaimPolicy", "Retain");
        fill(spec, "volumeMode", "Filesystem");
        if let Some(host_path) = within(spec, "hostPath") {
            fill(host_path, "type", "");
        }
        remote_volume(spec);
    }
    if let Some(status) = ensure(object, "status") {
        fill_zero(status, "phase", "Pending");
    }
}

fn volume(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    access_modes(&spec.child("accessModes"), out);
    capacity(&spec.child("capacity"), out);
    let policy = spec.child("persistentVolumeReclaimPolicy");
    if !policy.is_empty() {
        supported_if_set(&policy, &["Delete", "Recycle", "Retain"], out);
    }
    let affinity = spec.child("nodeAffinity");
    if affinity.is_set() {
        let must = affinity.child("required");
        if must.is_set() {
            node_selector(&must, out);
        } else {
            out.push(must.required("must specify required node constraints"));
        }
    }
    source(&spec, out);
    if spec.value["hostPath"]["path"] == "/" && policy.text() == "Recycle" {
        out.push(policy.forbidden("may not be 'recycle' for a hostPath mount of '/'"));
    }
    shape(&spec.child("storageClassName"), names::dns1123_subdomain, out);
    supported_if_set(&spec.child("volumeMode"), &["Block", "Filesystem"], out);
    shape(&spec.child("volumeAttributesClassName"), names::dns1123_subdomain, out);
}

fn capacity(at: &At<'_, '_>, out: &mut Findings) {
    if at.is_empty() {
        out.push(at.required(""));
        return;
    }
    if at.len() > 1 || !at.child("storage").is_set() {
        out.push(FieldError::not_supported(&at.path, at.value.clone(), &["storage"]));
    }
    for (_, value) in at.entries() {
        if quantity(value.value).is_some_and(|q| q <= Quantity::ZERO) {
            out.push(value.invalid("must be greater than zero"));
        }
    }
}

fn source(spec: &At<'_, '_>, out: &mut Findings) {
    let mut found = 0;
    for key in SOURCES {
        let at = spec.child(key);
        if !at.is_set() {
            continue;
        }
        found += 1;
        if found > 1 {
            out.push(at.forbidden("may not specify more than 1 volume type"));
            continue;
        }
        match key {
            "hostPath" => host_path(&at, out),
            "local" => {
                remote::local(&at, out);
                if !spec.child("nodeAffinity").is_set() {
                    out.push(FieldError::required(
                        &Path::root("metadata").child("annotations"),
                        "Local volume requires node affinity",
                    ));
                }
            }
            _ => remote::source(key, &at, true, out),
        }
    }
    if found == 0 {
        out.push(spec.required("must specify a volume type"));
    }
}

fn update(_: &Context<'_>, object: &Value, old: &Value, out: &mut Findings) {
    volume(object, out);
    let spec = At::root(object, "spec");
    let before = &old["spec"];
    if SOURCES.iter().any(|key| !same(&object["spec"][key], &before[key])) {
        let at = spec.child("persistentvolumesource");
        out.push(at.forbidden("spec.persistentvolumesource is immutable after creation"));
    }
    let mode = spec.child("volumeMode");
    if !same(mode.value, &before["volumeMode"]) {
        out.push(mode.invalid(IMMUTABLE));
    }
    let affinity = spec.child("nodeAffinity");
    if !before["nodeAffinity"].is_null() && !same(affinity.value, &before["nodeAffinity"]) {
        out.push(affinity.invalid(IMMUTABLE));
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Capacity", "string", "Size of the volume"),
    column("Access Modes", "string", "How the volume may be mounted"),
    column("Reclaim Policy", "string", "What becomes of the volume when its claim goes"),
    column("Status", "string", "Phase of the volume"),
    column("Claim", "string", "Claim that the volume is bound to"),
    column("StorageClass", "string", "Class of the volume"),
    column("VolumeAttributesClass", "string", "Class of attributes of the volume"),
    column("Reason", "string", "Why the volume is as it is"),
    AGE,
    wide("VolumeMode", "string", "File system or block device"),
];

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let claim = match text(object, &["spec", "claimRef", "name"]) {
        "" => String::new(),
        claim => format!("{}/{claim}", text(object, &["spec", "claimRef", "namespace"])),
    };
    let phase = if object["metadata"]["deletionTimestamp"].is_null() {
        text(object, &["status", "phase"])
    } else {
        "Terminating"
    };
    let beta = &object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    let class = beta.as_str().unwrap_or_else(|| text(object, &["spec", "storageClassName"]));
    vec![
        name(object),
        text(object, &["spec", "capacity", "storage"]).into(),
        short_modes(list(object, &["spec", "accessModes"])).into(),
        text(object, &["spec", "persistentVolumeReclaimPolicy"]).into(),
        phase.into(),
        claim.into(),
        class.into(),
        text_or(object, &["spec", "volumeAttributesClassName"], UNSET).into(),
        text(object, &["status", "reason"]).into(),
        age_cell(object, now),
        text_or(object, &["spec", "volumeMode"], UNSET).into(),
    ]
}
