//! What the node says of itself: addresses, conditions, what it has, its software, its images.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::cri::CriError;
use crate::shared::Shared;

/// Upstream's thresholds below which a node is under pressure.
const MEMORY_BYTES_MIN: i64 = 100 << 20;
const DISK_FREE_PERCENT_MIN: u64 = 10;
const INODES_FREE_PERCENT_MIN: u64 = 5;
/// Images named in the status, the largest first.
const IMAGES_MAX: usize = 50;
/// Names given of one image.
const IMAGE_NAMES_MAX: usize = 5;
/// The version that clients see; its minor version is what the agent implements.
const KUBELET_VERSION: &str = "v1.36.0";

/// A file system's size and use.
pub struct Disk {
    /// Its size.
    pub total_bytes: u64,
    free_percent: u64,
    inodes_free_percent: u64,
}

/// The file system of a path, or of its nearest parent that exists.
pub fn disk(path: &Path) -> Option<Disk> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
    let stat = rustix::fs::statvfs(existing).ok()?;
    let percent = |part: u64, whole: u64| part.saturating_mul(100).checked_div(whole).unwrap_or(100);
    Some(Disk {
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        free_percent: percent(stat.f_bavail, stat.f_blocks),
        inodes_free_percent: percent(stat.f_favail, stat.f_files),
    })
}

/// One value of the kernel's memory table, in KiB.
pub fn meminfo(name: &str) -> Option<i64> {
    let table = fs::read_to_string("/proc/meminfo").ok()?;
    let line = table.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Whether the status says so.
pub fn is_ready(status: &NodeStatus) -> bool {
    status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether two say the same, heartbeats aside.
pub fn same(one: &NodeStatus, other: &NodeStatus) -> bool {
    let plain = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    plain(one) == plain(other)
}

/// The status now. `old` gives the times of transitions.
pub async fn gather(shared: &Shared, old: &NodeStatus) -> NodeStatus {
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut conditions = pressures(shared);
    conditions.push(match not_ready(shared).await {
        None => draft("Ready", true, "KubeletReady", "kubelet is posting ready status".into()),
        Some(why) => draft("Ready", false, "KubeletNotReady", why),
    });
    for condition in &mut conditions {
        let before = old.conditions.iter().flatten();
        let before = before.into_iter().find(|old| old.type_ == condition.type_ && old.status == condition.status);
        condition.last_heartbeat_time = Some(Time(now));
        condition.last_transition_time = before.and_then(|old| old.last_transition_time.clone()).or(Some(Time(now)));
    }
    let config = &shared.config;
    let address = |kind: &str, address: String| NodeAddress { type_: kind.into(), address };
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", config.node_ip.to_string()),
            address("Hostname", config.hostname.clone()),
        ]),
        conditions: Some(conditions),
        capacity: Some(shared.capacity.clone()),
        allocatable: Some(shared.allocatable.clone()),
        daemon_endpoints: config.server.as_ref().map(|server| NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(server.listen.port()) }),
        }),
        node_info: Some(node_info(shared).await),
        images: Some(images(shared).await),
        ..NodeStatus::default()
    }
}

fn draft(kind: &str, yes: bool, reason: &str, message: String) -> NodeCondition {
    NodeCondition {
        type_: kind.into(),
        status: if yes { "True" } else { "False" }.into(),
        reason: Some(reason.into()),
        message: Some(message),
        ..NodeCondition::default()
    }
}

fn pressures(shared: &Shared) -> Vec<NodeCondition> {
    let memory = meminfo("MemAvailable").is_some_and(|kib| kib * 1024 < MEMORY_BYTES_MIN);
    let disk = disk(&shared.config.root_dir).is_some_and(|disk| {
        disk.free_percent < DISK_FREE_PERCENT_MIN || disk.inodes_free_percent < INODES_FREE_PERCENT_MIN
    });
    let pids = pids_short();
    let one = |kind: &str, bad: bool, yes: (&str, &str), no: (&str, &str)| {
        let (reason, message) = if bad { yes } else { no };
        draft(kind, bad, reason, message.to_owned())
    };
    vec![
        one(
            "MemoryPressure",
            memory,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        one(
            "DiskPressure",
            disk,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        one(
            "PIDPressure",
            pids,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
    ]
}

/// Whether nine tenths of all process ids are taken.
fn pids_short() -> bool {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let max = number("/proc/sys/kernel/pid_max").unwrap_or(u64::MAX);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let tasks = load.split_whitespace().nth(3).and_then(|part| part.split('/').nth(1)).and_then(|n| n.parse().ok());
    tasks.unwrap_or(0_u64).saturating_mul(10) > max.saturating_mul(9)
}

/// Why the node cannot run pods.
async fn not_ready(shared: &Shared) -> Option<String> {
    let status = match shared.cri.status().await {
        Ok(status) => status,
        Err(CriError::Unavailable(_)) => return Some("container runtime is down".to_owned()),
        Err(error) => return Some(format!("container runtime status check may not have completed yet: {error}")),
    };
    let conditions = status.status.map(|status| status.conditions).unwrap_or_default();
    let bad = conditions.iter().find(|condition| !condition.status)?;
    let what = match bad.r#type.as_str() {
        "NetworkReady" => "container runtime network not ready",
        _ => "container runtime not ready",
    };
    Some(format!("{what}: {}=false reason:{} message:{}", bad.r#type, bad.reason, bad.message))
}

async fn node_info(shared: &Shared) -> NodeSystemInfo {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let machine = read("/etc/machine-id");
    let product = read("/sys/class/dmi/id/product_uuid");
    let runtime = match shared.cri.version().await {
        Ok(version) => format!("{}://{}", version.runtime_name, version.runtime_version),
        Err(_) => {
            let before = shared.node.borrow().clone();
            let before = before.and_then(|node| node.status.as_ref()?.node_info.clone());
            before.map(|info| info.container_runtime_version).unwrap_or_default()
        }
    };
    NodeSystemInfo {
        architecture: crate::image::architecture().into(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: runtime,
        kernel_version: read("/proc/sys/kernel/osrelease"),
        kubelet_version: KUBELET_VERSION.into(),
        operating_system: "linux".into(),
        os_image: pretty.unwrap_or("Linux").trim_matches('"').to_owned(),
        system_uuid: if product.is_empty() { machine.clone() } else { product },
        machine_id: machine,
        ..NodeSystemInfo::default()
    }
}

async fn images(shared: &Shared) -> Vec<ContainerImage> {
    let mut all = shared.cri.list_images().await.unwrap_or_default();
    all.sort_by(|one, other| (other.size, &one.id).cmp(&(one.size, &other.id)));
    all.truncate(IMAGES_MAX);
    all.into_iter()
        .map(|image| {
            let names = image.repo_digests.into_iter().chain(image.repo_tags).take(IMAGE_NAMES_MAX).collect();
            ContainerImage { names: Some(names), size_bytes: i64::try_from(image.size).ok() }
        })
        .collect()
}
