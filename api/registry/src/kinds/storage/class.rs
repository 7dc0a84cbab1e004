//! StorageClasses, CSI objects, attachments.

use jiff::Timestamp;
use navarch_types::field::FieldError;
use navarch_types::validate::names;
use serde_json::Value;

use crate::kinds::at::{At, same};
use crate::kinds::cells::{UNSET, age_cell, joined, list, name, text, text_or};
use crate::kinds::fill::{fill, within};
use crate::kinds::kind::{AGE, Findings, Kind, NAME, column};
use crate::kinds::pod::volumes::remote::driver_name;
use crate::kinds::rules::{immutable, one_of, required, supported_if_set, texts};
use crate::strategy::{Column, Context};

/// Kubernetes' mark of the default class.
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// Limits of a class's parameters.
const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;

/// StorageClasses.
pub(crate) static STORAGE_CLASS: Kind = Kind {
    default: |object| {
        fill(object, "reclaimPolicy", "Delete");
        fill(object, "volumeBindingMode", "Immediate");
    },
    create: |_, object, out| storage_class(object, out),
    update: Some(storage_class_update),
    columns: CLASS_COLUMNS,
    row: class_row,
    ..Kind::PLAIN
};

fn storage_class(object: &Value, out: &mut Findings) {
    let provisioner = At::root(object, "provisioner");
    if required(&provisioner, out) {
        texts(&provisioner, names::qualified_name(&provisioner.text().to_lowercase()), out);
    }
    let parameters = At::root(object, "parameters");
    if parameters.len() > PARAMETERS_MAX {
        out.push(FieldError::too_long(&parameters.path, PARAMETERS_MAX));
    }
    let mut bytes = 0;
    for (key, value) in parameters.entries() {
        if key.is_empty() {
            out.push(FieldError::invalid(&parameters.path, key, "field can not be empty."));
        }
        bytes += key.len() + value.text().len();
    }
    if bytes > PARAMETERS_BYTES_MAX {
        out.push(FieldError::too_long(&parameters.path, PARAMETERS_BYTES_MAX));
    }
    let policy = At::root(object, "reclaimPolicy");
    if !policy.is_empty() {
        supported_if_set(&policy, &["Delete", "Retain"], out);
    }
    one_of(&At::root(object, "volumeBindingMode"), &["Immediate", "WaitForFirstConsumer"], out);
}

fn storage_class_update(_: &Context<'_>, object: &Value, old: &Value, out: &mut Findings) {
    storage_class(object, out);
    for key in ["parameters", "provisioner", "reclaimPolicy"] {
        if !same(&object[key], &old[key]) {
            out.push(At::root(object, key).forbidden(format!("updates to {key} are forbidden.")));
        }
    }
    immutable(&At::root(object, "volumeBindingMode"), &old["volumeBindingMode"], out);
}

const CLASS_COLUMNS: &[Column] = &[
    NAME,
    column("Provisioner", "string", "What makes volumes of this class"),
    column("ReclaimPolicy", "string", "What becomes of a volume when its claim goes"),
    column("VolumeBindingMode", "string", "When volumes are made and bound"),
    column("AllowVolumeExpansion", "string", "Whether volumes may grow"),
    AGE,
];

fn class_row(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut title = text(object, &["metadata", "name"]).to_owned();
    if DEFAULT_CLASS.iter().any(|key| object["metadata"]["annotations"][key] == "true") {
        title.push_str(" (default)");
    }
    vec![
        title.into(),
        text(object, &["provisioner"]).into(),
        text_or(object, &["reclaimPolicy"], "Delete").into(),
        text_or(object, &["volumeBindingMode"], UNSET).into(),
        object["allowVolumeExpansion"].as_bool().unwrap_or(false).into(),
        age_cell(object, now),
    ]
}

/// VolumeAttributesClasses.
pub(crate) static ATTRIBUTES_CLASS: Kind = Kind {
    create: |_, object, out| driver_name(&At::root(object, "driverName"), out),
    update: Some(|_, object, old, out| {
        for key in ["driverName", "parameters"] {
            if !same(&object[key], &old[key]) {
                out.push(At::root(object, key).forbidden(format!("updates to {key} are forbidden.")));
            }
        }
    }),
    columns: &[NAME, column("DriverName", "string", "Driver that the attributes are for"), AGE],
    row: |object, now| {
        let mut title = text(object, &["metadata", "name"]).to_owned();
        if object["metadata"]["annotations"]["volumeattributesclass.beta.kubernetes.io/is-default-class"] == "true" {
            title.push_str(" (default)");
        }
        vec![title.into(), text(object, &["driverName"]).into(), age_cell(object, now)]
    },
    ..Kind::PLAIN
};

/// CSIDrivers.
pub(crate) static CSI_DRIVER: Kind = Kind {
    default: |object| {
        let Some(spec) = within(object, "spec") else { return };
        fill(spec, "attachRequired", true);
        fill(spec, "podInfoOnMount", false);
        fill(spec, "storageCapacity", false);
        fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        if spec["volumeLifecycleModes"].as_array().is_none_or(Vec::is_empty) {
            crate::kinds::fill::put(spec, "volumeLifecycleModes", vec!["Persistent"]);
        }
        fill(spec, "requiresRepublish", false);
        fill(spec, "seLinuxMount", false);
    },
    create: |_, object, out| csi_driver(object, out),
    update: Some(|_, object, old, out| {
        csi_driver(object, out);
        let spec = At::root(object, "spec");
        for key in ["attachRequired", "volumeLifecycleModes"] {
            immutable(&spec.child(key), &old["spec"][key], out);
        }
    }),
    columns: &[
        NAME,
        column("AttachRequired", "boolean", "Whether volumes are attached to nodes first"),
        column("PodInfoOnMount", "boolean", "Whether the driver learns of the pod"),
        column("StorageCapacity", "boolean", "Whether the scheduler looks at capacity"),
        column("TokenRequests", "string", "Audiences of tokens that the driver gets"),
        column("RequiresRepublish", "boolean", "Whether mounts are renewed"),
        column("Modes", "string", "Lifecycles of volumes that the driver knows"),
        AGE,
    ],
    row: |object, now| {
        let yes = |key: &str, absent: bool| Value::from(object["spec"][key].as_bool().unwrap_or(absent));
        let tokens: Vec<&str> =
            list(object, &["spec", "tokenRequests"]).iter().map(|t| text(t, &["audience"])).collect();
        let modes = list(object, &["spec", "volumeLifecycleModes"]).iter().filter_map(Value::as_str);
        vec![
            name(object),
            yes("attachRequired", true),
            yes("podInfoOnMount", false),
            yes("storageCapacity", false),
            if tokens.is_empty() { UNSET.to_owned() } else { tokens.join(",") }.into(),
            yes("requiresRepublish", false),
            joined(modes).into(),
            age_cell(object, now),
        ]
    },
    ..Kind::PLAIN
};

fn csi_driver(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    for key in ["attachRequired", "podInfoOnMount", "storageCapacity", "seLinuxMount"] {
        let field = spec.child(key);
        if !field.is_set() {
            out.push(field.required(""));
        }
    }
    supported_if_set(&spec.child("fsGroupPolicy"), &["File", "None", "ReadWriteOnceWithFSType"], out);
    for mode in spec.child("volumeLifecycleModes").items() {
        supported_if_set(&mode, &["Ephemeral", "Persistent"], out);
    }
}

/// CSINodes.
pub(crate) static CSI_NODE: Kind = Kind {
    create: |_, object, out| {
        let spec = At::root(object, "spec");
        let mut seen = std::collections::HashSet::new();
        for driver in spec.child("drivers").items() {
            let title = driver.child("name");
            driver_name(&title, out);
            if !seen.insert(title.text()) {
                out.push(title.duplicate());
            }
            required(&driver.child("nodeID"), out);
        }
    },
    columns: &[NAME, column("Drivers", "integer", "How many drivers the node has"), AGE],
    row: |object, now| vec![name(object), list(object, &["spec", "drivers"]).len().into(), age_cell(object, now)],
    ..Kind::PLAIN
};

/// CSIStorageCapacities.
pub(crate) static STORAGE_CAPACITY: Kind = Kind {
    create: |_, object, out| {
        required(&At::root(object, "storageClassName"), out);
        crate::kinds::rules::non_negative_quantity(&At::root(object, "capacity"), out);
    },
    columns: &[
        NAME,
        column("StorageClassName", "string", "Class that the capacity is for"),
        column("Capacity", "string", "How much there is"),
        AGE,
    ],
    row: |object, now| {
        let capacity = text_or(object, &["capacity"], UNSET);
        vec![name(object), text(object, &["storageClassName"]).into(), capacity.into(), age_cell(object, now)]
    },
    ..Kind::PLAIN
};

/// VolumeAttachments.
pub(crate) static ATTACHMENT: Kind = Kind {
    create: |_, object, out| {
        let spec = At::root(object, "spec");
        driver_name(&spec.child("attacher"), out);
        required(&spec.child("nodeName"), out);
        let source = spec.child("source");
        if source.child("persistentVolumeName").is_empty() && !source.child("inlineVolumeSpec").is_set() {
            out.push(source.required("must specify exactly one of inlineVolumeSpec and persistentVolumeName"));
        }
    },
    update: Some(|_, object, old, out| {
        let spec = At::root(object, "spec");
        immutable(&spec, &old["spec"], out);
    }),
    columns: &[
        NAME,
        column("Attacher", "string", "Driver that attaches"),
        column("PV", "string", "Volume to attach"),
        column("Node", "string", "Node to attach to"),
        column("Attached", "boolean", "Whether it is attached"),
        AGE,
    ],
    row: |object, now| {
        vec![
            name(object),
            text(object, &["spec", "attacher"]).into(),
            text(object, &["spec", "source", "persistentVolumeName"]).into(),
            text(object, &["spec", "nodeName"]).into(),
            object["status"]["attached"].as_bool().unwrap_or(false).into(),
            age_cell(object, now),
        ]
    },
    ..Kind::WITH_STATUS
};
