//! Where a container mounts the pod's volumes.

use std::collections::HashSet;

use navarch_types::validate::ranges;

use super::Surroundings;
use crate::kinds::at::At;
use crate::kinds::kind::Findings;
use crate::kinds::rules::required;

/// Rules for `volumeMounts`.
pub(crate) fn mounts(
    at: &At<'_, '_>,
    devices: &At<'_, '_>,
    privileged: bool,
    pod: &Surroundings<'_>,
    out: &mut Findings,
) {
    let device_names: HashSet<&str> = devices.items().map(|d| d.child("name").text()).collect();
    let device_paths: HashSet<&str> = devices.items().map(|d| d.child("devicePath").text()).collect();
    let mut seen = HashSet::new();
    for mount in at.items() {
        let (name, path) = (mount.child("name"), mount.child("mountPath"));
        required(&name, out);
        if !pod.volumes.contains_key(name.text()) {
            out.push(name.not_found());
        }
        required(&path, out);
        if !seen.insert(path.text()) {
            out.push(path.invalid("must be unique"));
        }
        if device_names.contains(name.text()) {
            out.push(name.invalid("must not already exist in volumeDevices"));
        }
        if device_paths.contains(path.text()) {
            out.push(path.invalid("must not already exist as a path in volumeDevices"));
        }
        sub_paths(at, &mount, out);
        propagation(&mount.child("mountPropagation"), privileged, out);
        recursive_read_only(&mount, out);
    }
}

fn sub_paths(list: &At<'_, '_>, mount: &At<'_, '_>, out: &mut Findings) {
    let (sub, expression) = (mount.child("subPath"), mount.child("subPathExpr"));
    if !sub.is_empty() {
        out.extend(ranges::local_descending_path(&list.path.child("subPath"), sub.text()));
    }
    if !expression.is_empty() {
        if !sub.is_empty() {
            out.push(expression.invalid("subPathExpr and subPath are mutually exclusive"));
        }
        out.extend(ranges::local_descending_path(&list.path.child("subPathExpr"), expression.text()));
    }
}

fn propagation(at: &At<'_, '_>, privileged: bool, out: &mut Findings) {
    if !at.is_set() {
        return;
    }
    match at.text() {
        "None" | "HostToContainer" => {}
        "Bidirectional" if privileged => {}
        "Bidirectional" => {
            out.push(at.forbidden("Bidirectional mount propagation is available only to privileged containers"));
        }
        _ => out.push(at.not_supported(&["Bidirectional", "HostToContainer", "None"])),
    }
}

fn recursive_read_only(mount: &At<'_, '_>, out: &mut Findings) {
    let at = mount.child("recursiveReadOnly");
    if !at.is_set() {
        return;
    }
    match at.text() {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.child("readOnly").is_true() {
                out.push(at.forbidden("may only be specified when readOnly is true"));
            }
            if !matches!(mount.child("mountPropagation").text(), "" | "None") {
                out.push(at.forbidden("may only be specified when mountPropagation is None or not specified"));
            }
        }
        _ => out.push(at.not_supported(&["Disabled", "Enabled", "IfPossible"])),
    }
}

/// Rules for `volumeDevices`.
pub(crate) fn devices(at: &At<'_, '_>, mounts: &At<'_, '_>, pod: &Surroundings<'_>, out: &mut Findings) {
    let mount_names: HashSet<&str> = mounts.items().map(|m| m.child("name").text()).collect();
    let mount_paths: HashSet<&str> = mounts.items().map(|m| m.child("mountPath").text()).collect();
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    for device in at.items() {
        let (name, path) = (device.child("name"), device.child("devicePath"));
        required(&name, out);
        if !names.insert(name.text()) {
            out.push(name.invalid("must be unique"));
        }
        match pod.volumes.get(name.text()) {
            None => out.push(name.not_found()),
            Some(source) if source["persistentVolumeClaim"].is_null() && source["ephemeral"].is_null() => {
                const WHY: &str =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                out.push(name.invalid(WHY));
            }
            Some(_) => {}
        }
        required(&path, out);
        if !path.is_empty() && ranges::no_back_steps(&path.path, path.text()).is_some() {
            out.push(path.invalid("can not contain backsteps ('..')"));
        } else if !paths.insert(path.text()) {
            out.push(path.invalid("must be unique"));
        }
        if mount_names.contains(name.text()) {
            out.push(name.invalid("must not already exist in volumeMounts"));
        }
        if mount_paths.contains(path.text()) {
            out.push(path.invalid("must not already exist as a path in volumeMounts"));
        }
    }
}
