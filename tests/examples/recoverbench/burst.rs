//! `burst`: 60 % of what the store can take, then 150 % for a while, then 60 % again: how long until all is as before.
//!
//! Puts are begun at a rate, whatever becomes of those before (an open loop), as clients that do not know of each other do.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use navarch_store::{Store, StoreError};
use parking_lot::Mutex;

use crate::Fallible;
use crate::figures::{Latencies, tell};
use crate::stored::{Stored, key, put, values};

/// Time is looked at in slices: what was begun in one is judged together.
const SLICE: Duration = Duration::from_millis(100);
/// Between two looks at how many puts are due.
const PACE: Duration = Duration::from_millis(1);
/// Slices in a row that must be as before, so that one by luck is not taken for the end.
const CALM_SLICES: usize = 5;
/// Clients that find out what the store can take: enough to fill every batch, and below every bound.
const CLIENTS: u64 = 1000;
const KEYS: u64 = 10_000;

/// A burst.
#[derive(clap::Args)]
pub struct BurstOptions {
    /// A folder on the disk that is meant; the data goes below it and is removed.
    #[arg(long)]
    dir: PathBuf,
    /// Seconds of each calm phase, and of finding the maximum.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Seconds of the burst.
    #[arg(long, default_value_t = 10.0)]
    burst_seconds: f64,
    #[arg(long, default_value_t = 1024)]
    value_bytes: usize,
    /// As `server.store.memory_mib`; the default is the program's.
    #[arg(long, default_value_t = 16)]
    memory_mib: usize,
}

/// What became of the puts begun in a slice.
#[derive(Default)]
struct Slice {
    begun: u64,
    refused: u64,
    latencies: Latencies,
}

/// What all puts share.
struct Plan {
    store: Store,
    values: Vec<Bytes>,
    begin: Instant,
    slices: Mutex<Vec<Slice>>,
    failed: Mutex<Option<StoreError>>,
}

impl Plan {
    fn in_slice(&self, at: usize, note: impl FnOnce(&mut Slice)) {
        let mut slices = self.slices.lock();
        if slices.len() <= at {
            slices.resize_with(at + 1, Slice::default);
        }
        note(&mut slices[at]);
    }

    async fn put(self: Arc<Self>, number: u64) {
        let at = (self.begin.elapsed().as_nanos() / SLICE.as_nanos()) as usize;
        self.in_slice(at, |slice| slice.begun += 1);
        let value = self.values[number as usize % self.values.len()].clone();
        match put(&self.store, key(number % KEYS), value).await {
            Ok(took) => self.in_slice(at, |slice| slice.latencies.add(took)),
            Err(StoreError::Busy) => self.in_slice(at, |slice| slice.refused += 1),
            Err(error) => *self.failed.lock() = Some(error),
        }
    }

    /// Begins puts at a rate.
    async fn offer(self: &Arc<Self>, rate: f64, seconds: f64, number: &mut u64) {
        let (begin, first) = (Instant::now(), *number);
        while begin.elapsed().as_secs_f64() < seconds {
            let due = first + (begin.elapsed().as_secs_f64() * rate) as u64;
            for number in *number..due {
                tokio::spawn(self.clone().put(number));
            }
            *number = due.max(*number);
            tokio::time::sleep(PACE).await;
        }
    }
}

/// Puts a second that clients get who each wait for theirs, in the second half of the time: at first memory takes what the
/// disk has to take later.
async fn most(plan: &Arc<Plan>, seconds: f64) -> Fallible<f64> {
    let count_from = Instant::now() + Duration::from_secs_f64(seconds / 2.0);
    let until = count_from + Duration::from_secs_f64(seconds / 2.0);
    let client = |plan: Arc<Plan>, first: u64| async move {
        let (mut number, mut counted) = (first, 0_u64);
        while Instant::now() < until {
            put(&plan.store, key(number % KEYS), plan.values[number as usize % plan.values.len()].clone()).await?;
            number += CLIENTS;
            counted += u64::from((count_from..until).contains(&Instant::now()));
        }
        Ok::<u64, StoreError>(counted)
    };
    let clients: Vec<_> = (0..CLIENTS).map(|first| tokio::spawn(client(plan.clone(), first))).collect();
    let mut counted = 0;
    for client in clients {
        counted += client.await??;
    }
    Ok(counted as f64 / (seconds / 2.0))
}

/// What a phase came to.
struct Phase {
    p50: Vec<f64>,
    p99: Vec<f64>,
    acknowledged: u64,
    refused: u64,
}

fn phase(slices: &mut [Slice]) -> Phase {
    let acknowledged = slices.iter().map(|slice| slice.latencies.count() as u64).sum();
    let refused = slices.iter().map(|slice| slice.refused).sum();
    let mut quantile = |share| slices.iter_mut().map(|slice| f64::from(slice.latencies.quantile(share))).collect();
    Phase { p50: quantile(0.5), p99: quantile(0.99), acknowledged, refused }
}

/// The figure that nine slices of ten do not exceed: the usual, without the outliers of any disk.
fn usual(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() * 9 / 10).copied().unwrap_or(f64::INFINITY)
}

/// The first of several slices in a row that are as before: nothing is refused, and the puts begun in it took no more than
/// a tenth longer. Nothing if there are none.
fn back_after(before: &Phase, after: &[Slice], figures: &Phase) -> Option<Duration> {
    let (p50, p99) = (usual(&before.p50) * 1.1, usual(&before.p99) * 1.1);
    let calm: Vec<bool> = after
        .iter()
        .zip(figures.p50.iter().zip(&figures.p99))
        .map(|(slice, (of_p50, of_p99))| slice.refused == 0 && *of_p50 <= p50 && *of_p99 <= p99)
        .collect();
    let first = calm.windows(CALM_SLICES).position(|window| window.iter().all(|calm| *calm))?;
    Some(SLICE * u32::try_from(first).ok()?)
}

/// Measures and prints.
pub async fn run(options: &BurstOptions) -> Fallible<()> {
    let stored = Stored::open(&options.dir, options.memory_mib, 1024).await?;
    let plan = |begin| Plan {
        store: stored.member.store.clone(),
        values: values(64, options.value_bytes),
        begin,
        slices: Mutex::default(),
        failed: Mutex::default(),
    };
    eprintln!("finding what the store can take: {} s", options.seconds);
    let most = most(&Arc::new(plan(Instant::now())), options.seconds).await?;
    eprintln!("{most:.0} puts a second; now 60 %, 150 %, 60 %");
    let plan = Arc::new(plan(Instant::now()));
    let mut number = 0;
    plan.offer(most * 0.6, options.seconds, &mut number).await;
    eprintln!("150 %");
    plan.offer(most * 1.5, options.burst_seconds, &mut number).await;
    eprintln!("60 %");
    plan.offer(most * 0.6, options.seconds, &mut number).await;
    // Whoever waits still is answered, or is not by the time that the member stops.
    stored.member.close().await;
    if let Some(error) = plan.failed.lock().take() {
        return Err(error.into());
    }
    let mut slices = std::mem::take(&mut *plan.slices.lock());
    let slices_of = |seconds: f64| (seconds / SLICE.as_secs_f64()).round() as usize;
    let (calm, burst) = (slices_of(options.seconds), slices_of(options.burst_seconds));
    if slices.len() < calm + burst {
        return Err("too few puts were begun: this process did not keep pace".into());
    }
    let mut rest = slices.split_off(calm);
    let mut after = rest.split_off(burst);
    // The first puts of all find everything cold, and the last slice may be short.
    let before = phase(&mut slices[calm / 4..]);
    let (during, later) = (phase(&mut rest), phase(&mut after));
    let one = |what: &str, unit: &str, figure: f64| tell(&format!("R10.burst.{what}"), "navarch", unit, &[figure]);
    one("most_puts_per_s", "1/s", most);
    one("before_p50_us", "us", usual(&before.p50));
    one("before_p99_us", "us", usual(&before.p99));
    one("before_refused", "puts", before.refused as f64);
    one("burst_offered_per_s", "1/s", rest.iter().map(|slice| slice.begun).sum::<u64>() as f64 / options.burst_seconds);
    one("burst_acknowledged_by_most", "1", during.acknowledged as f64 / options.burst_seconds / most);
    one("burst_refused", "puts", during.refused as f64);
    one("burst_p99_us", "us", usual(&during.p99));
    one("after_refused", "puts", later.refused as f64);
    match back_after(&before, &after, &later) {
        Some(time) => one("back_ms", "ms", time.as_secs_f64() * 1e3),
        None => return Err("after the burst it never was as before".into()),
    };
    Ok(())
}
