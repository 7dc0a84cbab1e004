//! The state machine: what commands do to keys, revisions and history, over any [`Kv`].
//!
//! Applying is deterministic and total: same entries, same state, on every member and at every replay. Every batch is one
//! write with the applied index in it, so the state is always that after some entry, also when a crash takes back what
//! was not flushed; the Raft log then brings it forward again.

mod apply;
mod compact;
mod read;

use std::sync::atomic::{AtomicU64, Ordering};

use navarch_raft_contract::{
    Applied, AppliedState, ApplyError, CommittedEntry, ConfState, Index, ReadError, Revision, StateMachine,
};
use parking_lot::Mutex;
use prost::Message;

use crate::{
    keys,
    kv::{Kv, KvError, KvView},
    record::Meta,
};

/// The revision of the empty store.
pub const FIRST_REVISION: Revision = 1;

/// The replicated state over records kept by `K`.
pub struct Machine<K> {
    kv: K,
    /// As after the last write. Held while applying, so that there is one writer of data; compaction writes beside it.
    meta: Mutex<Meta>,
    /// Copies of three of its fields for readers, who must never wait for an apply.
    index: AtomicU64,
    revision: AtomicU64,
    floor: AtomicU64,
    durable: AtomicU64,
    /// One compaction at a time.
    sweeping: Mutex<()>,
}

/// A record that cannot be what it should be.
fn corrupt(what: &str) -> ApplyError {
    ApplyError::Corrupt(what.to_owned())
}

fn failed(error: KvError) -> ApplyError {
    ApplyError::Database(error.0)
}

fn unreadable(error: KvError) -> ReadError {
    ReadError::Database(error.0)
}

fn decode_meta(record: Option<Vec<u8>>) -> Result<Meta, String> {
    match record {
        None => Ok(Meta { revision: FIRST_REVISION, ..Meta::default() }),
        Some(bytes) => Meta::decode(bytes.as_slice()).map_err(|error| format!("applied state: {error}")),
    }
}

impl<K: Kv> Machine<K> {
    /// Opens the state that `kv` holds.
    pub fn open(kv: K) -> Result<Self, ApplyError> {
        let meta = decode_meta(kv.get(keys::META).map_err(failed)?).map_err(ApplyError::Corrupt)?;
        Ok(Self {
            index: AtomicU64::new(meta.index),
            revision: AtomicU64::new(meta.revision),
            floor: AtomicU64::new(meta.floor),
            durable: AtomicU64::new(meta.index),
            meta: Mutex::new(meta),
            kv,
            sweeping: Mutex::new(()),
        })
    }

    /// The records below.
    pub fn kv(&self) -> &K {
        &self.kv
    }

    /// The order-free hash over all that lives, as kept up to date change by change.
    pub fn hash(&self) -> u64 {
        self.meta.lock().hash
    }

    fn publish(&self, meta: &Meta) {
        // The index last: who sees an index applied must find its revision.
        self.floor.store(meta.floor, Ordering::Release);
        self.revision.store(meta.revision, Ordering::Release);
        self.index.store(meta.index, Ordering::Release);
    }
}

fn meta_of<V: KvView>(view: &V) -> Result<Meta, ReadError> {
    decode_meta(view.get(keys::META).map_err(unreadable)?).map_err(ReadError::Database)
}

impl<K: Kv> StateMachine for Machine<K> {
    fn applied(&self) -> AppliedState {
        let meta = self.meta.lock();
        AppliedState { index: meta.index, term: meta.term, revision: meta.revision, members: meta.members.clone() }
    }

    fn apply(&self, entries: &[CommittedEntry]) -> Result<Applied, ApplyError> {
        let mut current = self.meta.lock();
        let mut run = apply::Run::new(&self.kv, current.clone());
        let outcomes = entries.iter().map(|entry| run.entry(entry)).collect::<Result<Vec<_>, _>>()?;
        let (meta, set, batch) = run.finish();
        self.kv.write(set).map_err(failed)?;
        self.publish(&meta);
        *current = meta;
        Ok(Applied { outcomes, batch })
    }

    fn flush(&self) -> Result<Index, ApplyError> {
        // Read before the flush: what is written while it runs may or may not be in it.
        let index = self.index.load(Ordering::Acquire);
        self.kv.flush().map_err(failed)?;
        Ok(self.durable.fetch_max(index, Ordering::AcqRel).max(index))
    }

    fn durable(&self) -> Index {
        self.durable.load(Ordering::Acquire)
    }

    fn compact_slice(&self, max: usize) -> Result<bool, ApplyError> {
        let _one = self.sweeping.lock();
        compact::slice(&self.kv, max)
    }
}

/// Encoded as the last record of every batch.
fn encode_meta(meta: &Meta) -> Vec<u8> {
    meta.encode_to_vec()
}

/// Members as a payload carries them.
fn set_members(meta: &mut Meta, members: &ConfState) {
    meta.members = Some(members.clone());
}

#[cfg(test)]
mod tests;
