//! Volumes that live elsewhere, as pods and PersistentVolumes refer to them.

use navarch_types::field::FieldError;
use navarch_types::validate::{names, ranges};

use crate::kinds::at::At;
use crate::kinds::kind::Findings;
use crate::kinds::rules::{one_of, required};

/// Fields that a source cannot do without.
fn needs(key: &str) -> &'static [&'static str] {
    match key {
        "gcePersistentDisk" => &["pdName"],
        "awsElasticBlockStore" | "cinder" | "portworxVolume" => &["volumeID"],
        "glusterfs" => &["endpoints", "path"],
        "rbd" => &["monitors", "image"],
        "cephfs" => &["monitors"],
        "flexVolume" => &["driver"],
        "azureFile" => &["secretName", "shareName"],
        "vsphereVolume" => &["volumePath"],
        "photonPersistentDisk" => &["pdID"],
        "azureDisk" => &["diskName", "diskURI"],
        "storageos" => &["volumeName"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        "quobyte" => &["registry", "volume"],
        _ => &[],
    }
}

/// Rules for a source by its type; `persistent` for that of a PersistentVolume.
pub(crate) fn source(key: &str, at: &At<'_, '_>, persistent: bool, out: &mut Findings) {
    for field in needs(key) {
        required(&at.child(field), out);
    }
    match key {
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            let partition = at.child("partition");
            if partition.int().is_some_and(|n| !(0..=255).contains(&n)) {
                out.push(partition.invalid("must be between 0 and 255, inclusive"));
            }
        }
        "nfs" => nfs(at, out),
        "iscsi" => iscsi(at, out),
        "fc" => fibre_channel(at, out),
        "flocker" => {
            let (name, id) = (at.child("datasetName"), at.child("datasetUUID"));
            if name.is_empty() && id.is_empty() {
                out.push(at.required("one of datasetName and datasetUUID is required"));
            }
            if !name.is_empty() && !id.is_empty() {
                out.push(at.invalid("resource, datasetName and datasetUUID can not be specified simultaneously"));
            }
        }
        "azureDisk" => {
            one_of(&at.child("cachingMode"), &["None", "ReadOnly", "ReadWrite"], out);
            one_of(&at.child("kind"), &["Dedicated", "Managed", "Shared"], out);
        }
        "quobyte" => {
            let registry = at.child("registry");
            for address in registry.text().split(',').filter(|a| !a.is_empty()) {
                if address.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.is_empty()) {
                    const WHY: &str = "must be a host:port pair or multiple pairs separated by commas";
                    out.push(registry.invalid(WHY));
                }
            }
        }
        "csi" => csi(at, persistent, out),
        _ => {}
    }
}

fn nfs(at: &At<'_, '_>, out: &mut Findings) {
    required(&at.child("server"), out);
    let path = at.child("path");
    required(&path, out);
    out.extend(ranges::absolute_path(&path.path, path.text()));
}

fn iscsi(at: &At<'_, '_>, out: &mut Findings) {
    required(&at.child("targetPortal"), out);
    let iqn = at.child("iqn");
    if required(&iqn, out) && !["iqn.", "eui.", "naa."].iter().any(|p| iqn.text().starts_with(p)) {
        out.push(iqn.invalid("must be valid format starting with iqn, eui, or naa"));
    }
    let lun = at.child("lun");
    if !(0..=255).contains(&lun.int_or_zero()) {
        out.push(lun.invalid("must be between 0 and 255, inclusive"));
    }
    let chap = at.child("chapAuthDiscovery").is_true() || at.child("chapAuthSession").is_true();
    if chap && !at.child("secretRef").is_set() {
        out.push(at.child("secretRef").required(""));
    }
}

fn fibre_channel(at: &At<'_, '_>, out: &mut Findings) {
    let (names, ids, lun) = (at.child("targetWWNs"), at.child("wwids"), at.child("lun"));
    if names.is_empty() && ids.is_empty() {
        out.push(names.required("must specify either targetWWNs or wwids, but not both"));
    }
    if !names.is_empty() && !ids.is_empty() {
        out.push(names.invalid("targetWWNs and wwids can not be specified simultaneously"));
    }
    if !names.is_empty() {
        match lun.int() {
            None => out.push(lun.required("lun is required if targetWWNs is specified")),
            Some(n) if !(0..=255).contains(&n) => out.push(lun.invalid("must be between 0 and 255, inclusive")),
            Some(_) => {}
        }
    }
}

/// Rules for the name of a CSI driver.
pub(crate) fn driver_name(at: &At<'_, '_>, out: &mut Findings) {
    const BYTES_MAX: usize = 63;
    if !required(at, out) {
        return;
    }
    if at.text().len() > BYTES_MAX {
        out.push(FieldError::too_long(&at.path, BYTES_MAX));
    }
    let lower = at.text().to_lowercase();
    for text in names::dns1123_subdomain(&lower) {
        out.push(at.invalid(text));
    }
}

fn csi(at: &At<'_, '_>, persistent: bool, out: &mut Findings) {
    driver_name(&at.child("driver"), out);
    if persistent {
        required(&at.child("volumeHandle"), out);
        for key in [
            "controllerPublishSecretRef",
            "nodePublishSecretRef",
            "nodeStageSecretRef",
            "controllerExpandSecretRef",
            "nodeExpandSecretRef",
        ] {
            let secret = at.child(key);
            if secret.is_set() {
                required(&secret.child("name"), out);
                required(&secret.child("namespace"), out);
            }
        }
    } else {
        let secret = at.child("nodePublishSecretRef");
        if secret.is_set() {
            required(&secret.child("name"), out);
        }
    }
}

/// Rules for a local disk of a node, which only PersistentVolumes have.
pub(crate) fn local(at: &At<'_, '_>, out: &mut Findings) {
    let path = at.child("path");
    if required(&path, out) {
        out.extend(ranges::no_back_steps(&path.path, path.text()));
    }
}
