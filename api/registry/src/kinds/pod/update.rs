//! What may change on a Pod once it exists, by subresource.

use std::collections::HashSet;

use navarch_types::field::{FieldError, Path};
use serde_json::{Value, json};

use super::spec;
use crate::kinds::at::{At, same};
use crate::kinds::fill::{drop_field, put, restore};
use crate::kinds::kind::Findings;
use crate::kinds::rules::required;
use crate::strategy::Context;

/// Keeps what this way of updating may not touch.
pub(crate) fn prepare(context: &Context<'_>, object: &mut Value, old: &Value) {
    match context.subresource {
        None => restore(object, old, "status"),
        Some("status") => {
            restore(object, old, "spec");
            keep_quality(object, old);
        }
        Some("ephemeralcontainers") => keep_all_but(object, old, |spec, new| {
            let containers = new["ephemeralContainers"].clone();
            put(spec, "ephemeralContainers", containers);
        }),
        Some("resize") => keep_all_but(object, old, resized),
        Some(_) => {}
    }
}

fn keep_quality(object: &mut Value, old: &Value) {
    if object["status"]["qosClass"].as_str().is_none_or(str::is_empty)
        && let Some(status) = object.get_mut("status")
    {
        restore(status, &old["status"], "qosClass");
    }
}

/// Takes the old spec and status, changed by what `take` takes from the new spec.
fn keep_all_but(object: &mut Value, old: &Value, take: fn(&mut Value, &Value)) {
    let new = object["spec"].clone();
    restore(object, old, "spec");
    restore(object, old, "status");
    if let Some(spec) = object.get_mut("spec") {
        take(spec, &new);
    }
}

fn resized(spec: &mut Value, new: &Value) {
    for list in ["containers", "initContainers"] {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for container in containers {
            let named = |c: &&Value| c["name"] == container["name"];
            if let Some(other) = new[list].as_array().and_then(|l| l.iter().find(named)) {
                let (resources, policy) = (other["resources"].clone(), other["resizePolicy"].clone());
                put(container, "resources", resources);
                if !policy.is_null() {
                    put(container, "resizePolicy", policy);
                }
            }
        }
    }
    if !new["resources"].is_null() {
        put(spec, "resources", new["resources"].clone());
    }
}

/// Rules for an update of the Pod itself.
pub(crate) fn object(_: &Context<'_>, object: &Value, old: &Value, out: &mut Findings) {
    spec::pod(object, out);
    let (new, before) = (At::root(object, "spec"), At::root(old, "spec"));
    for list in ["containers", "initContainers"] {
        let (new, before) = (new.child(list), before.child(list));
        if new.len() != before.len() {
            out.push(new.forbidden("pod updates may not add or remove containers"));
            return;
        }
        for container in new.items() {
            required(&container.child("image"), out);
        }
    }
    active_deadline(&new.child("activeDeadlineSeconds"), &old["spec"]["activeDeadlineSeconds"], out);
    only_added_tolerations(&new.child("tolerations"), &before.child("tolerations"), out);
    only_deleted_gates(&new.child("schedulingGates"), &before.child("schedulingGates"), out);
    let gated = !before.child("schedulingGates").is_empty();
    let mut allowed = with_what_may_change(&object["spec"], &old["spec"]);
    if gated {
        gated_scheduling(&new, &before, &mut allowed, out);
    }
    if !same(&allowed, &old["spec"]) {
        const WHY: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
            `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
            tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        let mut changed = Vec::new();
        differences("spec", &old["spec"], &allowed, &mut changed);
        out.push(new.forbidden(format!("{WHY}\n{}", changed.join("\n"))));
    }
}

fn active_deadline(at: &At<'_, '_>, old: &Value, out: &mut Findings) {
    match (at.int(), old.as_i64()) {
        (Some(new), before) => {
            if !(0..=i64::from(i32::MAX)).contains(&new) {
                out.push(at.invalid(format!("must be between 0 and {}, inclusive", i32::MAX)));
            } else if before.is_some_and(|before| before < new) {
                out.push(at.invalid("must be less than or equal to previous value"));
            }
        }
        (None, Some(_)) => {
            out.push(FieldError::invalid(
                &at.path,
                Value::Null,
                "must not update from a positive integer to nil value",
            ));
        }
        (None, None) => {}
    }
}

fn only_added_tolerations(new: &At<'_, '_>, old: &At<'_, '_>, out: &mut Findings) {
    let bare = |toleration: &Value| {
        let mut toleration = toleration.clone();
        drop_field(&mut toleration, "tolerationSeconds");
        toleration
    };
    let have: Vec<Value> = new.items().map(|t| bare(t.value)).collect();
    for toleration in old.items() {
        let wanted = bare(toleration.value);
        if !have.iter().any(|t| same(t, &wanted)) {
            out.push(new.forbidden("existing toleration can not be modified except its tolerationSeconds"));
            return;
        }
    }
}

fn only_deleted_gates(new: &At<'_, '_>, old: &At<'_, '_>, out: &mut Findings) {
    let before: HashSet<&str> = old.items().map(|g| g.child("name").text()).collect();
    for gate in new.items() {
        let name = gate.child("name").text();
        if !before.contains(name) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            out.push(new.forbidden(why));
        }
    }
}

/// The new spec, with the old values of everything that may change.
fn with_what_may_change(new: &Value, old: &Value) -> Value {
    let mut spec = new.clone();
    for list in ["containers", "initContainers"] {
        let before = old[list].as_array();
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for (container, before) in containers.iter_mut().zip(before.into_iter().flatten()) {
            restore(container, before, "image");
        }
    }
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        restore(&mut spec, old, key);
    }
    let negative = old["terminationGracePeriodSeconds"].as_i64().is_some_and(|s| s < 0);
    if negative && spec["terminationGracePeriodSeconds"] == 1 {
        restore(&mut spec, old, "terminationGracePeriodSeconds");
    }
    spec
}

/// While gates hold a pod back, node selector and required node affinity may be narrowed.
fn gated_scheduling(new: &At<'_, '_>, old: &At<'_, '_>, allowed: &mut Value, out: &mut Findings) {
    let (selector, before) = (new.child("nodeSelector"), old.child("nodeSelector"));
    let mut widened = false;
    for (key, value) in before.entries() {
        if selector.child(key).value != value.value {
            widened = true;
        }
    }
    if widened {
        out.push(selector.invalid("only additions are allowed when pod is gated"));
    }
    restore(allowed, old.value, "nodeSelector");
    let path = Path::root("spec");
    let (affinity, node) = (path.child("affinity"), "nodeAffinity");
    let required_key = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = |spec: &Value| spec["affinity"][node][required_key]["nodeSelectorTerms"].clone();
    let (now_terms, old_terms) = (terms(new.value), terms(old.value));
    let count = |v: &Value| v.as_array().map_or(0, Vec::len);
    if count(&old_terms) > 0 {
        if count(&now_terms) != count(&old_terms) {
            let node_path = affinity.child(node);
            let at = node_path.child(required_key);
            out.push(FieldError::invalid(
                &at.child("nodeSelectorTerms"),
                now_terms,
                "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
            ));
        } else {
            for (now, before) in
                now_terms.as_array().into_iter().flatten().zip(old_terms.as_array().into_iter().flatten())
            {
                narrowed_term(now, before, out);
            }
        }
    }
    put_affinity(allowed, old.value, node, required_key);
}

fn narrowed_term(now: &Value, before: &Value, out: &mut Findings) {
    for key in ["matchExpressions", "matchFields"] {
        let have = now[key].as_array().map_or(&[][..], Vec::as_slice);
        let missing = before[key].as_array().into_iter().flatten().any(|e| !have.iter().any(|h| same(h, e)));
        if missing {
            let path = Path::root("spec");
            let why = "only additions are allowed (no mutations or deletions)";
            let affinity = path.child("affinity");
            let node = affinity.child("nodeAffinity");
            let at = node.child("requiredDuringSchedulingIgnoredDuringExecution");
            out.push(FieldError::invalid(&at.child("nodeSelectorTerms"), now.clone(), why));
        }
    }
}

fn put_affinity(allowed: &mut Value, old: &Value, node: &str, required_key: &str) {
    let before = old["affinity"][node][required_key].clone();
    if let Some(affinity) = allowed.get_mut("affinity").filter(|a| a.is_object()) {
        if affinity.get(node).is_none_or(Value::is_null) {
            put(affinity, node, json!({}));
        }
        if let Some(node) = affinity.get_mut(node) {
            if before.is_null() {
                drop_field(node, required_key);
            } else {
                put(node, required_key, before);
            }
        }
    }
}

/// Which fields differ, one line each.
fn differences(path: &str, old: &Value, new: &Value, out: &mut Vec<String>) {
    const LINES_MAX: usize = 20;
    if same(old, new) || out.len() >= LINES_MAX {
        return;
    }
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let none = Value::Null;
                let (a, b) = (a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none));
                differences(&format!("{path}.{key}"), a, b, out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{i}]"), a, b, out);
            }
        }
        _ => out.push(format!("  {path}: {old} → {new}")),
    }
}

/// Rules for an update of a subresource.
pub(crate) fn subresource(context: &Context<'_>, object: &Value, old: &Value, out: &mut Findings) {
    match context.subresource {
        Some("status") => status(object, old, out),
        Some("ephemeralcontainers") => ephemeral(object, old, out),
        Some("resize") => resize(object, old, out),
        _ => {}
    }
}

fn status(object: &Value, old: &Value, out: &mut Findings) {
    let status = At::root(object, "status");
    crate::kinds::rules::shape(
        &status.child("nominatedNodeName"),
        navarch_types::validate::names::dns1123_subdomain,
        out,
    );
    let quality = status.child("qosClass");
    let before = &old["status"]["qosClass"];
    if !before.is_null() && quality.value != before {
        out.push(quality.invalid(crate::kinds::rules::IMMUTABLE));
    }
    let policy = old["spec"]["restartPolicy"].as_str().unwrap_or("Always");
    for (key, list) in [("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")] {
        stays_ended(&status.child(key), &old["status"][key], &old["spec"][list], policy, out);
    }
    for ip in status.child("podIPs").items() {
        crate::kinds::rules::ip(&ip.child("ip"), out);
    }
}

/// A container that has ended for good does not start again.
fn stays_ended(at: &At<'_, '_>, old: &Value, containers: &Value, pod_policy: &str, out: &mut Findings) {
    for before in old.as_array().into_iter().flatten() {
        let ended = &before["state"]["terminated"];
        if ended.is_null() {
            continue;
        }
        let container = containers.as_array().and_then(|l| l.iter().find(|c| c["name"] == before["name"]));
        let policy = container.and_then(|c| c["restartPolicy"].as_str()).unwrap_or(pod_policy);
        let failed = ended["exitCode"].as_i64() != Some(0);
        if policy == "Always" || (policy == "OnFailure" && failed) {
            continue;
        }
        for now in at.items() {
            let state = now.child("state");
            if now.value["name"] == before["name"] && state.value["terminated"].is_null() {
                out.push(state.forbidden("may not be transitioned to non-terminated state"));
            }
        }
    }
}

fn ephemeral(object: &Value, old: &Value, out: &mut Findings) {
    let spec_at = At::root(object, "spec");
    spec::pod_spec(&spec_at, object["metadata"]["name"].as_str().unwrap_or(""), out);
    let at = spec_at.child("ephemeralContainers");
    for before in old["spec"]["ephemeralContainers"].as_array().into_iter().flatten() {
        let name = before["name"].as_str().unwrap_or("");
        match at.items().find(|c| c.child("name").text() == name) {
            None => out.push(at.forbidden(format!("existing ephemeral containers {name:?} may not be removed\n"))),
            Some(now) if !same(now.value, before) => {
                out.push(at.forbidden(format!("existing ephemeral containers {name:?} may not be changed\n")));
            }
            Some(_) => {}
        }
    }
}

fn resize(object: &Value, old: &Value, out: &mut Findings) {
    spec::pod(object, out);
    let (new, before) = (&object["spec"], &old["spec"]);
    let quality = super::resources::quality_of_service;
    if quality(new) != quality(before) {
        const WHY: &str = "Pod QOS Class may not change as a result of resizing";
        let spec = At::root(object, "spec");
        out.push(FieldError::invalid(&spec.path, quality(new), WHY));
    }
    if matches!(old["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        out.push(At::root(object, "status").child("phase").forbidden("terminated pods may not be resized"));
    }
}
