//! Reads of the past: at a revision that was, of keys that keep their history longer or less long, by whichever member.

use navarch_raft_contract::{KeyRange, ReadError};
use rand::Rng;

use super::{World, clients::REGISTERS, leaders::HOLDER, record::item};
use crate::{Backend, Bug, check::history::PastRead, ledger::Violation, workload};

/// Whose past is read. Nothing that damage can be in.
const READ: [&str; 5] = [REGISTERS, HOLDER, workload::SHORT, workload::SHORTER, "c/"];

impl<B: Backend> World<B> {
    /// Somebody reads the past.
    pub(super) fn read_past(&mut self, at: usize) -> Result<(), Violation> {
        let Some(running) = &self.members[at].running else { return Ok(()) };
        let state = running.state.as_ref();
        let store = state.revision();
        let prefix = READ[self.rng.random_range(0..READ.len())];
        let range = KeyRange::prefix(prefix.as_bytes());
        // Mostly near the floor, where it is decided.
        let near = state.floor_of(&range).max(1).saturating_sub(4).max(1);
        let asked = match self.rng.random_range(0..3) {
            0 => self.rng.random_range(1..=store),
            _ => self.rng.random_range(near..=(near + 8).min(store).max(near)),
        };
        let mut read = state.range(&range, Some(asked), usize::MAX);
        if let (Some(Bug::AnsweredBelowFloor), Err(ReadError::Compacted { floor, .. })) = (self.bug, &read) {
            read = state.range(&range, Some(*floor), usize::MAX);
        }
        let items = match read {
            Ok((page, _)) => Some(page.items.iter().map(item).collect()),
            Err(ReadError::Compacted { .. }) => None,
            Err(error) => return Err(Violation(format!("a read at {asked}, of {store}: {error}"))),
        };
        self.ledger.kept(state, prefix, asked, items.is_some())?;
        self.counts.one(match &items {
            Some(_) if asked < store => "past: reads",
            Some(_) => "past: reads of the newest revision",
            None if asked < state.compacted() => "past: refused, below the floor of all",
            None => "past: refused, below a prefix's floor",
        });
        self.record.past.push(PastRead { client: 2000 + at as u64, asked, store, prefix: prefix.into(), items });
        Ok(())
    }
}
