//! What a member's threads do: the driver takes proposals, the log writer writes, the applier applies and answers.

use navarch_raft_contract::{Batch, Command, CommittedEntry, Index, Payload, Term};
use navarch_raft_driver::{Checks, Input, core::Rejected};

use super::{
    World,
    integrity::note,
    member::{Pending, Running, take_effects},
};
use crate::{
    Backend, Bug,
    ledger::Violation,
    network::{Body, Packet, Reply, Request},
};

/// Proposals that wait for the driver; more are refused.
const INBOX_MAX: usize = 32;

impl<B: Backend> World<B> {
    /// A proposal for a member's driver. What finds the queue full is refused.
    pub(super) fn submit(&mut self, at: usize, request: Request) {
        match &mut self.members[at].running {
            Some(running) if running.inbox.len() < INBOX_MAX => running.inbox.push_back(request),
            _ => self.answer(at, request.id, request.origin, Reply::Refused),
        }
    }

    /// The driver takes some proposals; they share an entry. Whoever does not lead passes them on, once.
    pub(super) fn take(&mut self, at: usize, most: usize) -> Result<(), Violation> {
        let Some(running) = &mut self.members[at].running else { return Ok(()) };
        let requests: Vec<Request> = running.inbox.drain(..most.min(running.inbox.len())).collect();
        if requests.is_empty() {
            return Ok(());
        }
        let commands: Vec<Command> = requests.iter().flat_map(|request| request.commands.clone()).collect();
        let data = Batch { commands: commands.clone() }.to_bytes().to_vec();
        let effects = running.core.step([Input::Propose { id: 0, data }]);
        let mut effects = effects.map_err(|error| Violation(format!("core: {error}")))?;
        let taken = effects.proposed.pop().map(|(_, taken)| taken);
        let early = take_effects(running, effects, &mut self.network, self.bug, self.ledger.lenient)?;
        let own = self.members[at].id;
        match taken {
            Some(Ok((index, term))) => {
                self.ledger.proposed((index, term), commands)?;
                let shares = requests.iter().map(|request| (request.id, request.origin, request.commands.len()));
                let pending = Pending { term, requests: shares.collect() };
                if let Some(running) = &mut self.members[at].running
                    && let Some(before) = running.waiting.insert(index, pending)
                {
                    self.unknown(at, before);
                }
            }
            Some(Err(Rejected::NotLeader { leader: Some(leader) })) => {
                for request in requests {
                    if request.origin == own && leader != own {
                        self.counts.one("proposals forwarded");
                        self.post(Packet { from: own, to: leader, body: Body::Forward(request) });
                    } else {
                        self.answer(at, request.id, request.origin, Reply::Refused);
                    }
                }
            }
            _ => requests.into_iter().for_each(|request| self.answer(at, request.id, request.origin, Reply::Refused)),
        }
        self.step(at, early.map(|number| Input::Persisted { number }).into_iter().collect())
    }

    fn unknown(&mut self, at: usize, pending: Pending) {
        for (id, origin, _) in pending.requests {
            self.answer(at, id, origin, Reply::Unknown);
        }
    }

    /// Whoever proposed is told, here or over the network.
    pub(super) fn answer(&mut self, at: usize, id: u64, origin: u64, reply: Reply) {
        let own = self.members[at].id;
        if origin == own {
            self.replied(at, id, reply);
        } else {
            self.post(Packet { from: own, to: origin, body: Body::Answer(id, reply) });
        }
    }

    /// The log writer: one write and one sync for some of what waits.
    pub(super) fn write(&mut self, at: usize, most: usize) -> Result<(), Violation> {
        let member = &mut self.members[at];
        let Some(running) = &mut member.running else { return Ok(()) };
        let count = most.min(running.writes.len());
        let (mut inputs, mut installed) = (Vec::new(), None);
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
                self.counts.add("rebuilds", u64::from(running.rebuilding));
                let by_chance = !running.rebuilding && member.damage.is_some();
                self.counts.add("damage replaced by a snapshot for another reason", u64::from(by_chance));
                running.rebuilding = false;
                (running.checks, member.damage) = (Checks::default(), None);
                inputs.push(Input::Applied { index: meta.index });
                self.counts.one("snapshots installed");
                installed = Some(meta.index);
                if self.bug != Some(Bug::LostAtInstall) {
                    running.ring.replaced(running.state.revision());
                }
                self.ledger.check(running.state.as_ref())?;
            }
        }
        if let Some(index) = running.forget.take_if(|_| running.writes.is_empty())
            && let Err(error) = running.log.compact(index)
        {
            return self.stopped(at, error.to_string());
        }
        if let Some(index) = installed {
            self.happened(at, format!("has installed the state of entry {index}"));
        }
        if self.members[at].backend.dead() {
            return self.crashed(at);
        }
        self.step(at, inputs)
    }

    /// The applier: some of what is committed, then the watchers, then the answers.
    pub(super) fn apply(&mut self, at: usize, most: usize) -> Result<(), Violation> {
        let term_of_the_moment = self.members[at].leadership.term;
        let Some(running) = &mut self.members[at].running else { return Ok(()) };
        let mut entries: Vec<_> = running.committed.drain(..most.min(running.committed.len())).collect();
        let Some(last) = entries.last().map(|entry| entry.index) else { return Ok(()) };
        if running.rebuilding {
            // There is nothing to apply it to; the state that is to come has it.
            let waiting: Vec<_> = entries.iter().filter_map(|entry| running.waiting.remove(&entry.index)).collect();
            waiting.into_iter().for_each(|pending| self.unknown(at, pending));
            return Ok(());
        }
        let changes = entries.iter().filter(|entry| matches!(entry.payload, Payload::Members(_))).count();
        self.counts.add("membership changes", changes as u64);
        let original = entries.clone();
        entries.iter_mut().for_each(|entry| misread_fences(entry, self.bug, term_of_the_moment));
        self.damage_some(at, &mut entries);
        let Some(running) = &mut self.members[at].running else { return Ok(()) };
        let applied = running.state.apply(&entries).map_err(|error| Violation(format!("apply: {error}")))?;
        running.ring.applied(&applied.batch);
        let blind = self.bug == Some(Bug::BlindCheck);
        applied.sightings.iter().try_for_each(|sighting| note(running, sighting, blind))?;
        self.record.applied(&original, &applied, &mut self.counts);
        self.ledger.applied(&original, &applied)?;
        let alive = !self.members[at].backend.dead();
        let mut answers = Vec::new();
        if let Some(running) = &mut self.members[at].running {
            for (entry, outcomes) in entries.iter().zip(applied.outcomes) {
                let Some(pending) = running.waiting.remove(&entry.index) else { continue };
                answers.push((pending, entry.term, entry.index, outcomes));
            }
        }
        for (pending, term, index, outcomes) in answers.into_iter().filter(|_| alive) {
            if pending.term != term {
                self.unknown(at, pending);
                continue;
            }
            self.ledger.acknowledge(index);
            let mut outcomes = outcomes.into_iter();
            for (id, origin, count) in pending.requests {
                let own = outcomes.by_ref().take(count).collect();
                self.answer(at, id, origin, Reply::Applied(own));
            }
        }
        self.step(at, vec![Input::Applied { index: last }])
    }
}

/// With the bugs about fences: the entry as a state machine would read it that has them.
fn misread_fences(entry: &mut CommittedEntry, bug: Option<Bug>, term_of_the_moment: Term) {
    let (Some(bug), Payload::Commands(data)) = (bug, &entry.payload) else { return };
    let Ok(mut batch) = Batch::from_bytes(data.clone()) else { return };
    for command in batch.commands.iter_mut().filter(|command| command.fence_term != 0) {
        command.fence_term = match bug {
            Bug::FenceIgnored => 0,
            Bug::FenceOfTheMoment if command.fence_term == term_of_the_moment => entry.term,
            Bug::FenceOfTheMoment => Term::MAX,
            _ => return,
        };
    }
    entry.payload = Payload::Commands(batch.to_bytes());
}

/// Puts the staged state in its place, then begins the log anew.
fn install(running: &Running, index: Index, term: Term) -> Result<(), String> {
    running.state.install(index).map_err(|error| error.to_string())?;
    running.log.reset(index, term).map_err(|error| error.to_string())
}
