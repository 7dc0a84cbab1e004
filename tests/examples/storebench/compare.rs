//! `compare`: both sides in turn on the same disk and processors, under three loads.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;

use crate::disk::{self, SyncCost};
use crate::figures::{Spread, tell};
use crate::processes::{Members, Place, Side, pinned};
use crate::{Fallible, certs, syncs};

/// So that what the run before left to be written does not slow the next.
const SETTLE: Duration = Duration::from_secs(1);

/// The comparison.
#[derive(clap::Args)]
pub struct CompareOptions {
    /// Etcd's program; without it only navarch is measured.
    #[arg(long)]
    etcd: Option<PathBuf>,
    /// A folder on the disk that is meant. What is made in it is removed, but for logs.
    #[arg(long)]
    dir: PathBuf,
    /// Sizes of the cluster.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3])]
    members: Vec<usize>,
    /// Loads.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [LoadName::A, LoadName::B, LoadName::C])]
    loads: Vec<LoadName>,
    /// Runs of each side under each load.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds measured in each.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Seconds before them.
    #[arg(long, default_value_t = 3.0)]
    warmup: f64,
    /// Seconds of the run in which syncs are counted; 0: none.
    #[arg(long, default_value_t = 5.0)]
    sync_seconds: f64,
    /// The processors of the servers, as taskset takes them; empty: all.
    #[arg(long, default_value = "0")]
    server_cpus: String,
    /// Those of the load.
    #[arg(long, default_value = "1")]
    load_cpus: String,
}

/// The loads that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoadName {
    /// One client, keys of 8 bytes, values of 256.
    A,
    /// 1,000 clients over 100 connections, of the same.
    B,
    /// 64 clients, a connection each, keys of 48 bytes, values of 1 KiB.
    C,
}

impl std::fmt::Display for LoadName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
        })
    }
}

impl LoadName {
    /// Connections, clients, bytes of a key, bytes of a value; all over 100,000 keys.
    fn shape(self) -> [usize; 4] {
        match self {
            Self::A => [1, 1, 8, 256],
            Self::B => [100, 1000, 8, 256],
            Self::C => [64, 64, 48, 1024],
        }
    }

    fn clients(self) -> usize {
        self.shape()[1]
    }
}

/// The figures of one side under one load, by name, one of each run.
type Runs = BTreeMap<&'static str, Vec<f64>>;

/// What a load tells, with the units in which it is printed, the weightiest first.
const TOLD: [(&str, &str); 8] = [
    ("server_cpu_us_per_put", "us"),
    ("puts_per_s", "1/s"),
    ("p50_us", "us"),
    ("p99_us", "us"),
    ("max_us", "us"),
    ("errors", "puts"),
    ("server_cores", "cores"),
    ("load_cores", "cores"),
];

/// What is measured at a time.
#[derive(Clone, Copy)]
struct Case {
    members: usize,
    load: LoadName,
}

/// Runs a load in a process of its own, on the load's processors.
fn load(place: &Place, members: &Members, load: LoadName, seconds: f64, warmup: f64) -> Fallible<Value> {
    let endpoints: Vec<String> = members.endpoints.iter().map(ToString::to_string).collect();
    let pids: Vec<String> = members.pids()?.iter().map(u32::to_string).collect();
    let mut command = pinned(&place.load_cpus, &[], &std::env::current_exe()?);
    command.args(["load", "--endpoints", &endpoints.join(","), "--cpu-of", &pids.join(",")]);
    command.arg("--certs").arg(&place.certs);
    let names = ["--connections", "--clients", "--key-bytes", "--value-bytes"];
    for (name, value) in names.into_iter().zip(load.shape()) {
        command.args([name, &value.to_string()]);
    }
    command.args(["--seconds", &seconds.to_string(), "--warmup", &warmup.to_string()]);
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the load ended: {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// One run of one side, in a new cluster.
fn run_once(options: &CompareOptions, place: &Place, side: Side, case: Case, runs: &mut Runs) -> Fallible<()> {
    let members = Members::start(place, side, case.members, None)?;
    let found = load(place, &members, case.load, options.seconds, options.warmup)?;
    members.stop()?;
    for (name, _) in TOLD {
        let figure = found.get(name).and_then(Value::as_f64).ok_or("the load tells no figure")?;
        runs.entry(name).or_default().push(figure);
    }
    if found.get("errors") != Some(&Value::from(0)) {
        eprintln!("  errors: {}", found.get("error_texts").unwrap_or(&Value::Null));
    }
    std::thread::sleep(SETTLE);
    Ok(())
}

/// Counts syncs a put. If there were fewer than the puts that were acknowledged need, nothing that was measured counts.
fn run_synced(options: &CompareOptions, place: &Place, side: Side, case: Case, runs: &mut Runs) -> Fallible<()> {
    let trace = place.dir.join("syncs.trace");
    let members = Members::start(place, side, case.members, Some(&trace))?;
    let found = load(place, &members, case.load, options.sync_seconds, 1.0)?;
    members.stop()?;
    let number = |name: &str| found.get(name).and_then(Value::as_f64).ok_or("the load tells no time");
    let calls = syncs::count(&trace, case.members, number("from")?, number("until")?)?;
    let puts = number("puts")?;
    let all: u64 = calls.iter().flat_map(BTreeMap::values).sum();
    eprintln!("  {}: {puts} puts, syncs of each member: {calls:?}", side.name());
    runs.insert("syncs_per_put", vec![all as f64 / puts.max(1.0)]);
    let puts_max = syncs::puts_max(&calls, case.load.clients());
    if puts > puts_max as f64 {
        return Err(
            format!("void: {} acknowledged {puts} puts, and synced no more than {puts_max}", side.name()).into()
        );
    }
    Ok(())
}

/// A line of the table.
fn row(case: Case, side: Side, runs: &Runs) -> String {
    let of =
        |name: &str| runs.get(name).and_then(|figures| Spread::of(figures)).map_or(f64::NAN, |spread| spread.median);
    format!(
        "{:>7}  {}    {:<7} {:>10.1} {:>10.0} {:>9.0} {:>9.0} {:>9.0} {:>10.3} {:>7.2} {:>7.2}",
        case.members,
        case.load,
        side.name(),
        of("server_cpu_us_per_put"),
        of("puts_per_s"),
        of("p50_us"),
        of("p99_us"),
        of("max_us"),
        of("syncs_per_put"),
        of("server_cores"),
        of("load_cores"),
    )
}

/// Prints what both sides came to, and how they compare.
fn report(case: Case, cost: SyncCost, sides: &BTreeMap<Side, Runs>) -> Vec<String> {
    let name = |what: &str| format!("R1.{}.members-{}.{what}", case.load, case.members);
    let mut rows = Vec::new();
    for (side, runs) in sides {
        for (what, unit) in TOLD.into_iter().chain([("syncs_per_put", "1")]) {
            tell(&name(what), side.name(), unit, runs.get(what).map_or(&[], Vec::as_slice));
        }
        let to_sync = |p50: &f64| p50 / cost.appending;
        let p50: Vec<f64> = runs.get("p50_us").into_iter().flatten().map(to_sync).collect();
        tell(&name("p50_by_fdatasync_p50"), side.name(), "1", &p50);
        rows.push(row(case, *side, runs));
    }
    let median = |side: Side| Some(Spread::of(sides.get(&side)?.get("server_cpu_us_per_put")?)?.median);
    if let (Some(etcd), Some(navarch)) = (median(Side::Etcd), median(Side::Navarch)) {
        tell(&name("puts_per_cpu_second_by_etcd"), Side::Navarch.name(), "1", &[etcd / navarch]);
        rows.push(format!(
            "{:>7}  {}    puts a CPU-second, navarch by etcd: {:.2}",
            case.members,
            case.load,
            etcd / navarch
        ));
    }
    rows
}

fn compare(options: &CompareOptions, place: &Place, case: Case) -> Fallible<Vec<String>> {
    let cost = disk::measure(&place.dir)?;
    tell(&format!("R1.{}.members-{}.disk_fdatasync_p50", case.load, case.members), "disk", "us", &[cost.appending]);
    tell(
        &format!("R1.{}.members-{}.disk_fdatasync_in_place_p50", case.load, case.members),
        "disk",
        "us",
        &[cost.in_place],
    );
    let order = match options.etcd {
        // A B B A, so that a machine that gets slower or faster favours neither.
        Some(_) => [Side::Etcd, Side::Navarch, Side::Navarch, Side::Etcd].as_slice(),
        None => &[Side::Navarch],
    };
    let sides = 1 + usize::from(options.etcd.is_some());
    let mut found: BTreeMap<Side, Runs> = BTreeMap::new();
    for (number, side) in order.iter().cycle().take(sides * options.runs).enumerate() {
        eprintln!(
            "{} members, load {}: run {} of {}, {}",
            case.members,
            case.load,
            number + 1,
            sides * options.runs,
            side.name()
        );
        run_once(options, place, *side, case, found.entry(*side).or_default())?;
    }
    if options.sync_seconds > 0.0 {
        for (side, runs) in &mut found {
            run_synced(options, place, *side, case, runs)?;
        }
    }
    Ok(report(case, cost, &found))
}

/// Compares, and prints a table at the end.
pub fn run(options: &CompareOptions) -> Fallible<()> {
    std::fs::create_dir_all(&options.dir)?;
    let place = Place {
        dir: options.dir.clone(),
        certs: options.dir.join("certs"),
        etcd: options.etcd.clone().unwrap_or_default(),
        server_cpus: options.server_cpus.clone(),
        load_cpus: options.load_cpus.clone(),
    };
    std::fs::create_dir_all(&place.certs)?;
    certs::make(&place.certs, options.members.iter().copied().max().unwrap_or(1) as u64)?;
    let mut rows = Vec::new();
    for members in &options.members {
        for load in &options.loads {
            rows.extend(compare(options, &place, Case { members: *members, load: *load })?);
        }
    }
    println!("members load side    CPU-us/put     puts/s       p50       p99       max  syncs/put   cores    load");
    rows.iter().for_each(|row| println!("{row}"));
    std::fs::remove_dir_all(&place.certs)?;
    Ok(())
}
