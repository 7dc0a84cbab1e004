//! What to do next for a pod: observed sandboxes and containers, specification, probe results and time in; actions out.
//!
//! Pure: no clock, no I/O, no randomness. Called after every change and carried out by the pod's worker, which then
//! looks again.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::backoff::BackOff;
use crate::runtime::{self, PodRuntime, Sandbox, State};

pub mod conditions;
pub mod patch;
pub mod status;

/// Results of one container's probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeState {
    /// Whether its startup probe has passed; `None` before it has an answer.
    pub started: Option<bool>,
    /// Whether its readiness probe passes; `None` before it has an answer.
    pub ready: Option<bool>,
    /// Whether its liveness probe passes; `None` before it has an answer.
    pub live: Option<bool>,
}

/// Probe results by container id.
pub type Probes = HashMap<String, ProbeState>;

/// What is known at the moment of deciding.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The desired pod.
    pub pod: &'a Pod,
    /// The observed one.
    pub runtime: &'a PodRuntime,
    /// Probe results.
    pub probes: &'a Probes,
    /// Waits between restarts.
    pub restarts: &'a BackOff,
    /// Now.
    pub now: Timestamp,
}

/// A container of the pod, by its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// `spec.initContainers[i]`.
    Init(usize),
    /// `spec.containers[i]`.
    Main(usize),
}

impl Slot {
    /// The container in this place.
    pub fn of(self, spec: &PodSpec) -> Option<&Container> {
        match self {
            Self::Init(at) => spec.init_containers.as_deref().unwrap_or_default().get(at),
            Self::Main(at) => spec.containers.get(at),
        }
    }
}

/// One container to stop, while the pod goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// The runtime's id.
    pub id: String,
    /// Its place.
    pub slot: Slot,
    /// For the event.
    pub message: String,
    /// Which probe wants it, if one does: its own grace period counts then.
    pub probe: Option<ProbeKind>,
}

/// The probes that kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// `livenessProbe`.
    Liveness,
    /// `startupProbe`.
    Startup,
}

/// One container to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its place.
    pub slot: Slot,
    /// How many came before it.
    pub attempt: u32,
}

/// One container that must wait before its next start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Its place.
    pub slot: Slot,
    /// Until when.
    pub until: Timestamp,
}

/// What to do next. Carried out in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Stop everything of the pod: its sandbox is lost, or its work is done.
    pub kill_pod: bool,
    /// Make a sandbox with this attempt number.
    pub create_sandbox: Option<u32>,
    /// Stop these.
    pub kill: Vec<Kill>,
    /// Start these.
    pub start: Vec<Start>,
    /// These wait.
    pub wait: Vec<Wait>,
}

/// The pod's restart policy.
pub fn restart_policy(spec: &PodSpec) -> &str {
    spec.restart_policy.as_deref().unwrap_or("Always")
}

/// Whether an init container keeps running beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Init containers of a specification.
pub fn init_containers(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

/// Whether a container that ended so is started again.
fn restarts(policy: &str, observed: Option<&runtime::Container>) -> bool {
    match observed {
        None => true,
        Some(container) => match container.state {
            State::Running => false,
            State::Created | State::Unknown => true,
            State::Exited => match policy {
                "Never" => false,
                "OnFailure" => container.exit_code != 0,
                _ => true,
            },
        },
    }
}

/// The policy for one container: its own, or the pod's.
fn policy_of<'a>(spec: &'a PodSpec, container: &'a Container) -> &'a str {
    container.restart_policy.as_deref().unwrap_or_else(|| restart_policy(spec))
}

/// The key of a container's waits: a changed specification starts without them.
pub fn backoff_key(container: &Container) -> String {
    format!("{}/{}", container.name, spec_hash(container))
}

/// Hash of what makes a new container necessary when it changes in place: the image.
pub fn spec_hash(container: &Container) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    hash.update(container.name.as_bytes());
    hash.update([0]);
    hash.update(container.image.as_deref().unwrap_or_default().as_bytes());
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What to do for a pod that shall run.
pub fn decide(view: View<'_>) -> Plan {
    let Some(spec) = &view.pod.spec else { return Plan::default() };
    let ready: Vec<&Sandbox> = view.runtime.sandboxes.iter().filter(|sandbox| sandbox.ready).collect();
    match view.runtime.ready_sandbox() {
        Some(sandbox) if ready.len() == 1 => within_sandbox(view, spec, sandbox),
        _ => without_sandbox(view, spec, !ready.is_empty()),
    }
}

/// No sandbox, or several: all is made anew, if there is anything left to run.
fn without_sandbox(view: View<'_>, spec: &PodSpec, leftovers: bool) -> Plan {
    let leftovers = leftovers || view.runtime.running().next().is_some();
    let lost = || Plan { kill_pod: true, ..Plan::default() };
    let had_containers = !view.runtime.containers.is_empty();
    if restart_policy(spec) == "Never" && !view.runtime.sandboxes.is_empty() && had_containers {
        return lost();
    }
    let wanted = spec
        .containers
        .iter()
        .any(|container| restarts_lost(policy_of(spec, container), view.runtime.newest(&container.name)));
    if !wanted {
        return lost();
    }
    let attempt = view.runtime.sandboxes.iter().map(|sandbox| sandbox.attempt + 1).max().unwrap_or(0);
    Plan { kill_pod: leftovers, create_sandbox: Some(attempt), ..Plan::default() }
}

/// As [`restarts`], for containers whose sandbox is gone: those still running will be stopped with it.
fn restarts_lost(policy: &str, observed: Option<&runtime::Container>) -> bool {
    match observed {
        Some(container) if container.state == State::Running => policy != "Never",
        other => restarts(policy, other),
    }
}

fn within_sandbox(view: View<'_>, spec: &PodSpec, sandbox: &Sandbox) -> Plan {
    let mut plan = Plan::default();
    let begun = spec.containers.iter().any(|c| view.runtime.newest_in(&c.name, &sandbox.id).is_some());
    match init_phase(view, spec, sandbox, begun, &mut plan) {
        InitPhase::Done => {}
        InitPhase::Waiting => return plan,
        InitPhase::Failed => {
            plan.kill_pod = true;
            return plan;
        }
    }
    let mut alive = 0_usize;
    for (at, container) in spec.containers.iter().enumerate() {
        let slot = Slot::Main(at);
        let observed = view.runtime.newest(&container.name);
        let policy = policy_of(spec, container);
        let in_sandbox = observed.filter(|observed| observed.sandbox_id == sandbox.id);
        if let Some(running) = in_sandbox.filter(|observed| observed.state == State::Running) {
            alive += 1;
            if let Some(kill) = wants_kill(view, container, running, slot, policy) {
                plan.kill.push(kill);
            }
        } else if restarts_lost(policy, observed) {
            alive += 1;
            schedule(view, container, slot, observed, &mut plan);
        }
    }
    if alive == 0 {
        plan.kill_pod = true;
        plan.start.clear();
    }
    plan
}

enum InitPhase {
    Done,
    Waiting,
    Failed,
}

/// Goes through the init containers in order. Once the main containers have begun, only sidecars matter.
fn init_phase(view: View<'_>, spec: &PodSpec, sandbox: &Sandbox, begun: bool, plan: &mut Plan) -> InitPhase {
    for (at, container) in init_containers(spec).iter().enumerate() {
        let slot = Slot::Init(at);
        let observed = view.runtime.newest_in(&container.name, &sandbox.id);
        if is_sidecar(container) {
            match observed.filter(|observed| observed.state == State::Running) {
                Some(running) => {
                    if let Some(kill) = wants_kill(view, container, running, slot, "Always") {
                        plan.kill.push(kill);
                    }
                    if !begun && !is_started(view.probes, container, running) {
                        return InitPhase::Waiting;
                    }
                }
                None => {
                    schedule(view, container, slot, observed.or(view.runtime.newest(&container.name)), plan);
                    if !begun {
                        return InitPhase::Waiting;
                    }
                }
            }
            continue;
        }
        if begun {
            continue;
        }
        match observed {
            Some(observed) if observed.state == State::Exited && observed.exit_code == 0 => {}
            Some(observed) if observed.state == State::Running => return InitPhase::Waiting,
            Some(observed) if observed.state == State::Exited && restart_policy(spec) == "Never" => {
                return InitPhase::Failed;
            }
            other => {
                schedule(view, container, slot, other.or(view.runtime.newest(&container.name)), plan);
                return InitPhase::Waiting;
            }
        }
    }
    InitPhase::Done
}

/// Whether a running container counts as started: its startup probe has passed, or it has none.
pub fn is_started(probes: &Probes, container: &Container, running: &runtime::Container) -> bool {
    container.startup_probe.is_none() || probes.get(&running.id).and_then(|probe| probe.started) == Some(true)
}

fn wants_kill(
    view: View<'_>,
    container: &Container,
    running: &runtime::Container,
    slot: Slot,
    policy: &str,
) -> Option<Kill> {
    let kill = |message: String, probe| Some(Kill { id: running.id.clone(), slot, message, probe });
    if policy != "Never" && !running.hash.is_empty() && running.hash != spec_hash(container) {
        return kill(format!("Container {} definition changed, will be restarted", container.name), None);
    }
    let probes = view.probes.get(&running.id)?;
    let end = if policy == "Never" { "" } else { ", will be restarted" };
    if probes.live == Some(false) {
        let message = format!("Container {} failed liveness probe{end}", container.name);
        return kill(message, Some(ProbeKind::Liveness));
    }
    if probes.started == Some(false) {
        let message = format!("Container {} failed startup probe{end}", container.name);
        return kill(message, Some(ProbeKind::Startup));
    }
    None
}

/// Starts a container, or lets it wait for its back-off.
fn schedule(view: View<'_>, container: &Container, slot: Slot, observed: Option<&runtime::Container>, plan: &mut Plan) {
    let attempt = view
        .runtime
        .containers
        .iter()
        .filter(|other| other.name == container.name)
        .map(|other| other.attempt + 1)
        .max()
        .unwrap_or(0);
    let ended = observed.filter(|observed| observed.state == State::Exited).and_then(|observed| observed.finished_at);
    let until = ended.and_then(|ended| view.restarts.until(&backoff_key(container), ended, view.now));
    match until {
        Some(until) => plan.wait.push(Wait { slot, until }),
        None => plan.start.push(Start { slot, attempt }),
    }
}

/// When the pod's own deadline passes.
pub fn deadline(pod: &Pod) -> Option<Timestamp> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let start = pod.status.as_ref()?.start_time.as_ref()?.0;
    start.checked_add(jiff::SignedDuration::from_secs(seconds)).ok()
}

#[cfg(test)]
#[path = "lifecycle/tests.rs"]
mod tests;
