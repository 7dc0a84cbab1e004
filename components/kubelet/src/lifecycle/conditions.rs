//! The conditions of a pod, in upstream's order and words. Pure. Conditions of others are kept as they are.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::status::{StatusView, is_final};
use super::{init_containers, is_sidecar};

/// The types that the agent writes.
pub const OURS: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];

/// A condition before its transition time is known.
struct Draft {
    kind: &'static str,
    status: bool,
    reason: &'static str,
    message: String,
}

impl Draft {
    fn yes(kind: &'static str) -> Self {
        Self { kind, status: true, reason: "", message: String::new() }
    }

    fn no(kind: &'static str, reason: &'static str, message: String) -> Self {
        Self { kind, status: false, reason, message }
    }
}

/// All conditions of the new status.
pub fn generate(
    view: &StatusView<'_>,
    spec: &PodSpec,
    old: &PodStatus,
    new: &PodStatus,
    sandbox_ready: bool,
) -> Vec<PodCondition> {
    let phase = new.phase.as_deref();
    let before = old.conditions.as_deref().unwrap_or_default();
    let containers_ready = containers_ready(spec, new, phase);
    let ready = ready(spec, before, &containers_ready, phase);
    let sandbox = if sandbox_ready {
        Draft::yes("PodReadyToStartContainers")
    } else {
        Draft::no("PodReadyToStartContainers", "", String::new())
    };
    let drafts = [sandbox, initialized(spec, new, phase), ready, containers_ready];
    let generation = view.pod.metadata.generation;
    let mut conditions: Vec<PodCondition> =
        drafts.into_iter().map(|draft| finish(draft, before, generation, view.now)).collect();
    conditions.extend(before.iter().filter(|condition| !OURS.contains(&condition.type_.as_str())).cloned());
    if !conditions.iter().any(|condition| condition.type_ == "PodScheduled") {
        conditions.push(finish(Draft::yes("PodScheduled"), before, generation, view.now));
    }
    conditions
}

fn finish(draft: Draft, before: &[PodCondition], generation: Option<i64>, now: Timestamp) -> PodCondition {
    let status = if draft.status { "True" } else { "False" };
    let old = before.iter().find(|old| old.type_ == draft.kind && old.status == status);
    PodCondition {
        type_: draft.kind.to_owned(),
        status: status.to_owned(),
        reason: Some(draft.reason.to_owned()).filter(|reason| !reason.is_empty()),
        message: Some(draft.message).filter(|message| !message.is_empty()),
        last_transition_time: old.and_then(|old| old.last_transition_time.clone()).or(Some(Time(now))),
        observed_generation: generation,
        last_probe_time: None,
    }
}

fn names<'a>(statuses: impl Iterator<Item = &'a ContainerStatus>) -> String {
    statuses.map(|status| status.name.as_str()).collect::<Vec<_>>().join(" ")
}

fn initialized(spec: &PodSpec, new: &PodStatus, phase: Option<&str>) -> Draft {
    let statuses = new.init_container_statuses.as_deref().unwrap_or_default();
    let incomplete = init_containers(spec)
        .iter()
        .zip(statuses)
        .filter(|(container, status)| if is_sidecar(container) { status.started != Some(true) } else { !status.ready });
    let incomplete = names(incomplete.map(|(_, status)| status));
    let begun = new.container_statuses.iter().flatten().any(|status| {
        status.started == Some(true) || status.state.as_ref().is_some_and(|state| state.terminated.is_some())
    });
    match phase {
        Some("Succeeded") => Draft { reason: "PodCompleted", ..Draft::yes("Initialized") },
        _ if incomplete.is_empty() || begun => Draft::yes("Initialized"),
        _ => {
            let message = format!("containers with incomplete status: [{incomplete}]");
            Draft::no("Initialized", "ContainersNotInitialized", message)
        }
    }
}

fn containers_ready(spec: &PodSpec, new: &PodStatus, phase: Option<&str>) -> Draft {
    const KIND: &str = "ContainersReady";
    match phase {
        Some("Succeeded") => return Draft::no(KIND, "PodCompleted", String::new()),
        Some("Failed") => return Draft::no(KIND, "PodFailed", String::new()),
        _ => {}
    }
    let init = new.init_container_statuses.as_deref().unwrap_or_default();
    let sidecars =
        init_containers(spec).iter().zip(init).filter(|(container, _)| is_sidecar(container)).map(|(_, status)| status);
    let unready = names(sidecars.chain(new.container_statuses.iter().flatten()).filter(|status| !status.ready));
    if unready.is_empty() {
        Draft::yes(KIND)
    } else {
        Draft::no(KIND, "ContainersNotReady", format!("containers with unready status: [{unready}]"))
    }
}

fn ready(spec: &PodSpec, before: &[PodCondition], containers: &Draft, phase: Option<&str>) -> Draft {
    if !containers.status || is_final(phase) {
        return Draft { kind: "Ready", status: false, reason: containers.reason, message: containers.message.clone() };
    }
    let mut messages = Vec::new();
    for gate in spec.readiness_gates.iter().flatten() {
        match before.iter().find(|condition| condition.type_ == gate.condition_type) {
            None => messages.push(format!(
                "corresponding condition of pod readiness gate {:?} does not exist.",
                gate.condition_type
            )),
            Some(condition) if condition.status != "True" => messages.push(format!(
                "the status of pod readiness gate {:?} is not \"True\", but {}",
                gate.condition_type, condition.status
            )),
            Some(_) => {}
        }
    }
    if messages.is_empty() {
        Draft::yes("Ready")
    } else {
        Draft::no("Ready", "ReadinessGatesNotReady", messages.join(", "))
    }
}
