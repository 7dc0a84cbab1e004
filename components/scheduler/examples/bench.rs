//! Prints how many pods a second the scheduler places in a large cluster, and the CPU time each takes, without the API:
//! what it costs to take a pod into the queue, to find its node, and to learn that it is there.
//!
//! `cargo run --release -p navarch-scheduler --example bench -- [NODES] [PODS] [SERVICES]`
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use navarch_scheduler::plugins::{Strategy, default_profile};
use navarch_scheduler::state::{Decision, State};
use serde_json::json;

fn node(i: usize) -> Arc<Node> {
    let name = format!("node-{i:05}");
    let zone = format!("zone-{}", i % 3);
    let value = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone}},
        "status": {"allocatable": {"cpu": "32", "memory": "256Gi", "pods": "110", "ephemeral-storage": "1Ti"}},
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn pod(i: usize, services: usize) -> Pod {
    let app = format!("app-{}", i % services.max(1));
    let value = json!({
        "metadata": {"name": format!("pod-{i:06}"), "namespace": "default", "uid": format!("uid-{i:06}"),
            "labels": {"app": app, "pod-template-hash": "abcdef"}},
        "spec": {"schedulerName": "default-scheduler", "priority": 0,
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
            "containers": [{"name": "c", "image": "registry.example.com/web:1",
                "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}}}]},
    });
    serde_json::from_value(value).unwrap()
}

fn main() {
    let number = |at: usize, default: usize| std::env::args().nth(at).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (nodes, pods, services) = (number(1, 5000), number(2, 20_000), number(3, 20));
    let mut state = State::new(Arc::new(default_profile(Strategy::LeastAllocated).unwrap()), 42);
    let now = Instant::now();
    for i in 0..nodes {
        state.set_node(&node(i), now);
    }
    for i in 0..services {
        let value = json!({"metadata": {"name": format!("s{i}"), "namespace": "default"},
            "spec": {"selector": {"app": format!("app-{i}")}}});
        state.set_service(&serde_json::from_value::<Service>(value).unwrap());
    }
    let objects: Vec<Pod> = (0..pods).map(|i| pod(i, services)).collect();
    let mut enqueue = Duration::ZERO;
    let mut cycle = Duration::ZERO;
    let mut confirm = Duration::ZERO;
    let mut slowest = Duration::ZERO;
    for object in objects {
        let pending = Arc::new(object);
        let from = Instant::now();
        state.set_pod(&pending, now);
        enqueue += from.elapsed();
        let from = Instant::now();
        let decision = state.next(now);
        let took = from.elapsed();
        cycle += took;
        slowest = slowest.max(took);
        let Some(Decision::Bind { pod, node }) = decision else { panic!("no node: {decision:?}") };
        let mut bound = (*pod.pod).clone();
        bound.spec.as_mut().unwrap().node_name = Some(node);
        let bound = Arc::new(bound);
        let from = Instant::now();
        state.set_pod(&bound, now);
        confirm += from.elapsed();
    }
    let each = |d: Duration| d.as_secs_f64() * 1e6 / pods as f64;
    let total = enqueue + cycle + confirm;
    println!("{nodes} nodes, {pods} pods, {services} services");
    println!(
        "enqueue {:.1} us, cycle {:.1} us (slowest {:.0} us), confirm {:.1} us a pod",
        each(enqueue),
        each(cycle),
        slowest.as_secs_f64() * 1e6,
        each(confirm)
    );
    println!("total {:.1} us a pod: {:.0} pods/s on one core", each(total), pods as f64 / total.as_secs_f64());
}
