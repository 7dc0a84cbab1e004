//! What was proposed, committed and acknowledged, over all members and crashes, and the judgement on it.

use std::collections::BTreeMap;

use bytes::Bytes;
use navarch_raft_contract::{
    Applied, Command, CommittedEntry, EventKind, Index, KeyRange, Payload, ReadError, Revision, Term,
};
use navarch_storage::hash;

use crate::{State, check::retention::Floors, model::Model, workload};

/// A promise that was broken, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

macro_rules! demand {
    ($holds:expr, $($words:tt)*) => {
        if !$holds {
            return Err($crate::ledger::Violation(format!($($words)*)));
        }
    };
}
pub(crate) use demand;

/// Parts of all keys, each of whose past is looked at by itself.
const PARTS: [&str; 6] = [workload::SHORT, workload::SHORTER, workload::STILL, "c/", "g/", "r/"];

/// See the module.
#[derive(Default)]
pub struct Ledger {
    /// What is in an entry, by where its leader put it.
    proposed: BTreeMap<(Index, Term), Vec<Command>>,
    /// The term of each entry, as first applied by any member.
    committed: BTreeMap<Index, Term>,
    /// The last entry whose proposer was answered.
    pub acknowledged: Index,
    /// What all members' states must be.
    pub model: Model,
    /// It only keeps the model up to date, and says nothing.
    pub lenient: bool,
    outcomes: BTreeMap<Index, Vec<navarch_raft_contract::Outcome>>,
    /// Which member led each term.
    leaders: BTreeMap<Term, u64>,
}

impl Ledger {
    /// An empty one.
    pub fn new() -> Self {
        Self { model: Model::new(), ..Self::default() }
    }

    /// A leader put commands into an entry.
    pub fn proposed(&mut self, at: (Index, Term), commands: Vec<Command>) -> Result<(), Violation> {
        // A cluster of one may lead the same term twice, if neither its vote nor anything else of the first time was on the
        // disk when the power went: then nothing was promised either.
        let taken = !self.lenient && self.committed.get(&at.0) == Some(&at.1);
        demand!(!taken, "another proposal at {at:?}, which is committed");
        self.proposed.insert(at, commands);
        Ok(())
    }

    /// A member leads.
    pub fn leads(&mut self, term: Term, member: u64) -> Result<(), Violation> {
        let leader = *self.leaders.entry(term).or_insert(member);
        demand!(self.lenient || leader == member, "members {leader} and {member} both lead term {term}");
        Ok(())
    }

    /// A member applied entries.
    pub fn applied(&mut self, entries: &[CommittedEntry], applied: &Applied) -> Result<(), Violation> {
        for (entry, outcomes) in entries.iter().zip(&applied.outcomes) {
            let CommittedEntry { index, term, payload } = entry;
            if self.lenient && (self.committed.contains_key(index) || *index != self.committed() + 1) {
                continue;
            }
            match self.committed.get(index) {
                Some(before) => {
                    demand!(before == term, "entry {index} was of term {before}, is applied with term {term}: lost")
                }
                None => {
                    let next = self.committed.last_key_value().map_or(1, |(last, _)| last + 1);
                    demand!(*index == next, "entry {index} is applied, {next} is the next");
                    let commands = match payload {
                        Payload::Commands(_) => self.proposed.get(&(*index, *term)),
                        _ => None,
                    };
                    demand!(
                        commands.is_some() == matches!(payload, Payload::Commands(_)),
                        "entry {index}: nobody proposed it"
                    );
                    let expected = self.model.apply(*index, *term, commands.map_or(&[][..], Vec::as_slice));
                    self.outcomes.insert(*index, expected);
                    self.committed.insert(*index, *term);
                }
            }
            let expected = self.outcomes.get(index);
            demand!(
                self.lenient || expected == Some(outcomes),
                "entry {index}: outcomes {outcomes:?}, must be {expected:?}"
            );
        }
        Ok(())
    }

    /// Terms that had a leader.
    pub fn terms(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// A proposer was answered.
    pub fn acknowledge(&mut self, index: Index) {
        self.acknowledged = self.acknowledged.max(index);
    }

    /// The last entry that any member applied.
    pub fn committed(&self) -> Index {
        self.committed.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// A member's state must be exactly that after its last applied entry. Reads at the present, in the past and of history.
    pub fn check(&self, state: &dyn State) -> Result<(), Violation> {
        if self.lenient {
            return Ok(());
        }
        let index = state.applied().index;
        let revision = self.model.revisions.get(&index).copied();
        demand!(
            revision == Some(state.revision()),
            "entry {index}: revision {}, must be {revision:?}",
            state.revision()
        );
        let floors = self.model.floors_after(index);
        demand!(floors.all == state.compacted(), "entry {index}: floor {}, must be {}", state.compacted(), floors.all);
        let living = self.check_list(state, "", None)?;
        let sum = living.iter().fold(0u64, |sum, (key, value, _, at)| sum.wrapping_add(hash::share(key, *at, value)));
        demand!(sum == state.hash(), "entry {index}: the kept hash is not that of what lives");
        self.check_past(state, "", &floors)?;
        // What keeps less history than other keys is the reason why not all can be read together.
        for prefix in PARTS.into_iter().filter(|prefix| floors.of(prefix) < floors.of("")) {
            self.check_past(state, prefix, &floors)?;
        }
        self.check_expiries(state)
    }

    /// What can be read of the past of keys with a prefix, and what cannot any more.
    fn check_past(&self, state: &dyn State, prefix: &str, floors: &Floors) -> Result<(), Violation> {
        let (revision, floor) = (state.revision(), floors.of(prefix));
        let range = KeyRange::prefix(prefix.as_bytes());
        let kept = state.floor_of(&range);
        demand!(floor == kept, "floor {kept} of {prefix:?}, must be {floor}");
        for at in [floor, (floor + revision) / 2, revision.saturating_sub(1).max(floor), revision] {
            self.check_list(state, prefix, Some(at))?;
        }
        if floor > 0 {
            let below = state.range(&range, Some(floor - 1), 1);
            demand!(matches!(below, Err(ReadError::Compacted { .. })), "a read below the floor: {below:?}");
            let below = state.events(&range, floor - 1, 1);
            demand!(matches!(below, Err(ReadError::Compacted { .. })), "a watch below the floor: {below:?}");
        }
        self.check_events(state, prefix, floor)
    }

    /// A member answered for the past of keys with a prefix, or refused: exactly below the floor that it has.
    pub fn kept(&self, state: &dyn State, prefix: &str, at: Revision, answered: bool) -> Result<(), Violation> {
        let (index, store) = (state.applied().index, state.revision());
        let floor = self.model.floors_after(index).of(prefix);
        demand!(
            self.lenient || answered == (at >= floor),
            "{prefix:?} at {at} by who is at entry {index}, revision {store}: answered: {answered}, the floor is {floor}"
        );
        Ok(())
    }

    fn check_list(
        &self,
        state: &dyn State,
        prefix: &str,
        at: Option<Revision>,
    ) -> Result<Vec<(Bytes, Bytes, u64, u64)>, Violation> {
        let read = state.range(&KeyRange::prefix(prefix.as_bytes()), at, usize::MAX);
        let Ok((page, read_at)) = read else { return Err(Violation(format!("list {prefix:?} at {at:?}: {read:?}"))) };
        let rows: Vec<_> =
            page.items.into_iter().map(|kv| (kv.key, kv.value, kv.create_revision, kv.mod_revision)).collect();
        let expected = self.model.list(prefix, read_at);
        demand!(rows == expected, "list at {at:?}: {rows:?}, must be {expected:?}");
        for (key, value, _, _) in expected.iter().take(2) {
            let got = state.get(key, at).map(|kv| kv.map(|kv| kv.value));
            demand!(got.as_ref() == Ok(&Some(value.clone())), "get {key:?} at {at:?}: {got:?}");
        }
        Ok(rows)
    }

    /// History, in portions, from the floor on: every change once, in order, each portion ending with a transaction.
    fn check_events(&self, state: &dyn State, prefix: &str, floor: Revision) -> Result<(), Violation> {
        let revision = state.revision();
        let (mut after, mut events) = (floor.max(1), Vec::new());
        while after < revision {
            let read = state.events(&KeyRange::prefix(prefix.as_bytes()), after, 100);
            let Ok((portion, upto)) = read else { return Err(Violation(format!("events after {after}: {read:?}"))) };
            demand!(upto > after, "history stands still at {after}");
            demand!(self.model.ends.contains(&upto), "history stops at {upto}, in the middle of a transaction");
            events.extend(portion);
            after = upto;
        }
        let keys = self.model.keys.iter().filter(|(key, _)| key.starts_with(prefix.as_bytes()));
        let all = keys.flat_map(|(key, versions)| versions.iter().map(move |v| (v.0, key, v.1)));
        let mut expected: Vec<_> = all.filter(|(at, ..)| (floor.max(1) + 1..=revision).contains(at)).collect();
        expected.sort_by_key(|(at, ..)| *at);
        demand!(expected.len() == events.len(), "{} events, must be {}", events.len(), expected.len());
        for (event, (at, key, version)) in events.iter().zip(expected) {
            let same = event.revision == *at
                && event.key == *key
                && event.kind == version.kind
                && event.value == version.value
                && event.create_revision == version.created
                && event.prev_revision == version.previous;
            demand!(same, "event {event:?}, must be {at} {key:?} {version:?}");
        }
        Ok(())
    }

    fn check_expiries(&self, state: &dyn State) -> Result<(), Violation> {
        let read = state.expired(u64::MAX, usize::MAX);
        let Ok(read) = read else { return Err(Violation(format!("expiries: {read:?}"))) };
        let mut rows: Vec<_> = read.into_iter().map(|due| (due.expires_at_ms, due.key, due.mod_revision)).collect();
        rows.sort();
        let revision = state.revision();
        let living =
            self.model.keys.keys().filter_map(|key| self.model.living(key, revision).map(|found| (key, found)));
        let mut expected: Vec<_> = living
            .filter(|(_, (_, version))| version.expires_at_ms != 0 && version.kind == EventKind::Put)
            .map(|(key, (at, version))| (version.expires_at_ms, key.clone(), at))
            .collect();
        expected.sort();
        demand!(rows == expected, "expiries {rows:?}, must be {expected:?}");
        Ok(())
    }
}
