//! Leader changes under full load, which should be none:
//! `cargo run --release -p navarch-chaos-processes --example steady -- MINUTES [MICROSECONDS-A-SYNC]`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use navarch_chaos_processes::run::steady;

fn main() -> std::process::ExitCode {
    let mut args = std::env::args().skip(1);
    let minutes: f64 = args.next().map_or(10.0, |text| text.parse().expect("MINUTES"));
    let sync = args.next().map(|text| Duration::from_micros(text.parse().expect("MICROSECONDS")));
    match steady(Duration::from_secs_f64(minutes * 60.0), sync, &mut |line| println!("{line}")) {
        Ok(report) => {
            println!("{report}");
            println!("{{\"figure\": \"leader_changes\", \"minutes\": {minutes}, \"value\": {}}}", report.terms);
            std::process::ExitCode::SUCCESS
        }
        Err(what) => {
            println!("BROKEN: {what}");
            std::process::ExitCode::FAILURE
        }
    }
}
