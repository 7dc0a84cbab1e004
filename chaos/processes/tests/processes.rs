//! Every kind of fault on real members under load, and what clients saw of it is judged.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use navarch_chaos_processes::run::{Plan, SHARED, run};
use parking_lot::Mutex;

/// One cluster at a time: this is not about what happens when the machine is overloaded.
static ONE: Mutex<()> = Mutex::new(());

fn every_kind_of_fault(members: usize) {
    let _one = ONE.lock();
    let seed = std::env::var("NAVARCH_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let plan = Plan { seed, members, time: Duration::ZERO, registers: 6, shared: SHARED, once: (2, 40.0) };
    let report = run(&plan, &mut |line| println!("{line}")).unwrap_or_else(|what| panic!("{what}"));
    println!("{report}");
    assert!(report.terms > 3, "only {} terms began", report.terms);
    assert!(report.counts[0] > 500, "only {} writes were acknowledged", report.counts[0]);
}

#[test]
fn three_members_keep_their_promises_through_every_kind_of_fault() {
    every_kind_of_fault(3);
}

#[test]
fn five_members_keep_their_promises_through_every_kind_of_fault() {
    every_kind_of_fault(5);
}
