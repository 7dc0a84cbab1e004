//! Starting: volumes, sandbox, containers. Each failure has upstream's reason, and is tried again by the worker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Secret};

use super::{PodWorker, stop};
use crate::cri::api;
use crate::env::{self, NodeFacts, Referred};
use crate::events::{Level, pod_reference};
use crate::hostfiles;
use crate::images;
use crate::lifecycle::{Slot, Start};
use crate::podspec::{self, ContainerFacts, SandboxFacts};
use crate::resources::cgroup::pod_limits;
use crate::resources::{Qos, linux_resources};
use crate::volumes::{self, Objects, VolumePaths, payload};

/// Why something did not start: `state.waiting`'s reason and message.
pub(super) type Failure = (String, String);

fn failure(reason: &str, message: impl Into<String>) -> Failure {
    (reason.to_owned(), message.into())
}

/// How long the first list of Services may take.
const SERVICES_DEADLINE: Duration = Duration::from_secs(10);
/// More of a termination message is not shown.
pub(super) const MESSAGE_BYTES_MAX: usize = 4096;

impl PodWorker {
    pub(super) fn facts(&self) -> NodeFacts {
        let host_network = self.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        let node_ip = self.shared.config.node_ip.to_string();
        let sandbox = self.seen.ready_sandbox();
        let pod_ips = match sandbox {
            Some(_) if host_network => vec![node_ip.clone()],
            Some(sandbox) => sandbox.ips.clone(),
            None => Vec::new(),
        };
        NodeFacts { node_ip, pod_ips, allocatable: self.shared.allocatable.clone() }
    }

    /// Follows everything that the pod refers to.
    pub(super) fn follow(&mut self) {
        let (mut config_maps, mut secrets) = env::references(&self.pod);
        let (more_maps, more_secrets) = payload::references(&self.pod);
        config_maps.extend(more_maps);
        secrets.extend(more_secrets);
        let pull = self.pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
        secrets.extend(pull.map(|reference| reference.name.clone()));
        let namespace = self.pod.metadata.namespace.clone().unwrap_or_default();
        self.shared.sources.follow_names(&mut self.followed, &namespace, &config_maps, &secrets);
    }

    /// Makes or refreshes the volumes.
    pub(super) async fn set_up_volumes(&mut self) -> Result<(), String> {
        let tokens = self.tokens.all(&self.shared.client, &self.pod, Timestamp::now()).await?;
        let (config_maps, secrets) = self.followed.objects().await?;
        let objects = Objects { config_maps, secrets, tokens };
        let facts = self.facts();
        let pod = Arc::clone(&self.pod);
        let folder = self.pod_dir();
        let made = tokio::task::spawn_blocking(move || volumes::set_up(&pod, &folder, &objects, &facts))
            .await
            .map_err(|error| error.to_string())?;
        match made {
            Ok(paths) => {
                self.volumes = Some(paths);
                self.volumes_stale = false;
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn pod_dir(&self) -> std::path::PathBuf {
        self.shared.config.pod_dir(&self.handle.uid)
    }

    fn sandbox_config(&self, attempt: u32) -> api::PodSandboxConfig {
        let config = &self.shared.config;
        let metadata = &self.pod.metadata;
        let host = hostfiles::parse_resolv(&std::fs::read_to_string(&config.resolv_conf).unwrap_or_default());
        let dns = hostfiles::dns(&self.pod, &host, &config.cluster_dns, &config.cluster_domain);
        let host_network = self.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        let hostname =
            if host_network { String::new() } else { hostfiles::hostname(&self.pod, &config.cluster_domain).0 };
        let logs = config.pod_log_dir(
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
            &self.handle.uid,
        );
        let facts = SandboxFacts {
            node: &config.node_name,
            cgroup_parent: self.shared.cgroups.pod_path(Qos::of(&self.pod), &self.handle.uid),
            dns,
            hostname,
            log_directory: logs.to_string_lossy().into_owned(),
            attempt,
        };
        podspec::sandbox(&self.pod, &facts)
    }

    /// Makes the pod's cgroup and sandbox.
    pub(super) async fn create_sandbox(&mut self, attempt: u32) -> Result<(), String> {
        let config = self.sandbox_config(attempt);
        let limits = pod_limits(&self.pod, self.shared.config.pod_pids_max);
        self.shared.cgroups.create_pod(Qos::of(&self.pod), &self.handle.uid, limits).map_err(|error| {
            format!(
                "failed to ensure that the pod: {} cgroups exist and are correctly applied: {error}",
                self.handle.uid
            )
        })?;
        std::fs::create_dir_all(&config.log_directory).map_err(|error| error.to_string())?;
        if let Some(class) = self.pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref()) {
            let message = format!("Failed to create pod sandbox: RuntimeClass {class:?} is not supported on this node");
            self.tell(None, Level::Warning, "FailedCreatePodSandBox", message.clone());
            return Err(message);
        }
        match self.shared.cri.run_pod_sandbox(config, "").await {
            Ok(_) => Ok(()),
            Err(error) => {
                let message = format!("Failed to create pod sandbox: {error}");
                self.tell(None, Level::Warning, "FailedCreatePodSandBox", message.clone());
                Err(message)
            }
        }
    }

    /// Starts one container.
    pub(super) async fn start_container(&mut self, start: &Start) -> Result<(), Failure> {
        let pod = Arc::clone(&self.pod);
        let Some(container) = pod.spec.as_ref().and_then(|spec| start.slot.of(spec)) else { return Ok(()) };
        let init = matches!(start.slot, Slot::Init(_));
        let image = self.ensure_image(container, init).await?;
        let config_error = |message: String| failure("CreateContainerConfigError", message);
        let configured = self.configure(container, start, &image).await.map_err(config_error);
        let config = self.told(container, init, configured)?;
        let Some(sandbox) = self.seen.ready_sandbox().cloned() else {
            return Err(failure("ContainerCreating", ""));
        };
        let created = self
            .shared
            .cri
            .create_container(&sandbox.id, config, self.sandbox_config(sandbox.attempt))
            .await
            .map_err(|error| failure("CreateContainerError", error.words()));
        let id = self.told(container, init, created)?;
        self.tell(Some((&container.name, init)), Level::Normal, "Created", "Container created".to_owned());
        let started =
            self.shared.cri.start_container(&id).await.map_err(|error| failure("RunContainerError", error.words()));
        self.told(container, init, started)?;
        self.tell(Some((&container.name, init)), Level::Normal, "Started", "Container started".to_owned());
        self.post_start(&pod, container, init, &id).await
    }

    async fn ensure_image(&mut self, container: &Container, init: bool) -> Result<api::Image, Failure> {
        let secrets = self.pull_secrets().await;
        let reference = pod_reference(&self.pod, Some((&container.name, init)));
        let events = self.shared.events.clone();
        let tell = move |level: Level, reason: &str, message: String| {
            events.record(reference.clone(), level, reason, message);
        };
        let mut pulls = std::mem::take(&mut self.pulls);
        let ensured = images::ensure(&self.shared.cri, container, &secrets, &mut pulls, &tell).await;
        self.pulls = pulls;
        ensured.map_err(|error| {
            tell(Level::Warning, "Failed", format!("Error: {}", error.reason));
            failure(error.reason, error.message)
        })
    }

    async fn pull_secrets(&mut self) -> Vec<Arc<Secret>> {
        let names: Vec<String> = self
            .pod
            .spec
            .iter()
            .flat_map(|spec| spec.image_pull_secrets.iter().flatten())
            .map(|reference| reference.name.clone())
            .collect();
        if names.is_empty() {
            return Vec::new();
        }
        // One that cannot be had is left out: the registry says whether it was needed.
        let found = self.followed.objects().await.map(|(_, secrets)| secrets).unwrap_or_default();
        names.iter().filter_map(|name| found.get(name).cloned()).collect()
    }

    /// Passes a result on, and tells of a failure.
    fn told<T>(&self, container: &Container, init: bool, result: Result<T, Failure>) -> Result<T, Failure> {
        if let Err((_, message)) = &result {
            self.tell(Some((&container.name, init)), Level::Warning, "Failed", format!("Error: {message}"));
        }
        result
    }

    /// Everything the runtime has to know of a container.
    async fn configure(
        &mut self,
        container: &Container,
        start: &Start,
        image: &api::Image,
    ) -> Result<api::ContainerConfig, String> {
        podspec::verify_user(&self.pod, container, image)?;
        let (config_maps, secrets) = self.followed.objects().await?;
        let services = self.services().await?;
        let referred = Referred { config_maps, secrets, services };
        let env = env::environment(&self.pod, container, &referred, &self.facts()).map_err(|error| error.0)?;
        let prepared = Prepared {
            pod: Arc::clone(&self.pod),
            container: container.clone(),
            slot: container.name.clone(),
            attempt: start.attempt,
            pod_dir: self.pod_dir(),
            volumes: self.volumes.clone().unwrap_or_default(),
            env: env.clone(),
            ips: self.facts().pod_ips,
            cluster_domain: self.shared.config.cluster_domain.clone(),
        };
        let mounts =
            tokio::task::spawn_blocking(move || prepared.mounts()).await.map_err(|error| error.to_string())??;
        let facts = ContainerFacts {
            node: &self.shared.config.node_name,
            attempt: start.attempt,
            image,
            env,
            mounts,
            resources: linux_resources(&self.pod, container, self.shared.memory_bytes),
        };
        Ok(podspec::container(&self.pod, container, facts))
    }

    async fn services(&self) -> Result<Vec<Arc<k8s_openapi::api::core::v1::Service>>, String> {
        let mut services = self.shared.services.subscribe();
        let listed = tokio::time::timeout(SERVICES_DEADLINE, services.wait_for(Option::is_some)).await;
        match listed {
            Ok(Ok(services)) => Ok(services.clone().unwrap_or_default()),
            _ => Err("services have not yet been read at least once, cannot construct envvars".to_owned()),
        }
    }

    async fn post_start(&mut self, pod: &Pod, container: &Container, init: bool, id: &str) -> Result<(), Failure> {
        let handler = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(handler) = handler else { return Ok(()) };
        let pod_ip = stop::pod_ip(&self.shared, pod, &self.seen);
        let Err(why) = stop::hook(&self.shared, container, id, &pod_ip, handler).await else { return Ok(()) };
        let reference = Some((container.name.as_str(), init));
        self.tell(reference, Level::Warning, "FailedPostStartHook", "PostStartHook failed".to_owned());
        tracing::info!(container = container.name, "postStart hook failed: {why}");
        self.tell(reference, Level::Normal, "Killing", "FailedPostStartHook".to_owned());
        let _ = self.shared.cri.stop_container(id, stop::grace_of(pod)).await;
        Err(failure("PostStartHookError", "PostStartHook failed"))
    }
}

/// What is needed to make a container's mounts, off the worker's thread.
struct Prepared {
    pod: Arc<Pod>,
    container: Container,
    slot: String,
    attempt: u32,
    pod_dir: std::path::PathBuf,
    volumes: VolumePaths,
    env: Vec<(String, Vec<u8>)>,
    ips: Vec<String>,
    cluster_domain: String,
}

impl Prepared {
    fn mounts(&self) -> Result<Vec<api::Mount>, String> {
        let text = |error: std::io::Error| error.to_string();
        let mut mounts =
            volumes::container_mounts(&self.container, &self.slot, &self.pod_dir, &self.volumes, &self.env)?;
        let own: BTreeMap<&str, ()> =
            self.container.volume_mounts.iter().flatten().map(|mount| (mount.mount_path.as_str(), ())).collect();
        let folder = self.pod_dir.join("containers").join(&self.container.name);
        std::fs::create_dir_all(&folder).map_err(text)?;
        let mut add = |container_path: &str, host: &std::path::Path| {
            mounts.push(api::Mount {
                container_path: container_path.to_owned(),
                host_path: host.to_string_lossy().into_owned(),
                ..api::Mount::default()
            });
        };
        if !own.contains_key("/etc/hosts") {
            let spec = self.pod.spec.as_ref();
            let host_network = spec.and_then(|spec| spec.host_network) == Some(true);
            let host_file = host_network.then(|| std::fs::read_to_string("/etc/hosts").unwrap_or_default());
            let hosts = hostfiles::hosts(&self.pod, &self.ips, &self.cluster_domain, host_file.as_deref());
            let path = self.pod_dir.join("etc-hosts");
            std::fs::write(&path, hosts).map_err(text)?;
            add("/etc/hosts", &path);
        }
        let message = self.container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
        if !message.is_empty() {
            let path = message_file(&self.pod_dir, &self.container.name, self.attempt);
            std::fs::write(&path, b"").map_err(text)?;
            // The container's user need not be root.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
            std::fs::set_permissions(&path, mode).map_err(text)?;
            add(message, &path);
        }
        Ok(mounts)
    }
}

/// Where a container's termination message is on the host.
pub(super) fn message_file(pod_dir: &std::path::Path, container: &str, attempt: u32) -> std::path::PathBuf {
    pod_dir.join("containers").join(container).join(attempt.to_string())
}
