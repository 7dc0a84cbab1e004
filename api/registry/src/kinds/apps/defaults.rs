//! Defaults of the workload kinds.

use serde_json::Value;

use crate::kinds::fill::{down, drop_field, each, ensure, fill, fill_zero, within};
use crate::kinds::pod::defaults::template;

fn pod_template(spec: &mut Value) {
    if let Some(pod) = within(spec, "template") {
        template(pod);
    }
}

/// Fills in a Deployment.
pub(crate) fn deployment(object: &mut Value) {
    let Some(spec) = within(object, "spec") else { return };
    fill(spec, "replicas", 1);
    if let Some(strategy) = ensure(spec, "strategy") {
        fill_zero(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = ensure(strategy, "rollingUpdate")
        {
            fill(rolling, "maxUnavailable", "25%");
            fill(rolling, "maxSurge", "25%");
        }
    }
    fill(spec, "revisionHistoryLimit", 10);
    fill(spec, "progressDeadlineSeconds", 600);
    pod_template(spec);
}

/// Fills in a ReplicaSet.
pub(crate) fn replica_set(object: &mut Value) {
    let Some(spec) = within(object, "spec") else { return };
    fill(spec, "replicas", 1);
    pod_template(spec);
}

/// Fills in a ReplicationController: selector and labels come from the template.
pub(crate) fn replication_controller(object: &mut Value) {
    let Some(spec) = within(object, "spec") else { return };
    fill(spec, "replicas", 1);
    pod_template(spec);
    let labels = spec["template"]["metadata"]["labels"].clone();
    let empty = |v: &Value| v.as_object().is_none_or(serde_json::Map::is_empty);
    if !empty(&labels) {
        if empty(&spec["selector"]) {
            drop_field(spec, "selector");
            fill(spec, "selector", labels.clone());
        }
        if let Some(metadata) = ensure(object, "metadata")
            && empty(&metadata["labels"])
        {
            drop_field(metadata, "labels");
            fill(metadata, "labels", labels);
        }
    }
}

/// Fills in a StatefulSet.
pub(crate) fn stateful_set(object: &mut Value) {
    let Some(spec) = within(object, "spec") else { return };
    fill_zero(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = ensure(spec, "updateStrategy") {
        fill_zero(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = ensure(strategy, "rollingUpdate")
        {
            fill(rolling, "partition", 0);
        }
    }
    if let Some(retention) = ensure(spec, "persistentVolumeClaimRetentionPolicy") {
        fill_zero(retention, "whenDeleted", "Retain");
        fill_zero(retention, "whenScaled", "Retain");
    }
    fill(spec, "replicas", 1);
    fill(spec, "revisionHistoryLimit", 10);
    each(spec, "volumeClaimTemplates", |claim| {
        fill_zero(claim, "apiVersion", "v1");
        fill_zero(claim, "kind", "PersistentVolumeClaim");
        if let Some(spec) = within(claim, "spec") {
            fill(spec, "volumeMode", "Filesystem");
        }
        if let Some(status) = ensure(claim, "status") {
            fill_zero(status, "phase", "Pending");
        }
    });
    pod_template(spec);
}

/// Fills in a DaemonSet.
pub(crate) fn daemon_set(object: &mut Value) {
    let Some(spec) = within(object, "spec") else { return };
    if let Some(strategy) = ensure(spec, "updateStrategy") {
        fill_zero(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = ensure(strategy, "rollingUpdate")
        {
            fill(rolling, "maxUnavailable", 1);
            fill(rolling, "maxSurge", 0);
        }
    }
    fill(spec, "revisionHistoryLimit", 10);
    pod_template(spec);
}

/// Fills in a Job. Labels come from the template, as upstream has it.
pub(crate) fn job(object: &mut Value) {
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    if labels.as_object().is_some_and(|l| !l.is_empty())
        && let Some(metadata) = ensure(object, "metadata")
        && metadata["labels"].as_object().is_none_or(serde_json::Map::is_empty)
    {
        drop_field(metadata, "labels");
        fill(metadata, "labels", labels);
    }
    if let Some(spec) = within(object, "spec") {
        job_spec(spec);
    }
}

fn job_spec(spec: &mut Value) {
    let unset = |spec: &Value, key: &str| spec[key].is_null();
    if unset(spec, "completions") && unset(spec, "parallelism") {
        fill(spec, "completions", 1);
        fill(spec, "parallelism", 1);
    }
    fill(spec, "parallelism", 1);
    let per_index = !unset(spec, "backoffLimitPerIndex");
    fill(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    let has_policy = !unset(spec, "podFailurePolicy");
    fill(spec, "podReplacementPolicy", if has_policy { "Failed" } else { "TerminatingOrFailed" });
    if unset(spec, "manualSelector") {
        fill(spec, "manualSelector", false);
    }
    if let Some(policy) = within(spec, "podFailurePolicy") {
        each(policy, "rules", |rule| {
            each(rule, "onPodConditions", |condition| fill_zero(condition, "status", "True"));
        });
    }
    pod_template(spec);
}

/// Fills in a CronJob.
pub(crate) fn cron_job(object: &mut Value) {
    let Some(spec) = within(object, "spec") else { return };
    fill_zero(spec, "concurrencyPolicy", "Allow");
    fill(spec, "suspend", false);
    fill(spec, "successfulJobsHistoryLimit", 3);
    fill(spec, "failedJobsHistoryLimit", 1);
    if let Some(job) = down(spec, &["jobTemplate", "spec"]) {
        pod_template(job);
    }
}

/// Fills in a PodTemplate.
pub(crate) fn pod_template_object(object: &mut Value) {
    if let Some(pod) = within(object, "template") {
        template(pod);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_absent_is_filled_in() {
        let cases: [(fn(&mut Value), Value, Value); 6] = [
            (
                deployment,
                json!({"spec": {}}),
                json!({"replicas": 1, "strategy": {"type": "RollingUpdate", "rollingUpdate":
                    {"maxUnavailable": "25%", "maxSurge": "25%"}}, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}),
            ),
            (
                deployment,
                json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}, "revisionHistoryLimit": 0, "progressDeadlineSeconds": 1}}),
                json!({"replicas": 0, "strategy": {"type": "Recreate"}, "revisionHistoryLimit": 0, "progressDeadlineSeconds": 1}),
            ),
            (
                stateful_set,
                json!({"spec": {}}),
                json!({"replicas": 1, "podManagementPolicy": "OrderedReady", "revisionHistoryLimit": 10,
                    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
                    "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"}}),
            ),
            (
                daemon_set,
                json!({"spec": {}}),
                json!({"revisionHistoryLimit": 10,
                    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}}),
            ),
            (
                job,
                json!({"spec": {}}),
                json!({"completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
                    "suspend": false, "podReplacementPolicy": "TerminatingOrFailed", "manualSelector": false}),
            ),
            (
                replication_controller,
                json!({"metadata": {}, "spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}),
                json!({"replicas": 1, "selector": {"a": "b"}, "template": {"metadata": {"labels": {"a": "b"}}}}),
            ),
        ];
        for (default, mut object, want) in cases {
            default(&mut object);
            assert_eq!(object["spec"], want);
            let once = object.clone();
            default(&mut object);
            assert_eq!(object, once);
        }
    }
}
