//! Simulated clusters under faults, and the bugs that the simulation must find. Every failure prints its seed; the example
//! `seeds` runs more of them, and repeats one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use navarch_chaos::{
    Bug,
    counts::Counts,
    disk::SimBackend,
    explore::{self, Failure, every_step},
};

/// Other seeds every time, if asked: `NAVARCH_CHAOS_SEED=1234 cargo nextest run -p navarch-chaos`.
fn first_seed() -> u64 {
    let seed = std::env::var("NAVARCH_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    eprintln!("seeds from {seed}");
    seed
}

fn steps_of(seed: u64, bug: Option<Bug>) -> Result<u64, Failure> {
    every_step(seed, 600, bug, 60, &mut || SimBackend::new(bug))
}

/// The test fails, and leaves the story of the run.
fn fail(members: usize, failure: &Failure) -> ! {
    panic!("{failure:?}; {}", failure.tell(members, &std::env::temp_dir()))
}

/// Runs so many seeds; the first failure ends it. A batch in which some kind of fault never happened has proved nothing
/// about it.
fn batch(members: usize, seeds: u64) {
    let (first, mut sum) = (first_seed(), Counts::default());
    for seed in first..first + seeds {
        sum += explore::seed(members, seed, None).unwrap_or_else(|failure| fail(members, &failure));
    }
    eprintln!("{sum}");
    let missing = sum.missing(members);
    assert!(missing.is_empty(), "never happened: {missing:?}");
}

#[test]
fn one_member_loses_nothing_whenever_the_power_is_cut() {
    let first = first_seed();
    let mut crashes = 0;
    for seed in first..first + 40 {
        crashes += steps_of(seed, None).unwrap_or_else(|failure| fail(1, &failure));
    }
    eprintln!("{crashes} crashes");
    assert!(crashes > 500);
}

#[test]
fn one_member_keeps_its_promises_under_faults() {
    batch(1, 150);
}

#[test]
fn three_members_keep_their_promises_under_faults() {
    batch(3, 700);
}

#[test]
fn five_members_keep_their_promises_under_faults() {
    batch(5, 150);
}

/// Seeds that found something, and what: `members, seed, what it was`. Runs change with the simulation,
/// so each stands for the kind of run that found it; the defect itself has its own test where it was mended.
const FOUND: &[(usize, u64, &str)] = &[
    (3, 89, STOOD),
    (3, 157, STOOD),
    (3, 175, STOOD),
    (3, 323, STOOD),
    (3, 20_900, CUT_SHORT),
    (3, 45_102, CUT_SHORT),
    (3, 49_926, CUT_SHORT),
    (3, 61_082, CUT_SHORT),
    (3, 63_832, CUT_SHORT),
    (3, 65_566, CUT_SHORT),
    (3, 7_348, LED_BACK),
    (3, 10_091, LED_BACK),
    (3, 39_521, LED_BACK),
    (3, 52_715, LED_BACK),
    (3, 53_375, LED_BACK),
    (3, 54_341, LED_BACK),
    (3, 64_667, LED_BACK),
    (3, 67_295, LED_BACK),
    (3, 84_065, LED_BACK),
    (3, 20_619, UNWRITTEN),
    (3, 2_721, ONE_WORD),
    (5, 31, GAVE_UP),
    (5, 100_067, GAVE_UP),
    (5, 100_365, GAVE_UP),
];
const GAVE_UP: &str = "many writes of one key without answers, and the judge of linearizability spent its budget";
const CUT_SHORT: &str =
    "a member without a state took an older one than it had asked for, and lost what it had acknowledged";
const LED_BACK: &str = "a late refusal led a leader back behind what a peer had acknowledged, and states that nobody installed \
    kept others from being received";
const UNWRITTEN: &str = "the only voter led before the last leader's entries were on its disk, and Raft panicked";
const ONE_WORD: &str = "the word of a single voter condemned a state that was right";
const STOOD: &str = "a member that was installing a snapshot stood for election, and Raft panicked";

#[test]
fn seeds_that_found_something_find_nothing_any_more() {
    for (members, seed, what) in FOUND {
        explore::seed(*members, *seed, None).unwrap_or_else(|failure| {
            eprintln!("{what}");
            fail(*members, &failure)
        });
    }
}

/// The first failure that the bug causes within so many seeds.
fn found<T>(bug: Bug, seeds: u64, run: impl Fn(u64) -> Result<T, Failure>) -> Failure {
    let failure = (1..=seeds).find_map(|seed| run(seed).err()).unwrap_or_else(|| panic!("{bug:?} was not found"));
    eprintln!("{bug:?}: {failure:?}");
    failure
}

#[test]
fn seeded_bugs_of_one_member_are_found() {
    for bug in [Bug::SkippedSync, Bug::EarlyAcknowledgement, Bug::CutUnflushed, Bug::HalfWrite] {
        found(bug, 1000, |seed| steps_of(seed, Some(bug)));
    }
}

#[test]
fn seeded_bugs_of_three_members_are_found() {
    for bug in [
        Bug::ForgottenVote,
        Bug::StaleRead,
        Bug::SkippedSync,
        Bug::EarlyAcknowledgement,
        Bug::CutUnflushed,
        Bug::HalfWrite,
        Bug::FenceIgnored,
        Bug::FenceOfTheMoment,
        Bug::LateResume,
        Bug::LostAtInstall,
        Bug::AnsweredBelowFloor,
        Bug::DamageKept,
        Bug::BlindCheck,
        Bug::StandsWithoutState,
    ] {
        found(bug, 1000, |seed| explore::seed(3, seed, Some(bug)));
    }
}

/// Whoever looks at the answers only finds them too, and the judge whose matter it is says so.
#[test]
fn seeded_bugs_are_found_by_the_judges_alone() {
    let cases = [
        (Bug::StaleRead, "linearizability"),
        (Bug::FenceIgnored, "fencing"),
        (Bug::FenceOfTheMoment, "fencing"),
        (Bug::LateResume, "watch"),
        (Bug::LostAtInstall, "watch"),
        // Who watches from below the floor misses changes, who reads there sees what never was.
        (Bug::AnsweredBelowFloor, "watch"),
        (Bug::AnsweredBelowFloor, "retention"),
    ];
    for (bug, judge) in cases {
        let judges: Vec<&str> = cases.iter().filter(|(other, _)| *other == bug).map(|(_, judge)| *judge).collect();
        found(bug, 1000, |seed| {
            explore::seed_from_outside(3, seed, Some(bug)).map(drop).or_else(|failure| {
                let by = |judge: &&str| failure.violation.0.starts_with(*judge);
                assert!(judges.iter().any(by), "{bug:?}: {failure:?}");
                if by(&judge) { Err(failure) } else { Ok(()) }
            })
        });
    }
    for bug in [Bug::SkippedSync, Bug::EarlyAcknowledgement, Bug::HalfWrite] {
        found(bug, 1000, |seed| explore::seed_from_outside(3, seed, Some(bug)));
    }
}

/// It is not seen any more when everybody is back, so whoever does not come back must be done without.
#[test]
fn a_quorum_that_is_everybody_is_found_when_a_minority_stays_away() {
    for members in [3, 5] {
        let failure = found(Bug::NeedsEverybody, 1000, |seed| explore::seed(members, seed, Some(Bug::NeedsEverybody)));
        assert!(failure.violation.0.starts_with("nothing is done without"), "{failure:?}");
    }
}

#[test]
fn a_seed_repeats_its_run() {
    for seed in 1..10 {
        let failure =
            |seed| steps_of(seed, Some(Bug::SkippedSync)).err().map(|failure| (failure.step, failure.violation));
        assert_eq!(failure(seed), failure(seed));
        assert_eq!(explore::seed(3, seed, None).unwrap(), explore::seed(3, seed, None).unwrap());
    }
}

#[test]
fn a_failing_seed_tells_what_happened() {
    let failure = found(Bug::LateResume, 1000, |seed| explore::seed(3, seed, Some(Bug::LateResume)));
    let temp = tempfile::tempdir().unwrap();
    let told = failure.tell(3, temp.path());
    let path = temp.path().join(format!("navarch-chaos-3-members-seed-{}.txt", failure.seed));
    assert!(told.ends_with(&path.display().to_string()), "{told}");
    let story = std::fs::read_to_string(path).unwrap();
    assert!(story.starts_with(&failure.violation.0));
    for part in ["killed", "leads term", "no more faults", "client 1: r/", "watcher \"all\"", "Bookmark"] {
        assert!(story.contains(part), "{part:?} is missing in {story}");
    }
    assert!(story.len() < 20 << 20);
}
