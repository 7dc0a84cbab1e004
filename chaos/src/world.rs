//! Members, the network between them, and what happens to them, one choice of the seed after the other.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use navarch_raft_contract::{Batch, CommittedEntry, Index, LogStore, Term};
use navarch_raft_driver::{
    Config, Core, Effects, Input,
    core::{Leadership, Persist},
    recover::recover,
};
use raft::eraftpb::Message;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    Backend, Bug, State,
    ledger::{Ledger, Violation, demand},
    workload,
};

/// A member that runs.
struct Running {
    core: Core,
    log: Arc<dyn LogStore>,
    state: Arc<dyn State>,
    writes: VecDeque<Persist>,
    forget: Option<Index>,
    committed: VecDeque<CommittedEntry>,
    /// Entries proposed here whose proposers wait.
    waiting: BTreeMap<Index, Term>,
    /// Reads under way, with the last acknowledged entry when each began.
    reads: BTreeMap<u64, Index>,
}

struct Member<B> {
    id: u64,
    backend: B,
    running: Option<Running>,
    leadership: Leadership,
}

/// See the module.
pub struct World<B> {
    members: Vec<Member<B>>,
    network: Vec<Message>,
    rng: ChaCha8Rng,
    /// What was promised.
    pub ledger: Ledger,
    bug: Option<Bug>,
    next_id: u64,
    seed: u64,
    /// Crashes so far.
    pub crashes: u64,
}

/// What may happen, and how often.
const CHOICES: [(Choice, u32); 9] = [
    (Choice::Propose, 20),
    (Choice::Write, 16),
    (Choice::Apply, 16),
    (Choice::Deliver, 40),
    (Choice::Tick, 12),
    (Choice::Flush, 3),
    (Choice::Sweep, 4),
    (Choice::Cut, 2),
    (Choice::Read, 6),
];

#[derive(Clone, Copy)]
enum Choice {
    Propose,
    Write,
    Apply,
    Deliver,
    Tick,
    Flush,
    Sweep,
    Cut,
    Read,
}

impl<B: Backend> World<B> {
    /// Members of a cluster that has not begun.
    pub fn new(seed: u64, bug: Option<Bug>, backends: Vec<B>) -> Self {
        let members = (1..).zip(backends);
        let members =
            members.map(|(id, backend)| Member { id, backend, running: None, leadership: Leadership::default() });
        Self {
            members: members.collect(),
            network: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            ledger: Ledger::new(),
            bug,
            next_id: 0,
            seed,
            crashes: 0,
        }
    }

    /// A member's disk.
    pub fn backend(&mut self, member: usize) -> &mut B {
        &mut self.members[member].backend
    }

    /// Runs a number of choices; members whose power was cut are started again in time.
    pub fn run(&mut self, choices: usize) -> Result<(), Violation> {
        for _ in 0..choices {
            self.restart_some()?;
            let weights: u32 = CHOICES.iter().map(|(_, weight)| weight).sum();
            let mut pick = self.rng.random_range(0..weights);
            let member = self.rng.random_range(0..self.members.len());
            for (choice, weight) in CHOICES {
                if pick < weight {
                    self.carry_out(choice, member)?;
                    break;
                }
                pick -= weight;
            }
        }
        Ok(())
    }

    /// No more faults: everything is started, delivered, written and applied. All must be there, on all members.
    pub fn heal(&mut self) -> Result<(), Violation> {
        for round in 0..2000 {
            for member in 0..self.members.len() {
                if self.members[member].running.is_none() {
                    self.start(member)?;
                }
                self.settle(member)?;
            }
            let applied =
                |member: &Member<B>| member.running.as_ref().map_or(0, |running| running.state.applied().index);
            let leads = self.members.iter().any(|member| member.leadership.leading);
            let least = self.members.iter().map(applied).min().unwrap_or(0);
            if leads && least >= self.ledger.committed() && round > 25 {
                for member in 0..self.members.len() {
                    self.check(member)?;
                }
                return Ok(());
            }
            if leads && round % 20 == 0 {
                (0..self.members.len()).try_for_each(|member| self.propose(member))?;
            }
        }
        Err(Violation("the cluster does not come to rest".into()))
    }

    fn settle(&mut self, member: usize) -> Result<(), Violation> {
        self.step(member, vec![Input::Tick])?;
        while !self.network.is_empty() {
            self.deliver(false)?;
        }
        self.write(member, usize::MAX)?;
        self.apply(member, usize::MAX)
    }

    fn restart_some(&mut self) -> Result<(), Violation> {
        for member in 0..self.members.len() {
            let down = self.members[member].running.is_none();
            // A cluster of one has nothing else to do than to come back.
            if down && (self.members.len() == 1 || self.rng.random_bool(0.1)) {
                self.start(member)?;
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, choice: Choice, member: usize) -> Result<(), Violation> {
        match choice {
            Choice::Propose => self.propose(member),
            Choice::Write => {
                let most = self.rng.random_range(1..4);
                self.write(member, most)
            }
            Choice::Apply => {
                let most = self.rng.random_range(1..6);
                self.apply(member, most)
            }
            Choice::Deliver => self.deliver(true),
            Choice::Tick => self.step(member, vec![Input::Tick]),
            Choice::Flush => self.on_disk(member, |running| running.state.flush().map(drop).map_err(|e| e.to_string())),
            Choice::Sweep => {
                self.on_disk(member, |running| running.state.compact_slice(3).map(drop).map_err(|e| e.to_string()))
            }
            Choice::Cut => self.cut(member),
            Choice::Read => self.read(member),
        }
    }

    fn start(&mut self, at: usize) -> Result<(), Violation> {
        let (seed, voters) = (self.seed, (1..=self.members.len() as u64).collect());
        let member = &mut self.members[at];
        let opened = match member.backend.open() {
            Ok(opened) => opened,
            Err(_) if member.backend.dead() => return self.crashed(at),
            Err(error) => return Err(Violation(format!("member {}: the store does not open: {error}", member.id))),
        };
        let mut config = Config::single(member.id, "chaos");
        config.voters = voters;
        config.seed = seed;
        let from = match recover(&config, opened.log.as_ref(), &opened.state.applied()) {
            Ok(from) => from,
            Err(_) if member.backend.dead() => return self.crashed(at),
            Err(error) => return Err(Violation(format!("member {}: {error}", member.id))),
        };
        let core = Core::new(config.core(), opened.log.clone(), &from);
        let core = core.map_err(|error| Violation(format!("member {}: {error}", member.id)))?;
        let alone = core.alone();
        member.leadership = core.leadership();
        member.running = Some(Running {
            core,
            log: opened.log,
            state: opened.state,
            writes: VecDeque::new(),
            forget: None,
            committed: VecDeque::new(),
            waiting: BTreeMap::new(),
            reads: BTreeMap::new(),
        });
        self.check(at)?;
        if alone { self.step(at, vec![Input::Campaign]) } else { Ok(()) }
    }

    fn check(&self, member: usize) -> Result<(), Violation> {
        match &self.members[member].running {
            Some(running) => self.ledger.check(running.state.as_ref()),
            None => Ok(()),
        }
    }

    /// The power of a member is cut.
    pub fn crashed(&mut self, member: usize) -> Result<(), Violation> {
        let torn = self.rng.random();
        self.members[member].running = None;
        self.members[member].leadership = Leadership::default();
        self.members[member].backend.crash(torn);
        self.crashes += 1;
        Ok(())
    }

    fn step(&mut self, at: usize, mut inputs: Vec<Input>) -> Result<(), Violation> {
        loop {
            let member = &mut self.members[at];
            let Some(running) = &mut member.running else { return Ok(()) };
            let effects = running.core.step(std::mem::take(&mut inputs));
            let effects = effects.map_err(|error| Violation(format!("core: {error}")))?;
            let more = effects.more;
            let early = take_effects(running, effects, &mut self.network, self.bug)?;
            member.leadership = running.core.leadership();
            if member.leadership.leading {
                self.ledger.leads(member.leadership.term, member.id)?;
            }
            inputs.extend(early.map(|number| Input::Persisted { number }));
            if !more && inputs.is_empty() {
                return Ok(());
            }
        }
    }

    fn propose(&mut self, at: usize) -> Result<(), Violation> {
        let term = self.members[at].leadership.term;
        let Some(running) = &mut self.members[at].running else { return Ok(()) };
        let count = self.rng.random_range(1..4);
        let commands: Vec<_> = (0..count).map(|_| workload::command(&mut self.rng, &self.ledger.model, term)).collect();
        self.next_id += 1;
        let data = Batch { commands: commands.clone() }.to_bytes().to_vec();
        let effects = running.core.step([Input::Propose { id: self.next_id, data }]);
        let effects = effects.map_err(|error| Violation(format!("core: {error}")))?;
        for (_, taken) in &effects.proposed {
            if let Ok(position) = taken {
                self.ledger.proposed(*position, commands.clone())?;
                running.waiting.insert(position.0, position.1);
            }
        }
        let early = take_effects(running, effects, &mut self.network, self.bug)?;
        self.step(at, early.map(|number| Input::Persisted { number }).into_iter().collect())
    }

    /// The log writer: one write and one sync for some of what waits.
    fn write(&mut self, at: usize, most: usize) -> Result<(), Violation> {
        let Some(running) = &mut self.members[at].running else { return Ok(()) };
        let count = most.min(running.writes.len());
        let mut number = None;
        for persist in running.writes.drain(..count).collect::<Vec<_>>() {
            if let Err(error) = running.log.append(&persist.batch) {
                return self.stopped(at, error.to_string());
            }
            number = Some(persist.number);
        }
        if let Some(index) = running.forget.take_if(|_| running.writes.is_empty())
            && let Err(error) = running.log.compact(index)
        {
            return self.stopped(at, error.to_string());
        }
        if self.members[at].backend.dead() {
            return self.crashed(at);
        }
        self.step(at, number.map(|number| Input::Persisted { number }).into_iter().collect())
    }

    /// The applier: some of what is committed, then the answers.
    fn apply(&mut self, at: usize, most: usize) -> Result<(), Violation> {
        let Some(running) = &mut self.members[at].running else { return Ok(()) };
        let entries: Vec<_> = running.committed.drain(..most.min(running.committed.len())).collect();
        let Some(last) = entries.last().map(|entry| entry.index) else { return Ok(()) };
        let applied = running.state.apply(&entries).map_err(|error| Violation(format!("apply: {error}")))?;
        self.ledger.applied(&entries, &applied)?;
        let alive = !self.members[at].backend.dead();
        let Some(running) = &mut self.members[at].running else { return Ok(()) };
        for entry in &entries {
            if running.waiting.remove(&entry.index) == Some(entry.term) && alive {
                self.ledger.acknowledge(entry.index);
            }
        }
        self.step(at, vec![Input::Applied { index: last }])
    }

    fn deliver(&mut self, faults: bool) -> Result<(), Violation> {
        if self.network.is_empty() {
            return Ok(());
        }
        let pick = if faults { self.rng.random_range(0..self.network.len()) } else { 0 };
        let message =
            if faults && self.rng.random_bool(0.05) { self.network[pick].clone() } else { self.network.remove(pick) };
        if faults && self.rng.random_bool(0.05) {
            return Ok(());
        }
        let to = message.to as usize - 1;
        self.step(to, vec![Input::Message(Box::new(message))])
    }

    fn cut(&mut self, at: usize) -> Result<(), Violation> {
        // Members that are far behind would need a snapshot; there are none yet, so only a cluster of one cuts its log.
        if self.members.len() > 1 {
            return Ok(());
        }
        let Some(running) = &mut self.members[at].running else { return Ok(()) };
        let index = match self.bug {
            Some(Bug::CutUnflushed) => running.state.applied().index,
            _ => running.state.durable(),
        };
        self.step(at, vec![Input::Compact { index: index.saturating_sub(2) }])
    }

    fn read(&mut self, at: usize) -> Result<(), Violation> {
        self.next_id += 1;
        let (id, must_see) = (self.next_id, self.ledger.acknowledged);
        let Some(running) = &mut self.members[at].running else { return Ok(()) };
        if self.bug == Some(Bug::StaleRead) {
            let index = running.state.applied().index;
            demand!(index >= must_see, "a read at entry {index} does not see {must_see}, acknowledged before it began");
            return Ok(());
        }
        running.reads.insert(id, must_see);
        self.step(at, vec![Input::Read { id }])
    }

    /// Something that may hit the disk, outside the pipeline.
    fn on_disk(&mut self, at: usize, act: impl Fn(&Running) -> Result<(), String>) -> Result<(), Violation> {
        let Some(running) = &self.members[at].running else { return Ok(()) };
        match act(running) {
            Err(error) => self.stopped(at, error),
            Ok(()) if self.members[at].backend.dead() => self.crashed(at),
            Ok(()) => Ok(()),
        }
    }

    fn stopped(&mut self, at: usize, error: String) -> Result<(), Violation> {
        demand!(self.members[at].backend.dead(), "the disk failed by itself: {error}");
        self.crashed(at)
    }
}

/// Puts effects where they are carried out from. With the bug of that name, the number that is acknowledged too early.
fn take_effects(
    running: &mut Running,
    effects: Effects,
    network: &mut Vec<Message>,
    bug: Option<Bug>,
) -> Result<Option<u64>, Violation> {
    network.extend(effects.messages);
    running.committed.extend(effects.committed);
    running.forget = running.forget.max(effects.forget);
    for (id, index) in effects.reads {
        if let Some(must_see) = running.reads.remove(&id) {
            demand!(index >= must_see, "a read at entry {index} does not see {must_see}, acknowledged before it began");
        }
    }
    let early = effects.persist.last().map(|persist| persist.number).filter(|_| bug == Some(Bug::EarlyAcknowledgement));
    running.writes.extend(effects.persist);
    Ok(early)
}
