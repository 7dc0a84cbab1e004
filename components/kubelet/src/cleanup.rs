//! Takes away what no pod owns: one pod's leftovers, or everything the agent ever made on this node.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use crate::containerd::{ContainerdConfig, ContainerdError};
use crate::context::KubeletConfig;
use crate::cri::{Cri, CriError, api};
use crate::helpers;
use crate::labels;
use crate::resources::cgroup::Cgroups;
use crate::runtime::is_ours;
use crate::shared::Shared;
use crate::volumes::mounts;

/// How long a runtime may take to answer at all.
const REACHABLE: Duration = Duration::from_secs(5);
/// How long a containerd of our own may be without any progress, beyond the grace that containers get; then they are killed.
const PATIENCE: Duration = Duration::from_secs(15);
/// The same for the machine's runtime, whose containers are not ours to kill.
const PATIENCE_WITH_OTHERS: Duration = Duration::from_secs(120);
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
/// asked for may still be under way, and a container that ends under a request makes it fail. Gives up when there is no
/// progress for `patience`.
async fn insist(cri: &Cri, node: &str, grace: Duration, patience: Duration) -> Result<(), CriError> {
    let mut least = usize::MAX;
    let mut deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let why = match tokio::time::timeout(left, remove_from_runtime(cri, node, None, Some(grace))).await {
            Ok(Ok(removed)) => {
                info!(pods = removed.len(), "removed all pods");
                return Ok(());
            }
            Ok(Err(error)) => error,
            Err(_) => CriError::Deadline(format!("the pods were not removed within {} s", patience.as_secs())),
        };
        let filter = Some((labels::NODE, node));
        let there = tokio::try_join!(cri.list_pod_sandbox(filter), cri.list_containers(filter));
        let count = there.map_or(usize::MAX, |(sandboxes, containers)| sandboxes.len() + containers.len());
        if count < least {
            (least, deadline) = (count, Instant::now() + patience);
        } else if Instant::now() >= deadline {
            return Err(why);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Removes all pods through a containerd of our own, as far as it can, and ends it.
async fn remove_by(own: &ContainerdConfig, cri: &Cri, node: &str, grace: Duration) -> Result<(), CleanupError> {
    let failed = |error: ContainerdError| std::io::Error::other(error.to_string());
    if own.has_run() {
        if tokio::time::timeout(REACHABLE, cri.version()).await.is_ok_and(|answer| answer.is_ok()) {
            debug!("containerd answers");
        } else {
            // Its containers may still run: it is started once more, to end them. One that hangs would be in the way.
            own.stop().await.map_err(failed)?;
            if let Err(error) = own.ensure(cri).await {
                warn!("{error}");
            }
        }
        if let Err(error) = insist(cri, node, grace, grace + PATIENCE).await {
            warn!("containerd cannot remove all pods, what is left of them is killed: {error}");
        }
    }
    Ok(own.stop().await.map_err(failed)?)
}

/// Removes every pod of this node, its mounts, cgroups, logs and folders, and ends a containerd of our own with its helpers.
/// For `down` and `reset`; the agent must not run. Containers get `grace` to end. What a containerd of our own cannot end is
/// killed.
///
/// # Errors
/// If something is left; it can be called again.
pub async fn remove_everything(config: &KubeletConfig, grace: Duration) -> Result<(), CleanupError> {
    let cri = Cri::new(&config.cri_socket);
    let mut helpers = Ok(());
    match &config.containerd {
        None => {
            let version = tokio::time::timeout(REACHABLE, cri.version()).await;
            version.map_err(|_| CriError::Deadline("the container runtime does not answer".into()))??;
            insist(&cri, &config.node_name, grace, grace + PATIENCE_WITH_OTHERS).await?;
        }
        Some(own) => {
            remove_by(own, &cri, &config.node_name, grace).await?;
            helpers = helpers::end(&config.cri_socket).await;
        }
    }
    // Whatever still runs in there got away from the runtime, and would hold its mounts.
    Cgroups::new(&config.cgroup_root).remove_all()?;
    helpers?;
    if let Some(own) = &config.containerd {
        mounts::remove_tree(&own.state)?;
    }
    mounts::remove_tree(&config.root_dir)?;
    match std::fs::remove_dir_all(&config.pod_logs_dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
