//! What `kubectl get` shows of Jobs and CronJobs.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::cells::{
    NONE, age_cell, condition_is_true, containers, list, name, number, selector, since, text, text_or, timestamp,
};
use crate::kinds::kind::{AGE, NAME, column, wide};
use crate::strategy::{Column, human_duration};

const CONTAINERS: Column = wide("Containers", "string", "Names of the template's containers");
const IMAGES: Column = wide("Images", "string", "Images of the template's containers");
const SELECTOR: Column = wide("Selector", "string", "Labels of the pods");

/// Jobs.
pub(super) const JOB: &[Column] = &[
    NAME,
    column("Status", "string", "How the job stands"),
    column("Completions", "string", "How many pods have succeeded, of how many"),
    column("Duration", "string", "How long it has run, or ran"),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

/// Jobs.
pub(super) fn job(object: &Value, now: Timestamp) -> Vec<Value> {
    let (names, images) = containers(&object["spec"]["template"]["spec"]);
    vec![
        name(object),
        status(object).into(),
        completions(object).into(),
        duration(object, now).into(),
        age_cell(object, now),
        names,
        images,
        selector(&object["spec"]["selector"]).into(),
    ]
}

fn status(object: &Value) -> &'static str {
    let is = |kind: &str| condition_is_true(object, kind);
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if !object["metadata"]["deletionTimestamp"].is_null() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(object: &Value) -> String {
    let succeeded = number(object, &["status", "succeeded"]);
    match (object["spec"]["completions"].as_i64(), number(object, &["spec", "parallelism"])) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(object: &Value, now: Timestamp) -> String {
    let Some(start) = timestamp(&object["status"]["startTime"]) else { return String::new() };
    let end = timestamp(&object["status"]["completionTime"]).unwrap_or(now);
    human_duration(end.as_second() - start.as_second())
}

/// CronJobs.
pub(super) const CRON_JOB: &[Column] = &[
    NAME,
    column("Schedule", "string", "When jobs are made"),
    column("Timezone", "string", "Where the schedule's times are meant"),
    column("Suspend", "boolean", "Whether no jobs are made for now"),
    column("Active", "integer", "How many jobs run"),
    column("Last Schedule", "string", "When a job was made last"),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

/// CronJobs.
pub(super) fn cron_job(object: &Value, now: Timestamp) -> Vec<Value> {
    let last = &object["status"]["lastScheduleTime"];
    let (names, images) = containers(&object["spec"]["jobTemplate"]["spec"]["template"]["spec"]);
    vec![
        name(object),
        text(object, &["spec", "schedule"]).into(),
        text_or(object, &["spec", "timeZone"], NONE).into(),
        if object["spec"]["suspend"] == true { "True" } else { "False" }.into(),
        list(object, &["status", "active"]).len().into(),
        if last.is_null() { NONE.to_owned() } else { since(last, now) }.into(),
        age_cell(object, now),
        names,
        images,
        selector(&object["spec"]["jobTemplate"]["spec"]["selector"]).into(),
    ]
}
