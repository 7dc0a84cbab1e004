//! Runs: one with the power cut at each step in turn, one long with cuts at random.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    Backend, Bug,
    ledger::Violation,
    world::{Counts, World},
};

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
        crashes += world.counts().crashes;
    }
    Ok(crashes)
}

/// Runs members with the power of each cut at random, many times. Returns what happened.
pub fn soak<B: Backend>(
    seed: u64,
    rounds: usize,
    bug: Option<Bug>,
    backends: Vec<B>,
    first_voters: usize,
) -> Result<Counts, Failure> {
    let fail = |violation| Failure { seed, step: None, violation };
    let mut rng = ChaCha8Rng::seed_from_u64(!seed);
    let count = backends.len();
    let mut world = World::growing(seed, bug, backends, first_voters);
    for _ in 0..rounds {
        let member = rng.random_range(0..count);
        let backend = world.backend(member);
        let step = backend.steps() + rng.random_range(0..12);
        backend.plan_crash(Some(step));
        world.run(rng.random_range(20..120) * count).map_err(fail)?;
    }
    for member in 0..count {
        world.backend(member).plan_crash(None);
    }
    world.heal().map_err(fail)?;
    Ok(world.counts())
}
