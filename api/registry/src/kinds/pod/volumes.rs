//! A pod's volumes: names, one source each, and what each source needs.

pub(crate) mod projected;
pub(crate) mod remote;

use std::collections::{BTreeMap, HashSet};

use navarch_types::quantity::Quantity;
use navarch_types::validate::{names, ranges};
use serde_json::Value;

use crate::kinds::at::At;
use crate::kinds::kind::Findings;
use crate::kinds::rules::{local_non_reserved_path, one_of, quantity, required};

/// Wording for permission bits out of range.
const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// All types, in the order in which upstream looks at them: the first one set is judged, further ones are refused.
const TYPES: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "flocker",
    "downwardAPI",
    "fc",
    "flexVolume",
    "azureFile",
    "configMap",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
    "quobyte",
];

/// Rules for `volumes`; gives those that are right, by name, for mounts to refer to.
pub(crate) fn volumes<'v>(at: &At<'v, '_>, pod_name: &str, out: &mut Findings) -> BTreeMap<&'v str, &'v Value> {
    let mut good = BTreeMap::new();
    let mut seen = HashSet::new();
    let generated: HashSet<String> = at
        .items()
        .filter(|v| v.child("ephemeral").is_set() && !pod_name.is_empty())
        .map(|v| format!("{pod_name}-{}", v.child("name").text()))
        .collect();
    for volume in at.items() {
        let mut own = Findings::new();
        source(&volume, &mut own);
        let name = volume.child("name");
        if name.is_empty() {
            own.push(name.required(""));
        } else {
            crate::kinds::rules::texts(&name, names::dns1123_label(name.text()), &mut own);
        }
        if seen.contains(name.text()) {
            own.push(name.duplicate());
        }
        if own.is_empty() {
            seen.insert(name.text());
            good.insert(name.text(), volume.value);
        }
        out.append(&mut own);
        let claim = volume.child("persistentVolumeClaim");
        let claim_name = claim.child("claimName");
        if generated.contains(claim_name.text()) {
            out.push(claim_name.invalid("must not reference a PVC that gets created for an ephemeral volume"));
        }
    }
    good
}

fn source(volume: &At<'_, '_>, out: &mut Findings) {
    let mut found = 0;
    for key in TYPES {
        let at = volume.child(key);
        if !at.is_set() {
            continue;
        }
        if found > 0 {
            out.push(at.forbidden("may not specify more than 1 volume type"));
            continue;
        }
        found += 1;
        match key {
            "emptyDir" => empty_dir(&at, out),
            "hostPath" => host_path(&at, out),
            "secret" => {
                required(&at.child("secretName"), out);
                files(&at, out);
            }
            "configMap" => {
                required(&at.child("name"), out);
                files(&at, out);
            }
            "downwardAPI" => {
                mode(&at.child("defaultMode"), out);
                projected::downward_items(&at.child("items"), out);
            }
            "projected" => {
                mode(&at.child("defaultMode"), out);
                projected::sources(&at.child("sources"), out);
            }
            "persistentVolumeClaim" => {
                required(&at.child("claimName"), out);
            }
            "ephemeral" => ephemeral(&at, out),
            "image" => {
                one_of(&at.child("pullPolicy"), &["Always", "IfNotPresent", "Never"], out);
            }
            "gitRepo" => {
                required(&at.child("repository"), out);
                let directory = at.child("directory");
                out.extend(ranges::local_descending_path(&directory.path, directory.text()));
            }
            _ => remote::source(key, &at, false, out),
        }
    }
    if found == 0 {
        out.push(volume.required("must specify a volume type"));
    }
}

fn empty_dir(at: &At<'_, '_>, out: &mut Findings) {
    let limit = at.child("sizeLimit");
    if quantity(limit.value).is_some_and(|q| q < Quantity::ZERO) {
        out.push(limit.forbidden("SizeLimit field must be a valid resource quantity"));
    }
}

/// Rules for a folder or file of the node.
pub(crate) fn host_path(at: &At<'_, '_>, out: &mut Findings) {
    const KINDS: &[&str] =
        &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let (path, kind) = (at.child("path"), at.child("type"));
    if required(&path, out) {
        out.extend(ranges::no_back_steps(&path.path, path.text()));
    }
    if kind.is_set() && !KINDS.contains(&kind.text()) {
        out.push(kind.not_supported(KINDS));
    }
}

fn ephemeral(at: &At<'_, '_>, out: &mut Findings) {
    let template = at.child("volumeClaimTemplate");
    if template.is_set() {
        crate::kinds::storage::claim_spec(&template.child("spec"), out);
    } else {
        out.push(template.required(""));
    }
}

/// Permission bits.
pub(crate) fn mode(at: &At<'_, '_>, out: &mut Findings) {
    if at.int().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        out.push(at.invalid(MODE));
    }
}

fn files(at: &At<'_, '_>, out: &mut Findings) {
    mode(&at.child("defaultMode"), out);
    key_paths(&at.child("items"), out);
}

/// Keys that become files.
pub(crate) fn key_paths(at: &At<'_, '_>, out: &mut Findings) {
    for item in at.items() {
        required(&item.child("key"), out);
        let path = item.child("path");
        if required(&path, out) {
            local_non_reserved_path(&path, out);
        }
        mode(&item.child("mode"), out);
    }
}
