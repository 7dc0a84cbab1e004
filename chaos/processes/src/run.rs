//! A run: a cluster under load, one fault after the other, then everything is healed and judged.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use navarch_chaos::check::history::Item;
use navarch_chaos::check::recorder::Recorder;
use parking_lot::Mutex;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reqwest::Method;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Reply, revision};
use crate::cluster::Cluster;
use crate::faults::{KINDS, Kind, inflict};
use crate::load::{Client, PATH, Tally};
use crate::verdict::Evidence;
use crate::watchers::Watching;

/// Registers of a run that is judged. Few, so that clients meet.
pub const SHARED: Option<u32> = Some(6);
/// For how long each watcher stays with a member.
const STAYS: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(50),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];
/// History is short, so that watchers come too late for it; and the state on the disk is read all the time, so that damage
/// is found while a run lasts.
const SETTINGS: [&str; 2] = ["server.store.retention_minutes=1", "server.store.scrub_pause_minutes=0"];
/// How long watchers may take to see the last event after everything is healed.
const SETTLE: Duration = Duration::from_secs(30);

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Repeats the choices. What the processes make of them is not repeated.
    pub seed: u64,
    /// Members of the cluster.
    pub members: usize,
    /// Until when faults go on; every kind happens once at least.
    pub time: Duration,
    /// Clients that change registers.
    pub registers: u64,
    /// Registers that they share: the fewer, the more they meet. `None`: each has its own.
    pub shared: Option<u32>,
    /// Clients that make new objects, and how many a second each of them.
    pub once: (u64, f64),
}

/// What happened.
#[derive(Debug, Default)]
pub struct Report {
    /// How often each fault was done, and the longest time without an acknowledged write meanwhile.
    pub faults: BTreeMap<Kind, Vec<Duration>>,
    /// Terms that began.
    pub terms: u64,
    /// What judges found to be true.
    pub verdict: Vec<String>,
    /// Acknowledged writes, reads, conflicts, refusals, open.
    pub counts: [u64; 5],
    /// Events, watches begun, times that history was gone.
    pub watches: [u64; 3],
}

/// Everything that goes on while faults happen.
pub(crate) struct Going {
    pub(crate) runtime: Runtime,
    pub(crate) api: Api,
    pub(crate) tally: Arc<Tally>,
    stop_load: CancellationToken,
    load: Vec<JoinHandle<()>>,
    watching: Watching,
    watchers: Vec<JoinHandle<()>>,
    operations: PathBuf,
    sights: PathBuf,
    first: (u64, Vec<Item>),
}

fn recorder(path: &Path) -> Arc<Recorder<BufWriter<File>>> {
    Arc::new(Recorder::new(BufWriter::new(File::create(path).unwrap())))
}

async fn state(api: &Api, server: &str) -> Option<(u64, Vec<Item>)> {
    let Reply::Answer(200, list) = api.ask(server, Method::GET, PATH, None).await else { return None };
    let item = |object: &Value| Item {
        key: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        value: object.pointer("/data/v").and_then(Value::as_str).unwrap_or_default().to_owned(),
        revision: revision(object).unwrap_or(0),
    };
    Some((revision(&list)?, list["items"].as_array()?.iter().map(item).collect()))
}

impl Going {
    /// Without a folder nothing is written down, and nothing can be judged.
    pub(crate) fn start(cluster: &Cluster, plan: &Plan, folder: Option<&Path>) -> Self {
        // Threads that are made from here on are on the members' network.
        cluster.members.enter_network();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let api = Api::of(&cluster.members);
        api.set_servers((0..plan.members).map(|member| cluster.members.address(member)));
        let first = navarch_tests::eventually("the namespace is furnished", || {
            let told = runtime.block_on(state(&api, &api.server(0))).ok_or("no answer")?;
            if told.1.is_empty() { Err("nothing is there".to_owned()) } else { Ok(told) }
        });
        let file = |name: &str| folder.map_or_else(|| PathBuf::from("/dev/null"), |folder| folder.join(name));
        let (operations, sights) = (file("operations.jsonl"), file("sights.jsonl"));
        let client = Client {
            api: api.clone(),
            operations: recorder(&operations),
            tally: Arc::default(),
            stop: CancellationToken::new(),
        };
        let watching = Watching {
            api: api.clone(),
            sights: recorder(&sights),
            counts: Arc::default(),
            lists: Arc::default(),
            until: Arc::default(),
            stop: CancellationToken::new(),
            odd: Arc::new(Mutex::default()),
        };
        let watchers = STAYS.iter().enumerate();
        let watchers: Vec<_> =
            watchers.map(|(number, stay)| runtime.spawn(watching.clone().watch(number, *stay))).collect();
        // What happens before they watch, none of them sees.
        navarch_tests::eventually("all watch", || {
            let lists = watching.lists.load(Ordering::Acquire);
            if lists >= STAYS.len() as u64 { Ok(()) } else { Err(lists.to_string()) }
        });
        let registers =
            (0..plan.registers).map(|number| runtime.spawn(client.clone().registers(number, plan.seed, plan.shared)));
        let once = (0..plan.once.0).map(|number| runtime.spawn(client.clone().once(1000 + number, plan.once.1)));
        let load = registers.chain(once).collect();
        let (tally, stop_load) = (Arc::clone(&client.tally), client.stop.clone());
        Self { runtime, api, tally, stop_load, load, watching, watchers, operations, sights, first }
    }

    pub(crate) fn term(&self) -> u64 {
        let server = self.api.server(0);
        match self.runtime.block_on(self.api.ask(&server, Method::GET, "/navarch/status", None)) {
            Reply::Answer(200, status) => status["term"].as_u64().unwrap_or(0),
            _ => 0,
        }
    }

    pub(crate) fn counts(&self) -> [u64; 5] {
        let tally = &self.tally;
        [&tally.acknowledged, &tally.reads, &tally.conflicts, &tally.refused, &tally.open]
            .map(|count| count.load(Ordering::Relaxed))
    }

    /// Ends the load, waits until watchers have seen everything, and reads what is there.
    pub(crate) fn end(self, members: usize, report: &mut Report) -> Result<Evidence, String> {
        self.stop_load.cancel();
        report.counts = self.counts();
        let Self { runtime, api, tally, load, watching, watchers, operations, sights, first, .. } = self;
        for task in load {
            runtime.block_on(task).map_err(|error| error.to_string())?;
        }
        let mut finals = Vec::new();
        for member in 0..members {
            let told = navarch_tests::eventually("the member tells its state", || {
                runtime.block_on(state(&api, &api.server(member))).ok_or_else(|| "no answer".to_owned())
            });
            finals.push(told);
        }
        let last = finals.iter().flat_map(|(_, items)| items).map(|item| item.revision).max().unwrap_or(0);
        watching.until.store(last, Ordering::Release);
        let deadline = Instant::now() + SETTLE;
        for task in watchers {
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = runtime.block_on(async { tokio::time::timeout(left, task).await });
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(error.to_string()),
                // The judge says what it has not seen.
                Err(_) => watching.stop.cancel(),
            }
        }
        report.watches = [0, 1, 2].map(|which| watching.counts[which].load(Ordering::Relaxed));
        if let Some(odd) = watching.odd.lock().first() {
            return Err(format!("a watcher was told: {odd}"));
        }
        if let Some((code, (times, said))) = tally.odd.lock().first_key_value() {
            return Err(format!("{times} requests were answered with {code}: {said}"));
        }
        // What is buffered goes to the files when the last of them ends.
        drop(watching);
        drop(runtime);
        Ok(Evidence::read(&operations, &sights, first, finals))
    }
}

/// Carries a plan out. `tell` is called with what to show.
///
/// # Errors
/// What the judges reject, with where the evidence is.
pub fn run(plan: &Plan, tell: &mut dyn FnMut(&str)) -> Result<Report, String> {
    let folder = tempfile::Builder::new().prefix("nv-chaos").tempdir().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
    tell(&format!("seed {}: starting {} members", plan.seed, plan.members));
    let mut cluster = Cluster::start(&format!("chaos{}", plan.members), plan.members, &SETTINGS);
    let mut report = Report::default();
    let going = Going::start(&cluster, plan, Some(folder.path()));
    let (began, first_term) = (Instant::now(), going.term());
    let mut kinds: Vec<Kind> = Vec::new();
    let mut all_done = false;
    while !all_done || began.elapsed() < plan.time {
        let kind = match kinds.pop() {
            Some(kind) => kind,
            None => {
                kinds = KINDS.to_vec();
                kinds.shuffle(&mut rng);
                continue;
            }
        };
        std::thread::sleep(Duration::from_millis(rng.random_range(300..1500)));
        going.tally.take_gap();
        inflict(&mut cluster, kind, &mut rng);
        let gap = going.tally.take_gap();
        report.faults.entry(kind).or_default().push(gap);
        all_done = report.faults.len() == KINDS.len();
        let [acknowledged, reads, _, refused, open] = going.counts();
        tell(&format!(
            "{:>5.0} s  {kind:<14?} gap {:>6} ms   {acknowledged} writes, {reads} reads, {refused} refused, {open} open",
            began.elapsed().as_secs_f64(),
            gap.as_millis(),
        ));
    }
    report.terms = going.term().saturating_sub(first_term);
    tell("healed; judging");
    let judged = going.end(plan.members, &mut report).and_then(|evidence| evidence.judge());
    match judged {
        Ok(lines) => {
            report.verdict = lines;
            Ok(report)
        }
        Err(what) => {
            let kept = folder.keep();
            for member in 0..cluster.members.count() {
                let log = cluster.members.folder().join(format!("{member}.log"));
                let _ = std::fs::copy(log, kept.join(format!("{member}.log")));
            }
            Err(format!("seed {}: {what} (evidence: {})", plan.seed, kept.display()))
        }
    }
}

/// Full load on three members and no fault: terms that begin are elections that should not have been. `sync` is how long a
/// sync takes on every disk, if not the usual.
///
/// # Errors
/// What the judges reject.
pub fn steady(time: Duration, sync: Option<Duration>, tell: &mut dyn FnMut(&str)) -> Result<Report, String> {
    let cluster = Cluster::start("steady", 3, &[]);
    for member in 0..3 {
        cluster.slow(member, sync.unwrap_or(crate::cluster::USUAL_SYNC));
    }
    // More than two cores can do.
    let plan = Plan { seed: 1, members: 3, time, registers: 128, shared: None, once: (0, 1.0) };
    let going = Going::start(&cluster, &plan, None);
    let (began, first_term) = (Instant::now(), going.term());
    let mut report = Report::default();
    while began.elapsed() < time {
        std::thread::sleep(Duration::from_secs(10).min(time));
        report.terms = going.term().saturating_sub(first_term);
        let [acknowledged, reads, ..] = going.counts();
        let (seconds, gap) = (began.elapsed().as_secs_f64(), going.tally.take_gap().as_millis());
        tell(&format!(
            "{seconds:>5.0} s  {:.0} writes/s, {:.0} reads/s, longest gap {gap} ms, {} leader changes",
            acknowledged as f64 / seconds,
            reads as f64 / seconds,
            report.terms
        ));
    }
    going.end(3, &mut report)?;
    Ok(report)
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [acknowledged, reads, conflicts, refused, open] = self.counts;
        writeln!(f, "faults (times, gap without an acknowledged write: median and longest)")?;
        for (kind, gaps) in &self.faults {
            let mut gaps = gaps.clone();
            gaps.sort_unstable();
            let (median, longest) = (gaps[gaps.len() / 2].as_millis(), gaps[gaps.len() - 1].as_millis());
            writeln!(f, "  {:<14} {:>4}   {median:>6} ms {longest:>6} ms", format!("{kind:?}"), gaps.len())?;
        }
        writeln!(f, "terms begun {}", self.terms)?;
        writeln!(
            f,
            "{acknowledged} writes acknowledged, {reads} reads, {conflicts} conflicts, {refused} refused, {open} without an answer"
        )?;
        let [events, watches, expired] = self.watches;
        writeln!(f, "{events} events seen on {watches} watches, {expired} times history was gone")?;
        for line in &self.verdict {
            writeln!(f, "true: {line}")?;
        }
        Ok(())
    }
}
