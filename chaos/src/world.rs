//! Members, the network between them, the clients before them, and what happens to them: one choice of the seed after the
//! other, each a unit of virtual time.
//!
//! [`member`](self) is the driver around the real core; `pipeline` its log writer and applier; `post` its links; `faults`
//! what is done to it. `clients`, `leaders` and `watchers` use the members as an API server's callers would, and write down
//! what they were answered; at the end `verdict` has the judges of [`crate::check`] read it.

mod clients;
mod faults;
mod integrity;
mod leaders;
mod member;
mod minority;
mod pages;
mod past;
mod pipeline;
mod post;
mod record;
mod tell;
mod verdict;
mod watchers;

use navarch_raft_contract::Index;
use navarch_raft_driver::{Input, MemberChange};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::{clients::Client, member::Member, record::Record, tell::Happening, watchers::Watcher};
use crate::{
    Backend, Bug,
    counts::Counts,
    ledger::{Ledger, Violation, demand},
    network::{Network, Request},
    workload,
};

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
    /// Choices so far: the time of this world.
    now: u64,
    counts: Counts,
    /// How much more often faults come than [`CHOICES`] says.
    storm: u32,
    clients: Vec<Client>,
    watchers: Vec<Watcher>,
    record: Record,
    happenings: Vec<Happening>,
    /// Keys so far that are written once and never again.
    still: u64,
    /// When somebody was last asked to make the cluster smaller.
    shrunk_at: u64,
}

/// What may happen, and how often. Faults are so rare that in between an election, and then some work, gets done.
const CHOICES: [(Choice, u32); 25] = [
    (Choice::Propose, 120),
    (Choice::Take, 700),
    (Choice::Write, 700),
    (Choice::Apply, 700),
    (Choice::Deliver, 1800),
    (Choice::Tick, 170),
    (Choice::Client, 600),
    (Choice::Lead, 100),
    (Choice::Watch, 240),
    (Choice::Read, 50),
    (Choice::Flush, 40),
    (Choice::Sweep, 60),
    (Choice::Cut, 40),
    (Choice::Join, 25),
    (Choice::Members, 6),
    (Choice::Transfer, 3),
    (Choice::Lost, 4),
    (Choice::Partition, 3),
    (Choice::Pause, 1),
    (Choice::Skew, 3),
    (Choice::Slow, 2),
    (Choice::Kill, 1),
    (Choice::Look, 100),
    (Choice::Damage, 3),
    (Choice::Past, 25),
];

#[derive(Clone, Copy)]
enum Choice {
    Propose,
    Take,
    Write,
    Apply,
    Deliver,
    Tick,
    Flush,
    Sweep,
    Cut,
    Read,
    Client,
    Lead,
    Watch,
    Partition,
    Members,
    Transfer,
    Lost,
    Pause,
    Skew,
    Slow,
    Kill,
    Join,
    Look,
    Damage,
    Past,
}

impl Choice {
    fn is_fault(self) -> bool {
        use Choice::{Damage, Kill, Lost, Members, Partition, Pause, Skew, Slow, Transfer};
        matches!(self, Members | Transfer | Lost | Partition | Pause | Skew | Slow | Kill | Damage)
    }
}

impl<B: Backend> World<B> {
    /// Members of a cluster that has not begun.
    pub fn new(seed: u64, bug: Option<Bug>, backends: Vec<B>) -> Self {
        let first_voters = backends.len();
        Self::growing(seed, bug, backends, first_voters)
    }

    /// As [`World::new`]; only the first so many are members from the beginning.
    pub fn growing(seed: u64, bug: Option<Bug>, backends: Vec<B>, first_voters: usize) -> Self {
        let members: Vec<_> = (1..).zip(backends).map(|(id, backend)| Member::new(id, backend)).collect();
        let clients = (1..=members.len() as u64 + 2).map(Client::new).collect();
        Self {
            members,
            network: Network::default(),
            first_voters,
            rng: ChaCha8Rng::seed_from_u64(seed),
            ledger: Ledger::new(),
            bug,
            next_id: 0,
            seed,
            now: 0,
            counts: Counts::default(),
            // Calm enough for work to get done, mostly; what happens only when faults meet faults needs bad weather.
            storm: [1, 1, 1, 3, 10][(seed % 5) as usize],
            clients,
            watchers: Watcher::all(),
            record: Record::default(),
            happenings: Vec::new(),
            still: 0,
            shrunk_at: 0,
        }
    }

    /// Only the judges of recorded histories say what is wrong; the ledger, which knows what the members do inside, does not.
    pub fn judged_from_outside(mut self) -> Self {
        self.ledger.lenient = true;
        self
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts.clone();
        counts += self.network.counts.clone();
        counts.add("elections", self.ledger.terms());
        let discarded = self.members.iter().map(|member| member.backend.discarded_bytes()).sum();
        counts.add("bytes discarded by crashes", discarded);
        counts.add("torn writes", self.members.iter().map(|member| member.backend.torn_writes()).sum());
        counts
    }

    /// How many members there are, those included that have not joined yet.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// A member's disk.
    pub fn backend(&mut self, member: usize) -> &mut B {
        &mut self.members[member].backend
    }

    /// Runs a number of choices; members whose power was cut are started again in time.
    pub fn run(&mut self, choices: usize) -> Result<(), Violation> {
        for _ in 0..choices {
            self.now += 1;
            self.restart_some()?;
            let weight = |choice: Choice, weight: u32| if choice.is_fault() { weight * self.storm } else { weight };
            let choices = CHOICES.map(|(choice, base)| (choice, weight(choice, base)));
            let mut pick = self.rng.random_range(0..choices.iter().map(|(_, weight)| weight).sum());
            let member = self.rng.random_range(0..self.members.len());
            for (choice, weight) in choices {
                if pick < weight {
                    self.carry_out(choice, member)?;
                    break;
                }
                pick -= weight;
            }
        }
        Ok(())
    }

    /// No more faults: everything is started, delivered, written and applied. All must be there, on all members, and the
    /// judges must accept what clients and watchers wrote down.
    pub fn heal(&mut self) -> Result<(), Violation> {
        self.end_faults();
        self.without_a_minority()?;
        for round in 0..2000 {
            self.now += 1;
            for member in 0..self.members.len() {
                if self.members[member].running.is_none() {
                    self.start(member)?;
                }
                self.settle(member)?;
                self.look(member)?;
            }
            let leads = self.members.iter().any(|member| member.leadership.leading);
            let settled = leads && round > 25 && self.least_applied() >= self.ledger.committed();
            if settled && self.all_sound() && self.clients_rest(round)? {
                for member in 0..self.members.len() {
                    self.check(member)?;
                }
                return self.judge();
            }
            (0..self.clients.len()).try_for_each(|client| self.finish_client(client))?;
            if leads && round % 20 == 0 {
                (0..self.members.len()).try_for_each(|member| self.propose(member))?;
                self.find_damage(round)?;
            }
        }
        if self.nobody_can_tell() {
            self.counts.one("damage that no majority could tell");
            return Ok(());
        }
        let shown: Vec<String> = self.members.iter().map(member::show).collect();
        let committed = self.ledger.committed();
        Err(Violation(format!("the cluster does not come to rest at entry {committed}: {}", shown.join("; "))))
    }

    /// Who leads the newest term.
    fn leader(&self) -> Option<&Member<B>> {
        let leaders = self.members.iter().filter(|member| member.leadership.leading);
        leaders.max_by_key(|member| member.leadership.term)
    }

    /// How far the member is that is behind all others. Whoever was removed is told nothing any more.
    fn least_applied(&self) -> Index {
        let leader = self.leader().and_then(|member| member.running.as_ref());
        let Some(members) = leader.map(|running| running.core.members()) else { return 0 };
        let belongs = |id: u64| members.voters.contains(&id) || members.learners.contains(&id);
        let members = self.members.iter().filter(|member| belongs(member.id));
        members.map(Member::applied).min().unwrap_or(0)
    }

    fn settle(&mut self, member: usize) -> Result<(), Violation> {
        self.step(member, vec![Input::Tick])?;
        self.take(member, usize::MAX)?;
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
            if down && (self.members.len() == 1 || self.rng.random_bool(0.02 * f64::from(self.storm))) {
                self.start(member)?;
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, choice: Choice, member: usize) -> Result<(), Violation> {
        // What does not need the member to be awake.
        match choice {
            Choice::Deliver => return self.deliver(),
            Choice::Client => return self.use_client(),
            Choice::Watch => return self.watch(),
            Choice::Partition => {
                self.network.change(self.members.len() as u64, &mut self.rng);
                self.happened_to_all(self.network.blocked());
                return Ok(());
            }
            Choice::Kill => return self.kill(member),
            Choice::Pause => return self.pause(member),
            Choice::Skew => return self.change_speed(member),
            Choice::Slow => return self.slow_down(member),
            _ if !self.awake(member) => return Ok(()),
            _ => {}
        }
        match choice {
            Choice::Propose => self.propose(member),
            Choice::Take => {
                let most = self.rng.random_range(1..4);
                self.take(member, most)
            }
            Choice::Write => {
                let most = self.rng.random_range(1..4);
                if self.stuck(member) { Ok(()) } else { self.write(member, most) }
            }
            Choice::Apply => {
                let most = self.rng.random_range(1..6);
                self.apply(member, most)
            }
            Choice::Tick => self.tick(member),
            Choice::Flush => self.on_disk(member, |running| running.state.flush().map(drop).map_err(|e| e.to_string())),
            Choice::Sweep => {
                self.on_disk(member, |running| running.state.compact_slice(3).map(drop).map_err(|e| e.to_string()))
            }
            Choice::Cut => self.cut(member),
            Choice::Read => self.read(member),
            Choice::Lead => self.lead(member),
            Choice::Members => self.change_members(member),
            Choice::Transfer => {
                let to = self.rng.random_range(1..=self.members.len() as u64);
                if self.members[member].leadership.leading {
                    self.counts.one("transfers");
                    self.happened(member, format!("asked to hand over to member {to}"));
                }
                self.step(member, vec![Input::Transfer { to }])
            }
            Choice::Lost => {
                let lost = self.rng.random_range(1..=self.members.len() as u64);
                self.happened(member, format!("told that member {lost} seems to have gone"));
                self.step(member, vec![Input::Lost { member: lost }])
            }
            Choice::Join => self.join(member),
            Choice::Look => self.look(member),
            Choice::Past => self.read_past(member),
            Choice::Damage => {
                self.damage(member);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Commands of all kinds that nobody waits for, at a member that leads.
    fn propose(&mut self, at: usize) -> Result<(), Violation> {
        let Member { leadership, id: origin, .. } = self.members[at];
        if !leadership.leading {
            return Ok(());
        }
        let count = self.rng.random_range(1..4);
        let command = |_| workload::command(&mut self.rng, &self.ledger.model, leadership.term);
        let mut commands: Vec<_> = (0..count).map(command).collect();
        if self.rng.random_bool(0.15) {
            self.still += 1;
            commands.push(workload::still(self.still, &mut self.rng));
        }
        let request = Request { id: self.new_id(), origin, commands };
        self.submit(at, request);
        Ok(())
    }

    /// A cluster that has only just begun, or lost members, grows again.
    fn join(&mut self, at: usize) -> Result<(), Violation> {
        let Some(running) = &self.members[at].running else { return Ok(()) };
        let members = running.core.members();
        let all = 1..=self.members.len() as u64;
        let outside = all.clone().find(|id| !members.voters.contains(id) && !members.learners.contains(id));
        let learner = members.learners.first().copied();
        let change = outside.map(MemberChange::AddLearner).or(learner.map(MemberChange::Promote));
        let id = self.new_id();
        change.map_or(Ok(()), |change| self.ask_members(at, id, vec![change]))
    }

    fn change_members(&mut self, at: usize) -> Result<(), Violation> {
        let id = self.new_id();
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
        // Whoever is left of two cannot tell which of them is right.
        let shrinks = |change: &MemberChange| !matches!(change, MemberChange::Promote(_));
        if changes.iter().any(shrinks) {
            if self.someone_is_damaged() {
                return Ok(());
            }
            self.shrunk_at = self.now;
        }
        self.ask_members(at, id, changes)
    }

    fn ask_members(&mut self, at: usize, id: u64, changes: Vec<MemberChange>) -> Result<(), Violation> {
        if self.members[at].leadership.leading {
            self.happened(at, format!("asked for {changes:?}"));
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

    /// A read index that nobody waits for: it must not lie before what was acknowledged when it was asked for.
    fn read(&mut self, at: usize) -> Result<(), Violation> {
        let (id, must_see, lenient) = (self.new_id(), self.ledger.acknowledged, self.ledger.lenient);
        let Some(running) = &mut self.members[at].running else { return Ok(()) };
        if self.bug == Some(Bug::StaleRead) {
            let index = running.state.applied().index;
            demand!(
                lenient || index >= must_see,
                "a read at entry {index} does not see {must_see}, acknowledged before it began"
            );
            return Ok(());
        }
        running.reads.insert(id, must_see);
        self.step(at, vec![Input::Read { id }])
    }
}
