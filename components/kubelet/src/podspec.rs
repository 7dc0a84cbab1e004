//! Pods and containers as the runtime takes them. Pure.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Capabilities, Container, Pod, PodSecurityContext, SeccompProfile, SecurityContext};

use crate::cri::api;
use crate::env::expand;
use crate::labels;
use crate::lifecycle::{init_containers, spec_hash};

/// What a sandbox is made from, beside the pod.
pub struct SandboxFacts<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Its cgroup.
    pub cgroup_parent: String,
    /// Resolver settings.
    pub dns: api::DnsConfig,
    /// Host name; empty on the host's network.
    pub hostname: String,
    /// Folder of its logs.
    pub log_directory: String,
    /// How many came before it.
    pub attempt: u32,
}

/// Labels that lead from a sandbox or container to its pod.
fn pod_labels(pod: &Pod, node: &str) -> HashMap<String, String> {
    let metadata = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    HashMap::from([
        (labels::POD_NAME.to_owned(), text(&metadata.name)),
        (labels::POD_NAMESPACE.to_owned(), text(&metadata.namespace)),
        (labels::POD_UID.to_owned(), text(&metadata.uid)),
        (labels::NODE.to_owned(), node.to_owned()),
    ])
}

fn namespaces(pod: &Pod) -> api::NamespaceOption {
    let Some(spec) = &pod.spec else { return api::NamespaceOption::default() };
    let mode = |host: Option<bool>| if host == Some(true) { api::NamespaceMode::Node } else { api::NamespaceMode::Pod };
    let pid = if spec.host_pid == Some(true) {
        api::NamespaceMode::Node
    } else if spec.share_process_namespace == Some(true) {
        api::NamespaceMode::Pod
    } else {
        api::NamespaceMode::Container
    };
    api::NamespaceOption {
        network: mode(spec.host_network) as i32,
        ipc: mode(spec.host_ipc) as i32,
        pid: pid as i32,
        target_id: String::new(),
    }
}

fn int(value: Option<i64>) -> Option<api::Int64Value> {
    value.map(|value| api::Int64Value { value })
}

fn seccomp(profile: Option<&SeccompProfile>, privileged: bool) -> api::SecurityProfile {
    use api::security_profile::ProfileType;
    let (kind, reference) = match profile {
        _ if privileged => (ProfileType::Unconfined, String::new()),
        Some(profile) if profile.type_ == "RuntimeDefault" => (ProfileType::RuntimeDefault, String::new()),
        Some(profile) if profile.type_ == "Localhost" => {
            (ProfileType::Localhost, profile.localhost_profile.clone().unwrap_or_default())
        }
        _ => (ProfileType::Unconfined, String::new()),
    };
    api::SecurityProfile { profile_type: kind as i32, localhost_ref: reference }
}

fn is_privileged(context: Option<&SecurityContext>) -> bool {
    context.and_then(|context| context.privileged) == Some(true)
}

fn supplemental_groups(context: Option<&PodSecurityContext>) -> Vec<i64> {
    let Some(context) = context else { return Vec::new() };
    let mut groups: Vec<i64> = context.supplemental_groups.clone().unwrap_or_default();
    groups.extend(context.fs_group);
    groups
}

/// The sandbox of a pod.
pub fn sandbox(pod: &Pod, facts: &SandboxFacts<'_>) -> api::PodSandboxConfig {
    let empty = k8s_openapi::api::core::v1::PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let context = spec.security_context.as_ref();
    let all = || spec.containers.iter().chain(init_containers(spec));
    let privileged = all().any(|container| is_privileged(container.security_context.as_ref()));
    let sysctls = context.and_then(|context| context.sysctls.as_ref()).into_iter().flatten();
    let mut annotations: HashMap<String, String> = HashMap::new();
    annotations.insert(labels::GRACE_PERIOD.into(), spec.termination_grace_period_seconds.unwrap_or(30).to_string());
    let mut found = pod_labels(pod, facts.node);
    for (key, value) in pod.metadata.labels.iter().flatten() {
        found.entry(key.clone()).or_insert_with(|| value.clone());
    }
    api::PodSandboxConfig {
        metadata: Some(api::PodSandboxMetadata {
            name: pod.metadata.name.clone().unwrap_or_default(),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            attempt: facts.attempt,
        }),
        hostname: facts.hostname.clone(),
        log_directory: facts.log_directory.clone(),
        dns_config: Some(facts.dns.clone()),
        port_mappings: if spec.host_network == Some(true) {
            Vec::new()
        } else {
            all().flat_map(port_mappings).collect()
        },
        labels: found,
        annotations,
        linux: Some(api::LinuxPodSandboxConfig {
            cgroup_parent: facts.cgroup_parent.clone(),
            sysctls: sysctls.map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect(),
            security_context: Some(api::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(pod)),
                run_as_user: int(context.and_then(|context| context.run_as_user)),
                run_as_group: int(context
                    .filter(|context| context.run_as_user.is_some())
                    .and_then(|context| context.run_as_group)),
                supplemental_groups: supplemental_groups(context),
                privileged,
                seccomp: Some(seccomp(None, privileged)),
                ..api::LinuxSandboxSecurityContext::default()
            }),
            ..api::LinuxPodSandboxConfig::default()
        }),
    }
}

fn port_mappings(container: &Container) -> Vec<api::PortMapping> {
    let ports = container.ports.iter().flatten();
    ports
        .filter(|port| port.host_port.is_some_and(|port| port > 0))
        .map(|port| api::PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => api::Protocol::Udp,
                Some("SCTP") => api::Protocol::Sctp,
                _ => api::Protocol::Tcp,
            } as i32,
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or_default(),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

/// What a container is made from, beside the pod.
pub struct ContainerFacts<'a> {
    /// The node's name.
    pub node: &'a str,
    /// How many came before it.
    pub attempt: u32,
    /// The image as the runtime has it.
    pub image: &'a api::Image,
    /// Its environment.
    pub env: Vec<(String, Vec<u8>)>,
    /// Its mounts.
    pub mounts: Vec<api::Mount>,
    /// Its limits.
    pub resources: api::LinuxContainerResources,
}

/// Why a container must not be made, in upstream's words.
///
/// # Errors
/// If the pod forbids root and the image or the specification wants it.
pub fn verify_user(pod: &Pod, container: &Container, image: &api::Image) -> Result<(), String> {
    let pod_context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let own = container.security_context.as_ref();
    let non_root = own.and_then(|own| own.run_as_non_root).or(pod_context.and_then(|c| c.run_as_non_root));
    if non_root != Some(true) {
        return Ok(());
    }
    let user = own.and_then(|own| own.run_as_user).or(pod_context.and_then(|context| context.run_as_user));
    let name = container.name.as_str();
    match (user, image.uid.as_ref().map(|uid| uid.value)) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy (container: {name})")),
        (Some(_), _) => Ok(()),
        (None, Some(0)) => Err(format!("container has runAsNonRoot and image will run as root (container: {name})")),
        (None, None) if !image.username.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root (container: {name})",
            image.username
        )),
        (None, None) => Err(format!("container has runAsNonRoot and image will run as root (container: {name})")),
        (None, Some(_)) => Ok(()),
    }
}

/// One container of a pod.
pub fn container(pod: &Pod, container: &Container, facts: ContainerFacts<'_>) -> api::ContainerConfig {
    let lookup = |name: &str| {
        let found = facts.env.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    let expanded =
        |list: &Option<Vec<String>>| list.iter().flatten().map(|text| expand(text, lookup)).collect::<Vec<_>>();
    let mut found = pod_labels(pod, facts.node);
    found.insert(labels::CONTAINER_NAME.into(), container.name.clone());
    let path = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
    let annotations = HashMap::from([
        (labels::HASH.to_owned(), spec_hash(container)),
        (labels::RESTART_COUNT.to_owned(), facts.attempt.to_string()),
        (labels::TERMINATION_MESSAGE_PATH.to_owned(), path.to_owned()),
        (labels::TERMINATION_MESSAGE_POLICY.to_owned(), policy.to_owned()),
        (labels::GRACE_PERIOD.to_owned(), grace.to_string()),
    ]);
    api::ContainerConfig {
        metadata: Some(api::ContainerMetadata { name: container.name.clone(), attempt: facts.attempt }),
        image: Some(api::ImageSpec {
            image: facts.image.id.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            annotations: HashMap::new(),
        }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        log_path: format!("{}/{}.log", container.name, facts.attempt),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        labels: found,
        annotations,
        linux: Some(api::LinuxContainerConfig {
            resources: Some(facts.resources),
            security_context: Some(security(pod, container, facts.image)),
        }),
        envs: facts.env.into_iter().map(|(key, value)| api::KeyValue { key, value }).collect(),
        mounts: facts.mounts,
        devices: Vec::new(),
    }
}

fn security(pod: &Pod, container: &Container, image: &api::Image) -> api::LinuxContainerSecurityContext {
    let pod_context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let own = container.security_context.as_ref();
    let privileged = is_privileged(own);
    let user = own.and_then(|own| own.run_as_user).or(pod_context.and_then(|context| context.run_as_user));
    let group = own.and_then(|own| own.run_as_group).or(pod_context.and_then(|context| context.run_as_group));
    let profile = own
        .and_then(|own| own.seccomp_profile.as_ref())
        .or(pod_context.and_then(|context| context.seccomp_profile.as_ref()));
    let unmasked = own.and_then(|own| own.proc_mount.as_deref()) == Some("Unmasked");
    let paths = |list: &[&str]| {
        if privileged || unmasked { Vec::new() } else { list.iter().map(|path| (*path).to_owned()).collect() }
    };
    // A group without a user is refused by the runtime: the image's own user is meant.
    let (user, username) = match user {
        Some(user) => (Some(user), String::new()),
        None if group.is_some() => match &image.uid {
            Some(uid) => (Some(uid.value), String::new()),
            None if image.username.is_empty() => (Some(0), String::new()),
            None => (None, image.username.clone()),
        },
        None => (None, String::new()),
    };
    api::LinuxContainerSecurityContext {
        capabilities: own.and_then(|own| own.capabilities.as_ref()).map(capabilities),
        privileged,
        namespace_options: Some(namespaces(pod)),
        run_as_user: int(user),
        run_as_username: username,
        run_as_group: int(group),
        readonly_rootfs: own.and_then(|own| own.read_only_root_filesystem) == Some(true),
        supplemental_groups: supplemental_groups(pod_context),
        no_new_privs: own.and_then(|own| own.allow_privilege_escalation) == Some(false),
        masked_paths: paths(&[
            "/proc/asound",
            "/proc/acpi",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/proc/scsi",
            "/sys/firmware",
            "/sys/devices/virtual/powercap",
        ]),
        readonly_paths: paths(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
        seccomp: Some(seccomp(profile, privileged)),
        ..api::LinuxContainerSecurityContext::default()
    }
}

fn capabilities(found: &Capabilities) -> api::Capability {
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    api::Capability { add_capabilities: list(&found.add), drop_capabilities: list(&found.drop) }
}
