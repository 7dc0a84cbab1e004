//! Bad Jobs and CronJobs and the exact words about them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use navarch_types::UserInfo;
use serde_json::{Value, json};

use super::*;
use crate::kinds::rules::rendered;
use crate::strategy::Strategy;

fn context(user: &UserInfo) -> Context<'_> {
    Context { user, namespace: "d", subresource: None, now: "2026-01-01T00:00:00Z".parse().unwrap() }
}

fn job_of(spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]}}}});
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    JOB.default(&mut object);
    JOB.prepare_create(&context(&UserInfo::default()), &mut object);
    object
}

#[test]
fn a_job_selects_its_pods_by_uid() {
    let object = job_of(json!({}));
    assert_eq!(object["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}));
    assert_eq!(object["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
    assert_eq!(rendered(&JOB.validate_create(&context(&UserInfo::default()), &object)), Vec::<String>::new());
}

#[test]
fn bad_jobs_are_named() {
    let pod = |policy: &str| json!({"spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]}});
    for (spec, want) in [
        (
            json!({"template": pod("Always")}),
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ),
        (json!({"backoffLimit": -1}), "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0"),
        (
            json!({"completionMode": "Indexed", "parallelism": 1}),
            "spec.completions: Required value: when completion mode is Indexed",
        ),
        (
            json!({"completionMode": "x"}),
            "spec.completionMode: Unsupported value: \"x\": supported values: \"Indexed\", \"NonIndexed\"",
        ),
        (json!({"manualSelector": true}), "spec.selector: Required value"),
        (
            json!({"podFailurePolicy": {"rules": [{"action": "FailJob"}]}}),
            "spec.podFailurePolicy.rules[0]: Invalid value: {\"action\":\"FailJob\"}: specifying one of OnExitCodes and OnPodConditions is required",
        ),
    ] {
        let found = rendered(&JOB.validate_create(&context(&UserInfo::default()), &job_of(spec)));
        assert!(found.iter().any(|f| f == want), "{want}\n{found:#?}");
    }
}

#[test]
fn a_job_changes_little() {
    let old = job_of(json!({"completions": 2}));
    let user = UserInfo::default();
    let update = |change: fn(&mut Value), old: &Value| {
        let mut object = old.clone();
        change(&mut object);
        rendered(&JOB.validate_update(&context(&user), &object, old))
    };
    assert_eq!(update(|o| o["spec"]["parallelism"] = json!(7), &old), Vec::<String>::new());
    assert_eq!(
        update(|o| o["spec"]["completions"] = json!(3), &old),
        ["spec.completions: Invalid value: 3: field is immutable"]
    );
    let selector = |o: &mut Value| o["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"});
    let found = update(selector, &old);
    assert!(
        found[0].starts_with("spec.template: Invalid value: ") && found[0].ends_with(": field is immutable"),
        "{found:?}"
    );
    let suspended = job_of(json!({"suspend": true}));
    assert_eq!(update(selector, &suspended), Vec::<String>::new());
}

#[test]
fn bad_cron_jobs_are_named() {
    let job = json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    for (spec, want) in [
        (json!({"schedule": "* * * * *"}), None),
        (json!({}), Some("spec.schedule: Required value")),
        (
            json!({"schedule": "TZ=UTC * * * * *"}),
            Some(
                "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            ),
        ),
        (
            json!({"schedule": "a * * * *"}),
            Some("spec.schedule: Invalid value: \"a * * * *\": failed to parse int from a: invalid syntax"),
        ),
        (
            json!({"schedule": "@daily", "concurrencyPolicy": "x"}),
            Some(
                "spec.concurrencyPolicy: Unsupported value: \"x\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ),
        ),
        (
            json!({"schedule": "@daily", "timeZone": "Local"}),
            Some(
                "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            ),
        ),
    ] {
        let mut object = json!({"metadata": {"name": "c"}, "spec": spec});
        object["spec"]["jobTemplate"] = job.clone();
        CRON_JOB.default(&mut object);
        let found = rendered(&CRON_JOB.validate_create(&context(&UserInfo::default()), &object));
        assert_eq!(found.first().map(String::as_str), want);
    }
    assert_eq!(CRON_JOB.validate_name(&"a".repeat(53), false), ["must be no more than 52 characters"]);
}

#[test]
fn rows() {
    let now = "2026-01-01T00:02:05Z".parse().unwrap();
    let object = json!({"metadata": {"name": "j"}, "spec": {"parallelism": 3},
        "status": {"succeeded": 1, "startTime": "2026-01-01T00:00:00Z"}});
    let row = JOB.row(&object, now);
    assert_eq!(row[..4], [json!("j"), json!("Running"), json!("1/1 of 3"), json!("2m5s")]);
    assert_eq!((row.len(), CRON_JOB.row(&object, now).len()), (JOB.columns.len(), CRON_JOB.columns.len()));
}
