//! `overwrite`: many overwrites of few keys while history is forgotten.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use navarch_store::Store;
use parking_lot::Mutex;

use crate::Fallible;
use crate::figures::{Latencies, tell};
use crate::stored::{Stored, key, put, values};

/// Between two looks at the disk.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After the last put: for what goes on in the background.
const SETTLE: Duration = Duration::from_secs(15);

/// Many overwrites of few keys.
#[derive(clap::Args)]
pub struct OverwriteOptions {
    /// A folder on the disk that is meant; the data goes below it and is removed.
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 1_000_000)]
    puts: u64,
    #[arg(long, default_value_t = 1000)]
    keys: u64,
    #[arg(long, default_value_t = 1024)]
    value_bytes: usize,
    /// Clients, each with one put at a time.
    #[arg(long, default_value_t = 64)]
    clients: u64,
    /// As `server.store.memory_mib`; the default is the program's.
    #[arg(long, default_value_t = 16)]
    memory_mib: usize,
    /// Megabytes of history that are kept. Less than the program's default, so that compaction has to keep up.
    #[arg(long, default_value_t = 128)]
    history_mib: u64,
}

/// What all clients share.
struct Plan {
    store: Store,
    values: Vec<Bytes>,
    keys: u64,
    puts: u64,
    next: AtomicU64,
    /// When a put was acknowledged last, and the longest time without one.
    last: Mutex<(Instant, Duration)>,
}

async fn client(plan: Arc<Plan>) -> Fallible<Latencies> {
    let mut latencies = Latencies::default();
    loop {
        let number = plan.next.fetch_add(1, Ordering::Relaxed);
        if number >= plan.puts {
            return Ok(latencies);
        }
        let value = plan.values[number as usize % plan.values.len()].clone();
        latencies.add(put(&plan.store, key(number % plan.keys), value).await?);
        let (now, mut last) = (Instant::now(), plan.last.lock());
        *last = (now, last.1.max(now - last.0));
    }
}

/// Bytes that a folder takes on the disk. Files come and go meanwhile: what is gone counts for nothing.
fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        // Kept free on purpose; not data.
        Ok(_) if entry.file_name() == "reserve" => 0,
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    bytes.sum()
}

/// The disk at some time.
#[derive(Clone, Copy, Debug)]
struct Look {
    log: u64,
    state: u64,
    /// Bytes of keys and values that are alive, and of the changes whose history is kept.
    due: u64,
}

impl Look {
    fn at(store: &Store, folder: &Path, options: &OverwriteOptions) -> Self {
        let data = folder.join("data");
        let log = disk_bytes(&data.join("log"));
        let each = (key(0).len() + options.value_bytes) as u64;
        let revision = store.revision();
        let retained = revision.saturating_sub(store.reader().compacted());
        Self {
            log,
            state: disk_bytes(&data) - log.min(disk_bytes(&data)),
            due: each * (retained + options.keys.min(revision)),
        }
    }

    fn ratio(&self) -> f64 {
        (self.log + self.state) as f64 / self.due.max(1) as f64
    }
}

async fn watch_disk(plan: Arc<Plan>, folder: PathBuf, options: &OverwriteOptions) -> Vec<Look> {
    let mut looks = Vec::new();
    while plan.next.load(Ordering::Relaxed) < plan.puts {
        tokio::time::sleep(LOOK_EVERY).await;
        let look = Look::at(&plan.store, &folder, options);
        let done = plan.next.load(Ordering::Relaxed).min(plan.puts);
        eprintln!(
            "{done} of {} puts; log {} MB, state {} MB, {:.2} of what is due",
            plan.puts,
            look.log >> 20,
            look.state >> 20,
            look.ratio()
        );
        looks.push(look);
    }
    looks
}

/// Measures and prints.
pub async fn run(options: &OverwriteOptions) -> Fallible<()> {
    let stored = Stored::open(&options.dir, options.memory_mib, options.history_mib).await?;
    let store = stored.member.store.clone();
    let plan = Arc::new(Plan {
        store: store.clone(),
        values: values(64, options.value_bytes),
        keys: options.keys.max(1),
        puts: options.puts,
        next: AtomicU64::new(0),
        last: Mutex::new((Instant::now(), Duration::ZERO)),
    });
    let compactor = tokio::spawn(stored.member.compactor());
    let begin = Instant::now();
    let clients: Vec<_> = (0..options.clients.max(1)).map(|_| tokio::spawn(client(plan.clone()))).collect();
    let looks = watch_disk(plan.clone(), stored.folder.path().to_owned(), options).await;
    let mut all = Latencies::default();
    for client in clients {
        all.extend(client.await??);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let stall = plan.last.lock().1;
    eprintln!("waiting {} s for what goes on in the background", SETTLE.as_secs());
    tokio::time::sleep(SETTLE).await;
    let end = Look::at(&store, stored.folder.path(), options);
    if compactor.is_finished() {
        compactor.await??;
    } else {
        compactor.abort();
    }
    let one = |what: &str, unit: &str, figure: f64| tell(&format!("R10.overwrite.{what}"), "navarch", unit, &[figure]);
    one("puts_per_s", "1/s", all.count() as f64 / seconds);
    one("p50_us", "us", f64::from(all.quantile(0.5)));
    one("p999_us", "us", f64::from(all.quantile(0.999)));
    one("max_us", "us", f64::from(all.quantile(1.0)));
    one("longest_without_any_ms", "ms", stall.as_secs_f64() * 1e3);
    one("disk_by_due_max", "1", looks.iter().map(Look::ratio).fold(0.0, f64::max));
    one("disk_by_due_end", "1", end.ratio());
    one("disk_max_mib", "MiB", looks.iter().map(|look| (look.log + look.state) >> 20).max().unwrap_or(0) as f64);
    one("log_end_mib", "MiB", (end.log >> 20) as f64);
    one("state_end_mib", "MiB", (end.state >> 20) as f64);
    one("due_end_mib", "MiB", (end.due >> 20) as f64);
    drop((store, plan));
    stored.member.close().await;
    Ok(())
}
