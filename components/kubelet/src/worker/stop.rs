//! Stopping containers: hooks first, then signals, all within the grace period.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use tracing::warn;

use crate::cri::CriError;
use crate::events::{Level, pod_reference};
use crate::handlers;
use crate::lifecycle::{init_containers, is_sidecar};
use crate::runtime::{self, PodRuntime};
use crate::shared::Shared;

/// However long a hook took, the container's processes get this long to end.
const SIGNAL_GRACE_SHORTEST: Duration = Duration::from_secs(2);

/// Containers whose preStop hook has begun: it runs once, however often stopping is begun anew.
pub type Hooked = parking_lot::Mutex<std::collections::BTreeSet<String>>;

/// The grace period of a pod: what its deletion says, or its specification.
pub fn grace_of(pod: &Pod) -> Duration {
    let deletion = pod.metadata.deletion_timestamp.as_ref().and(pod.metadata.deletion_grace_period_seconds);
    let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    let seconds = deletion.or(own).unwrap_or(30);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1))
}

/// Runs a hook. HTTP hooks have no timeout of their own, the caller has.
pub async fn hook(
    shared: &Shared,
    container: &Container,
    id: &str,
    pod_ip: &str,
    handler: &LifecycleHandler,
) -> Result<(), String> {
    const NO_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
    if let Some(action) = &handler.exec {
        handlers::exec(&shared.cri, id, action, Duration::ZERO).await
    } else if let Some(action) = &handler.http_get {
        handlers::http_get(action, container, pod_ip, NO_TIMEOUT, "kube-lifecycle/1.36").await
    } else if let Some(action) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0))).await;
        Ok(())
    } else {
        Err("unsupported lifecycle handler".to_owned())
    }
}

/// Stops one container: its preStop hook, SIGTERM, and SIGKILL at the end of the grace period.
///
/// # Errors
/// If the runtime does not do it.
pub async fn container(
    shared: &Shared,
    pod: &Pod,
    spec: Option<&Container>,
    observed: &runtime::Container,
    pod_ip: &str,
    grace: Duration,
    hooked: &Hooked,
) -> Result<(), CriError> {
    let begun = Instant::now();
    let hook_of = |spec: &Container| spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.clone());
    let handler = spec.and_then(hook_of).filter(|_| !grace.is_zero());
    let first = handler.is_some() && hooked.lock().insert(observed.id.clone());
    if let (Some(spec), Some(handler), true) = (spec, handler, first) {
        let run = hook(shared, spec, &observed.id, pod_ip, &handler);
        match tokio::time::timeout(grace, run).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => {
                let reference = pod_reference(pod, Some((&observed.name, false)));
                shared.events.record(reference, Level::Warning, "FailedPreStopHook", "PreStopHook failed");
                warn!(container = observed.name, "preStop hook failed: {why}");
            }
            Err(_) => warn!(container = observed.name, "preStop hook did not end within the grace period"),
        }
    }
    let left = grace.saturating_sub(begun.elapsed()).max(SIGNAL_GRACE_SHORTEST.min(grace));
    shared.cri.stop_container(&observed.id, left).await
}

/// Stops all running containers of a pod, ordinary ones together, then sidecars in reverse order of their start.
///
/// # Errors
/// The first failure; the others are stopped all the same.
pub async fn all(
    shared: &Arc<Shared>,
    pod: &Pod,
    seen: &PodRuntime,
    grace: Duration,
    hooked: &Hooked,
) -> Result<(), CriError> {
    let begun = Instant::now();
    let empty = k8s_openapi::api::core::v1::PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let pod_ip = pod_ip(shared, pod, seen);
    let sidecar = |name: &str| init_containers(spec).iter().any(|c| c.name == name && is_sidecar(c));
    let of = |name: &str| spec.containers.iter().chain(init_containers(spec)).find(|c| c.name == name);
    let ordinary = seen.running().filter(|observed| !sidecar(&observed.name));
    let stops = ordinary.map(|observed| container(shared, pod, of(&observed.name), observed, &pod_ip, grace, hooked));
    let mut result = futures::future::join_all(stops).await.into_iter().collect::<Result<Vec<()>, _>>().map(drop);
    for side in init_containers(spec).iter().rev().filter(|container| is_sidecar(container)) {
        for observed in seen.running().filter(|observed| observed.name == side.name) {
            let left = grace.saturating_sub(begun.elapsed());
            result = result.and(container(shared, pod, Some(side), observed, &pod_ip, left, hooked).await);
        }
    }
    result
}

/// The address under which probes and hooks reach a pod.
pub fn pod_ip(shared: &Shared, pod: &Pod, seen: &PodRuntime) -> String {
    if pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true) {
        return shared.config.node_ip.to_string();
    }
    let sandbox = seen.sandboxes.iter().find_map(|sandbox| sandbox.ips.first().cloned());
    sandbox.or_else(|| pod.status.as_ref().and_then(|status| status.pod_ip.clone())).unwrap_or_default()
}
