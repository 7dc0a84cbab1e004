//! Every kind of fault on three real members under load, and what clients saw of it is judged.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use navarch_chaos_processes::run::{Plan, run};

#[test]
fn three_members_keep_their_promises_through_every_kind_of_fault() {
    let seed = std::env::var("NAVARCH_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let plan = Plan { seed, members: 3, time: Duration::ZERO, registers: 6, once: (2, 40.0) };
    let report = run(&plan, &mut |line| println!("{line}")).unwrap_or_else(|what| panic!("{what}"));
    println!("{report}");
    assert!(report.terms > 3, "only {} terms began", report.terms);
    assert!(report.counts[0] > 500, "only {} writes were acknowledged", report.counts[0]);
}
