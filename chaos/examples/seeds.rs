//! Runs the simulation for many seeds on all cores, and says what happened in them.
//!
//! `cargo run --release -p navarch-chaos --example seeds -- 100000 --members 3`
//!
//! Ends with 1 if a seed found something, or if some kind of fault never happened in all of them; a failing seed is named
//! with the command that repeats it and the file that tells all about the run.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use navarch_chaos::{
    counts::Counts,
    explore::{self, Failure},
};

/// Seeded simulations of a cluster under faults.
#[derive(Parser)]
struct Args {
    /// How many seeds.
    #[arg(default_value_t = 1000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Members of each cluster.
    #[arg(long, default_value_t = 3)]
    members: usize,
    /// Threads; all cores if not given.
    #[arg(long)]
    threads: Option<usize>,
    /// It ends when so many seeds have found something.
    #[arg(long, default_value_t = 20)]
    failures: usize,
    /// Folder for the stories of failing seeds; that of temporary files if not given.
    #[arg(long)]
    stories: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    // What panics is told as a failure, with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let (begin, next, running) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(threads as u64));
    let (sum, failures) = (Mutex::new(Counts::default()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= args.seeds || failures.lock().unwrap().len() >= args.failures {
                        break;
                    }
                    match explore::seed(args.members, args.from + number, None) {
                        Ok(counts) => *sum.lock().unwrap() += counts,
                        Err(failure) => {
                            report(&args, &failure);
                            failures.lock().unwrap().push(failure);
                        }
                    }
                }
                running.fetch_sub(1, Ordering::Relaxed);
            });
        }
        scope.spawn(|| show_progress(&args, begin, &next, &running));
    });
    let (sum, failures) = (sum.into_inner().unwrap(), failures.into_inner().unwrap());
    println!("{sum}");
    // Each thread took one more than it ran, when it found the end.
    let run = next.load(Ordering::Relaxed).saturating_sub(threads as u64).min(args.seeds);
    let (members, found, seconds) = (args.members, failures.len(), begin.elapsed().as_secs_f64());
    println!("{run} seeds of {members} members in {seconds:.1} s on {threads} threads: {found} found something");
    let missing = sum.missing(members);
    if failures.is_empty() && !missing.is_empty() {
        println!("never happened, so nothing is proved about it: {}", missing.join(", "));
    }
    ExitCode::from(u8::from(!failures.is_empty() || !missing.is_empty()))
}

fn report(args: &Args, failure: &Failure) {
    let (seed, members) = (failure.seed, args.members);
    println!("\nseed {seed} found something: {}", failure.violation.0);
    println!("{}", failure.tell(members, args.stories.as_deref().unwrap_or(&std::env::temp_dir())));
    println!("repeat: cargo run --release -p navarch-chaos --example seeds -- 1 --from {seed} --members {members}");
}

/// One line, rewritten on a terminal; a line now and then elsewhere.
fn show_progress(args: &Args, begin: Instant, next: &AtomicU64, running: &AtomicU64) {
    let terminal = std::io::stderr().is_terminal();
    let mut last = Instant::now();
    loop {
        let threads = running.load(Ordering::Relaxed);
        let done = next.load(Ordering::Relaxed).saturating_sub(threads).min(args.seeds);
        if threads == 0 {
            break;
        }
        if terminal || last.elapsed() > Duration::from_secs(30) {
            last = Instant::now();
            let rate = done as f64 / begin.elapsed().as_secs_f64();
            let left = (args.seeds - done) as f64 / rate.max(0.01);
            let end = if terminal { "\x1b[K\r" } else { "\n" };
            eprint!("{done} of {} seeds, {rate:.0} a second, {left:.0} s left{end}", args.seeds);
            std::io::stderr().flush().unwrap();
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
