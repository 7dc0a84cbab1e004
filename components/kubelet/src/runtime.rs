//! What the runtime is seen to hold of one pod. Read fresh for every decision; the details of a container that has
//! ended are read once.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::cri::api;
use crate::cri::{Cri, CriError};
use crate::labels;

/// A container's state in the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, not started.
    Created,
    /// Started.
    Running,
    /// Ended.
    Exited,
    /// The runtime does not know.
    Unknown,
}

/// A container as the runtime shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The runtime's id.
    pub id: String,
    /// The sandbox it is in.
    pub sandbox_id: String,
    /// The name in the pod.
    pub name: String,
    /// How many came before it.
    pub attempt: u32,
    /// Its state.
    pub state: State,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, …
    pub reason: String,
    /// The runtime's words about the end.
    pub message: String,
    /// The image as the pod names it.
    pub image: String,
    /// The image's reference.
    pub image_ref: String,
    /// Hash of the specification it was made from.
    pub hash: String,
    /// Its log file.
    pub log_path: String,
}

/// A sandbox as the runtime shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The runtime's id.
    pub id: String,
    /// How many came before it.
    pub attempt: u32,
    /// Whether containers can run in it.
    pub ready: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its addresses; empty for the host's network.
    pub ips: Vec<String>,
}

/// Everything the runtime holds of one pod, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRuntime {
    /// Sandboxes.
    pub sandboxes: Vec<Sandbox>,
    /// Containers.
    pub containers: Vec<Container>,
}

impl PodRuntime {
    /// The newest sandbox, if it can hold containers.
    pub fn ready_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }

    /// The newest container of a name.
    pub fn newest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The newest container of a name in one sandbox.
    pub fn newest_in(&self, name: &str, sandbox: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name && container.sandbox_id == sandbox)
    }

    /// The containers that run.
    pub fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| container.state == State::Running)
    }

    /// Whether nothing of the pod runs any more.
    pub fn is_stopped(&self) -> bool {
        self.running().next().is_none() && self.sandboxes.iter().all(|sandbox| !sandbox.ready)
    }
}

/// Reads one pod from the runtime. `known` are details of ended containers and addresses from an earlier reading.
///
/// # Errors
/// If the runtime does not answer. What vanishes between two calls is left out.
pub async fn observe(cri: &Cri, node: &str, uid: &str, known: &PodRuntime) -> Result<PodRuntime, CriError> {
    let label = Some((labels::POD_UID, uid));
    let (sandboxes, containers) = tokio::try_join!(cri.list_pod_sandbox(label), cri.list_containers(label))?;
    let mut runtime = PodRuntime::default();
    for sandbox in sandboxes.into_iter().filter(|sandbox| is_ours(&sandbox.labels, node)) {
        let ready = sandbox.state == api::PodSandboxState::SandboxReady as i32;
        let before = known.sandboxes.iter().find(|before| before.id == sandbox.id && !before.ips.is_empty());
        let ips = match before {
            Some(before) => before.ips.clone(),
            None if ready => sandbox_ips(cri, &sandbox.id).await?,
            None => Vec::new(),
        };
        runtime.sandboxes.push(Sandbox {
            attempt: sandbox.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
            ready,
            created_at: timestamp(sandbox.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
            ips,
            id: sandbox.id,
        });
    }
    for container in containers.into_iter().filter(|container| is_ours(&container.labels, node)) {
        let state = state_of(container.state);
        let before = known.containers.iter().find(|before| before.id == container.id && before.state == state);
        if let Some(before) = before {
            runtime.containers.push(before.clone());
            continue;
        }
        match cri.container_status(&container.id).await {
            Ok(status) => runtime.containers.push(convert(&container, status)),
            Err(CriError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    runtime.sandboxes.sort_by_key(|s| std::cmp::Reverse((s.attempt, s.created_at)));
    runtime.containers.sort_by_key(|c| std::cmp::Reverse((c.attempt, c.created_at)));
    Ok(runtime)
}

async fn sandbox_ips(cri: &Cri, id: &str) -> Result<Vec<String>, CriError> {
    let status = match cri.pod_sandbox_status(id).await {
        Ok(status) => status,
        Err(CriError::NotFound(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let Some(network) = status.network else { return Ok(Vec::new()) };
    let all = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|ip| ip.ip));
    Ok(all.filter(|ip| !ip.is_empty()).collect())
}

/// Whether this node's agent made it.
pub fn is_ours(found: &HashMap<String, String>, node: &str) -> bool {
    found.get(labels::NODE).is_some_and(|value| value == node)
}

/// The runtime's number as a state.
pub fn state_of(state: i32) -> State {
    match api::ContainerState::try_from(state) {
        Ok(api::ContainerState::ContainerCreated) => State::Created,
        Ok(api::ContainerState::ContainerRunning) => State::Running,
        Ok(api::ContainerState::ContainerExited) => State::Exited,
        _ => State::Unknown,
    }
}

/// Nanoseconds since 1970; zero and nonsense are nothing.
pub fn timestamp(nanoseconds: i64) -> Option<Timestamp> {
    if nanoseconds <= 0 {
        return None;
    }
    Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()
}

fn convert(listed: &api::Container, status: api::ContainerStatus) -> Container {
    let annotation = |key: &str| status.annotations.get(key).cloned().unwrap_or_default();
    let attempt = status.metadata.as_ref().map_or(0, |metadata| metadata.attempt);
    Container {
        name: status.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or_default(),
        attempt: annotation(labels::RESTART_COUNT).parse().unwrap_or(attempt),
        state: state_of(status.state),
        created_at: timestamp(status.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
        started_at: timestamp(status.started_at),
        finished_at: timestamp(status.finished_at),
        exit_code: status.exit_code,
        image: status.image.as_ref().map(|image| image.image.clone()).unwrap_or_default(),
        hash: annotation(labels::HASH),
        sandbox_id: listed.pod_sandbox_id.clone(),
        id: status.id,
        reason: status.reason,
        message: status.message,
        image_ref: status.image_ref,
        log_path: status.log_path,
    }
}
