//! States that are not what they should be, and what members do about it: the leader has checks put into the log, every
//! member says what it found there and looks what the others said, and whoever differs takes itself out, begins anew
//! without a state, and gets another member's. As `navarch`'s own integrity watcher does it.
//!
//! A state is damaged by a bit that flips between the log and the state, in the value of a key that is never written again:
//! what is overwritten is not in the hash any more, and no check could find it. One member at a time, of at least three
//! voters: a majority has to be right, or nobody can tell.

use bytes::Bytes;
use navarch_raft_contract::{
    Batch, Check, Command, CommandBody, CommittedEntry, ConfState, KeyRange, OpKind, Payload, Sighting, StateReader,
};
use navarch_raft_driver::{Input, Verdict};
use navarch_storage::hash;

use super::{World, member::Running};
use crate::{
    Backend, Bug,
    ledger::{Violation, demand},
    network::Request,
    workload::STILL,
};

/// Choices for each member after which a member says again what nobody seems to have heard.
const SAY_AGAIN: u64 = 300;
/// Choices for each member for which a leader whose state is damaged waits for another one to take over.
const HAND_OVER: u64 = 200;
/// Choices for each member after which a change of members that was asked for is made, or will not be, mostly.
const CHANGE_LASTS: u64 = 500;

/// What a member's applier came across at a check, or what was said at one.
pub(super) fn note(running: &mut Running, sighting: &Sighting, blind: bool) -> Result<(), Violation> {
    let mut sighting = *sighting;
    if let Sighting::Check { hash, .. } = &mut sighting
        && blind
    {
        *hash = hash_without_still(running.state.as_ref())?;
    }
    running.checks.note(&sighting);
    Ok(())
}

/// What the bug of that name compares.
fn hash_without_still(state: &dyn StateReader) -> Result<u64, Violation> {
    let read = state.range(&KeyRange::prefix(b""), None, usize::MAX);
    let (page, _) = read.map_err(|error| Violation(format!("a list: {error}")))?;
    let seen = page.items.iter().filter(|item| !item.key.starts_with(STILL.as_bytes()));
    Ok(seen.fold(0, |sum, item| sum.wrapping_add(hash::share(&item.key, item.mod_revision, &item.value))))
}

/// Flips a bit of the first value that can be damaged. Its key, and the value as it is then.
fn flip(entry: &mut CommittedEntry) -> Option<(Bytes, Bytes)> {
    let Payload::Commands(data) = &entry.payload else { return None };
    let mut batch = Batch::from_bytes(data.clone()).ok()?;
    let ops = batch.commands.iter_mut().filter_map(|command| match &mut command.body {
        Some(CommandBody::Txn(txn)) => Some(&mut txn.ops),
        _ => None,
    });
    let wanted = |op: &&mut navarch_raft_contract::Op| {
        op.key.starts_with(STILL.as_bytes()) && op.kind == OpKind::Put as i32 && !op.value.is_empty()
    };
    let op = ops.flatten().find(wanted)?;
    let mut value = op.value.to_vec();
    value[0] ^= 1;
    op.value = value.into();
    let found = (op.key.clone(), op.value.clone());
    entry.payload = Payload::Commands(batch.to_bytes());
    Some(found)
}

fn belongs(members: &ConfState, id: u64) -> bool {
    members.voters.contains(&id) || members.learners.contains(&id)
}

impl<B: Backend> World<B> {
    /// A member's memory is about to flip a bit, if enough others are right.
    pub(super) fn damage(&mut self, at: usize) {
        self.members[at].flips = self.can_be_damaged();
    }

    fn can_be_damaged(&self) -> bool {
        let leader = self.leader().and_then(|member| member.running.as_ref());
        let enough = leader.is_some_and(|running| {
            let members = running.core.members();
            members.voters.len() >= 3 && members.voters_outgoing.is_empty()
        });
        let settled = self.now - self.shrunk_at > CHANGE_LASTS * self.members.len() as u64;
        let sound = |member: &super::Member<B>| member.damage.is_none() && member.backend.condemned().is_none();
        enough && (settled || self.shrunk_at == 0) && self.members.iter().all(sound)
    }

    /// Damages what a member is about to apply, if its memory flips.
    pub(super) fn damage_some(&mut self, at: usize, entries: &mut [CommittedEntry]) {
        if !self.members[at].flips || !self.can_be_damaged() {
            return;
        }
        if let Some(damage) = entries.iter_mut().find_map(flip) {
            self.members[at].flips = false;
            self.happened(at, format!("the value of {:?} becomes {:?} in its memory", damage.0, damage.1));
            self.members[at].damage = Some(damage);
            self.counts.one("states damaged");
        }
    }

    pub(super) fn someone_is_damaged(&self) -> bool {
        self.members.iter().any(|member| member.damage.is_some())
    }

    /// A crash takes back what was not flushed, and what is applied again then is right.
    pub(super) fn examine(&mut self, at: usize) -> Result<(), Violation> {
        let member = &mut self.members[at];
        let (Some((key, wrong)), Some(running)) = (&member.damage, &member.running) else { return Ok(()) };
        let found = running.state.get(key, None).map_err(|error| Violation(format!("a read: {error}")))?;
        if found.is_none_or(|found| found.value != *wrong) {
            let discarded = running.rebuilding;
            member.damage = None;
            self.counts.add("damage undone by a crash", u64::from(!discarded));
        }
        Ok(())
    }

    /// A member looks what it found at the last check, and what the others did.
    pub(super) fn look(&mut self, at: usize) -> Result<(), Violation> {
        let (now, each, id) = (self.now, self.members.len() as u64, self.members[at].id);
        let request = self.new_id();
        let Some(running) = &mut self.members[at].running else { return Ok(()) };
        if running.leaves_at.is_some() {
            return self.leave(at);
        }
        let members = running.core.members();
        let again = |(index, when): (u64, u64), of: u64| index != of || now - when > SAY_AGAIN * each;
        if let Some(witness) = running.checks.to_say(id)
            && running.said.is_none_or(|said| again(said, witness.index))
        {
            running.said = Some((witness.index, now));
            let commands = vec![Command { fence_term: 0, body: Some(CommandBody::Witness(witness)) }];
            self.submit(at, Request { id: request, origin: id, commands });
        }
        let Some(running) = &self.members[at].running else { return Ok(()) };
        match running.checks.verdict(&members) {
            Verdict::Open | Verdict::Agrees => Ok(()),
            Verdict::Differs { index, own, others } => {
                let damaged = self.members[at].damage.is_some() || self.ledger.lenient;
                demand!(damaged, "member {id}, which is right, has {own:x} at check {index}, the others {others:x}");
                if self.bug == Some(Bug::DamageKept) { Ok(()) } else { self.condemn(at, members) }
            }
            Verdict::Split { index } => {
                // Whoever said what was wrong may have lost the damage since.
                let wrong = self.counts.get("states damaged") > 0 || self.ledger.lenient;
                demand!(wrong, "all members are right, and differ at check {index}");
                self.counts.one("checks without a majority");
                Ok(())
            }
        }
    }

    /// The member takes itself out. If it leads, it hands over first.
    fn condemn(&mut self, at: usize, members: ConfState) -> Result<(), Violation> {
        self.counts.one("members found damaged");
        self.happened(at, "finds its state damaged");
        if self.members[at].backend.condemn(members).is_err() {
            return self.crashed(at);
        }
        let patience = HAND_OVER * self.members.len() as u64;
        if let Some(running) = &mut self.members[at].running {
            running.leaves_at = Some(self.now + patience);
        }
        self.leave(at)
    }

    fn leave(&mut self, at: usize) -> Result<(), Violation> {
        let member = &self.members[at];
        let Some(running) = &member.running else { return Ok(()) };
        if member.leadership.leading && running.leaves_at.is_some_and(|end| self.now < end) {
            let peers = running.core.peers();
            let able = peers.iter().filter(|peer| peer.voter && peer.caught_up && !peer.snapshot);
            let successor = able.max_by_key(|peer| peer.matched).map(|peer| Input::Transfer { to: peer.id });
            return self.step(at, successor.into_iter().collect());
        }
        self.gone(at);
        self.members[at].backend.kill();
        self.start(at)
    }

    /// Whether every member that belongs to the cluster has a state, and the right one.
    pub(super) fn all_sound(&self) -> bool {
        let leader = self.leader().and_then(|member| member.running.as_ref());
        let Some(members) = leader.map(|running| running.core.members()) else { return false };
        let sound = |member: &super::Member<B>| member.damage.is_none() && member.backend.condemned().is_none();
        self.members.iter().filter(|member| belongs(&members, member.id)).all(sound)
    }

    /// In the end, checks are made until there is nothing left to find, and the cluster is large enough to tell.
    pub(super) fn find_damage(&mut self, round: usize) -> Result<(), Violation> {
        if self.all_sound() {
            return Ok(());
        }
        for at in 0..self.members.len() {
            if !self.members[at].leadership.leading {
                continue;
            }
            self.join(at)?;
            let (id, origin) = (self.new_id(), self.members[at].id);
            let commands = vec![Command { fence_term: 0, body: Some(CommandBody::Check(Check {})) }];
            self.submit(at, Request { id, origin, commands });
            // It has no state to give to whoever needs one before he can speak.
            if self.members[at].damage.is_some() && round.is_multiple_of(100) {
                let to = 1 + (round / 100) as u64 % self.members.len() as u64;
                self.step(at, vec![Input::Transfer { to }])?;
            }
        }
        Ok(())
    }

    /// A change of members that was under way when a state was damaged has left so few voters that none is right by majority.
    pub(super) fn nobody_can_tell(&self) -> bool {
        let leader = self.leader().and_then(|member| member.running.as_ref());
        let Some(members) = leader.map(|running| running.core.members()) else { return false };
        let damaged = |member: &super::Member<B>| member.damage.is_some() && members.voters.contains(&member.id);
        members.voters.len() < 3 && self.members.iter().any(damaged)
    }
}
