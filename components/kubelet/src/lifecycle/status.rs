//! The status that a pod's containers add up to. Pure.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodIP, PodSpec, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Probes, init_containers, is_sidecar, is_started, restart_policy};
use crate::runtime::{self, PodRuntime, State};

/// Why a container does not run: reason and message, as `state.waiting` shows them.
pub type WaitingReasons = HashMap<String, (String, String)>;

/// A verdict over the whole pod that no container's state expresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `Failed` or `Succeeded`; `None` leaves it to the containers, once they have ended.
    pub phase: Option<&'static str>,
    /// `status.reason`.
    pub reason: String,
    /// `status.message`.
    pub message: String,
}

/// What the status is made from.
pub struct StatusView<'a> {
    /// The pod, with the status last written.
    pub pod: &'a Pod,
    /// The observed containers.
    pub runtime: &'a PodRuntime,
    /// Probe results.
    pub probes: &'a Probes,
    /// Why containers wait.
    pub waiting: &'a WaitingReasons,
    /// Termination messages by container id.
    pub messages: &'a HashMap<String, String>,
    /// A verdict over the whole pod.
    pub verdict: Option<&'a Verdict>,
    /// The node's address.
    pub node_ip: &'a str,
    /// Quality of service.
    pub qos: &'a str,
    /// Whether the worker has given the pod up and stopped it: containers that are gone have ended.
    pub finished: bool,
    /// Now.
    pub now: Timestamp,
}

/// The whole status, to be compared with the last one.
pub fn generate(view: &StatusView<'_>) -> PodStatus {
    let Some(spec) = &view.pod.spec else { return PodStatus::default() };
    let old = view.pod.status.clone().unwrap_or_default();
    let has_init = !init_containers(spec).is_empty();
    let sandbox = view.runtime.ready_sandbox();
    let begun = spec.containers.iter().any(|container| view.runtime.newest(&container.name).is_some());
    let init: Vec<ContainerStatus> = init_containers(spec)
        .iter()
        .map(|container| {
            let old = find(old.init_container_statuses.as_deref(), &container.name);
            container_status(view, spec, container, old, "PodInitializing", true)
        })
        .collect();
    let main: Vec<ContainerStatus> = spec
        .containers
        .iter()
        .map(|container| {
            let old = find(old.container_statuses.as_deref(), &container.name);
            let waiting = if has_init && !begun { "PodInitializing" } else { "ContainerCreating" };
            container_status(view, spec, container, old, waiting, false)
        })
        .collect();
    let phase = match view.verdict.and_then(|verdict| verdict.phase) {
        Some(phase) => phase.to_owned(),
        None if view.finished => terminal_or(&old, final_phase(&main)),
        None => terminal_or(&old, phase(spec, &init, &main)),
    };
    let host_network = spec.host_network == Some(true);
    let mut status = PodStatus {
        phase: Some(phase),
        start_time: old.start_time.clone().or(Some(Time(view.now))),
        qos_class: Some(view.qos.to_owned()),
        host_ip: Some(view.node_ip.to_owned()),
        host_ips: Some(vec![HostIP { ip: view.node_ip.to_owned() }]),
        reason: old.reason.clone(),
        message: old.message.clone(),
        observed_generation: view.pod.metadata.generation,
        nominated_node_name: old.nominated_node_name.clone(),
        resize: old.resize.clone(),
        resource_claim_statuses: old.resource_claim_statuses.clone(),
        ephemeral_container_statuses: old.ephemeral_container_statuses.clone(),
        ..PodStatus::default()
    };
    if let Some(verdict) = view.verdict {
        status.reason = Some(verdict.reason.clone());
        status.message = Some(verdict.message.clone());
    }
    let ips = match (sandbox, host_network) {
        (Some(_), true) => vec![view.node_ip.to_owned()],
        (Some(sandbox), false) => sandbox.ips.clone(),
        (None, _) => old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect(),
    };
    if !ips.is_empty() {
        status.pod_ip = ips.first().cloned();
        status.pod_ips = Some(ips.into_iter().map(|ip| PodIP { ip }).collect());
    }
    let sandbox_ready = sandbox.is_some_and(|sandbox| host_network || !sandbox.ips.is_empty());
    if !init.is_empty() {
        status.init_container_statuses = Some(init);
    }
    status.container_statuses = Some(main);
    status.conditions = Some(super::conditions::generate(view, spec, &old, &status, sandbox_ready));
    status
}

/// A phase that is final stays.
fn terminal_or(old: &PodStatus, new: String) -> String {
    match old.phase.as_deref() {
        Some(phase @ ("Failed" | "Succeeded")) => phase.to_owned(),
        _ => new,
    }
}

fn find<'a>(statuses: Option<&'a [ContainerStatus]>, name: &str) -> Option<&'a ContainerStatus> {
    statuses?.iter().find(|status| status.name == name)
}

fn container_status(
    view: &StatusView<'_>,
    spec: &PodSpec,
    container: &Container,
    old: Option<&ContainerStatus>,
    default_waiting: &str,
    init: bool,
) -> ContainerStatus {
    let mut all = view.runtime.containers.iter().filter(|observed| observed.name == container.name);
    let newest = all.next();
    let previous = all.find(|observed| observed.state == State::Exited);
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        started: Some(false),
        restart_count: old.map_or(0, |old| old.restart_count),
        last_state: previous
            .map(|previous| terminated(view, previous))
            .or_else(|| old.and_then(|old| old.last_state.clone()).filter(|state| state.terminated.is_some())),
        ..ContainerStatus::default()
    };
    if let Some(observed) = newest {
        status.container_id = Some(format!("containerd://{}", observed.id));
        status.image_id.clone_from(&observed.image_ref);
        if !observed.image.is_empty() && !observed.image.starts_with("sha256:") {
            status.image.clone_from(&observed.image);
        }
        status.restart_count = status.restart_count.max(i32::try_from(observed.attempt).unwrap_or(i32::MAX));
    }
    status.state = Some(state(view, spec, container, old, newest, default_waiting, &mut status.last_state));
    if let Some(observed) = newest.filter(|observed| observed.state == State::Running) {
        let started = is_started(view.probes, container, observed);
        status.started = Some(started);
        let probed = container.readiness_probe.is_some();
        let passes = view.probes.get(&observed.id).and_then(|probe| probe.ready) == Some(true);
        status.ready = started && (!probed || passes) && (!init || is_sidecar(container));
        let asked = container.resources.clone();
        status.resources = asked.filter(|asked| asked.requests.is_some() || asked.limits.is_some());
        status.allocated_resources =
            container.resources.as_ref().and_then(|resources| resources.requests.clone()).filter(|r| !r.is_empty());
        status.volume_mounts = volume_mounts(container);
    }
    if init && !is_sidecar(container) {
        let done = newest.is_some_and(|observed| observed.state == State::Exited && observed.exit_code == 0);
        status.ready = done;
    }
    status
}

fn state(
    view: &StatusView<'_>,
    spec: &PodSpec,
    container: &Container,
    old: Option<&ContainerStatus>,
    newest: Option<&runtime::Container>,
    default_waiting: &str,
    last_state: &mut Option<ContainerState>,
) -> ContainerState {
    let reason = view.waiting.get(&container.name);
    match newest {
        Some(observed) if observed.state == State::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: observed.started_at.map(seconds) }),
            ..ContainerState::default()
        },
        Some(observed) if observed.state == State::Exited => match reason {
            Some((reason, message)) => {
                *last_state = Some(terminated(view, observed));
                waiting(reason, message)
            }
            None => terminated(view, observed),
        },
        Some(observed) if observed.state == State::Unknown => unknown_end(observed.id.as_str()),
        _ => {
            if let Some((reason, message)) = reason {
                return waiting(reason, message);
            }
            let was_running = old.and_then(|old| old.state.as_ref()).is_some_and(|state| state.running.is_some());
            let was = old.and_then(|old| old.state.clone()).filter(|state| state.terminated.is_some());
            if let Some(was) = was.filter(|_| view.finished || restart_policy(spec) == "Never") {
                return was;
            }
            if was_running || view.finished {
                let lost = unknown_end(old.and_then(|old| old.container_id.as_deref()).unwrap_or_default());
                if view.finished || restart_policy(spec) == "Never" {
                    return lost;
                }
                *last_state = Some(lost);
            }
            waiting(default_waiting, "")
        }
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()).filter(|message| !message.is_empty()),
        }),
        ..ContainerState::default()
    }
}

/// A container whose end nobody saw.
fn unknown_end(id: &str) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some("The container could not be located when the pod was terminated".to_owned()),
            container_id: Some(id.to_owned()).filter(|id| !id.is_empty()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

fn terminated(view: &StatusView<'_>, observed: &runtime::Container) -> ContainerState {
    let message = view.messages.get(&observed.id).filter(|message| !message.is_empty());
    let message = message.cloned().or_else(|| Some(observed.message.clone()).filter(|message| !message.is_empty()));
    let default_reason = if observed.exit_code == 0 { "Completed" } else { "Error" };
    let reason = if observed.reason.is_empty() { default_reason } else { &observed.reason };
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: observed.exit_code,
            reason: Some(reason.to_owned()),
            message,
            started_at: observed.started_at.map(seconds),
            finished_at: observed.finished_at.map(seconds),
            container_id: Some(format!("containerd://{}", observed.id)),
            signal: None,
        }),
        ..ContainerState::default()
    }
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts: Vec<VolumeMountStatus> = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|mount| VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: mount.read_only.filter(|read_only| *read_only),
            recursive_read_only: mount.read_only.filter(|read_only| *read_only).map(|_| "Disabled".to_owned()),
            ..VolumeMountStatus::default()
        })
        .collect();
    (!mounts.is_empty()).then_some(mounts)
}

/// The API keeps whole seconds: anything finer would differ from what comes back.
fn seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// Counts of containers by state.
#[derive(Default)]
struct Counts {
    waiting: usize,
    running: usize,
    stopped: usize,
    succeeded: usize,
}

fn count(statuses: &[ContainerStatus]) -> Counts {
    let mut counts = Counts::default();
    for state in statuses.iter().map(|status| (status.state.as_ref(), status.last_state.as_ref())) {
        match state {
            (Some(state), _) if state.running.is_some() => counts.running += 1,
            (Some(state), _) if state.terminated.is_some() => {
                counts.stopped += 1;
                if state.terminated.as_ref().is_some_and(|terminated| terminated.exit_code == 0) {
                    counts.succeeded += 1;
                }
            }
            (Some(_), Some(last)) if last.terminated.is_some() => counts.stopped += 1,
            _ => counts.waiting += 1,
        }
    }
    counts
}

/// The phase that container states add up to.
pub fn phase(spec: &PodSpec, init: &[ContainerStatus], main: &[ContainerStatus]) -> String {
    let policy = restart_policy(spec);
    let (mut pending_init, mut failed_init) = (false, false);
    for (container, status) in init_containers(spec).iter().zip(init) {
        let state = status.state.clone().unwrap_or_default();
        if is_sidecar(container) {
            let started = status.started == Some(true) || state.terminated.is_some();
            pending_init |= !started && status.last_state.is_none();
        } else if let Some(terminated) = &state.terminated {
            failed_init |= terminated.exit_code != 0;
        } else {
            pending_init = true;
            let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
            failed_init |= state.waiting.is_some() && last.is_some_and(|last| last.exit_code != 0);
        }
    }
    let counts = count(main);
    let begun = counts.running + counts.stopped > 0;
    if failed_init && policy == "Never" {
        return "Failed".into();
    }
    if (pending_init || failed_init) && !begun {
        return "Pending".into();
    }
    if counts.waiting > 0 {
        return "Pending".into();
    }
    if counts.running > 0 {
        return "Running".into();
    }
    if counts.stopped == 0 {
        return "Pending".into();
    }
    match policy {
        "Always" => "Running",
        _ if counts.stopped == counts.succeeded => "Succeeded",
        "Never" => "Failed",
        _ => "Running",
    }
    .into()
}

/// The phase of a pod that was stopped, whatever its restart policy.
fn final_phase(main: &[ContainerStatus]) -> String {
    let counts = count(main);
    if counts.stopped > 0 && counts.stopped == counts.succeeded { "Succeeded" } else { "Failed" }.into()
}

/// Whether a phase is final.
pub fn is_final(phase: Option<&str>) -> bool {
    matches!(phase, Some("Failed" | "Succeeded"))
}
