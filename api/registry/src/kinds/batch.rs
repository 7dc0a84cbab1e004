//! Jobs and CronJobs.

mod columns;
mod cron;
mod policies;

use navarch_types::field::FieldError;
use navarch_types::validate::names;
use serde_json::Value;

use super::apps::{defaults, matches_template};
use super::at::{At, same};
use super::fill::{ensure, fill, put, restore};
use super::kind::{Findings, Kind};
use super::pod::spec::template;
use super::rules::{IMMUTABLE, immutable, label_selector, non_negative, one_of, required, selector_matches};
use crate::strategy::{Context, SelectableField};

/// Labels that tie pods to their Job, in their new and old spelling.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// Jobs.
pub(crate) static JOB: Kind = Kind {
    default: defaults::job,
    prepare_create: |_, object| generate_selector(object),
    create: |_, object, out| job(object, out),
    update: Some(job_update),
    status_update: |_, object, _, out| {
        let status = At::root(object, "status");
        for key in ["active", "succeeded", "failed", "ready", "terminating"] {
            non_negative(&status.child(key), out);
        }
    },
    orphans: true,
    selectable: &[SelectableField { name: "status.successful", path: &["status", "succeeded"], absent: "0" }],
    columns: columns::JOB,
    row: columns::job,
    ..Kind::FULL
};

/// Makes the selector from the object's uid, unless the user takes care of it. The uid is there before strategies are
/// asked; without one there is nothing to select by.
fn generate_selector(object: &mut Value) {
    if object["spec"]["manualSelector"] == true {
        return;
    }
    let (Some(uid), Some(name)) =
        (object["metadata"]["uid"].as_str().map(str::to_owned), object["metadata"]["name"].as_str().map(str::to_owned))
    else {
        return;
    };
    let Some(spec) = ensure(object, "spec") else { return };
    if let Some(labels) = ensure(spec, "template").and_then(|t| ensure(t, "metadata")).and_then(|m| ensure(m, "labels"))
    {
        for label in NAME_LABELS {
            put(labels, label, name.clone());
        }
        for label in UID_LABELS {
            put(labels, label, uid.clone());
        }
    }
    if let Some(labels) = ensure(spec, "selector").and_then(|s| ensure(s, "matchLabels")) {
        fill(labels, UID_LABELS[0], uid);
    }
}

fn job(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    job_spec(&spec, out);
    let selector = spec.child("selector");
    if selector.is_set() {
        label_selector(&selector, out);
        let pod = spec.child("template");
        matches_template(&pod, selector_matches(selector.value, &pod.value["metadata"]["labels"]), out);
    } else {
        out.push(selector.required(""));
    }
}

/// Pods of an indexed Job: more cannot be tracked.
const INDEXED_PARALLELISM_MAX: i64 = 100_000;

fn job_spec(spec: &At<'_, '_>, out: &mut Findings) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        non_negative(&spec.child(key), out);
    }
    let (mode, completions) = (spec.child("completionMode"), spec.child("completions"));
    one_of(&mode, &["Indexed", "NonIndexed"], out);
    let indexed = mode.text() == "Indexed";
    if indexed {
        if !completions.is_set() {
            out.push(completions.required("when completion mode is Indexed"));
        }
        let parallelism = spec.child("parallelism");
        if parallelism.int_or_zero() > INDEXED_PARALLELISM_MAX {
            let why =
                format!("must be less than or equal to {INDEXED_PARALLELISM_MAX} when completion mode is Indexed");
            out.push(parallelism.invalid(why));
        }
    }
    let per_index = spec.child("backoffLimitPerIndex");
    if per_index.is_set() && !indexed {
        out.push(per_index.invalid("requires indexed completion mode"));
    }
    let failed = spec.child("maxFailedIndexes");
    if failed.is_set() && !per_index.is_set() {
        out.push(per_index.required("when maxFailedIndexes is specified"));
    }
    let manager = spec.child("managedBy");
    if !manager.is_empty() && (!manager.text().contains('/') || !names::qualified_name(manager.text()).is_empty()) {
        out.push(manager.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")"));
    }
    policies::failure(&spec.child("podFailurePolicy"), spec.value, out);
    policies::success(&spec.child("successPolicy"), indexed, out);
    one_of(&spec.child("podReplacementPolicy"), &["Failed", "TerminatingOrFailed"], out);
    let pod = spec.child("template");
    template(&pod, out);
    let pod_spec = pod.child("spec");
    let policy = pod_spec.child("restartPolicy");
    match policy.text() {
        "OnFailure" | "Never" => {}
        "" | "Always" => out.push(policy.required("valid values: \"OnFailure\", \"Never\"")),
        _ => out.push(policy.not_supported(&["OnFailure", "Never"])),
    }
}

fn job_update(_: &Context<'_>, object: &Value, old: &Value, out: &mut Findings) {
    job(object, out);
    let (spec, before) = (At::root(object, "spec"), &old["spec"]);
    let completions = spec.child("completions");
    if !same(completions.value, &before["completions"]) {
        let indexed = object["spec"]["completionMode"] == "Indexed";
        let elastic = same(completions.value, &object["spec"]["parallelism"])
            && same(&before["completions"], &before["parallelism"]);
        if !indexed {
            out.push(completions.invalid(IMMUTABLE));
        } else if !elastic {
            out.push(completions.invalid("can only be modified in tandem with spec.parallelism"));
        }
    }
    for key in ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        immutable(&spec.child(key), &before[key], out);
    }
    let pod = spec.child("template");
    let mut allowed = object["spec"]["template"].clone();
    let unstarted = before["suspend"] == true && old["status"]["startTime"].is_null();
    if unstarted {
        let was = &before["template"];
        if let Some(metadata) = allowed.get_mut("metadata") {
            restore(metadata, &was["metadata"], "labels");
            restore(metadata, &was["metadata"], "annotations");
        }
        if let Some(pod_spec) = allowed.get_mut("spec") {
            for key in ["nodeSelector", "tolerations", "affinity", "schedulingGates"] {
                restore(pod_spec, &was["spec"], key);
            }
        }
    }
    if !same(&allowed, &before["template"]) {
        out.push(pod.invalid(IMMUTABLE));
    }
}

/// The longest name that leaves room for what is appended to make the names of Jobs.
const CRON_JOB_NAME_BYTES_MAX: usize = 52;

/// CronJobs.
pub(crate) static CRON_JOB: Kind = Kind {
    default: defaults::cron_job,
    create: |_, object, out| cron_job(object, out),
    update: Some(|_, object, _, out| cron_job(object, out)),
    name: |name, prefix| {
        let mut wrong = names::name_is_dns_subdomain(name, prefix);
        if name.len() > CRON_JOB_NAME_BYTES_MAX {
            wrong.push("must be no more than 52 characters".to_owned());
        }
        wrong
    },
    columns: columns::CRON_JOB,
    row: columns::cron_job,
    ..Kind::FULL
};

fn cron_job(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    let schedule = spec.child("schedule");
    if required(&schedule, out) {
        if schedule.text().contains("TZ") {
            out.push(schedule.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead"));
        } else if let Err(why) = cron::check(schedule.text()) {
            out.push(schedule.invalid(why));
        }
    }
    let zone = spec.child("timeZone");
    if zone.is_set() {
        if zone.is_empty() {
            out.push(zone.invalid("timeZone must be nil or non-empty string"));
        } else if zone.text().eq_ignore_ascii_case("local") {
            out.push(
                zone.invalid("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"),
            );
        } else if jiff::tz::TimeZone::get(zone.text()).is_err() {
            out.push(zone.invalid(format!("unknown time zone {}", zone.text())));
        }
    }
    non_negative(&spec.child("startingDeadlineSeconds"), out);
    one_of(&spec.child("concurrencyPolicy"), &["Allow", "Forbid", "Replace"], out);
    non_negative(&spec.child("successfulJobsHistoryLimit"), out);
    non_negative(&spec.child("failedJobsHistoryLimit"), out);
    let job = spec.child("jobTemplate");
    let mut template_spec = job.value["spec"].clone();
    // What Jobs get when they are made is checked then.
    fill(&mut template_spec, "completionMode", "NonIndexed");
    fill(&mut template_spec, "podReplacementPolicy", "TerminatingOrFailed");
    let at = At { value: &template_spec, path: job.path.child("spec") };
    job_spec(&at, out);
    let manual = at.child("manualSelector");
    if manual.is_true() {
        out.push(FieldError::not_supported(&manual.path, true, &["nil", "false"]));
    }
}

#[cfg(test)]
mod tests;
