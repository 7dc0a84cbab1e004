//! Chaos for as long as one likes: `make chaos`, or
//! `cargo run --release -p navarch-chaos-processes --example chaos -- MINUTES [--members 5] [--seed N]`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use navarch_chaos_processes::run::{Plan, SHARED, run};

fn main() -> std::process::ExitCode {
    let mut args = std::env::args().skip(1);
    let mut plan = Plan {
        seed: std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_secs()),
        members: 3,
        time: Duration::from_secs(600),
        registers: 8,
        shared: SHARED,
        once: (4, 25.0),
    };
    while let Some(arg) = args.next() {
        let mut number = |what: &str| -> u64 {
            args.next().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{what}: a number"))
        };
        match arg.as_str() {
            "--members" => plan.members = number("--members") as usize,
            "--seed" => plan.seed = number("--seed"),
            minutes => {
                let minutes: f64 = minutes.parse().expect("MINUTES [--members 3|5] [--seed N]");
                plan.time = Duration::from_secs_f64(minutes * 60.0);
            }
        }
    }
    match run(&plan, &mut |line| println!("{line}")) {
        Ok(report) => {
            println!("{report}");
            std::process::ExitCode::SUCCESS
        }
        Err(what) => {
            println!("BROKEN: {what}");
            std::process::ExitCode::FAILURE
        }
    }
}
