//! The pods' part of the cgroup tree, of both versions: one folder a class of service, one a pod. Containers' own
//! folders are the runtime's business; it makes them below the pod's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;

use super::{CPU_PERIOD_US, Qos, cpu_quota, cpu_shares, limits, pod_request, requests};

/// The cgroup tree of one node agent.
#[derive(Clone, Debug)]
pub struct Cgroups {
    mount: PathBuf,
    root: String,
    unified: bool,
}

/// A pod's limits in the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodLimits {
    /// `cpu.shares`.
    pub cpu_shares: i64,
    /// `cpu.cfs_quota_us`; 0 is none.
    pub cpu_quota: i64,
    /// `memory.limit_in_bytes`; 0 is none.
    pub memory_bytes: i64,
    /// `pids.max`.
    pub pids_max: Option<u64>,
}

/// The limits of a whole pod. One container without a limit leaves the pod without.
pub fn pod_limits(pod: &Pod, pids_max: Option<u64>) -> PodLimits {
    let Some(spec) = &pod.spec else { return PodLimits { cpu_shares: 2, cpu_quota: 0, memory_bytes: 0, pids_max } };
    let all_have = |name: &str| {
        let mut all = spec.containers.iter().chain(super::init_containers(spec));
        all.all(|container| super::milli_of(limits(container), name) > 0)
    };
    let limit = |name: &str| if all_have(name) { pod_request(spec, name, limits) } else { 0 };
    PodLimits {
        cpu_shares: cpu_shares(pod_request(spec, "cpu", requests)),
        cpu_quota: cpu_quota(limit("cpu")),
        memory_bytes: limit("memory") / 1000,
        pids_max,
    }
}

/// Controllers of version 1 in which the agent itself sets something.
const SET_IN: [&str; 3] = ["cpu", "memory", "pids"];

impl Cgroups {
    /// The tree below `root` (`/kubepods`), with the version that the machine has.
    pub fn new(root: &str) -> Self {
        let mount = PathBuf::from("/sys/fs/cgroup");
        let unified = mount.join("cgroup.controllers").exists();
        Self { mount, root: format!("/{}", root.trim_matches('/')), unified }
    }

    /// Whether the machine has version 2.
    pub fn is_unified(&self) -> bool {
        self.unified
    }

    /// The cgroup of a pod, as the runtime takes it.
    pub fn pod_path(&self, qos: Qos, uid: &str) -> String {
        let root = &self.root;
        match qos {
            Qos::Guaranteed => format!("{root}/pod{uid}"),
            Qos::Burstable => format!("{root}/burstable/pod{uid}"),
            Qos::BestEffort => format!("{root}/besteffort/pod{uid}"),
        }
    }

    fn folder(&self, controller: &str, path: &str) -> PathBuf {
        let base = if self.unified { self.mount.clone() } else { self.mount.join(controller) };
        base.join(path.trim_start_matches('/'))
    }

    /// Makes the folders of the classes.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn ensure_classes(&self) -> io::Result<()> {
        for class in ["", "/burstable", "/besteffort"] {
            let path = format!("{}{class}", self.root);
            self.make(&path)?;
            if class == "/besteffort" {
                self.set_shares(&path, 2)?;
            }
        }
        Ok(())
    }

    /// Gives the burstable class the sum of its pods' requests, so that it is not starved by guaranteed ones.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_burstable_shares(&self, milli: i64) -> io::Result<()> {
        self.set_shares(&format!("{}/burstable", self.root), cpu_shares(milli))
    }

    /// Makes a pod's folder and sets its limits.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn create_pod(&self, qos: Qos, uid: &str, limits: PodLimits) -> io::Result<()> {
        let path = self.pod_path(qos, uid);
        self.make(&path)?;
        self.set_shares(&path, limits.cpu_shares)?;
        if self.unified {
            if limits.cpu_quota > 0 {
                self.write("cpu", &path, "cpu.max", &format!("{} {CPU_PERIOD_US}", limits.cpu_quota))?;
            }
            if limits.memory_bytes > 0 {
                self.write("memory", &path, "memory.max", &limits.memory_bytes.to_string())?;
            }
        } else {
            if limits.cpu_quota > 0 {
                self.write("cpu", &path, "cpu.cfs_period_us", &CPU_PERIOD_US.to_string())?;
                self.write("cpu", &path, "cpu.cfs_quota_us", &limits.cpu_quota.to_string())?;
            }
            if limits.memory_bytes > 0 {
                self.write("memory", &path, "memory.limit_in_bytes", &limits.memory_bytes.to_string())?;
            }
        }
        if let Some(pids) = limits.pids_max {
            self.write("pids", &path, "pids.max", &pids.to_string())?;
        }
        Ok(())
    }

    /// Removes a pod's folders from every hierarchy, those of containers that ended with them. The pod's containers must
    /// have ended, so what still runs in there got away from the runtime, and is killed.
    ///
    /// # Errors
    /// If a process is still in one; it may be on its way out.
    pub fn remove_pod(&self, qos: Qos, uid: &str) -> io::Result<()> {
        self.remove(&self.pod_path(qos, uid))
    }

    /// Removes everything of this tree, killing what got away from the runtime. Blocks until the last process is gone.
    ///
    /// # Errors
    /// If a process is still in it after five seconds.
    pub fn remove_all(&self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match self.remove(&self.root) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                done => return done,
            }
        }
    }

    /// The uids of all pods that have a folder, with their classes.
    pub fn pods(&self) -> Vec<(Qos, String)> {
        let mut found = Vec::new();
        let classes = [(Qos::Guaranteed, ""), (Qos::Burstable, "/burstable"), (Qos::BestEffort, "/besteffort")];
        for (qos, class) in classes {
            let folder = self.folder("memory", &format!("{}{class}", self.root));
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if let Some(uid) = entry.file_name().to_string_lossy().strip_prefix("pod") {
                    found.push((qos, uid.to_owned()));
                }
            }
        }
        found
    }

    fn set_shares(&self, path: &str, shares: i64) -> io::Result<()> {
        if self.unified {
            let weight = 1 + ((shares - 2) * 9999) / 262_142;
            self.write("cpu", path, "cpu.weight", &weight.to_string())
        } else {
            self.write("cpu", path, "cpu.shares", &shares.to_string())
        }
    }

    fn write(&self, controller: &str, path: &str, file: &str, value: &str) -> io::Result<()> {
        let target = self.folder(controller, path).join(file);
        fs::write(&target, value).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot write {value} to {}: {error}", target.display()))
        })
    }

    fn make(&self, path: &str) -> io::Result<()> {
        if !self.unified {
            for controller in SET_IN {
                fs::create_dir_all(self.folder(controller, path))?;
            }
            return Ok(());
        }
        // Controllers reach a folder only if every folder above hands them down.
        let mut at = self.mount.clone();
        for part in path.trim_matches('/').split('/') {
            let available = fs::read_to_string(at.join("cgroup.controllers")).unwrap_or_default();
            let wanted: Vec<String> = ["cpu", "cpuset", "io", "memory", "hugetlb", "pids"]
                .iter()
                .filter(|wanted| available.split_whitespace().any(|has| has == **wanted))
                .map(|wanted| format!("+{wanted}"))
                .collect();
            fs::write(at.join("cgroup.subtree_control"), wanted.join(" "))?;
            at.push(part);
            fs::create_dir_all(&at)?;
        }
        fs::create_dir_all(at)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let path = path.trim_start_matches('/');
        let mut folders = Vec::new();
        if self.unified {
            folders.push(self.mount.join(path));
        } else {
            // Hierarchies also appear under names that are links to the same one.
            let hierarchies = fs::read_dir(&self.mount)?.flatten();
            let real = hierarchies.filter(|hierarchy| hierarchy.file_type().is_ok_and(|kind| kind.is_dir()));
            folders.extend(real.map(|hierarchy| hierarchy.path().join(path)));
        }
        folders.iter().map(|folder| remove_tree(folder)).fold(Ok(()), io::Result::and)
    }
}

/// A cgroup's files cannot be removed and need not be: its folder goes once the folders in it are gone.
fn remove_tree(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            let left = kill_all(folder);
            let message = format!("processes {left:?} are still in the cgroup {}", folder.display());
            Err(io::Error::new(error.kind(), message))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Kills every process of one cgroup; answers their ids. Those that are on their way out already are not listed.
fn kill_all(folder: &Path) -> Vec<i32> {
    let listed = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let left: Vec<i32> = listed.lines().filter_map(|line| line.trim().parse().ok()).collect();
    for pid in left.iter().filter_map(|pid| rustix::process::Pid::from_raw(*pid)) {
        // It may have ended meanwhile.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    left
}
