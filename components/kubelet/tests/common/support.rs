//! A node agent with a containerd of its own, against an API server in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Event, Pod};
use navarch_client::testing::FakeServer;
use navarch_kubelet::containerd::ContainerdConfig;
use navarch_kubelet::context::KubeletConfig;
use navarch_kubelet::image::{ImageContent, build_oci_tar};
use navarch_kubelet::{KubeletContext, cleanup, specs};
use navarch_supervision::{Strategy, SupervisorSpec, Tree};
use serde_json::{Value, json};

/// The image of most tests.
pub const BUSYBOX: &str = "docker.io/library/busybox:test";

/// Whether real containers can be had. In CI they must.
pub fn can_run() -> bool {
    let mut missing: Vec<String> = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        missing.push("root".into());
    }
    for program in ["containerd", "ctr", "runc"] {
        if !Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success()) {
            missing.push(program.into());
        }
    }
    for file in ["/bin/busybox", "/usr/lib/cni/bridge", "/usr/lib/cni/host-local"] {
        if !Path::new(file).exists() {
            missing.push(file.into());
        }
    }
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "missing: {}", missing.join(", "));
    eprintln!("skipped: missing {}", missing.join(", "));
    false
}

/// One node.
pub struct Node {
    pub api: FakeServer,
    pub config: KubeletConfig,
    base: PathBuf,
    bridge: String,
    tree: Option<Tree>,
}

impl Node {
    /// Starts a node with number `number`, unique among tests that run at the same time.
    pub async fn start(number: u8, change: impl FnOnce(&mut KubeletConfig)) -> Self {
        let base = PathBuf::from(format!("/tmp/nvk-{}-{number}", std::process::id()));
        let bridge = format!("nvk{}n{number}", std::process::id() % 100_000);
        let mut config = KubeletConfig::new("n1", &base);
        config.cgroup_root = format!("/nvktest{}-{number}", std::process::id());
        config.status_interval = Duration::from_millis(500);
        let own = ContainerdConfig::new(&base.join("containerd"));
        std::fs::create_dir_all(&own.cni_conf_dir).unwrap();
        let network = json!({"cniVersion": "0.4.0", "name": "test", "plugins": [
            {"type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": false,
             "ipam": {"type": "host-local", "dataDir": base.join("ipam"), "ranges": [[{"subnet": format!("10.123.{number}.0/24")}]],
                "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": true}}]});
        std::fs::write(own.cni_conf_dir.join("10-test.conflist"), network.to_string()).unwrap();
        let preload = base.join("images");
        std::fs::create_dir_all(&preload).unwrap();
        std::fs::write(preload.join("busybox.tar"), busybox()).unwrap();
        config.containerd = Some(own);
        config.preload_dir = Some(preload);
        change(&mut config);
        let mut node = Self { api: FakeServer::new(), config, base, bridge, tree: None };
        node.api.put_json::<k8s_openapi::api::core::v1::Service>(json!({
            "metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]}}));
        node.run().await;
        node
    }

    /// Starts the agent.
    pub async fn run(&mut self) {
        let context = KubeletContext { client: self.api.client(), config: self.config.clone() };
        let spec = SupervisorSpec::new("agent", Strategy::OneForOne).children(specs(context));
        self.tree = Some(Tree::start(spec).await.unwrap());
    }

    /// Stops the agent; containers go on.
    pub async fn halt(&mut self) {
        if let Some(tree) = self.tree.take() {
            tree.stop(Duration::from_secs(10)).await;
        }
    }

    /// Makes a pod that is bound to the node.
    pub fn pod(&self, name: &str, spec: Value) -> Arc<Pod> {
        let mut spec = spec;
        spec["nodeName"] = "n1".into();
        if spec["terminationGracePeriodSeconds"].is_null() {
            spec["terminationGracePeriodSeconds"] = 2.into();
        }
        self.api.put_json(json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}))
    }

    /// The pod now.
    pub fn get(&self, name: &str) -> Option<Arc<Pod>> {
        self.api.get::<Pod>("default", name)
    }

    /// Waits until a pod is as wanted, and answers it.
    pub async fn until(&self, name: &str, what: &str, wanted: impl Fn(&Pod) -> bool) -> Arc<Pod> {
        let begun = Instant::now();
        loop {
            let pod = self.get(name);
            if let Some(pod) = pod.as_ref().filter(|pod| wanted(pod)) {
                return Arc::clone(pod);
            }
            if begun.elapsed() > Duration::from_secs(40) {
                let status = pod.map(|pod| serde_json::to_string_pretty(&pod.status).unwrap());
                let log = std::fs::read_to_string(self.base.join("containerd/containerd.log")).unwrap_or_default();
                let log: Vec<&str> = log.lines().rev().take(15).collect();
                panic!("{name} is not {what}: {status:?}\n{:#?}\n{log:#?}", self.events(name));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for a condition.
    pub async fn wait(&self, what: &str, wanted: impl Fn() -> bool) {
        let begun = Instant::now();
        while !wanted() {
            assert!(begun.elapsed() < Duration::from_secs(40), "never: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Reasons and messages of a pod's events.
    pub fn events(&self, name: &str) -> Vec<(String, String)> {
        let all = self.api.list::<Event>();
        let own = all.iter().filter(|event| event.involved_object.name.as_deref() == Some(name));
        own.map(|event| (event.reason.clone().unwrap_or_default(), event.message.clone().unwrap_or_default())).collect()
    }

    /// Deletes a pod as a user does.
    pub async fn delete(&self, name: &str) {
        let api = self.api.client().namespaced::<Pod>("default");
        api.delete(name, &navarch_client::client::DeleteOptions::default()).await.unwrap();
    }

    /// The text of a container's log.
    pub fn log(&self, pod: &Pod, container: &str, attempt: u32) -> String {
        let uid = pod.metadata.uid.as_deref().unwrap();
        let folder = self.config.pod_log_dir("default", pod.metadata.name.as_deref().unwrap(), uid);
        let text = std::fs::read(folder.join(container).join(format!("{attempt}.log"))).unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n').filter_map(navarch_kubelet::logs::parse);
        lines.map(|line| String::from_utf8_lossy(line.text).into_owned() + "\n").collect()
    }

    /// Stops everything and proves that nothing is left.
    pub async fn end(mut self) {
        self.halt().await;
        cleanup::remove_everything(&self.config, Duration::from_secs(1)).await.unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let base = self.base.to_string_lossy().into_owned();
        let left: Vec<&str> = mounts.lines().filter(|line| line.contains(&base)).collect();
        assert!(left.is_empty(), "mounts are left: {left:#?}");
        for controller in ["cpu", "memory", "pids"] {
            let folder = Path::new("/sys/fs/cgroup").join(controller).join(self.config.cgroup_root.trim_matches('/'));
            assert!(!folder.exists(), "{} is left", folder.display());
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A failed test leaves no process behind either.
        if let Ok(pid) = std::fs::read_to_string(self.base.join("containerd/containerd.pid")) {
            let _ = Command::new("kill").arg(pid.trim()).output();
        }
        let _ = Command::new("ip").args(["link", "delete", &self.bridge]).output();
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

/// busybox under its own name and as sh.
pub fn busybox() -> Vec<u8> {
    let program = std::fs::read("/bin/busybox").unwrap();
    let links =
        ["sh", "sleep", "cat", "echo", "httpd", "ls", "nc", "wget", "id", "hostname", "env", "touch", "stat", "kill"];
    let content = ImageContent {
        files: vec![
            ("bin/busybox".into(), 0o755, program),
            ("etc/passwd".into(), 0o644, b"root:x:0:0::/:/bin/sh\n".to_vec()),
        ],
        links: links.iter().map(|name| (format!("bin/{name}"), "busybox".into())).collect(),
        env: vec!["PATH=/bin".into()],
        cmd: vec!["sh".into()],
        ..ImageContent::default()
    };
    build_oci_tar(BUSYBOX, &content)
}

/// A container that runs a script.
pub fn script(name: &str, text: &str) -> Value {
    json!({"name": name, "image": BUSYBOX, "command": ["sh", "-c", text], "imagePullPolicy": "IfNotPresent"})
}

/// Whether a pod is Running and Ready.
pub fn ready(pod: &Pod) -> bool {
    condition(pod, "Ready").as_deref() == Some("True") && phase(pod) == "Running"
}

/// The status of a condition.
pub fn condition(pod: &Pod, kind: &str) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.clone())
}

/// The phase.
pub fn phase(pod: &Pod) -> String {
    pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default()
}
