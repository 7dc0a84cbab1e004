//! The log as raft-rs reads it: recent entries in memory, older ones from the log store.

use std::{cell::Cell, collections::VecDeque, sync::Arc};

use navarch_raft_contract::{ConfState, HardState, Index, LogStore, SnapshotMeta, Term};
use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{Entry, Snapshot},
};

use crate::{
    convert::{entry_to_raft, hard_state_to_raft, members_to_raft, meta_to_snapshot},
    recover::Recovered,
};

/// See the module.
pub struct Window {
    log: Arc<dyn LogStore>,
    hard_state: HardState,
    members: ConfState,
    prefix_index: Index,
    prefix_term: Term,
    last_index: Index,
    /// The newest entries, without a gap up to `last_index`.
    recent: VecDeque<Entry>,
    recent_bytes: usize,
    /// A state that can be sent, once.
    offered: Cell<Option<SnapshotMeta>>,
    /// One was asked for, and there was none.
    wanted: Cell<bool>,
}

fn size(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + 64
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> raft::Error {
    raft::Error::Store(StorageError::Other(Box::new(error)))
}

impl Window {
    pub(crate) fn new(log: Arc<dyn LogStore>, from: &Recovered) -> Self {
        Self {
            log,
            hard_state: from.hard_state,
            members: from.members.clone(),
            prefix_index: from.prefix_index,
            prefix_term: from.prefix_term,
            last_index: from.last_index,
            recent: VecDeque::new(),
            recent_bytes: 0,
            offered: Cell::default(),
            wanted: Cell::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn initial_members(&self) -> ConfState {
        self.members.clone()
    }

    /// The index of the oldest entry in memory, one past the last if there is none.
    fn recent_first(&self) -> Index {
        self.last_index + 1 - self.recent.len() as u64
    }

    /// Takes new entries over; they replace what is there from the first one's index on.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        while self.last_index >= first.index {
            if let Some(replaced) = self.recent.pop_back() {
                self.recent_bytes -= size(&replaced);
            }
            self.last_index -= 1;
        }
        self.last_index += entries.len() as u64;
        self.recent_bytes += entries.iter().map(size).sum::<usize>();
        self.recent.extend(entries.iter().cloned());
    }

    /// Drops the oldest entries from memory until `bytes_max` are left; only those that the log store has for certain.
    pub(crate) fn trim(&mut self, bytes_max: usize, persisted: Index) {
        while self.recent_bytes > bytes_max && self.recent_first() <= persisted {
            let Some(dropped) = self.recent.pop_front() else { return };
            self.recent_bytes -= size(&dropped);
        }
    }

    /// The log begins anew after a snapshot.
    pub(crate) fn restart_after(&mut self, snapshot: &SnapshotMeta) {
        (self.prefix_index, self.prefix_term) = (snapshot.index, snapshot.term);
        self.last_index = snapshot.index;
        self.members = snapshot.members.clone();
        self.recent.clear();
        self.recent_bytes = 0;
    }

    /// This state can be sent. One in which no change of members was ever applied has those that the cluster began with.
    pub(crate) fn offer(&mut self, mut snapshot: SnapshotMeta) {
        if snapshot.members.voters.is_empty() {
            snapshot.members = self.members.clone();
        }
        self.offered.set(Some(snapshot));
        self.wanted.set(false);
    }

    /// Whether a snapshot was asked for since the last offer, in vain.
    pub(crate) fn wants_snapshot(&self) -> bool {
        self.wanted.get()
    }

    /// From now on entries up to `index` do not exist any more.
    pub(crate) fn forget(&mut self, index: Index) -> raft::Result<()> {
        if index > self.prefix_index && index <= self.last_index {
            self.prefix_term = self.term(index)?;
            self.prefix_index = index;
            while self.recent_first() <= index {
                let Some(dropped) = self.recent.pop_front() else { break };
                self.recent_bytes -= size(&dropped);
            }
        }
        Ok(())
    }
}

impl Storage for Window {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(hard_state_to_raft(&self.hard_state), members_to_raft(&self.members)))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.prefix_index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let bytes_max = max_size.into().map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let first = self.recent_first();
        let mut found = Vec::new();
        if low < first {
            let older = self.log.entries(low, high.min(first), bytes_max).map_err(other)?;
            if older.is_empty() {
                return Err(raft::Error::Store(StorageError::Unavailable));
            }
            found.extend(older.into_iter().map(entry_to_raft));
            if low + (found.len() as u64) < high.min(first) {
                return Ok(found);
            }
        }
        let mut bytes = found.iter().map(size).sum::<usize>();
        for index in low.max(first)..high {
            let entry = self.recent.get((index - first) as usize);
            let entry = entry.ok_or(raft::Error::Store(StorageError::Unavailable))?;
            bytes = bytes.saturating_add(size(entry));
            if !found.is_empty() && bytes > bytes_max {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.prefix_index {
            return Ok(self.prefix_term);
        }
        if index < self.prefix_index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if index > self.last_index {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        match index.checked_sub(self.recent_first()).and_then(|at| self.recent.get(at as usize)) {
            Some(entry) => Ok(entry.term),
            None => self.log.term(index).map_err(other)?.ok_or(raft::Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.prefix_index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last_index)
    }

    /// Only what a snapshot is; its bytes do not travel in Raft's messages.
    fn snapshot(&self, request_index: u64, _: u64) -> raft::Result<Snapshot> {
        // Behind the log's beginning it would be of no use: its receiver would need another one at once.
        match self.offered.take().filter(|offered| offered.index >= request_index.max(self.prefix_index)) {
            Some(offered) => Ok(meta_to_snapshot(&offered)),
            None => {
                self.wanted.set(true);
                Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}
