//! How long a cluster of three stands still when its leader is lost, and whether anything is lost with it.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::api::{Api, Reply};
use crate::cluster::Cluster;
use crate::faults::leader;
use crate::run::{Going, Plan, Report};

const NODES: &str = "/api/v1/nodes";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// How often the node says that it is there: the node controller waits for 40 s.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Between two looks at whether a pod is bound.
const LOOK: Duration = Duration::from_millis(5);

/// How a leader is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// kill -9.
    Kill,
    /// SIGSTOP.
    Pause,
    /// Its link is cut.
    Cut,
}

/// One trial.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// The longest time between two acknowledged writes.
    pub gap: Duration,
    /// From the loss until a pod that was made after it is bound.
    pub bound: Duration,
}

/// Keeps asking until a member does it.
async fn insist(api: &Api, method: Method, path: &str, body: &Value, done: impl Fn(u16) -> bool) {
    for number in 0.. {
        // Not the same member twice in a row.
        if let Reply::Answer(code, _) = api.ask(&api.server(number), method.clone(), path, Some(body)).await
            && done(code)
        {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A node that takes pods and says so from time to time. There is no agent behind it.
async fn node(api: Api) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "paper"}});
    insist(&api, Method::POST, NODES, &node, |code| code == 201 || code == 409).await;
    let path = format!("{NODES}/paper/status");
    loop {
        let Reply::Answer(200, mut node) = api.ask(&api.server(0), Method::GET, &format!("{NODES}/paper"), None).await
        else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        let beat = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs());
        let room = json!({"cpu": "1000", "memory": "1000Gi", "pods": "10000"});
        node["status"] = json!({"capacity": room, "allocatable": room,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Paper", "message": beat.to_string()}]});
        insist(&api, Method::PUT, &path, &node, |_| true).await;
        tokio::time::sleep(HEARTBEAT).await;
    }
}

/// Makes a pod and waits until it is bound. Asks all members in turn: one of them is lost.
async fn bind(api: Api, name: String, began: Instant) -> Duration {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "paper"}]}});
    let ask = |server: usize| {
        let (api, pod, path) = (api.clone(), pod.clone(), format!("{PODS}/{name}"));
        async move {
            loop {
                match api.ask(&api.server(server), Method::POST, PODS, Some(&pod)).await {
                    Reply::Answer(201 | 409, _) => break,
                    _ => tokio::time::sleep(LOOK).await,
                }
            }
            loop {
                if let Reply::Answer(200, pod) = api.ask(&api.server(server), Method::GET, &path, None).await
                    && pod.pointer("/spec/nodeName").is_some()
                {
                    return began.elapsed();
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    };
    tokio::select! {
        bound = ask(0) => bound,
        bound = ask(1) => bound,
        bound = ask(2) => bound,
    }
}

/// Loses the leader so many times in each way. `tell` is called after each trial.
///
/// # Errors
/// What the judges reject.
pub fn measure(
    losses: &[Loss],
    trials: usize,
    seed: u64,
    tell: &mut dyn FnMut(Loss, usize, Trial),
) -> Result<Report, String> {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start("failover", 3, &[]);
    let plan = Plan { seed, members: 3, time: Duration::ZERO, registers: 0, shared: None, once: (8, 25.0) };
    let going = Going::start(&cluster, &plan, Some(folder.path()));
    let node = going.runtime.spawn(node(going.api.clone()));
    going.runtime.block_on(bind(going.api.clone(), "first".to_owned(), Instant::now()));
    let first_term = going.term();
    for loss in losses {
        for trial in 0..trials {
            // Steady load before, and nobody still catching up.
            std::thread::sleep(Duration::from_secs(1));
            let leader = leader(&cluster);
            going.tally.take_gap();
            let began = Instant::now();
            match loss {
                Loss::Kill => cluster.members.kill(leader),
                Loss::Pause => cluster.members.signal(leader, "-STOP"),
                Loss::Cut => cluster.members.connect(leader, false),
            }
            let name = format!("{loss:?}-{trial}").to_lowercase();
            let bound = going.runtime.block_on(bind(going.api.clone(), name, began));
            std::thread::sleep(Duration::from_secs(3).saturating_sub(began.elapsed()));
            let gap = going.tally.take_gap();
            match loss {
                Loss::Kill => cluster.members.run(leader),
                Loss::Pause => cluster.members.signal(leader, "-CONT"),
                Loss::Cut => cluster.members.connect(leader, true),
            }
            tell(*loss, trial, Trial { gap, bound });
        }
    }
    node.abort();
    let mut report = Report { terms: going.term().saturating_sub(first_term), ..Report::default() };
    report.verdict = going.end(3, &mut report)?.judge()?;
    Ok(report)
}
