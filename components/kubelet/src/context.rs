//! What the node agent is told: settings of the node, and handles that all its parts share.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use sha2::{Digest, Sha256};

/// Settings of one node agent. Paths are the node's own; nothing outside them is written, but cgroups.
#[derive(Clone, Debug)]
pub struct KubeletConfig {
    /// The node's name in the cluster.
    pub node_name: String,
    /// The machine's own name.
    pub hostname: String,
    /// Address under which the node is reached.
    pub node_ip: IpAddr,
    /// Pods' folders: volumes, hosts files, termination messages.
    pub root_dir: PathBuf,
    /// Pods' logs.
    pub pod_logs_dir: PathBuf,
    /// The runtime's socket.
    pub cri_socket: PathBuf,
    /// A containerd of our own that is started and kept running; `None` uses what listens on the socket.
    pub containerd: Option<crate::containerd::ContainerdConfig>,
    /// Every `*.tar` in it is imported into our own containerd.
    pub preload_dir: Option<PathBuf>,
    /// Name servers of pods with the cluster's DNS.
    pub cluster_dns: Vec<IpAddr>,
    /// Suffix of the cluster's names.
    pub cluster_domain: String,
    /// The node's own resolver file.
    pub resolv_conf: PathBuf,
    /// The pods' part of the cgroup tree, below each controller's mount. No other agent of this machine may have the same:
    /// what no pod of this agent owns there is killed and removed.
    pub cgroup_root: String,
    /// How many pods the node takes.
    pub max_pods: u32,
    /// Processes in one pod; `None` is no limit.
    pub pod_pids_max: Option<u64>,
    /// Labels of the node beside the standard ones.
    pub node_labels: Vec<(String, String)>,
    /// Taints that the node registers with, beside that of not being ready.
    pub node_taints: Vec<Taint>,
    /// Where logs, exec and port-forward are served, and with what certificate.
    pub server: Option<ServerConfig>,
    /// Between two renewals of the node's lease.
    pub lease_interval: Duration,
    /// Between two looks at the node's own state.
    pub status_interval: Duration,
    /// A log file is rotated at this size.
    pub log_bytes_max: u64,
    /// So many log files of one container are kept.
    pub log_files_max: usize,
}

/// The agent's own server. Only callers with a certificate of the cluster's CA get past the handshake.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Certificate chain, PEM.
    pub cert_pem: Vec<u8>,
    /// Private key, PEM.
    pub key_pem: Vec<u8>,
    /// The CA that signs callers' certificates, PEM.
    pub client_ca_pem: Vec<u8>,
    /// Common names that may call; others get 403.
    pub allowed_names: Vec<String>,
}

/// `/kubepods-` and a digest of the folder: agents with folders of their own do not meet.
fn cgroup_root(base: &Path) -> String {
    // Links are not followed: the name is the same before and after the folder is made.
    let base = std::path::absolute(base).unwrap_or_else(|_| base.to_path_buf());
    let digest = Sha256::digest(base.as_os_str().as_encoded_bytes());
    let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("/kubepods-{short}")
}

impl KubeletConfig {
    /// Everything below one folder, with usual values.
    pub fn new(node_name: &str, base: &Path) -> Self {
        Self {
            node_name: node_name.to_owned(),
            hostname: node_name.to_owned(),
            node_ip: IpAddr::from([127, 0, 0, 1]),
            root_dir: base.join("kubelet"),
            pod_logs_dir: base.join("logs/pods"),
            cri_socket: base.join("containerd/containerd.sock"),
            containerd: None,
            preload_dir: None,
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            cgroup_root: cgroup_root(base),
            max_pods: 110,
            pod_pids_max: None,
            node_labels: Vec::new(),
            node_taints: Vec::new(),
            server: None,
            lease_interval: Duration::from_secs(10),
            status_interval: Duration::from_secs(10),
            log_bytes_max: 10 << 20,
            log_files_max: 5,
        }
    }

    /// The folder of a pod.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root_dir.join("pods").join(uid)
    }

    /// The folder of a pod's logs.
    pub fn pod_log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.pod_logs_dir.join(format!("{namespace}_{name}_{uid}"))
    }
}
