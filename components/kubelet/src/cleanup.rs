//! Takes away what no pod owns: one pod's leftovers, or everything the agent ever made on this node.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use crate::context::KubeletConfig;
use crate::cri::{Cri, CriError, api};
use crate::labels;
use crate::resources::cgroup::Cgroups;
use crate::runtime::is_ours;
use crate::shared::Shared;
use crate::shims;
use crate::volumes::mounts;

/// How long the runtime may need to remove all pods, beyond the grace that containers get.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long to wait before it is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// Why something is left.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// The runtime did not do it.
    #[error(transparent)]
    Runtime(#[from] CriError),
    /// The disk or the kernel did not.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Removes everything of a pod that the API does not know: its containers stop within the grace period they were made
/// with.
///
/// # Errors
/// If something is left; it can be tried again.
pub async fn remove_pod(shared: &Shared, uid: &str) -> Result<(), CleanupError> {
    let names = remove_from_runtime(&shared.cri, &shared.config.node_name, Some(uid), None).await?;
    for (namespace, name) in names {
        let _ = std::fs::remove_dir_all(shared.config.pod_log_dir(&namespace, &name, uid));
    }
    mounts::remove_tree(&shared.config.pod_dir(uid))?;
    for (qos, found) in shared.cgroups.pods() {
        if found == uid {
            shared.cgroups.remove_pod(qos, uid)?;
        }
    }
    Ok(())
}

/// Removes folders and cgroups of pods that neither the API nor the runtime knows.
pub fn sweep(shared: &Shared, in_runtime: &BTreeSet<String>) {
    let wanted = |uid: &str| shared.pods.lock().contains_key(uid) || in_runtime.contains(uid);
    for entry in std::fs::read_dir(shared.config.root_dir.join("pods")).into_iter().flatten().flatten() {
        let uid = entry.file_name().to_string_lossy().into_owned();
        if !wanted(&uid)
            && let Err(error) = mounts::remove_tree(&entry.path())
        {
            debug!(pod = uid, "cannot remove its folder: {error}");
        }
    }
    for (qos, uid) in shared.cgroups.pods() {
        if !wanted(&uid) {
            let _ = shared.cgroups.remove_pod(qos, &uid);
        }
    }
}

/// Stops and removes sandboxes and containers: of one pod, or of all. Answers namespaces and names.
async fn remove_from_runtime(
    cri: &Cri,
    node: &str,
    uid: Option<&str>,
    grace: Option<Duration>,
) -> Result<BTreeSet<(String, String)>, CriError> {
    let filter = uid.map(|uid| (labels::POD_UID, uid)).or(Some((labels::NODE, node)));
    let (sandboxes, containers) = tokio::try_join!(cri.list_pod_sandbox(filter), cri.list_containers(filter))?;
    let mut names = BTreeSet::new();
    let containers: Vec<api::Container> =
        containers.into_iter().filter(|container| is_ours(&container.labels, node)).collect();
    let stops = containers
        .iter()
        .filter(|container| container.state == api::ContainerState::ContainerRunning as i32)
        .map(|container| {
            let own = container.annotations.get(labels::GRACE_PERIOD).and_then(|text| text.parse().ok());
            cri.stop_container(&container.id, grace.unwrap_or_else(|| Duration::from_secs(own.unwrap_or(30))))
        });
    futures::future::join_all(stops).await.into_iter().collect::<Result<Vec<()>, _>>()?;
    let removals = sandboxes.iter().filter(|sandbox| is_ours(&sandbox.labels, node)).map(|sandbox| async {
        cri.stop_pod_sandbox(&sandbox.id).await?;
        cri.remove_pod_sandbox(&sandbox.id).await
    });
    futures::future::join_all(removals).await.into_iter().collect::<Result<Vec<()>, _>>()?;
    for container in &containers {
        cri.remove_container(&container.id).await?;
    }
    for sandbox in sandboxes.iter().filter(|sandbox| is_ours(&sandbox.labels, node)) {
        if let Some(metadata) = &sandbox.metadata {
            names.insert((metadata.namespace.clone(), metadata.name.clone()));
        }
    }
    Ok(names)
}

/// As `remove_from_runtime`, for all pods of the node, again and again until it is done: what an agent that has just stopped
/// asked for may still be under way, and a container that ends under a request makes it fail.
async fn insist(cri: &Cri, node: &str, grace: Duration) -> Result<BTreeSet<(String, String)>, CriError> {
    let deadline = Instant::now() + grace + PATIENCE;
    let mut last = CriError::Deadline("the container runtime does not answer".into());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, remove_from_runtime(cri, node, None, Some(grace))).await {
            Ok(Ok(removed)) => return Ok(removed),
            Ok(Err(error)) => last = error,
            Err(_) => return Err(last),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Removes every pod of this node, its mounts, cgroups, logs and folders, and ends a containerd of our own with its shims. For
/// `down` and `reset`; the agent must not run. Containers get `grace` to end. What a containerd of our own cannot end is
/// killed.
///
/// # Errors
/// If something is left; it can be called again.
pub async fn remove_everything(config: &KubeletConfig, grace: Duration) -> Result<(), CleanupError> {
    let cri = Cri::new(&config.cri_socket);
    let reachable = tokio::time::timeout(Duration::from_secs(5), cri.version()).await;
    match (reachable, &config.containerd) {
        (Ok(Ok(_)), None) => {
            let removed = insist(&cri, &config.node_name, grace).await?;
            info!(pods = removed.len(), "removed all pods");
        }
        (Ok(Err(error)), None) => return Err(error.into()),
        (Err(_), None) => return Err(CriError::Deadline("the container runtime does not answer".into()).into()),
        (reached, Some(own)) => {
            // Its containers may still run: it is started once more, to end them.
            if !matches!(reached, Ok(Ok(_))) && own.has_run() {
                own.ensure(&cri).await.map_err(|error| std::io::Error::other(error.to_string()))?;
            }
            if own.has_run() {
                match insist(&cri, &config.node_name, grace).await {
                    Ok(removed) => info!(pods = removed.len(), "removed all pods"),
                    Err(error) => warn!("containerd cannot remove all pods, what is left of them is killed: {error}"),
                }
            }
            own.stop().await.map_err(|error| std::io::Error::other(error.to_string()))?;
            shims::end(&config.cri_socket).await?;
        }
    }
    // Whatever still runs in there got away from the runtime, and would hold its mounts.
    Cgroups::new(&config.cgroup_root).remove_all()?;
    if let Some(own) = &config.containerd {
        mounts::remove_tree(&own.state)?;
    }
    mounts::remove_tree(&config.root_dir)?;
    match std::fs::remove_dir_all(&config.pod_logs_dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
