//! ResourceQuotas and LimitRanges.

use std::collections::HashSet;

use navarch_types::field::FieldError;
use serde_json::Value;

use crate::kinds::at::{At, same};
use crate::kinds::cells::{age_cell, name, text};
use crate::kinds::fill::{each, ensure, fill, within};
use crate::kinds::kind::{AGE, Findings, Kind, NAME, column};
use crate::kinds::pod::resources::{amount, resource_name};
use crate::kinds::rules::{IMMUTABLE, quantity, required};

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// ResourceQuotas.
pub(crate) static RESOURCE_QUOTA: Kind = Kind {
    create: |_, object, out| quota(object, out),
    update: Some(|_, object, old, out| {
        quota(object, out);
        let spec = At::root(object, "spec");
        let scopes = spec.child("scopes");
        let set = |v: &Value| -> HashSet<String> {
            v.as_array().into_iter().flatten().filter_map(|s| s.as_str().map(str::to_owned)).collect()
        };
        if set(scopes.value) != set(&old["spec"]["scopes"]) {
            out.push(scopes.invalid(IMMUTABLE));
        }
    }),
    status_update: |_, object, _, out| {
        let status = At::root(object, "status");
        for key in ["hard", "used"] {
            amounts(&status.child(key), out);
        }
    },
    columns: &[
        NAME,
        column("Request", "string", "What is used, of how much, of requests and counts"),
        column("Limit", "string", "What is used, of how much, of limits"),
        AGE,
    ],
    row: |object, now| {
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (key, hard) in object["status"]["hard"].as_object().into_iter().flatten() {
            let used = text(object, &["status", "used", key]);
            let used = if used.is_empty() { "0" } else { used };
            let part = format!("{key}: {used}/{}", hard.as_str().unwrap_or(""));
            if key.starts_with("limits") { limits.push(part) } else { requests.push(part) }
        }
        vec![name(object), requests.join(", ").into(), limits.join(", ").into(), age_cell(object, now)]
    },
    ..Kind::WITH_STATUS
};

fn amounts(at: &At<'_, '_>, out: &mut Findings) {
    for (key, value) in at.entries() {
        if !key.starts_with("count/") && !key.contains(".storageclass.storage.k8s.io/") {
            resource_name(&value, key, out);
        }
        amount(&value, key, out);
    }
}

fn quota(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    amounts(&spec.child("hard"), out);
    let scopes = spec.child("scopes");
    let mut seen = HashSet::new();
    for scope in scopes.items() {
        if !SCOPES.contains(&scope.text()) {
            out.push(FieldError::invalid(&scopes.path, scopes.value.clone(), "unsupported scope"));
        }
        seen.insert(scope.text());
    }
    for (a, b) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if seen.contains(a) && seen.contains(b) {
            out.push(scopes.invalid("conflicting scopes"));
        }
    }
}

/// LimitRanges.
pub(crate) static LIMIT_RANGE: Kind = Kind {
    default: |object| {
        if let Some(spec) = within(object, "spec") {
            each(spec, "limits", container_limits);
        }
    },
    create: |_, object, out| limit_range(object, out),
    create_on_update: true,
    columns: &[NAME, column("Created At", "date", "Time of creation")],
    row: |object, _| vec![name(object), object["metadata"]["creationTimestamp"].clone()],
    ..Kind::PLAIN
};

/// Of containers, a maximum is the default limit; a default limit, or else a minimum, is the default request.
fn container_limits(item: &mut Value) {
    if item["type"] != "Container" {
        return;
    }
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
        let Some(amounts) = item[from].as_object().cloned().filter(|a| !a.is_empty()) else { continue };
        if let Some(target) = ensure(item, to) {
            amounts.into_iter().for_each(|(key, value)| fill(target, &key, value));
        }
    }
}

fn limit_range(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    let limits = spec.child("limits");
    let mut seen = HashSet::new();
    for item in limits.items() {
        let kind = item.child("type");
        required(&kind, out);
        if !seen.insert(kind.text()) {
            out.push(kind.duplicate());
        }
        for key in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            let map = item.child(key);
            for (name, value) in map.entries() {
                resource_name(&value, name, out);
            }
            if kind.text() == "Pod" && key.starts_with("default") && !map.is_empty() {
                out.push(map.forbidden("may not be specified when `type` is 'Pod'"));
            }
        }
        if kind.text() == "PersistentVolumeClaim"
            && item.value["min"]["storage"].is_null()
            && item.value["max"]["storage"].is_null()
        {
            out.push(item.required("either minimum or maximum storage value is required, but neither was provided"));
        }
        for (low, high) in [
            ("min", "max"),
            ("min", "defaultRequest"),
            ("defaultRequest", "max"),
            ("min", "default"),
            ("default", "max"),
            ("defaultRequest", "default"),
        ] {
            ordered(&item, low, high, out);
        }
    }
}

fn label(key: &str) -> &str {
    match key {
        "defaultRequest" => "default request",
        other => other,
    }
}

/// No lower bound above an upper one.
fn ordered(item: &At<'_, '_>, low: &str, high: &str, out: &mut Findings) {
    let (lows, highs) = (item.child(low), item.child(high));
    for (key, value) in lows.entries() {
        let (Some(a), Some(b)) = (quantity(value.value), quantity(highs.child(key).value)) else { continue };
        if a > b && !same(value.value, highs.child(key).value) {
            let why = format!("{} value {a} is greater than {} value {b}", label(low), label(high));
            out.push(value.invalid(why));
        }
    }
}
