//! The workload kinds: what keeps pods running. Their rules; defaults and columns are in the modules below.

mod columns;
pub(crate) mod defaults;
mod sets;

pub(crate) use sets::{CONTROLLER_REVISION, DAEMON_SET, REPLICA_SET, REPLICATION_CONTROLLER, STATEFUL_SET};

use navarch_types::field::FieldError;
use serde_json::Value;

use super::at::{At, same};
use super::kind::{Findings, Kind};
use super::pod::spec::template;
use super::rules::{
    immutable, int_or_percent, label_selector, non_negative, not_above_100_percent, percent, selector_is_empty,
    selector_matches,
};
use crate::strategy::Context;

/// Deployments.
pub(crate) static DEPLOYMENT: Kind = Kind {
    default: defaults::deployment,
    create: |_, object, out| deployment(object, out),
    update: Some(|_, object, old, out| {
        deployment(object, out);
        let spec = At::root(object, "spec");
        immutable(&spec.child("selector"), &old["spec"]["selector"], out);
    }),
    status_update: deployment_status,
    // Controllers look at annotations of a Deployment too.
    generation_changes: |object, old| {
        !same(&object["spec"], &old["spec"])
            || !same(&object["metadata"]["annotations"], &old["metadata"]["annotations"])
    },
    columns: columns::DEPLOYMENT,
    row: columns::deployment,
    ..Kind::FULL
};

fn deployment(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    non_negative(&spec.child("replicas"), out);
    selector_and_template(&spec, "deployment", "ReplicaSet", out);
    strategy(&spec.child("strategy"), out);
    let ready_seconds = spec.child("minReadySeconds");
    non_negative(&ready_seconds, out);
    non_negative(&spec.child("revisionHistoryLimit"), out);
    let deadline = spec.child("progressDeadlineSeconds");
    non_negative(&deadline, out);
    if deadline.int().is_some_and(|seconds| seconds <= ready_seconds.int_or_zero()) {
        out.push(deadline.invalid("must be greater than minReadySeconds"));
    }
}

/// A selector that is there, selects something in particular, and selects the template's pods.
pub(crate) fn selector_and_template(spec: &At<'_, '_>, what: &str, owner: &str, out: &mut Findings) {
    let selector = spec.child("selector");
    let before = out.len();
    if selector.is_set() {
        label_selector(&selector, out);
        if selector_is_empty(selector.value) {
            out.push(selector.invalid(format!("empty selector is invalid for {what}")));
        }
    } else {
        out.push(selector.required(""));
    }
    let understood = out.len() == before;
    let pod = spec.child("template");
    if understood {
        matches_template(&pod, selector_matches(selector.value, &pod.value["metadata"]["labels"]), out);
    }
    long_running_template(&pod, owner, out);
}

/// The finding on a template that its owner does not select.
pub(crate) fn matches_template(pod: &At<'_, '_>, matches: bool, out: &mut Findings) {
    if !matches {
        let metadata = pod.child("metadata");
        out.push(metadata.child("labels").invalid("`selector` does not match template `labels`"));
    }
}

/// Rules for a template whose pods run until somebody ends them.
pub(crate) fn long_running_template(pod: &At<'_, '_>, owner: &str, out: &mut Findings) {
    if !pod.is_set() {
        out.push(pod.required(""));
        return;
    }
    template(pod, out);
    let spec = pod.child("spec");
    let policy = spec.child("restartPolicy");
    if policy.text() != "Always" {
        out.push(policy.not_supported(&["Always"]));
    }
    let deadline = spec.child("activeDeadlineSeconds");
    if deadline.is_set() {
        out.push(deadline.forbidden(format!("activeDeadlineSeconds in {owner} is not Supported")));
    }
}

fn strategy(at: &At<'_, '_>, out: &mut Findings) {
    let rolling = at.child("rollingUpdate");
    match at.child("type").text() {
        "Recreate" => {
            if rolling.is_set() {
                out.push(rolling.forbidden("may not be specified when strategy `type` is 'Recreate'"));
            }
        }
        "RollingUpdate" => {
            if rolling.is_set() {
                rolling_update(&rolling, out);
            } else {
                out.push(rolling.required("this should be defaulted and never be nil"));
            }
        }
        _ => out.push(FieldError::not_supported(&at.path, at.value.clone(), &["Recreate", "RollingUpdate"])),
    }
}

fn rolling_update(at: &At<'_, '_>, out: &mut Findings) {
    let (unavailable, surge) = (at.child("maxUnavailable"), at.child("maxSurge"));
    int_or_percent(&unavailable, out);
    int_or_percent(&surge, out);
    if is_zero(unavailable.value) && is_zero(surge.value) {
        out.push(unavailable.invalid("may not be 0 when `maxSurge` is 0"));
    }
    not_above_100_percent(&unavailable, out);
}

/// Whether a count or percentage is none at all.
fn is_zero(value: &Value) -> bool {
    value.is_null() || value.as_i64() == Some(0) || percent(value) == Some(0)
}

const ABOVE_REPLICAS: &str = "cannot be greater than status.replicas";

/// Numbers of a status that are not negative, nor above the number of replicas.
fn status_numbers(status: &At<'_, '_>, keys: &[&str], out: &mut Findings) {
    let total = status.child("replicas");
    non_negative(&total, out);
    for key in keys {
        let number = status.child(key);
        non_negative(&number, out);
        if number.int_or_zero() > total.int_or_zero() {
            out.push(number.invalid(ABOVE_REPLICAS));
        }
    }
    let (ready, available) = (status.child("readyReplicas"), status.child("availableReplicas"));
    if available.int_or_zero() > ready.int_or_zero() {
        out.push(available.invalid("cannot be greater than readyReplicas"));
    }
}

fn deployment_status(_: &Context<'_>, object: &Value, old: &Value, out: &mut Findings) {
    let status = At::root(object, "status");
    status_numbers(&status, &["updatedReplicas", "readyReplicas", "availableReplicas"], out);
    non_negative(&status.child("unavailableReplicas"), out);
    non_negative(&status.child("observedGeneration"), out);
    collision_count(&status.child("collisionCount"), &old["status"]["collisionCount"], out);
}

/// A count of name collisions only grows.
fn collision_count(at: &At<'_, '_>, old: &Value, out: &mut Findings) {
    non_negative(at, out);
    if let Some(before) = old.as_i64() {
        let now = at.int_or_zero();
        if now < before {
            out.push(FieldError::invalid(&at.path, now, "cannot be decremented"));
        }
    }
}

#[cfg(test)]
mod tests;
