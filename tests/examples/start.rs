//! How long a cluster of one machine takes: from an empty disk to the first pod, from `kubectl apply` of a Deployment to
//! its pods, and what it costs when nothing happens. One JSON line a figure; needs root and containerd.
//!
//! `cargo build --release --workspace --all-targets && target/release/examples/start [rounds=5] [idle minutes=10]`
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use navarch_tests::{Cluster, eventually, images, must};
use serde_json::json;

/// A pod that runs until it is told to end.
fn pod(name: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": template()})
}

fn template() -> serde_json::Value {
    let script = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";
    json!({"containers": [{"name": "main", "image": "docker.io/shop/busybox:1", "command": ["sh", "-c", script]}]})
}

fn deployment(name: &str, replicas: u32) -> serde_json::Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": template()}}})
}

/// `kubectl get pods --watch`, which was there before: reading it costs the measured time nothing.
struct Phases {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Phases {
    fn watch(cluster: &Cluster) -> Self {
        let form = r#"jsonpath={.metadata.name} {.status.phase}{"\n"}"#;
        let mut command = cluster.command("kubectl");
        command.args(["get", "pods", "--watch", "-o", form]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads until `count` pods whose names begin so were seen running.
    fn until_running(&mut self, prefix: &str, count: usize) {
        let mut running = std::collections::BTreeSet::new();
        while running.len() < count {
            let line = self.lines.next().expect("the watch goes on").unwrap();
            running.extend(line.strip_suffix(" Running").filter(|name| name.starts_with(prefix)).map(str::to_owned));
        }
    }
}

impl Drop for Phases {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(cluster: &Cluster, name: &str, object: &serde_json::Value) -> String {
    let file = cluster.folder().join(name);
    std::fs::write(&file, object.to_string()).unwrap();
    file.to_string_lossy().into_owned()
}

fn report(what: &str, unit: &str, figures: &[f64]) {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    println!(
        "{}",
        json!({"what": what, "unit": unit, "median": median, "min": sorted[0], "max": sorted[sorted.len() - 1]})
    );
}

fn millis(begin: Instant) -> f64 {
    (begin.elapsed().as_secs_f64() * 1e4).round() / 10.0
}

/// From nothing to the API, to a ready node, and to the first pod. `up` itself tells the first two.
fn first(cluster: &Cluster) -> (f64, f64, f64) {
    let begin = Instant::now();
    let said = cluster.up();
    let told = |what: &str| {
        let line = said.lines().find(|line| line.ends_with(what)).expect("up says how far it is");
        line.trim().split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    must(cluster.command("kubectl").args(["apply", "-f", &write(cluster, "first.json", &pod("first"))]));
    Phases::watch(cluster).until_running("first", 1);
    (told("the API serves"), told("the node is ready"), millis(begin))
}

/// Processor seconds that a process has used, and its memory in MB (PSS).
fn cost(pid: i32) -> (f64, f64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    let memory = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let pss = memory.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    let kilobytes: f64 = pss.trim().split(' ').next().unwrap().parse().unwrap();
    (ticks / 100.0, (kilobytes / 102.4).round() / 10.0)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(default, |text| text.parse().expect("a number"));
    let (rounds, idle_minutes) = (number(5), number(10));
    let (mut serves, mut ready, mut running, mut applied) = (vec![], vec![], vec![], vec![]);
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        let cluster = Cluster::stopped("bench", &[]);
        images::preload(&cluster.data_dir().join("images"));
        let (api, node, pod) = first(&cluster);
        serves.push(api);
        ready.push(node);
        running.push(pod);
        let file = write(&cluster, "three.json", &deployment("three", 3));
        let mut phases = Phases::watch(&cluster);
        phases.until_running("first", 1);
        let begin = Instant::now();
        must(cluster.command("kubectl").args(["apply", "-f", &file]));
        phases.until_running("three", 3);
        applied.push(millis(begin));
    }
    report("empty disk to the API", "ms", &serves);
    report("empty disk to a ready node", "ms", &ready);
    report("empty disk to the first pod running, kubectl included", "ms", &running);
    report("kubectl apply to 3 of 3 running", "ms", &applied);
    if idle_minutes > 0 {
        idle(idle_minutes);
    }
}

fn idle(minutes: u64) {
    let cluster = Cluster::start("bench", &[]);
    eventually("the node is there", || cluster.get(&["node"]));
    eprintln!("idle: 5 minutes to settle, then {minutes}");
    std::thread::sleep(Duration::from_secs(300));
    let before = cost(cluster.pid());
    std::thread::sleep(Duration::from_secs(60 * minutes));
    let after = cost(cluster.pid());
    let share = (after.0 - before.0) / (60.0 * minutes as f64) * 100.0;
    report("idle, with agent: memory (PSS)", "MB", &[after.1]);
    report("idle, with agent: processor", "% of a core", &[(share * 100.0).round() / 100.0]);
}
