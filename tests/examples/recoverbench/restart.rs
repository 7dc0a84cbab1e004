//! `restart`: a server with many pods and a long history is killed while it is written to; how long until it serves again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use navarch_tests::server::Server;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::Fallible;
use crate::api::Api;
use crate::figures::tell;

/// Between two looks at whether it is ready.
const POLL: Duration = Duration::from_millis(1);
/// Beyond it, it will not be.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at how far the log is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Time under load before each kill after the first, so that there is something to apply again.
const BETWEEN: Duration = Duration::from_secs(3);
/// Objects that a writer changes in turn.
const OBJECTS_EACH: u64 = 100;

/// A full server, killed.
#[derive(clap::Args)]
pub struct RestartOptions {
    /// A folder on the disk that is meant; the data goes below it and is removed.
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 10_000)]
    pods: u64,
    /// Entries that the log has had before the first kill.
    #[arg(long, default_value_t = 100_000)]
    entries: u64,
    /// Bytes of filling in each pod, beside what a small pod has.
    #[arg(long, default_value_t = 2048)]
    pod_bytes: usize,
    /// Clients that write. Few, so that most writes get an entry of their own.
    #[arg(long, default_value_t = 8)]
    writers: u64,
    /// Kills.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

fn pod(number: u64, filling: usize) -> Value {
    // For a scheduler that is not there: it is to stay as it is.
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{number:06}"), "annotations": {"filling": "x".repeat(filling)}},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "main", "image": "example.invalid/none:1"}]}})
}

/// Makes the pods, by several clients.
async fn fill(api: &Api, options: &RestartOptions) -> Fallible<()> {
    let next = Arc::new(AtomicU64::new(0));
    let (pods, filling) = (options.pods, options.pod_bytes);
    let writer = |api: Api, next: Arc<AtomicU64>| async move {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= pods {
                return Fallible::Ok(());
            }
            if number.is_multiple_of(2000) {
                eprintln!("pod {number} of {pods}");
            }
            api.must(Method::POST, "/api/v1/namespaces/default/pods", Some(&pod(number, filling))).await?;
        }
    };
    let writers: Vec<_> =
        (0..options.writers.max(1)).map(|_| tokio::spawn(writer(api.clone(), next.clone()))).collect();
    for writer in writers {
        writer.await??;
    }
    Ok(())
}

/// Changes objects of its own until it is told to stop, or until the server is gone.
async fn write(api: Api, writer: u64, stop: Arc<AtomicBool>) -> Fallible<()> {
    let folder = "/api/v1/namespaces/default/configmaps";
    for round in 0_u64.. {
        let (name, number) = (format!("writer-{writer}-{}", round % OBJECTS_EACH), round / OBJECTS_EACH);
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": &name},
            "data": {"round": number.to_string()}});
        let path = format!("{folder}/{name}");
        let answer = api.ask(Method::PUT, &path, Some(&object)).await;
        let missing = matches!(answer, Ok((404, _)));
        match answer {
            _ if missing => drop(api.must(Method::POST, folder, Some(&object)).await?),
            Ok((200..300, _)) => {}
            Ok((code, answer)) => return Err(format!("PUT {path}: {code} {}", String::from_utf8_lossy(&answer)).into()),
            // It is being killed.
            Err(_) if stop.load(Ordering::Relaxed) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn applied(api: &Api) -> Fallible<u64> {
    let status: Value = serde_json::from_slice(&api.must(Method::GET, "/navarch/status", None).await?)?;
    Ok(status.get("applied").and_then(Value::as_u64).ok_or("the status does not tell what is applied")?)
}

/// Writes until the log has had so many entries and for so long, and kills the server meanwhile.
fn write_and_kill(server: &mut Server, runtime: &Runtime, options: &RestartOptions, time: Duration) -> Fallible<u64> {
    let api = Api::open(&server.data_dir().join("admin.kubeconfig"), server.port())?;
    let stop = Arc::new(AtomicBool::new(false));
    let spawn = |writer| runtime.spawn(write(api.clone(), writer, stop.clone()));
    let writers: Vec<_> = (0..options.writers.max(1)).map(spawn).collect();
    let reached = runtime.block_on(async {
        let (begin, mut told) = (Instant::now(), Instant::now());
        loop {
            let entries = applied(&api).await?;
            if entries >= options.entries && begin.elapsed() >= time {
                return Fallible::Ok(entries);
            }
            if let Some(writer) = writers.iter().find(|writer| writer.is_finished()) {
                return Err(format!("writer {} ended early", writer.id()).into());
            }
            if told.elapsed() > Duration::from_secs(5) {
                eprintln!("entry {entries} of {}", options.entries);
                told = Instant::now();
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    stop.store(true, Ordering::Relaxed);
    server.kill();
    for writer in writers {
        runtime.block_on(writer)??;
    }
    reached
}

/// Starts it again: seconds to `/readyz` and to the last byte of the list of all pods.
fn time_start(server: &mut Server, runtime: &Runtime, pods: u64) -> Fallible<(f64, f64)> {
    let begin = Instant::now();
    server.run();
    let api = Api::open(&server.data_dir().join("admin.kubeconfig"), server.port())?;
    runtime.block_on(async {
        while !matches!(api.ask(Method::GET, "/readyz", None).await, Ok((200, _))) {
            if begin.elapsed() > PATIENCE {
                return Err("it does not get ready".into());
            }
            tokio::time::sleep(POLL).await;
        }
        let ready = begin.elapsed().as_secs_f64();
        let list = api.must(Method::GET, "/api/v1/pods", None).await?;
        let listed = begin.elapsed().as_secs_f64();
        let list: Value = serde_json::from_slice(&list)?;
        let found = list.get("items").and_then(Value::as_array).map_or(0, Vec::len) as u64;
        if found == pods { Ok((ready, listed)) } else { Err(format!("{found} pods of {pods} are listed").into()) }
    })
}

/// Measures and prints.
pub fn run(options: &RestartOptions, runtime: &Runtime) -> Fallible<()> {
    std::fs::create_dir_all(&options.dir)?;
    let mut server = Server::start_in(tempfile::Builder::new().prefix("server-").tempdir_in(&options.dir)?);
    let api = Api::open(&server.data_dir().join("admin.kubeconfig"), server.port())?;
    runtime.block_on(async {
        // A pod needs the account that a controller makes.
        let begin = Instant::now();
        while api.must(Method::GET, "/api/v1/namespaces/default/serviceaccounts/default", None).await.is_err() {
            if begin.elapsed() > PATIENCE {
                return Err("the default service account is missing".into());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        fill(&api, options).await
    })?;
    let (mut ready, mut listed, mut entries) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=options.runs {
        entries.push(write_and_kill(&mut server, runtime, options, BETWEEN)? as f64);
        let (to_ready, to_list) = time_start(&mut server, runtime, options.pods)?;
        eprintln!("run {run} of {}: ready after {to_ready:.3} s, all pods after {to_list:.3} s", options.runs);
        ready.push(to_ready);
        listed.push(to_list);
    }
    tell("R10.restart.entries", "navarch", "1", &entries);
    tell("R10.restart.ready_s", "navarch", "s", &ready);
    tell("R10.restart.listed_s", "navarch", "s", &listed);
    Ok(())
}
