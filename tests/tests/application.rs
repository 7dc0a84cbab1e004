//! An application as a user would deploy it, driven from outside by the real kubectl.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use navarch_tests::{Cluster, eventually, must};

const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/application/shop.yaml");

#[test]
fn a_user_deploys_changes_breaks_and_removes_an_application() {
    let cluster = Cluster::start("app", &[]);
    deploy(&cluster);
    reach(&cluster);
    look_inside(&cluster);
    scale(&cluster);
    lose_a_container_and_a_pod(&cluster);
    roll_out_under_load(&cluster);
    roll_back_a_bad_version(&cluster);
    survive_a_kill_in_a_rollout(&cluster);
    remove(&cluster);
}

fn deploy(cluster: &Cluster) {
    cluster.kubectl(&["apply", "-f", SHOP]);
    cluster.kubectl(&["-n", "shop", "rollout", "status", "deployment/web", "--timeout=120s"]);
    cluster.kubectl(&["-n", "shop", "wait", "--for=condition=Available", "deployment/stock", "--timeout=120s"]);
    cluster.kubectl(&["-n", "shop", "wait", "--for=condition=Ready", "pod/looker", "--timeout=120s"]);
    // Applying the same again changes nothing.
    let again = cluster.kubectl(&["apply", "-f", SHOP]);
    assert!(again.lines().all(|line| line.ends_with("unchanged") || line.contains("secret/")), "{again}");
}

fn reach(cluster: &Cluster) {
    let service = cluster.get(&["-n", "shop", "service", "web"]).unwrap();
    let address = service["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let page = eventually("the page is served through the cluster IP", || cluster.curl(&format!("http://{address}/")));
    assert_eq!(page.trim(), "welcome to the shop");
    let page = eventually("the page is served through the node port", || cluster.curl("http://192.168.77.2:30080/"));
    assert_eq!(page.trim(), "welcome to the shop");
    let stock = eventually("the web tier reaches the back end by name", || {
        let text = cluster.curl(&format!("http://{address}/cgi-bin/stock"))?;
        if text.contains("42 in stock") { Ok(text) } else { Err(text) }
    });
    assert!(stock.contains("version one"), "{stock}");
}

fn look_inside(cluster: &Cluster) {
    let seen = eventually("the pod lists pods with its own token", || {
        let log = cluster.kubectl(&["-n", "shop", "logs", "looker", "--tail=20"]);
        if log.contains("pod/looker") { Ok(log) } else { Err(log) }
    });
    assert!(seen.contains("pod/web-"), "{seen}");
    let env = cluster.kubectl(&["-n", "shop", "exec", "deploy/web", "--", "sh", "-c", "echo $SHOP_KEY $POD_IP"]);
    assert!(env.starts_with("open-sesame 10."), "{env}");
    let refused = cluster.kubectl_refused(&["--as=system:serviceaccount:shop:looker", "-n", "shop", "get", "secrets"]);
    assert!(refused.contains("cannot list resource \"secrets\""), "{refused}");
    let name = cluster.kubectl(&["-n", "shop", "exec", "deploy/web", "--", "nslookup", "stock.shop.svc.cluster.local"]);
    let stock = cluster.get(&["-n", "shop", "service", "stock"]).unwrap();
    assert!(name.contains(stock["spec"]["clusterIP"].as_str().unwrap()), "{name}");
}

fn ready_pods(cluster: &Cluster) -> Result<u64, String> {
    let deployment = cluster.get(&["-n", "shop", "deployment", "web"])?;
    Ok(deployment["status"]["readyReplicas"].as_u64().unwrap_or(0))
}

fn pods(cluster: &Cluster) -> Vec<String> {
    let list = cluster.get(&["-n", "shop", "pods", "-l", "app=web"]).unwrap();
    let name = |pod: &serde_json::Value| pod["metadata"]["name"].as_str().unwrap().to_owned();
    list["items"].as_array().unwrap().iter().map(name).collect()
}

fn until_ready(cluster: &Cluster, replicas: u64) {
    eventually(&format!("{replicas} pods are ready and no other is left"), || {
        let (ready, there) = (ready_pods(cluster)?, pods(cluster).len() as u64);
        if ready == replicas && there == replicas { Ok(()) } else { Err(format!("{ready} ready of {there}")) }
    });
}

fn scale(cluster: &Cluster) {
    for replicas in [10, 1, 3] {
        cluster.kubectl(&["-n", "shop", "scale", "deployment/web", &format!("--replicas={replicas}")]);
        until_ready(cluster, replicas);
    }
}

fn lose_a_container_and_a_pod(cluster: &Cluster) {
    let victim = pods(cluster).remove(0);
    cluster.kubectl(&["-n", "shop", "exec", &victim, "--", "kill", "-9", "1"]);
    // Process 1 ignores signals from inside that it does not handle: kill it from outside.
    let container = cluster.get(&["-n", "shop", "pod", &victim]).unwrap();
    let id = container["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let id = id.rsplit('/').next().unwrap().to_owned();
    let of_container = format!(
        "pgrep -f 'httpd -f -p 8080' | while read p; do grep -q {id} /proc/$p/cgroup && kill -9 $p; done; true"
    );
    must(Command::new("sh").args(["-c", &of_container]));
    eventually("the container was restarted", || {
        let pod = cluster.get(&["-n", "shop", "pod", &victim])?;
        let status = &pod["status"]["containerStatuses"][0];
        if status["restartCount"] == 1 && status["ready"] == true { Ok(()) } else { Err(status.to_string()) }
    });
    cluster.kubectl(&["-n", "shop", "delete", "pod", &victim]);
    until_ready(cluster, 3);
    assert!(!pods(cluster).contains(&victim));
}

/// Requests in a loop from outside, each of which must succeed.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Load {
    fn start(cluster: &Cluster) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let curl = || {
            let mut command = cluster.command("curl");
            command.args(["-sS", "--fail", "--max-time", "5", "http://192.168.77.2:30080/"]);
            command
        };
        let mut command = curl();
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let mut failures = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let output = command.output().unwrap();
                if !output.status.success() {
                    failures.push(String::from_utf8_lossy(&output.stderr).into_owned());
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            failures
        });
        Self { stop, sent, thread }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.thread.join().unwrap();
        let sent = self.sent.load(Ordering::Relaxed);
        assert!(failures.is_empty(), "{} of {sent} requests failed: {failures:?}", failures.len());
        println!("{sent} requests during the rollout, none failed");
    }
}

fn roll_out_under_load(cluster: &Cluster) {
    let load = Load::start(cluster);
    cluster.kubectl(&["-n", "shop", "set", "env", "deployment/web", "VERSION=two"]);
    cluster.kubectl(&["-n", "shop", "rollout", "status", "deployment/web", "--timeout=180s"]);
    until_ready(cluster, 3);
    load.end();
    let service = cluster.get(&["-n", "shop", "service", "web"]).unwrap();
    let address = service["spec"]["clusterIP"].as_str().unwrap();
    assert!(cluster.curl(&format!("http://{address}/cgi-bin/stock")).unwrap().contains("version two"));
}

fn roll_back_a_bad_version(cluster: &Cluster) {
    cluster.kubectl(&["-n", "shop", "patch", "deployment/web", "-p", "{\"spec\":{\"progressDeadlineSeconds\":5}}"]);
    cluster.kubectl(&["-n", "shop", "set", "image", "deployment/web", "web=shop/missing:9"]);
    let stalled = cluster.kubectl_refused(&["-n", "shop", "rollout", "status", "deployment/web", "--timeout=120s"]);
    assert!(stalled.contains("exceeded its progress deadline"), "{stalled}");
    assert_eq!(ready_pods(cluster), Ok(3), "the old version goes on serving");
    let events = cluster.kubectl(&["-n", "shop", "get", "events"]);
    assert!(events.contains("ErrImageNeverPull"), "{events}");
    cluster.kubectl(&["-n", "shop", "rollout", "undo", "deployment/web"]);
    cluster.kubectl(&["-n", "shop", "rollout", "status", "deployment/web", "--timeout=120s"]);
    until_ready(cluster, 3);
}

fn survive_a_kill_in_a_rollout(cluster: &Cluster) {
    let before = pods(cluster);
    cluster.kubectl(&["-n", "shop", "set", "env", "deployment/web", "VERSION=three"]);
    eventually("the rollout has begun", || {
        let now = pods(cluster);
        if now.iter().any(|pod| !before.contains(pod)) { Ok(()) } else { Err("no new pod yet".to_owned()) }
    });
    let looker = cluster.get(&["-n", "shop", "pod", "looker"]).unwrap();
    cluster.kill();
    // Services go on without the process.
    cluster.curl("http://192.168.77.2:30080/").unwrap();
    cluster.up();
    cluster.kubectl(&["-n", "shop", "rollout", "status", "deployment/web", "--timeout=180s"]);
    until_ready(cluster, 3);
    let adopted = cluster.get(&["-n", "shop", "pod", "looker"]).unwrap();
    let id = |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    assert_eq!(id(&adopted), id(&looker), "a container that ran before runs on");
    assert_eq!(adopted["status"]["containerStatuses"][0]["restartCount"], 0);
}

fn remove(cluster: &Cluster) {
    cluster.kubectl(&["delete", "namespace", "shop", "--timeout=120s"]);
    assert!(cluster.kubectl_refused(&["get", "namespace", "shop"]).contains("not found"));
    let left = cluster.get(&["pods", "--all-namespaces"]).unwrap();
    assert_eq!(left["items"].as_array().map(Vec::len), Some(0), "{left}");
    let ours = cluster.data_dir();
    eventually("no trace is left on the machine", || {
        let traces = traces(cluster, &ours);
        if traces.is_empty() { Ok(()) } else { Err(traces.join("\n")) }
    });
}

/// What pods leave behind if something was forgotten.
fn traces(cluster: &Cluster, data: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let of_pods =
        |line: &&str| line.contains(&*data.to_string_lossy()) && (line.contains("/pods/") || line.contains("/rootfs"));
    found.extend(mounts.lines().filter(of_pods).map(|line| format!("mount: {line}")));
    let rules = must(cluster.command("nft").args(["list", "ruleset"]));
    found.extend(
        rules.lines().filter(|line| line.contains("30080") || line.contains("shop")).map(|l| format!("nft: {l}")),
    );
    let socket = data.join("containerd/containerd.sock");
    let list = must(cluster.command("ctr").arg("-a").arg(socket).args(["-n", "k8s.io", "containers", "list", "-q"]));
    found.extend(list.lines().map(|line| format!("container: {line}")));
    let bridges = must(cluster.command("ip").args(["-o", "link", "show", "type", "veth"]));
    found.extend(bridges.lines().map(|line| format!("interface: {line}")));
    found
}
