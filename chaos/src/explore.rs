//! Runs: one with the power cut at each step in turn, one long with cuts at random.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Backend, Bug, counts::Counts, disk::SimBackend, ledger::Violation, world::World};

/// A broken promise, with what repeats it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The step at which the power was cut, if one was planned.
    pub step: Option<u64>,
    /// What was broken.
    pub violation: Violation,
}

/// Runs `choices` choices, and then again for every step that the run had with the power cut at that step, and half as many
/// choices more. At most `cuts` of the steps, evenly spread. Returns the number of crashes.
pub fn every_step<B: Backend>(
    seed: u64,
    choices: usize,
    bug: Option<Bug>,
    cuts: u64,
    make: &mut dyn FnMut() -> B,
) -> Result<u64, Failure> {
    let fail = |step| move |violation| Failure { seed, step, violation };
    let mut world = World::new(seed, bug, vec![make()]);
    world.run(choices).and_then(|()| world.heal()).map_err(fail(None))?;
    let (steps, mut crashes) = (world.backend(0).steps(), 0);
    let stride = steps.div_ceil(cuts.max(1)).max(1);
    for step in (0..steps).step_by(stride as usize) {
        let mut world = World::new(seed, bug, vec![make()]);
        world.backend(0).plan_crash(Some(step));
        let run = world.run(choices + choices / 2);
        run.and_then(|()| world.heal()).map_err(fail(Some(step)))?;
        crashes += world.counts().get("crashes");
    }
    Ok(crashes)
}

/// Runs members whose disks fail or lose their power at random, many times. Returns what happened.
pub fn soak<B: Backend>(
    seed: u64,
    rounds: usize,
    bug: Option<Bug>,
    backends: Vec<B>,
    first_voters: usize,
) -> Result<Counts, Failure> {
    soak_world(seed, rounds, World::growing(seed, bug, backends, first_voters))
}

/// How many times a disk of some member is about to fail in a run of [`seed`].
const ROUNDS: usize = 12;

/// The run that a seed stands for, wherever it is repeated: so many members on simulated disks. Some clusters begin with
/// one member and grow. A panic, of Raft finding its log impossible, is a failure as well.
pub fn seed(members: usize, seed: u64, bug: Option<Bug>) -> Result<Counts, Failure> {
    caught(seed, || soak_world(seed, ROUNDS, simulated(members, seed, bug)))
}

/// As [`seed`], with the judges of recorded histories alone to say what is wrong.
pub fn seed_from_outside(members: usize, seed: u64, bug: Option<Bug>) -> Result<Counts, Failure> {
    caught(seed, || soak_world(seed, ROUNDS, simulated(members, seed, bug).judged_from_outside()))
}

fn simulated(members: usize, seed: u64, bug: Option<Bug>) -> World<SimBackend> {
    let first_voters = if seed.is_multiple_of(3) { 1 } else { members };
    World::growing(seed, bug, (0..members).map(|_| SimBackend::new(bug)).collect(), first_voters)
}

fn caught(seed: u64, run: impl FnOnce() -> Result<Counts, Failure>) -> Result<Counts, Failure> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let violation = Violation(format!("panic: {}", text.unwrap_or_default()));
        Err(Failure { seed, step: None, violation })
    })
}

fn soak_world<B: Backend>(seed: u64, rounds: usize, mut world: World<B>) -> Result<Counts, Failure> {
    let fail = |violation| Failure { seed, step: None, violation };
    let mut rng = ChaCha8Rng::seed_from_u64(!seed);
    let count = world.members();
    for _ in 0..rounds {
        let member = rng.random_range(0..count);
        let backend = world.backend(member);
        let step = Some(backend.steps() + rng.random_range(0..60));
        if rng.random_bool(0.3) {
            backend.plan_failure(step)
        } else {
            backend.plan_crash(step)
        }
        world.run(rng.random_range(100..2000) * count).map_err(fail)?;
    }
    world.heal().map_err(fail)?;
    Ok(world.counts())
}
