//! Volumes that show the pod to itself, and several sources as one.

use std::collections::HashSet;

use navarch_types::field::FieldError;

use super::{key_paths, mode};
use crate::kinds::at::At;
use crate::kinds::kind::Findings;
use crate::kinds::pod::containers::env::{field_ref, resource_ref};
use crate::kinds::rules::{local_non_reserved_path, required, shape};

const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;
const SOURCES: [&str; 6] =
    ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];

/// Rules for the files of the downward API.
pub(crate) fn downward_items(at: &At<'_, '_>, out: &mut Findings) {
    for item in at.items() {
        let path = item.child("path");
        if required(&path, out) {
            local_non_reserved_path(&path, out);
        }
        let (field, resource) = (item.child("fieldRef"), item.child("resourceFieldRef"));
        if field.is_set() {
            field_ref(&field, true, out);
            if resource.is_set() {
                const WHY: &str = "fieldRef and resourceFieldRef can not be specified simultaneously";
                out.push(FieldError::invalid(&item.path, "resource", WHY));
            }
        } else if resource.is_set() {
            resource_ref(&resource, true, out);
        } else {
            out.push(item.required("one of fieldRef and resourceFieldRef is required"));
        }
        mode(&item.child("mode"), out);
    }
}

/// Rules for the sources of a projected volume; no two may make the same file.
pub(crate) fn sources(at: &At<'_, '_>, out: &mut Findings) {
    let mut paths = HashSet::new();
    for source in at.items() {
        let mut found = 0;
        for key in SOURCES {
            let part = source.child(key);
            if !part.is_set() {
                continue;
            }
            found += 1;
            if found > 1 {
                out.push(part.forbidden("may not specify more than 1 volume type"));
            }
            one(key, &part, &mut paths, out);
        }
    }
}

fn one<'v>(key: &str, at: &At<'v, '_>, paths: &mut HashSet<&'v str>, out: &mut Findings) {
    let mut take = |path: &'v str, shown: &str, out: &mut Findings| {
        if !path.is_empty() && !paths.insert(path) {
            out.push(FieldError::invalid(&at.path, shown, "conflicting duplicate paths"));
        }
    };
    match key {
        "secret" | "configMap" => {
            let name = at.child("name");
            required(&name, out);
            key_paths(&at.child("items"), out);
            for item in at.child("items").items() {
                take(item.child("path").text(), name.text(), out);
            }
        }
        "downwardAPI" => {
            downward_items(&at.child("items"), out);
            for item in at.child("items").items() {
                take(item.child("path").text(), item.child("path").text(), out);
            }
        }
        "serviceAccountToken" => {
            token(at, out);
            take(at.child("path").text(), at.child("path").text(), out);
        }
        "clusterTrustBundle" => {
            trust_bundle(at, out);
            take(at.child("path").text(), at.child("path").text(), out);
        }
        _ => {
            required(&at.child("signerName"), out);
            let certificate_paths = ["credentialBundlePath", "keyPath", "certificateChainPath"];
            if certificate_paths.iter().all(|key| at.child(key).is_empty()) {
                const WHY: &str = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
                out.push(at.required(WHY));
            }
            for key in certificate_paths {
                let path = at.child(key);
                if !path.is_empty() {
                    local_non_reserved_path(&path, out);
                    take(path.text(), path.text(), out);
                }
            }
        }
    }
}

fn token(at: &At<'_, '_>, out: &mut Findings) {
    let seconds = at.child("expirationSeconds");
    if let Some(number) = seconds.int() {
        if number < TOKEN_SECONDS_MIN {
            out.push(seconds.invalid("may not specify a duration less than 10 minutes"));
        } else if number > TOKEN_SECONDS_MAX {
            out.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
        }
    }
    let path = at.child("path");
    if required(&path, out) {
        local_non_reserved_path(&path, out);
    }
}

fn trust_bundle(at: &At<'_, '_>, out: &mut Findings) {
    let (name, signer) = (at.child("name"), at.child("signerName"));
    match (name.is_set(), signer.is_set()) {
        (true, true) => out.push(at.invalid("only one of name and signerName may be used")),
        (false, false) => out.push(at.required("either name or signerName must be specified")),
        _ => {}
    }
    shape(&name, |n| navarch_types::validate::names::dns1123_subdomain(&n.replace(':', ".")), out);
    let path = at.child("path");
    if required(&path, out) {
        local_non_reserved_path(&path, out);
    }
}
