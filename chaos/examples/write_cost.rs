//! What a write costs: one client, then many, on real RocksDB in a folder given as argument, beside the disk's own sync.
//!
//! `cargo run --release -p navarch-chaos --example write_cost -- /var/tmp/somewhere`
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use navarch_raft_contract::{Command, CommandBody, Op, Txn};
use navarch_raft_driver::{Config, NoPeers, Parts, RaftHandle, start};
use navarch_storage::{DataFolder, RocksConfig};

const VALUE_BYTES: usize = 1024;
const CLIENTS: u64 = 64;

fn report(what: &str, mut times: Vec<Duration>, total: Duration) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let rate = times.len() as f64 / total.as_secs_f64();
    println!("{what:28} median {:>9.1?}  p99 {:>9.1?}  {rate:>9.0}/s", at(0.5), at(0.99));
}

fn bare_syncs(folder: &Path, count: usize) {
    let mut file = File::create(folder.join("bare")).unwrap();
    let (begin, mut times) = (Instant::now(), Vec::new());
    for _ in 0..count {
        let begin = Instant::now();
        file.write_all(&[7; VALUE_BYTES]).unwrap();
        file.sync_data().unwrap();
        times.push(begin.elapsed());
    }
    report("append and fdatasync alone", times, begin.elapsed());
}

fn put(client: u64, number: u64) -> Command {
    let key = format!("core/configmaps/default/client-{client}-{}", number % 500).into();
    let op = Op { kind: 0, key, value: vec![b'x'; VALUE_BYTES].into(), expires_at_ms: 0 };
    Command { fence_term: 0, body: Some(CommandBody::Txn(Txn { compares: vec![], ops: vec![op] })) }
}

async fn client(raft: RaftHandle, client: u64, count: u64) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..count {
        let begin = Instant::now();
        raft.propose(put(client, number)).await.unwrap();
        times.push(begin.elapsed());
    }
    times
}

async fn many(raft: &RaftHandle, clients: u64, count: u64) {
    let (before, begin) = (raft.figures(), Instant::now());
    let tasks: Vec<_> = (0..clients).map(|id| tokio::spawn(client(raft.clone(), id, count))).collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    report(&format!("{clients} clients"), times, begin.elapsed());
    let after = raft.figures();
    let (writes, syncs) = (clients * count, after.log.syncs - before.log.syncs);
    println!("{:28} {writes} writes, {syncs} syncs, {} entries", "", after.log.entries - before.log.entries);
}

#[tokio::main]
async fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).expect("a folder as argument"));
    std::fs::create_dir_all(&folder).unwrap();
    bare_syncs(&folder, 2000);
    let begin = Instant::now();
    let data = DataFolder::acquire(&folder.join("data")).unwrap();
    let (log, state) = data.open(&RocksConfig::default()).unwrap();
    let parts = Parts {
        log: Arc::new(log),
        state: Arc::new(state),
        sinks: vec![],
        transport: Arc::new(NoPeers),
        fatal: Arc::new(|_| std::process::abort()),
    };
    let raft = start(Config::single(1, "bench"), parts).unwrap();
    raft.watch().wait_for(|status| status.ready).await.unwrap();
    println!("leads {:.1?} after start", begin.elapsed());
    many(&raft, 1, 2000).await;
    many(&raft, CLIENTS, 200).await;
    raft.shutdown().await;
}
