//! Members, the network between them, and what happens to them, one choice of the seed after the other.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use navarch_raft_contract::{Batch, CommittedEntry, Index, LogStore, Payload, SnapshotSource, Term};
use navarch_raft_driver::{
    Config, Core, Effects, Input, MemberChange,
    core::{Leadership, Persist},
    recover::recover,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    Backend, Bug, State,
    ledger::{Ledger, Violation, demand},
    network::{Fate, Network, Packet},
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
    /// A copy of the state that was offered to the core.
    outgoing: Option<Box<dyn SnapshotSource>>,
    wants_snapshot: bool,
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Crashes.
    pub crashes: u64,
    /// Terms that had a leader.
    pub elections: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// Changes of members that were committed.
    pub member_changes: u64,
    /// Times that leadership was asked to move.
    pub transfers: u64,
    /// Packets lost, doubled, overtaking; directions blocked.
    pub network: [u64; 4],
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.elections += other.elections;
        self.snapshots += other.snapshots;
        self.member_changes += other.member_changes;
        self.transfers += other.transfers;
        self.network.iter_mut().zip(other.network).for_each(|(sum, more)| *sum += more);
    }
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
    network: Network,
    /// The voters that the cluster began with: the first so many.
    first_voters: usize,
    rng: ChaCha8Rng,
    /// What was promised.
    pub ledger: Ledger,
    bug: Option<Bug>,
    next_id: u64,
    seed: u64,
    counts: Counts,
}

/// What may happen, and how often.
const CHOICES: [(Choice, u32); 13] = [
    (Choice::Propose, 20),
    (Choice::Write, 16),
    (Choice::Apply, 16),
    (Choice::Deliver, 40),
    (Choice::Tick, 12),
    (Choice::Flush, 3),
    (Choice::Sweep, 4),
    (Choice::Cut, 2),
    (Choice::Read, 6),
    (Choice::Partition, 1),
    (Choice::Members, 2),
    (Choice::Transfer, 1),
    (Choice::Lost, 1),
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
    Partition,
    Members,
    Transfer,
    Lost,
}

impl<B: Backend> World<B> {
    /// Members of a cluster that has not begun.
    pub fn new(seed: u64, bug: Option<Bug>, backends: Vec<B>) -> Self {
        let first_voters = backends.len();
        Self::growing(seed, bug, backends, first_voters)
    }

    /// As [`World::new`]; only the first so many are members from the beginning.
    pub fn growing(seed: u64, bug: Option<Bug>, backends: Vec<B>, first_voters: usize) -> Self {
        let members = (1..).zip(backends);
        let members =
            members.map(|(id, backend)| Member { id, backend, running: None, leadership: Leadership::default() });
        Self {
            members: members.collect(),
            network: Network::default(),
            first_voters,
            rng: ChaCha8Rng::seed_from_u64(seed),
            ledger: Ledger::new(),
            bug,
            next_id: 0,
            seed,
            counts: Counts::default(),
        }
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        let Network { lost, doubled, reordered, partitions, .. } = &self.network;
        Counts { elections: self.ledger.terms(), network: [*lost, *doubled, *reordered, *partitions], ..self.counts }
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
        self.network.heal();
        for round in 0..2000 {
            for member in 0..self.members.len() {
                if self.members[member].running.is_none() {
                    self.start(member)?;
                }
                self.settle(member)?;
            }
            let leads = self.members.iter().any(|member| member.leadership.leading);
            if leads && round > 25 && self.least_applied() >= self.ledger.committed() {
                for member in 0..self.members.len() {
                    self.check(member)?;
                }
                return Ok(());
            }
            if leads && round % 20 == 0 {
                (0..self.members.len()).try_for_each(|member| self.propose(member))?;
            }
        }
        let shown: Vec<String> = self.members.iter().map(show).collect();
        let committed = self.ledger.committed();
        Err(Violation(format!("the cluster does not come to rest at entry {committed}: {}", shown.join("; "))))
    }

    /// How far the member is that is behind all others. Whoever was removed is told nothing any more.
    fn least_applied(&self) -> Index {
        let leader = self.members.iter().filter(|member| member.leadership.leading);
        let leader = leader.max_by_key(|member| member.leadership.term).and_then(|member| member.running.as_ref());
        let Some(members) = leader.map(|running| running.core.members()) else { return 0 };
        let belongs = |id: u64| members.voters.contains(&id) || members.learners.contains(&id);
        let applied = |member: &Member<B>| member.running.as_ref().map_or(0, |running| running.state.applied().index);
        self.members.iter().filter(|member| belongs(member.id)).map(applied).min().unwrap_or(0)
    }

    fn settle(&mut self, member: usize) -> Result<(), Violation> {
        self.step(member, vec![Input::Tick])?;
        while let Some(packet) = self.network.oldest() {
            self.arrive(packet)?;
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
            Choice::Deliver => self.deliver(),
            Choice::Tick => self.step(member, vec![Input::Tick]),
            Choice::Flush => self.on_disk(member, |running| running.state.flush().map(drop).map_err(|e| e.to_string())),
            Choice::Sweep => {
                self.on_disk(member, |running| running.state.compact_slice(3).map(drop).map_err(|e| e.to_string()))
            }
            Choice::Cut => self.cut(member),
            Choice::Read => self.read(member),
            Choice::Partition => {
                self.network.change(self.members.len() as u64, &mut self.rng);
                Ok(())
            }
            Choice::Members => self.change_members(member),
            Choice::Transfer => {
                let to = self.rng.random_range(1..=self.members.len() as u64);
                self.counts.transfers += u64::from(self.members[member].leadership.leading);
                self.step(member, vec![Input::Transfer { to }])
            }
            Choice::Lost => {
                let lost = self.rng.random_range(1..=self.members.len() as u64);
                self.step(member, vec![Input::Lost { member: lost }])
            }
        }
    }

    fn start(&mut self, at: usize) -> Result<(), Violation> {
        let (seed, voters) = (self.seed, (1..=self.first_voters as u64).collect());
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
            outgoing: None,
            wants_snapshot: false,
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
        self.counts.crashes += 1;
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
            if let Some(running) = &mut member.running
                && running.wants_snapshot
            {
                running.wants_snapshot = false;
                if let Ok(source) = running.state.snapshot() {
                    inputs.push(Input::Offer(source.meta().clone()));
                    running.outgoing = Some(source);
                }
            }
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
        let mut inputs = Vec::new();
        for persist in running.writes.drain(..count).collect::<Vec<_>>() {
            let snapshot = persist.snapshot.as_ref();
            if let Err(error) = snapshot.map_or(Ok(()), |meta| install(running, meta.index, meta.term)) {
                return self.stopped(at, error);
            }
            if let Err(error) = running.log.append(&persist.batch) {
                return self.stopped(at, error.to_string());
            }
            inputs.push(Input::Persisted { number: persist.number });
            if let Some(meta) = persist.snapshot {
                inputs.push(Input::Applied { index: meta.index });
                self.counts.snapshots += 1;
                self.ledger.check(running.state.as_ref())?;
            }
        }
        if let Some(index) = running.forget.take_if(|_| running.writes.is_empty())
            && let Err(error) = running.log.compact(index)
        {
            return self.stopped(at, error.to_string());
        }
        if self.members[at].backend.dead() {
            return self.crashed(at);
        }
        self.step(at, inputs)
    }

    /// The applier: some of what is committed, then the answers.
    fn apply(&mut self, at: usize, most: usize) -> Result<(), Violation> {
        let Some(running) = &mut self.members[at].running else { return Ok(()) };
        let entries: Vec<_> = running.committed.drain(..most.min(running.committed.len())).collect();
        let Some(last) = entries.last().map(|entry| entry.index) else { return Ok(()) };
        let changes = entries.iter().filter(|entry| matches!(entry.payload, Payload::Members(_))).count();
        self.counts.member_changes += changes as u64;
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

    fn deliver(&mut self) -> Result<(), Violation> {
        match self.network.pick(&mut self.rng) {
            None => Ok(()),
            Some(Fate::Arrives(packet)) => self.arrive(packet),
            Some(Fate::Lost(packet)) => self.report(&packet, false),
        }
    }

    /// A packet is there. A state that comes with it is staged first.
    fn arrive(&mut self, packet: Packet) -> Result<(), Violation> {
        let to = packet.message.to as usize - 1;
        let mut whole = true;
        if packet.announces_state() {
            whole = match (&self.members[to].running, &packet.state) {
                (Some(running), Some(bytes)) => {
                    let staged = running.state.stage().and_then(|mut sink| {
                        sink.write_all(bytes)?;
                        sink.finish()
                    });
                    staged.is_ok()
                }
                _ => false,
            };
            if self.members[to].backend.dead() {
                self.crashed(to)?;
            }
            self.report(&packet, whole)?;
        }
        if whole { self.step(to, vec![Input::Message(Box::new(packet.message))]) } else { Ok(()) }
    }

    /// The sender of a state learns what became of it.
    fn report(&mut self, packet: &Packet, arrived: bool) -> Result<(), Violation> {
        if !packet.announces_state() {
            return Ok(());
        }
        let from = packet.message.from as usize - 1;
        self.step(from, vec![Input::SnapshotSent { to: packet.message.to, arrived }])
    }

    fn change_members(&mut self, at: usize) -> Result<(), Violation> {
        self.next_id += 1;
        let id = self.next_id;
        let mut changes = Vec::new();
        for _ in 0..self.rng.random_range(1..3) {
            let other = self.rng.random_range(1..=self.members.len() as u64);
            changes.push(match self.rng.random_range(0..6) {
                0 | 1 => MemberChange::AddLearner(other),
                2..=4 => MemberChange::Promote(other),
                _ if self.members.len() > 1 => MemberChange::Remove(other),
                _ => MemberChange::Demote(other),
            });
        }
        self.step(at, vec![Input::ChangeMembers { id, changes }])
    }

    fn cut(&mut self, at: usize) -> Result<(), Violation> {
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
    network: &mut Network,
    bug: Option<Bug>,
) -> Result<Option<u64>, Violation> {
    network.send(effects.messages, &mut running.outgoing);
    running.wants_snapshot |= effects.snapshot_wanted;
    if effects.persist.iter().any(|persist| persist.snapshot.is_some()) {
        running.committed.clear();
    }
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

/// A member as a failure tells of it.
fn show<B>(member: &Member<B>) -> String {
    let Some(running) = &member.running else { return format!("{}: down", member.id) };
    let (leadership, members, applied) = (member.leadership, running.core.members(), running.state.applied().index);
    format!("{}: {leadership:?}, applied {applied}, {members:?}, peers {:?}", member.id, running.core.peers())
}

/// Puts the staged state in its place, then begins the log anew.
fn install(running: &Running, index: Index, term: Term) -> Result<(), String> {
    running.state.install(index).map_err(|error| error.to_string())?;
    running.log.reset(index, term).map_err(|error| error.to_string())
}
