//! Devices that pods claim, and versions of stored objects: their columns; the rest is the schema's.

use serde_json::Value;

use crate::kinds::at::At;
use crate::kinds::cells::{age_cell, list, name, text};
use crate::kinds::kind::{AGE, Kind, NAME, column};
use crate::kinds::rules::immutable;
use crate::strategy::SelectableField;

/// ResourceClaims.
pub(crate) static CLAIM: Kind = Kind {
    update: Some(|_, object, old, out| immutable(&At::root(object, "spec"), &old["spec"], out)),
    columns: &[NAME, column("State", "string", "Whether devices are allotted, and held"), AGE],
    row: |object, now| {
        let mut states = Vec::new();
        if !object["metadata"]["deletionTimestamp"].is_null() {
            states.push("deleted");
        }
        let status = &object["status"];
        let held = !list(status, &["reservedFor"]).is_empty();
        match (status["allocation"].is_null(), held) {
            (true, false) => states.push("pending"),
            (false, false) => states.push("allocated"),
            (_, true) => states.push("allocated,reserved"),
        }
        vec![name(object), states.join(",").into(), age_cell(object, now)]
    },
    ..Kind::WITH_STATUS
};

/// ResourceSlices.
pub(crate) static SLICE: Kind = Kind {
    selectable: &[
        SelectableField { name: "spec.nodeName", path: &["spec", "nodeName"], absent: "" },
        SelectableField { name: "spec.driver", path: &["spec", "driver"], absent: "" },
    ],
    columns: &[
        NAME,
        column("Node", "string", "Node that has the devices"),
        column("Driver", "string", "Driver of the devices"),
        column("Pool", "string", "Pool of the devices"),
        AGE,
    ],
    row: |object, now| {
        let of = |way: &[&str]| Value::from(text(object, way));
        vec![
            name(object),
            of(&["spec", "nodeName"]),
            of(&["spec", "driver"]),
            of(&["spec", "pool", "name"]),
            age_cell(object, now),
        ]
    },
    ..Kind::WITH_GENERATION
};

/// DeviceClasses.
pub(crate) static DEVICE_CLASS: Kind = Kind { ..Kind::WITH_GENERATION };

/// StorageVersions.
pub(crate) static STORAGE_VERSION: Kind = Kind {
    columns: &[
        NAME,
        column("CommonEncodingVersion", "string", "Version that all servers write"),
        column("StorageVersions", "string", "Version that each server writes"),
        AGE,
    ],
    row: |object, now| {
        let versions: Vec<String> = list(object, &["status", "storageVersions"])
            .iter()
            .map(|v| format!("{}={}", text(v, &["apiServerID"]), text(v, &["encodingVersion"])))
            .collect();
        let common = text(object, &["status", "commonEncodingVersion"]);
        vec![
            name(object),
            if common.is_empty() { "<unset>" } else { common }.into(),
            versions.join(",").into(),
            age_cell(object, now),
        ]
    },
    ..Kind::WITH_STATUS
};
