//! One member: what the driver's threads keep between steps of the core, and how effects are taken.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use navarch_raft_contract::{CommittedEntry, Index, LogStore, SnapshotSource, Term};
use navarch_raft_driver::{
    Checks, Config, Core, CoreConfig, Effects, Input,
    core::{Leadership, Persist},
    recover::recover,
};
use rand::Rng;

use super::{World, leaders::Gate, watchers::Ring};
use crate::{
    Backend, Bug, State,
    ledger::{Violation, demand},
    network::{Network, Packet, Request},
};

/// A member and its disk.
pub(super) struct Member<B> {
    pub id: u64,
    pub backend: B,
    pub running: Option<Running>,
    pub leadership: Leadership,
    /// How often it was started: whoever waited for an earlier one waits in vain.
    pub incarnation: u64,
    /// It is stopped, with all it holds, until then.
    pub paused_until: u64,
    /// Its disk takes long, until then.
    pub slow_until: u64,
    /// Of its clock, in percent.
    pub speed: u64,
    /// Hundredths of ticks that have passed and were not told yet.
    pub owed: u64,
    /// Its memory flips a bit of the next value that can be damaged.
    pub flips: bool,
    /// A key of its state and the wrong value that it has, if there is one.
    pub damage: Option<(Bytes, Bytes)>,
}

/// What a request in an entry has coming.
pub(super) struct Pending {
    pub term: Term,
    /// Request, where it was made, and how many commands of the entry are its own.
    pub requests: Vec<(u64, u64, usize)>,
}

/// A member that runs.
pub(super) struct Running {
    pub core: Core,
    pub log: Arc<dyn LogStore>,
    pub state: Arc<dyn State>,
    pub writes: VecDeque<Persist>,
    pub forget: Option<Index>,
    pub committed: VecDeque<CommittedEntry>,
    /// Proposals that the driver has not looked at yet.
    pub inbox: VecDeque<Request>,
    /// Entries proposed here whose proposers wait.
    pub waiting: BTreeMap<Index, Pending>,
    /// Reads under way, with the last acknowledged entry when each began.
    pub reads: BTreeMap<u64, Index>,
    /// Reads that may be served once the entry is applied.
    pub readable: BTreeMap<u64, Index>,
    /// A copy of the state that was offered to the core.
    pub outgoing: Option<Box<dyn SnapshotSource>>,
    pub wants_snapshot: bool,
    /// The newest events, for watchers.
    pub ring: Ring,
    /// Work that only the leader does.
    pub gate: Option<Gate>,
    /// What was said at the last check of the states.
    pub checks: Checks,
    /// The check at which this member spoke last, and when.
    pub said: Option<(Index, u64)>,
    /// It leads with a condemned state, and hands over until then.
    pub leaves_at: Option<u64>,
    /// The state was discarded, and no other one has come yet.
    pub rebuilding: bool,
}

impl<B> Member<B> {
    pub(super) fn new(id: u64, backend: B) -> Self {
        let leadership = Leadership::default();
        Self {
            id,
            backend,
            running: None,
            leadership,
            incarnation: 0,
            paused_until: 0,
            slow_until: 0,
            speed: 100,
            owed: 0,
            flips: false,
            damage: None,
        }
    }

    pub(super) fn is_away(&self) -> bool {
        self.running.is_none()
    }

    /// The last entry it applied.
    pub(super) fn applied(&self) -> Index {
        self.running.as_ref().map_or(0, |running| running.state.applied().index)
    }
}

impl<B: Backend> World<B> {
    pub(super) fn start(&mut self, at: usize) -> Result<(), Violation> {
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
        config.rebuild = member.backend.condemned();
        let mut from = match recover(&config, opened.log.as_ref(), &opened.state.applied()) {
            Ok(from) => from,
            Err(_) if member.backend.dead() => return self.crashed(at),
            Err(error) => return Err(Violation(format!("member {}: {error}", member.id))),
        };
        let rebuilding = from.rebuilding;
        from.rebuilding &= self.bug != Some(Bug::StandsWithoutState);
        // With every other seed all bounds are so tight that they are met: old entries are read from the log, effects come in
        // portions, proposals are refused.
        let bounds = if seed.is_multiple_of(2) { config.core() } else { tight(config.core()) };
        let core = Core::new(bounds, opened.log.clone(), &from);
        let core = core.map_err(|error| Violation(format!("member {}: {error}", member.id)))?;
        let alone = core.alone();
        member.leadership = core.leadership();
        member.incarnation += 1;
        let ring = Ring::after(opened.state.revision());
        member.running = Some(Running {
            core,
            log: opened.log,
            state: opened.state,
            writes: VecDeque::new(),
            forget: None,
            committed: VecDeque::new(),
            inbox: VecDeque::new(),
            waiting: BTreeMap::new(),
            reads: BTreeMap::new(),
            readable: BTreeMap::new(),
            outgoing: None,
            wants_snapshot: false,
            ring,
            gate: None,
            checks: Checks::default(),
            said: None,
            leaves_at: None,
            rebuilding,
        });
        self.happened(at, if rebuilding { "started without a state" } else { "started" });
        self.examine(at)?;
        self.check(at)?;
        if alone { self.step(at, vec![Input::Campaign]) } else { Ok(()) }
    }

    /// A state that is damaged, and known to be, by us, is not what it must be.
    pub(super) fn check(&self, member: usize) -> Result<(), Violation> {
        match &self.members[member].running {
            Some(running) if self.members[member].damage.is_none() => self.ledger.check(running.state.as_ref()),
            _ => Ok(()),
        }
    }

    /// A member is at its end: its power was cut, or its disk failed it.
    pub fn crashed(&mut self, member: usize) -> Result<(), Violation> {
        let torn = self.rng.random();
        let failed = self.members[member].backend.failed();
        self.gone(member);
        self.members[member].backend.crash(torn);
        self.happened(member, if failed { "its disk failed" } else { "its power was cut" });
        self.counts.one(if failed { "failed writes" } else { "crashes" });
        Ok(())
    }

    /// The process is no more.
    pub(super) fn gone(&mut self, at: usize) {
        let member = &mut self.members[at];
        member.running = None;
        member.leadership = Leadership::default();
        member.paused_until = 0;
    }

    pub(super) fn stopped(&mut self, at: usize, error: String) -> Result<(), Violation> {
        demand!(self.members[at].backend.dead(), "the disk failed by itself: {error}");
        self.crashed(at)
    }

    /// Something that may hit the disk, outside the pipeline.
    pub(super) fn on_disk(&mut self, at: usize, act: impl Fn(&Running) -> Result<(), String>) -> Result<(), Violation> {
        let Some(running) = &self.members[at].running else { return Ok(()) };
        match act(running) {
            Err(error) => self.stopped(at, error),
            Ok(()) if self.members[at].backend.dead() => self.crashed(at),
            Ok(()) => Ok(()),
        }
    }

    /// Steps the core until it has no more to say.
    pub(super) fn step(&mut self, at: usize, mut inputs: Vec<Input>) -> Result<(), Violation> {
        loop {
            let member = &mut self.members[at];
            let Some(running) = &mut member.running else { return Ok(()) };
            let effects = running.core.step(std::mem::take(&mut inputs));
            let effects = effects.map_err(|error| Violation(format!("core: {error}")))?;
            let more = effects.more;
            let early = take_effects(running, effects, &mut self.network, self.bug, self.ledger.lenient)?;
            let before = std::mem::replace(&mut member.leadership, running.core.leadership());
            let Leadership { leading, term, .. } = member.leadership;
            if leading {
                self.ledger.leads(term, member.id)?;
            }
            inputs.extend(early.map(|number| Input::Persisted { number }));
            // Two of three with the same damage would outvote the one that is right: how far damage may go before a check
            // is made is not what is proved here.
            if let Some(running) = &mut member.running
                && running.wants_snapshot
                && member.damage.is_none()
            {
                running.wants_snapshot = false;
                if let Ok(source) = running.state.snapshot() {
                    inputs.push(Input::Offer(source.meta().clone()));
                    running.outgoing = Some(source);
                }
            }
            if leading && (before.term, before.leading) != (term, true) {
                self.happened(at, format!("leads term {term}"));
            }
            if !more && inputs.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends something that is not Raft's own.
    pub(super) fn post(&mut self, packet: Packet) {
        self.network.post(packet);
    }
}

fn tight(core: CoreConfig) -> CoreConfig {
    CoreConfig {
        message_bytes_max: 400,
        inflight_messages_max: 3,
        uncommitted_bytes_max: 8000,
        committed_bytes_max: 300,
        window_bytes: 300,
        ..core
    }
}

/// Puts effects where they are carried out from. With the bug of that name, the number that is acknowledged too early.
pub(super) fn take_effects(
    running: &mut Running,
    effects: Effects,
    network: &mut Network,
    bug: Option<Bug>,
    lenient: bool,
) -> Result<Option<u64>, Violation> {
    network.send(effects.messages, &mut running.outgoing);
    running.wants_snapshot |= effects.snapshot_wanted;
    effects.unwanted.into_iter().for_each(|index| running.state.unstage(index));
    if effects.persist.iter().any(|persist| persist.snapshot.is_some()) {
        running.committed.clear();
    }
    running.committed.extend(effects.committed);
    running.forget = running.forget.max(effects.forget);
    for (id, index) in effects.reads {
        if let Some(must_see) = running.reads.remove(&id) {
            demand!(
                lenient || index >= must_see,
                "a read at entry {index} does not see {must_see}, acknowledged before it began"
            );
            running.readable.insert(id, index);
        }
    }
    let early = effects.persist.last().map(|persist| persist.number).filter(|_| bug == Some(Bug::EarlyAcknowledgement));
    running.writes.extend(effects.persist);
    Ok(early)
}

/// A member as a failure tells of it.
pub(super) fn show<B>(member: &Member<B>) -> String {
    let Some(running) = &member.running else { return format!("{}: down", member.id) };
    let (leadership, members, applied) = (member.leadership, running.core.members(), running.state.applied().index);
    let state = match &member.damage {
        Some((key, _)) => format!(", with a damaged {key:?}"),
        None if running.rebuilding => ", without a state".to_owned(),
        None => String::new(),
    };
    format!("{}: {leadership:?}, applied {applied}{state}, {members:?}, peers {:?}", member.id, running.core.peers())
}
