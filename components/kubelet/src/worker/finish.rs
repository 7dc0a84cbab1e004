//! The end of a pod: containers stopped within the grace period, volumes and cgroup taken down, the last status told,
//! and only then the API object removed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use navarch_client::client::DeleteOptions;
use navarch_types::Reason;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{Next, PodWorker, Verdict, stop};
use crate::events::Level;
use crate::lifecycle::init_containers;
use crate::resources::Qos;
use crate::shared::Desired;
use crate::volumes;

/// A pod that is over and not deleted has nothing to do.
const OVER: SignedDuration = SignedDuration::from_hours(1);
/// After something refused to go.
const RETRY: SignedDuration = SignedDuration::from_secs(1);

impl PodWorker {
    /// Brings the pod to its end, as far as it can now.
    pub(super) async fn finish(
        &mut self,
        wish: &Desired,
        verdict: Option<Verdict>,
        desired: &mut watch::Receiver<Desired>,
    ) -> Next {
        let now = Timestamp::now();
        let later = |wait: SignedDuration| Next::At(now.checked_add(wait).unwrap_or(now));
        if verdict.is_some() {
            self.verdict = verdict;
        }
        self.end_probes();
        self.waiting.clear();
        if !self.seen.is_stopped() || !self.stopped {
            if !self.stop_everything(desired).await {
                return later(RETRY);
            }
            self.stopped = true;
        }
        let deleted = wish.gone || self.pod.metadata.deletion_timestamp.is_some();
        let number = self.report(true);
        if !self.cleaned {
            if !self.clean_up().await {
                return later(RETRY);
            }
            self.cleaned = true;
        }
        if !deleted {
            return later(OVER);
        }
        if !wish.gone && !self.progress.borrow().gone && self.progress.borrow().number < number {
            // The end of reporting wakes the worker.
            return later(OVER);
        }
        if !self.remove_from_runtime().await {
            return later(RETRY);
        }
        if wish.gone {
            self.shared.pods.lock().remove(&self.handle.uid);
            info!(pod = self.handle.uid, "pod is gone");
            return Next::Done;
        }
        // The guard of the borrow must not live across the request.
        let gone = self.progress.borrow().gone;
        self.object_deleted = self.object_deleted || gone || self.delete_object().await;
        // The watch tells when it is gone: only then can no late event bring it back.
        later(if self.object_deleted { OVER } else { RETRY })
    }

    fn end_probes(&mut self) {
        self.begin_probes.clear();
        self.end_probes.extend(std::mem::take(&mut self.probing));
    }

    /// Stops containers and sandboxes. A shorter grace period that arrives meanwhile counts from the beginning.
    async fn stop_everything(&mut self, desired: &mut watch::Receiver<Desired>) -> bool {
        let begun = Instant::now();
        let mut told = false;
        loop {
            let pod = Arc::clone(&self.pod);
            let grace = stop::grace_of(&pod);
            if !told {
                self.tell_stopping(&pod);
                told = true;
            }
            let left = grace.saturating_sub(begun.elapsed());
            let stopping = async {
                stop::all(&self.shared, &pod, &self.seen, left, &self.hooked).await?;
                for sandbox in &self.seen.sandboxes {
                    if sandbox.ready {
                        self.shared.cri.stop_pod_sandbox(&sandbox.id).await?;
                    }
                }
                Ok::<(), crate::cri::CriError>(())
            };
            let shorter = |wish: &Desired| stop::grace_of(&wish.pod) < grace;
            let mut wishes = desired.clone();
            let stopped = tokio::select! {
                stopped = stopping => Some(stopped),
                found = wishes.wait_for(shorter) => {
                    if let Ok(found) = found {
                        self.pod = Arc::clone(&found.pod);
                    }
                    None
                }
            };
            match stopped {
                None => continue,
                Some(Err(error)) => {
                    debug!(pod = self.handle.uid, "cannot stop a pod: {error}");
                    return false;
                }
                Some(Ok(())) => {}
            }
            return self.observe().await.is_ok() && self.seen.is_stopped();
        }
    }

    fn tell_stopping(&self, pod: &Pod) {
        for observed in self.seen.running() {
            let init = pod.spec.iter().flat_map(init_containers).any(|container| container.name == observed.name);
            let message = format!("Stopping container {}", observed.name);
            self.tell(Some((&observed.name, init)), Level::Normal, "Killing", message);
        }
    }

    /// Takes volumes and cgroup down. Logs and dead containers stay until the pod is deleted.
    async fn clean_up(&mut self) -> bool {
        let folder = self.pod_dir();
        let removed = tokio::task::spawn_blocking(move || {
            volumes::mounts::remove_tree(&folder.join("volume-subpaths"))?;
            volumes::mounts::remove_tree(&folder.join("volumes"))
        });
        match removed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(pod = self.handle.uid, "cannot take volumes down: {error}");
                return false;
            }
            Err(error) => {
                warn!(pod = self.handle.uid, "cannot take volumes down: {error}");
                return false;
            }
        }
        self.volumes = None;
        self.volumes_stale = true;
        if let Err(error) = self.shared.cgroups.remove_pod(Qos::of(&self.pod), &self.handle.uid) {
            // The last process may still be on its way out.
            tokio::time::sleep(Duration::from_millis(50)).await;
            if self.shared.cgroups.remove_pod(Qos::of(&self.pod), &self.handle.uid).is_err() {
                debug!(pod = self.handle.uid, "cannot remove the cgroup yet: {error}");
                return false;
            }
        }
        true
    }

    /// Removes containers, sandboxes, logs and the pod's folder.
    async fn remove_from_runtime(&mut self) -> bool {
        for sandbox in &self.seen.sandboxes {
            // The network must be down even if the sandbox died by itself.
            let stopped = self.shared.cri.stop_pod_sandbox(&sandbox.id).await;
            if stopped.and(self.shared.cri.remove_pod_sandbox(&sandbox.id).await).is_err() {
                return false;
            }
        }
        for container in &self.seen.containers {
            if self.shared.cri.remove_container(&container.id).await.is_err() {
                return false;
            }
        }
        let metadata = &self.pod.metadata;
        let logs = self.shared.config.pod_log_dir(
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
            &self.handle.uid,
        );
        let folder = self.pod_dir();
        let removed = tokio::task::spawn_blocking(move || {
            let _ = std::fs::remove_dir_all(logs);
            volumes::mounts::remove_tree(&folder)
        });
        matches!(removed.await, Ok(Ok(())))
    }

    /// Removes the API object, if it is still this pod's.
    async fn delete_object(&self) -> bool {
        let metadata = &self.pod.metadata;
        let api = self.shared.client.namespaced::<Pod>(metadata.namespace.as_deref().unwrap_or_default());
        let options = DeleteOptions {
            uid: Some(self.handle.uid.clone()),
            grace_period_seconds: Some(0),
            ..DeleteOptions::default()
        };
        match api.delete(metadata.name.as_deref().unwrap_or_default(), &options).await {
            Ok(()) => true,
            Err(error) if error.is(Reason::NotFound) || error.is(Reason::Conflict) => true,
            Err(error) => {
                debug!(pod = self.handle.uid, "cannot remove the pod's object: {error}");
                false
            }
        }
    }
}
