//! Failover of three members at 200 writes a second: `cargo run --release -p navarch-chaos-processes --example failover -- TRIALS`.
//! One line of JSON a figure, at the end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use navarch_chaos_processes::failover::{Loss, Trial, measure};

fn figure(name: &str, loss: Loss, mut times: Vec<Duration>) {
    times.sort_unstable();
    let ms = |time: Duration| time.as_millis();
    println!(
        "{{\"figure\": \"{name}\", \"loss\": \"{loss:?}\", \"trials\": {}, \"p50_ms\": {}, \"max_ms\": {}}}",
        times.len(),
        ms(times[times.len() / 2]),
        ms(times[times.len() - 1]),
    );
}

fn main() -> std::process::ExitCode {
    let trials = std::env::args().nth(1).map_or(20, |text| text.parse().expect("TRIALS"));
    let losses = [Loss::Kill, Loss::Pause, Loss::Cut];
    let mut all: Vec<(Loss, Trial)> = Vec::new();
    let report = measure(&losses, trials, 1, &mut |loss, trial, figures| {
        let (gap, bound) = (figures.gap.as_millis(), figures.bound.as_millis());
        println!("{loss:?} {trial}: no write for {gap} ms, a new pod bound after {bound} ms");
        all.push((loss, figures));
    });
    for loss in losses {
        let of_loss: Vec<Trial> = all.iter().filter(|(other, _)| *other == loss).map(|(_, trial)| *trial).collect();
        if !of_loss.is_empty() {
            figure("write_gap", loss, of_loss.iter().map(|trial| trial.gap).collect());
            figure("next_pod_bound", loss, of_loss.iter().map(|trial| trial.bound).collect());
        }
    }
    match report {
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
