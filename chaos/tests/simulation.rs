//! Simulated crashes, and the bugs that the simulation must find. Every failure prints its seed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::panic::catch_unwind;

use navarch_chaos::{
    Bug,
    disk::SimBackend,
    explore::{Failure, every_step, soak},
    world::Counts,
};

/// Other seeds every time, if asked: `NAVARCH_CHAOS_SEED=1234 cargo nextest run -p navarch-chaos`.
fn first_seed() -> u64 {
    let seed = std::env::var("NAVARCH_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    eprintln!("seeds from {seed}");
    seed
}

fn steps_of(seed: u64, bug: Option<Bug>) -> Result<u64, Failure> {
    every_step(seed, 150, bug, u64::MAX, &mut || SimBackend::new(bug))
}

fn soak_of(members: usize, seed: u64, bug: Option<Bug>) -> Result<Counts, Failure> {
    // Some clusters begin with fewer members than they may come to have.
    let first = if seed.is_multiple_of(3) { 1 } else { members };
    soak(seed, 15, bug, (0..members).map(|_| SimBackend::new(bug)).collect(), first)
}

/// The sum of what happened in runs of so many seeds; the first failure ends it.
fn sum_of(members: usize, seeds: std::ops::Range<u64>) -> Counts {
    let mut sum = Counts::default();
    for seed in seeds {
        sum += soak_of(members, seed, None).unwrap_or_else(|failure| panic!("{failure:?}"));
    }
    eprintln!("{sum:?}");
    sum
}

#[test]
fn one_member_loses_nothing_whenever_the_power_is_cut() {
    let first = first_seed();
    let mut crashes = 0;
    for seed in first..first + 40 {
        crashes += steps_of(seed, None).unwrap_or_else(|failure| panic!("{failure:?}"));
    }
    eprintln!("{crashes} crashes");
    assert!(crashes > 500);
}

#[test]
fn one_member_survives_many_crashes_in_a_row() {
    let first = first_seed();
    assert!(sum_of(1, first..first + 100).crashes > 500);
}

/// A batch in which some kind of fault never happened has proved nothing about it.
fn assert_all_happened(sum: Counts) {
    let Counts { crashes, elections, snapshots, member_changes, transfers, network } = sum;
    for (what, count) in [
        ("crashes", crashes),
        ("elections", elections),
        ("snapshots", snapshots),
        ("changes of members", member_changes),
        ("transfers", transfers),
        ("packets lost", network[0]),
        ("packets doubled", network[1]),
        ("packets reordered", network[2]),
        ("directions blocked", network[3]),
    ] {
        assert!(count > 20, "{what}: only {count}");
    }
}

#[test]
fn three_members_lose_nothing_with_crashes_and_a_bad_network() {
    let first = first_seed();
    assert_all_happened(sum_of(3, first..first + 150));
}

#[test]
fn five_members_lose_nothing_with_crashes_and_a_bad_network() {
    let first = first_seed();
    assert_all_happened(sum_of(5, first..first + 50));
}

/// The first failure that the bug causes within so many seeds. That Raft itself finds its log impossible, and panics, counts.
fn found<T>(bug: Bug, run: fn(u64, Option<Bug>) -> Result<T, Failure>) -> String {
    let failure = |seed| match catch_unwind(|| run(seed, Some(bug))) {
        Ok(Ok(_)) => None,
        Ok(Err(failure)) => Some(format!("{failure:?}")),
        Err(_) => Some(format!("seed {seed}: the core panicked")),
    };
    (1..300).find_map(failure).unwrap_or_else(|| panic!("{bug:?} was not found"))
}

#[test]
fn seeded_bugs_of_one_member_are_found() {
    for bug in [Bug::SkippedSync, Bug::EarlyAcknowledgement, Bug::CutUnflushed, Bug::HalfWrite] {
        eprintln!("{bug:?}: {}", found(bug, steps_of));
    }
}

#[test]
fn seeded_bugs_of_three_members_are_found() {
    for bug in [Bug::ForgottenVote, Bug::StaleRead, Bug::SkippedSync, Bug::EarlyAcknowledgement] {
        eprintln!("{bug:?}: {}", found(bug, |seed, bug| soak_of(3, seed, bug)));
    }
}

#[test]
fn a_seed_repeats_its_run() {
    for seed in 1..10 {
        let failure =
            |seed| steps_of(seed, Some(Bug::SkippedSync)).err().map(|failure| (failure.step, failure.violation));
        assert_eq!(failure(seed), failure(seed));
        assert_eq!(soak_of(3, seed, None).unwrap(), soak_of(3, seed, None).unwrap());
    }
}
