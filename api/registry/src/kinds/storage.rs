//! Volumes as objects: PersistentVolumes, claims on them, and what provisions them.

mod claim;
mod class;
mod volume;

pub(crate) use claim::{CLAIM, claim_spec};
pub(crate) use class::{ATTACHMENT, ATTRIBUTES_CLASS, CSI_DRIVER, CSI_NODE, STORAGE_CAPACITY, STORAGE_CLASS};
pub(crate) use volume::VOLUME;

use navarch_types::field::FieldError;

use super::at::At;
use super::kind::Findings;

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Rules for `accessModes`.
fn access_modes(at: &At<'_, '_>, out: &mut Findings) {
    if at.is_empty() {
        out.push(at.required("at least 1 access mode is required"));
    }
    let mut one_pod = false;
    for mode in at.items() {
        one_pod |= mode.text() == "ReadWriteOncePod";
        if !ACCESS_MODES.contains(&mode.text()) {
            out.push(FieldError::not_supported(&at.path, mode.text(), ACCESS_MODES));
        }
    }
    if one_pod && at.len() > 1 {
        out.push(at.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

/// Access modes as `kubectl` abbreviates them.
fn short_modes(modes: &[serde_json::Value]) -> String {
    let has = |name: &str| modes.iter().any(|m| m == name);
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let found: Vec<&str> = short.iter().filter(|(name, _)| has(name)).map(|(_, short)| *short).collect();
    found.join(",")
}
