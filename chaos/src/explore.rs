//! Runs: one with the power cut at each step in turn, one long with cuts at random.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Backend, Bug, counts::Counts, disk::SimBackend, ledger::Violation, story::Story, world::World};

/// A broken promise, with what repeats it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The step at which the power was cut, if one was planned.
    pub step: Option<u64>,
    /// What was broken.
    pub violation: Violation,
    /// All about the run.
    pub story: Story,
}

impl Failure {
    fn of<B: Backend>(world: &World<B>, seed: u64, step: Option<u64>, violation: Violation) -> Self {
        let story = world.story(&violation);
        Self { seed, step, violation, story }
    }

    /// Writes the story of a run of so many members into a folder, and says where it is, or why it is not there.
    pub fn tell(&self, members: usize, folder: &Path) -> String {
        let step = self.step.map(|step| format!("-step-{step}")).unwrap_or_default();
        let name = format!("navarch-chaos-{members}-members-seed-{}{step}.txt", self.seed);
        match self.story.write(folder, &name) {
            Ok(path) => format!("its story: {}", path.display()),
            Err(error) => format!("its story cannot be written to {}: {error}", folder.display()),
        }
    }
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
    let mut world = World::new(seed, bug, vec![make()]);
    let run = world.run(choices).and_then(|()| world.heal());
    run.map_err(|violation| Failure::of(&world, seed, None, violation))?;
    let (steps, mut crashes) = (world.backend(0).steps(), 0);
    let stride = steps.div_ceil(cuts.max(1)).max(1);
    for step in (0..steps).step_by(stride as usize) {
        let mut world = World::new(seed, bug, vec![make()]);
        world.backend(0).plan_crash(Some(step));
        let run = world.run(choices + choices / 2).and_then(|()| world.heal());
        run.map_err(|violation| Failure::of(&world, seed, Some(step), violation))?;
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
    judged(seed, World::growing(seed, bug, backends, first_voters), |world| soak_world(seed, rounds, world))
}

/// How many times a disk of some member is about to fail in a run of [`seed`].
const ROUNDS: usize = 12;

/// The run that a seed stands for, wherever it is repeated: so many members on simulated disks. Some clusters begin with
/// one member and grow.
pub fn seed(members: usize, seed: u64, bug: Option<Bug>) -> Result<Counts, Failure> {
    judged(seed, simulated(members, seed, bug), |world| soak_world(seed, ROUNDS, world))
}

/// As [`seed`], with the judges of recorded histories alone to say what is wrong.
pub fn seed_from_outside(members: usize, seed: u64, bug: Option<Bug>) -> Result<Counts, Failure> {
    let world = simulated(members, seed, bug).judged_from_outside();
    judged(seed, world, |world| soak_world(seed, ROUNDS, world))
}

fn simulated(members: usize, seed: u64, bug: Option<Bug>) -> World<SimBackend> {
    let first_voters = if seed.is_multiple_of(3) { 1 } else { members };
    World::growing(seed, bug, (0..members).map(|_| SimBackend::new(bug)).collect(), first_voters)
}

/// A panic, of Raft finding its log impossible, is a failure as well.
fn judged<B: Backend>(
    seed: u64,
    mut world: World<B>,
    run: impl FnOnce(&mut World<B>) -> Result<(), Violation>,
) -> Result<Counts, Failure> {
    let ran = catch_unwind(AssertUnwindSafe(|| run(&mut world))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation(format!("panic: {}", text.unwrap_or_default())))
    });
    ran.map_err(|violation| Failure::of(&world, seed, None, violation))?;
    Ok(world.counts())
}

fn soak_world<B: Backend>(seed: u64, rounds: usize, world: &mut World<B>) -> Result<(), Violation> {
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
        world.run(rng.random_range(100..2000) * count)?;
    }
    world.heal()
}
