//! A Deployment's status and conditions. Pure: the caller brings the time.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::rolling::Limits;

pub(super) const PROGRESSING: &str = "Progressing";
pub(super) const AVAILABLE: &str = "Available";
pub(super) const REPLICA_FAILURE: &str = "ReplicaFailure";

pub(super) const NEW_RS_CREATED: &str = "NewReplicaSetCreated";
pub(super) const FOUND_NEW_RS: &str = "FoundNewReplicaSet";
pub(super) const NEW_RS_AVAILABLE: &str = "NewReplicaSetAvailable";
pub(super) const RS_UPDATED: &str = "ReplicaSetUpdated";
pub(super) const FAILED_CREATE: &str = "ReplicaSetCreateError";
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub(super) const PAUSED: &str = "DeploymentPaused";
pub(super) const RESUMED: &str = "DeploymentResumed";

/// `Time` without the part of a second that the API does not keep.
pub(super) fn seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

pub(super) fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(seconds(now)),
        last_transition_time: Some(seconds(now)),
    }
}

pub(super) fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind)
}

pub(super) fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_ != kind);
    }
}

/// Sets a condition, unless one of the same status and reason is there; the transition time moves with the status only.
pub(super) fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    let old = find(status, &new.type_);
    if let Some(old) = old {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time.clone_from(&old.last_transition_time);
        }
    }
    remove(status, &new.type_);
    status.conditions.get_or_insert_default().push(new);
}

/// `spec.progressDeadlineSeconds`, unless it means none.
pub(super) fn progress_deadline(deployment: &Deployment) -> Option<i32> {
    deployment.spec.as_ref()?.progress_deadline_seconds.filter(|s| *s != i32::MAX)
}

pub(super) fn desired(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

fn number(of: &ReplicaSet, field: impl Fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> Option<i32>) -> i32 {
    of.status.as_ref().and_then(field).unwrap_or(0)
}

pub(super) fn spec_replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

pub(super) fn actual_replicas(set: &ReplicaSet) -> i32 {
    number(set, |s| Some(s.replicas))
}

pub(super) fn available_replicas(set: &ReplicaSet) -> i32 {
    number(set, |s| s.available_replicas)
}

/// The numbers, and the Available condition, of what was observed. Other conditions are those of `base`.
pub(super) fn observed(
    deployment: &Deployment,
    base: &DeploymentStatus,
    limits: &Limits,
    new: Option<&ReplicaSet>,
    all: &[&ReplicaSet],
    now: Timestamp,
) -> DeploymentStatus {
    let sum = |f: &dyn Fn(&ReplicaSet) -> i32| -> i32 { all.iter().map(|set| f(set)).sum() };
    let available = sum(&available_replicas);
    let wanted = sum(&spec_replicas);
    let nonzero = |n: i32| Some(n).filter(|n| *n != 0);
    let terminating: Option<i32> = all.iter().map(|s| s.status.as_ref().and_then(|s| s.terminating_replicas)).sum();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: nonzero(sum(&actual_replicas)),
        updated_replicas: nonzero(new.map_or(0, actual_replicas)),
        ready_replicas: nonzero(sum(&|set| number(set, |s| s.ready_replicas))),
        available_replicas: nonzero(available),
        unavailable_replicas: nonzero((wanted - available).max(0)),
        terminating_replicas: terminating,
        collision_count: base.collision_count,
        conditions: base.conditions.clone(),
    };
    let enough = available >= limits.desired - limits.unavailable;
    let (is, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status, condition(AVAILABLE, is, reason, message.to_owned(), now));
    status
}

/// Whether the rollout is done.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let desired = desired(deployment);
    status.updated_replicas.unwrap_or(0) == desired
        && status.replicas.unwrap_or(0) == desired
        && status.available_replicas.unwrap_or(0) == desired
        && status.observed_generation >= deployment.metadata.generation
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let number = |n: Option<i32>| n.unwrap_or(0);
    let outdated = |s: &DeploymentStatus| number(s.replicas) - number(s.updated_replicas);
    number(new.updated_replicas) > number(old.updated_replicas)
        || outdated(new) < outdated(old)
        || number(new.ready_replicas) > number(old.ready_replicas)
        || number(new.available_replicas) > number(old.available_replicas)
}

fn has_timed_out(deadline: i32, status: &DeploymentStatus, now: Timestamp) -> bool {
    let Some(progressing) = find(status, PROGRESSING) else { return false };
    match progressing.reason.as_deref() {
        Some(NEW_RS_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => progressing.last_update_time.as_ref().is_some_and(|from| {
            from.0.checked_add(SignedDuration::from_secs(deadline.into())).is_ok_and(|end| end < now)
        }),
    }
}

/// Judges the progress of a rollout: `old` is the stored status, `status` the observed one.
pub(super) fn judge_progress(
    deployment: &Deployment,
    old: &DeploymentStatus,
    status: &mut DeploymentStatus,
    new: Option<&ReplicaSet>,
    all: &[&ReplicaSet],
    now: Timestamp,
) {
    let deadline = progress_deadline(deployment);
    if deadline.is_none() {
        remove(status, PROGRESSING);
    }
    let current = find(status, PROGRESSING).cloned();
    let settled = status.replicas.unwrap_or(0) == status.updated_replicas.unwrap_or(0)
        && current.as_ref().is_some_and(|c| c.reason.as_deref() == Some(NEW_RS_AVAILABLE));
    if let Some(deadline) = deadline
        && !settled
    {
        let subject = match new.and_then(|set| set.metadata.name.as_deref()) {
            Some(name) => format!("ReplicaSet {name:?}"),
            None => format!("Deployment {:?}", deployment.metadata.name.as_deref().unwrap_or_default()),
        };
        if is_complete(deployment, status) {
            let message = format!("{subject} has successfully progressed.");
            set(status, condition(PROGRESSING, "True", NEW_RS_AVAILABLE, message, now));
        } else if has_progressed(old, status)
            // A rollout whose beginning was not written, because somebody else wrote first: its deadline counts from now.
            || current.as_ref().is_some_and(|c| c.reason.as_deref() == Some(NEW_RS_AVAILABLE))
        {
            let mut progress = condition(PROGRESSING, "True", RS_UPDATED, format!("{subject} is progressing."), now);
            if let Some(current) = current.filter(|c| c.status == "True") {
                progress.last_transition_time = current.last_transition_time;
            }
            // Replaced even if nothing but its time changes: the deadline counts from the latest progress.
            remove(status, PROGRESSING);
            set(status, progress);
        } else if has_timed_out(deadline, status, now) {
            let message = format!("{subject} has timed out progressing.");
            set(status, condition(PROGRESSING, "False", TIMED_OUT, message, now));
        }
    }
    match replica_failure(new, all) {
        Some((reason, message, is)) => set(status, condition(REPLICA_FAILURE, &is, &reason, message, now)),
        None => remove(status, REPLICA_FAILURE),
    }
}

fn replica_failure(new: Option<&ReplicaSet>, all: &[&ReplicaSet]) -> Option<(String, String, String)> {
    new.into_iter().chain(all.iter().copied()).find_map(|set| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        let failure = conditions.iter().find(|c| c.type_ == REPLICA_FAILURE)?;
        let text = |o: &Option<String>| o.clone().unwrap_or_default();
        Some((text(&failure.reason), text(&failure.message), failure.status.clone()))
    })
}

/// In how many seconds the progress deadline has to be looked at again.
pub(super) fn recheck_after(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<SignedDuration> {
    let deadline = progress_deadline(deployment)?;
    let progressing = find(status, PROGRESSING)?;
    if is_complete(deployment, status) || progressing.reason.as_deref() == Some(TIMED_OUT) {
        return None;
    }
    let end = progressing.last_update_time.as_ref()?.0.checked_add(SignedDuration::from_secs(deadline.into())).ok()?;
    Some(end.duration_since(now).max(SignedDuration::ZERO) + SignedDuration::from_secs(1))
}

/// The Progressing condition of a Deployment that was paused or resumed.
pub(super) fn pause_condition(deployment: &Deployment, status: &mut DeploymentStatus, now: Timestamp) {
    if progress_deadline(deployment).is_none() {
        return;
    }
    let reason = find(status, PROGRESSING).and_then(|c| c.reason.as_deref());
    if reason == Some(TIMED_OUT) {
        return;
    }
    let paused = deployment.spec.as_ref().and_then(|s| s.paused).unwrap_or(false);
    match (paused, reason == Some(PAUSED)) {
        (true, false) => set(status, condition(PROGRESSING, "Unknown", PAUSED, "Deployment is paused".into(), now)),
        (false, true) => set(status, condition(PROGRESSING, "Unknown", RESUMED, "Deployment is resumed".into(), now)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn deployment(deadline: Option<i32>, paused: bool) -> Deployment {
        serde_json::from_value(json!({"metadata": {"name": "web", "generation": 2},
            "spec": {"replicas": 3, "paused": paused, "progressDeadlineSeconds": deadline, "selector": {}, "template": {}}}))
        .unwrap()
    }

    fn set_of(spec: i32, ready: i32) -> ReplicaSet {
        serde_json::from_value(json!({"metadata": {"name": "web-1"}, "spec": {"replicas": spec, "selector": {}},
            "status": {"replicas": spec, "readyReplicas": ready, "availableReplicas": ready, "terminatingReplicas": 1}}))
        .unwrap()
    }

    fn judge(d: &Deployment, old: &DeploymentStatus, set: &ReplicaSet, second: i64) -> DeploymentStatus {
        let limits = Limits { desired: 3, surge: 1, unavailable: 0 };
        let mut status = observed(d, old, &limits, Some(set), &[set], at(second));
        judge_progress(d, old, &mut status, Some(set), &[set], at(second));
        status
    }

    fn reason(status: &DeploymentStatus) -> Option<&str> {
        find(status, PROGRESSING).and_then(|c| c.reason.as_deref())
    }

    #[test]
    fn a_rollout_progresses_stalls_and_recovers() {
        let d = deployment(Some(10), false);
        let mut start = DeploymentStatus::default();
        set(&mut start, condition(PROGRESSING, "True", NEW_RS_CREATED, "made".into(), at(0)));
        let one = judge(&d, &start, &set_of(3, 1), 1);
        assert_eq!(reason(&one), Some(RS_UPDATED));
        assert_eq!((one.unavailable_replicas, one.terminating_replicas), (Some(2), Some(1)));
        assert_eq!(find(&one, AVAILABLE).unwrap().status, "False");
        let same = judge(&d, &one, &set_of(3, 1), 11);
        assert_eq!(same, one, "nothing new, deadline not passed");
        assert_eq!(recheck_after(&d, &same, at(9)), Some(SignedDuration::from_secs(3)));
        let stalled = judge(&d, &one, &set_of(3, 1), 12);
        assert_eq!(reason(&stalled), Some(TIMED_OUT));
        assert_eq!(
            find(&stalled, PROGRESSING).unwrap().message.as_deref(),
            Some("ReplicaSet \"web-1\" has timed out progressing.")
        );
        assert_eq!(recheck_after(&d, &stalled, at(12)), None);
        let done = judge(&d, &stalled, &set_of(3, 3), 20);
        assert_eq!(reason(&done), Some(NEW_RS_AVAILABLE));
        assert_eq!(find(&done, AVAILABLE).unwrap().status, "True");
        assert!(is_complete(&d, &done));
        let later = judge(&d, &done, &set_of(3, 2), 900);
        assert_eq!(reason(&later), Some(NEW_RS_AVAILABLE), "a finished rollout does not stall");
    }

    #[test]
    fn a_rollout_whose_beginning_was_never_written_stalls_too() {
        let d = deployment(Some(10), false);
        let (old_set, new_set) = (set_of(3, 3), set_of(1, 0));
        let done = judge(&d, &DeploymentStatus::default(), &old_set, 0);
        assert_eq!(reason(&done), Some(NEW_RS_AVAILABLE));
        let limits = Limits { desired: 3, surge: 1, unavailable: 0 };
        let judged = |old: &DeploymentStatus, second: i64| {
            let all = [&new_set, &old_set];
            let mut status = observed(&d, old, &limits, Some(&new_set), &all, at(second));
            judge_progress(&d, old, &mut status, Some(&new_set), &all, at(second));
            status
        };
        let begun = judged(&done, 20);
        assert_eq!(reason(&begun), Some(RS_UPDATED));
        assert_eq!(reason(&judged(&begun, 30)), Some(RS_UPDATED));
        assert_eq!(reason(&judged(&begun, 31)), Some(TIMED_OUT));
    }

    #[test]
    fn without_a_deadline_there_is_no_progress_condition() {
        for deadline in [None, Some(i32::MAX)] {
            let status = judge(&deployment(deadline, false), &DeploymentStatus::default(), &set_of(3, 3), 0);
            assert_eq!(reason(&status), None);
        }
    }

    #[test]
    fn pausing_shows() {
        let mut status = DeploymentStatus::default();
        pause_condition(&deployment(Some(10), true), &mut status, at(0));
        assert_eq!(reason(&status), Some(PAUSED));
        pause_condition(&deployment(Some(10), false), &mut status, at(1));
        assert_eq!(reason(&status), Some(RESUMED));
        set(&mut status, condition(PROGRESSING, "False", TIMED_OUT, String::new(), at(2)));
        pause_condition(&deployment(Some(10), true), &mut status, at(3));
        assert_eq!(reason(&status), Some(TIMED_OUT));
    }

    #[test]
    fn a_failing_replica_set_shows() {
        let mut failing = set_of(3, 0);
        failing.status.as_mut().unwrap().conditions = serde_json::from_value(
            json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}]),
        )
        .unwrap();
        let status = judge(&deployment(Some(10), false), &DeploymentStatus::default(), &failing, 0);
        assert_eq!(find(&status, REPLICA_FAILURE).unwrap().message.as_deref(), Some("quota"));
        let status = judge(&deployment(Some(10), false), &status, &set_of(3, 0), 1);
        assert!(find(&status, REPLICA_FAILURE).is_none());
    }
}
