//! A cluster with real containers: members and the agent are killed, and the workload does not stop and ends as declared.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use navarch_chaos::check::orphans::{self, Census};
use navarch_tests::{Cluster, describe, eventually, must};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Rounds in which something is killed.
const ROUNDS: usize = 6;

fn deployment(name: &str, replicas: u32) -> Value {
    let probe = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1});
    let container = json!({"name": "web", "image": "shop/busybox:1", "imagePullPolicy": "Never", "readinessProbe": probe,
        "command": ["httpd", "-f", "-p", "8080", "-h", "/etc"], "ports": [{"containerPort": 8080}]});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}},
                     "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}}})
}

fn apply(cluster: &Cluster, object: &Value) {
    let path = cluster.folder().join("object.json");
    std::fs::write(&path, object.to_string()).unwrap();
    insist(cluster, &["apply", "-f", &path.to_string_lossy()]);
}

/// A user who tries again: members are killed meanwhile, and the one that kubectl knows may be among them.
fn insist(cluster: &Cluster, args: &[&str]) {
    eventually("a command succeeds", || {
        let mut last = String::new();
        for port in [6443, 6445, 6447] {
            let server = format!("--server=https://127.0.0.1:{port}");
            let output = cluster.command("kubectl").arg(server).args(args).output().unwrap();
            if output.status.success() {
                return Ok(());
            }
            last = describe(&output);
        }
        Err(last)
    });
}

fn pid(cluster: &Cluster, member: u16) -> u32 {
    let folder = if member == 1 { cluster.data_dir() } else { cluster.data_dir().join(format!("members/{member}")) };
    std::fs::read_to_string(folder.join("navarch.pid")).unwrap().trim().parse().unwrap()
}

fn replicas(cluster: &Cluster, name: &str) -> Result<(u64, u64), String> {
    let object = cluster.get(&["deployment", name])?;
    let count = |field: &str| object["status"][field].as_u64().unwrap_or(0);
    Ok((count("replicas"), count("readyReplicas")))
}

fn until_as_declared(cluster: &Cluster, name: &str, wanted: u64) {
    eventually("the workload is as declared", || {
        let pods = cluster.get(&["pods", "-l", &format!("app={name}")])?["items"].as_array().map_or(0, Vec::len) as u64;
        let (all, ready) = replicas(cluster, name)?;
        if (pods, all, ready) == (wanted, wanted, wanted) {
            Ok(())
        } else {
            Err(format!("{pods} pods, {all} replicas, {ready} ready"))
        }
    });
}

fn census(cluster: &Cluster) -> Census {
    let mut census = Census { settled: true, ..Census::default() };
    for (resource, kind) in
        [("nodes", "Node"), ("deployments", "Deployment"), ("replicasets", "ReplicaSet"), ("pods", "Pod")]
    {
        let list = cluster.get(&[resource]).unwrap();
        census.objects.extend(list["items"].as_array().unwrap().iter().cloned());
        census.complete_kinds.insert(kind.to_owned());
    }
    census
}

#[test]
fn the_workload_outlives_members_and_agent_and_ends_as_declared() {
    let seed = std::env::var("NAVARCH_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let cluster = Arc::new(Cluster::stopped("work", &[]));
    navarch_tests::images::preload(&cluster.data_dir().join("images"));
    println!("{}", must(&mut cluster.navarch(&["up", "--members", "3"])));
    apply(&cluster, &deployment("steady", 2));
    apply(&cluster, &deployment("churn", 1));
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "steady"},
        "spec": {"selector": {"app": "steady"}, "ports": [{"port": 80, "targetPort": 8080}]}});
    apply(&cluster, &service);
    until_as_declared(&cluster, "steady", 2);
    let address = cluster.get(&["service", "steady"]).unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let url = format!("http://{address}/hosts");
    eventually("the workload is reached", || cluster.curl(&url));

    // Somebody uses it all the time.
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let user = std::thread::spawn({
        let (cluster, stop, asked) = (Arc::clone(&cluster), Arc::clone(&stop), Arc::clone(&asked));
        move || {
            while !stop.load(Ordering::Acquire) {
                cluster.curl(&url).unwrap_or_else(|error| panic!("the workload stopped: {error}"));
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let mut wanted = 1;
    for round in 0..ROUNDS {
        // The first member runs the agent too. In the end all of them go at once.
        let victims: &[u16] = match round {
            0 => &[1],
            _ if round + 1 == ROUNDS => &[1, 2, 3],
            _ => [&[1][..], &[2], &[3]][rng.random_range(0..3)],
        };
        wanted = rng.random_range(0..5);
        if victims.len() < 3 {
            must(Command::new("kill").arg("-9").args(victims.iter().map(|v| pid(&cluster, *v).to_string())));
            insist(&cluster, &["scale", "deployment/churn", &format!("--replicas={wanted}")]);
        } else {
            insist(&cluster, &["scale", "deployment/churn", &format!("--replicas={wanted}")]);
            must(Command::new("kill").arg("-9").args(victims.iter().map(|v| pid(&cluster, *v).to_string())));
        }
        println!("round {round}: killed {victims:?}, {wanted} replicas wanted");
        must(&mut cluster.navarch(&["up"]));
    }
    until_as_declared(&cluster, "churn", wanted);
    until_as_declared(&cluster, "steady", 2);
    stop.store(true, Ordering::Release);
    user.join().unwrap();
    println!("{} requests, none failed", asked.load(Ordering::Relaxed));
    assert!(asked.load(Ordering::Relaxed) > 20);
    orphans::check(&census(&cluster)).unwrap();
    // No pod was restarted for any of this: containers outlive those who manage them.
    let steady = cluster.get(&["pods", "-l", "app=steady"]).unwrap();
    for pod in steady["items"].as_array().unwrap() {
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{pod}");
    }
}
