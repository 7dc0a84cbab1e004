//! The state machine: what commands do to keys, revisions and history, over any [`Kv`].
//!
//! Applying is deterministic and total: same entries, same state, on every member and at every replay. Every batch is one
//! write with the applied index in it, so the state is always that after some entry, also when a crash takes back what
//! was not flushed; the Raft log then brings it forward again.

mod apply;
mod compact;
mod read;
pub(crate) mod snapshot;

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use navarch_raft_contract::snapshot::is_loss;
use navarch_raft_contract::{
    Applied, AppliedState, ApplyError, CommittedEntry, ConfState, Index, ReadError, Revision, SnapshotError,
    SnapshotMeta, SnapshotSink, SnapshotSource, StateMachine,
};
use parking_lot::{Mutex, RwLock};
use prost::Message;

use self::snapshot::Staged;
use crate::{
    check::verify,
    damage::Damage,
    keys,
    kv::{Home, Kv, KvError, KvView},
    record::Meta,
};

/// The revision of the empty store.
pub const FIRST_REVISION: Revision = 1;

/// The replicated state over records kept by `K`.
pub struct Machine<K> {
    /// Written to under a shared lock, too: the exclusive one is for putting another state in its place.
    kv: RwLock<K>,
    home: Arc<dyn Home<Kv = K>>,
    staged: Staged<K>,
    /// As after the last write. Held while applying, so that there is one writer of data; compaction writes beside it.
    meta: Mutex<Meta>,
    /// Copies of three of its fields for readers, who must never wait for an apply.
    index: AtomicU64,
    revision: AtomicU64,
    floor: AtomicU64,
    durable: AtomicU64,
    /// One compaction at a time.
    sweeping: Mutex<()>,
    damage: Arc<Damage>,
}

/// A record that cannot be what it should be.
fn corrupt(what: &str) -> ApplyError {
    ApplyError::Corrupt(what.to_owned())
}

pub(crate) fn failed(error: KvError) -> ApplyError {
    if error.is_corruption() { ApplyError::Corrupt(error.0) } else { ApplyError::Database(error.0) }
}

fn unreadable(error: KvError) -> ReadError {
    ReadError::Database(error.0)
}

pub(crate) fn decode_meta(record: Option<Vec<u8>>) -> Result<Meta, String> {
    match record {
        None => Ok(Meta { revision: FIRST_REVISION, ..Meta::default() }),
        Some(bytes) => Meta::decode(bytes.as_slice()).map_err(|error| format!("corrupt applied state: {error}")),
    }
}

impl<K: Kv + 'static> Machine<K> {
    /// Opens the state that `kv` holds, which is the one that counts in `home`.
    pub fn open(kv: K, home: Arc<dyn Home<Kv = K>>) -> Result<Self, ApplyError> {
        let meta = decode_meta(kv.get(keys::META).map_err(failed)?).map_err(ApplyError::Corrupt)?;
        Ok(Self {
            index: AtomicU64::new(meta.index),
            revision: AtomicU64::new(meta.revision),
            floor: AtomicU64::new(meta.floor),
            durable: AtomicU64::new(meta.index),
            meta: Mutex::new(meta),
            kv: RwLock::new(kv),
            home,
            staged: Staged::default(),
            sweeping: Mutex::new(()),
            damage: Arc::default(),
        })
    }

    /// The records below. Whoever holds them holds up the installation of a snapshot, and must not ask for them again.
    pub fn kv(&self) -> impl Deref<Target = K> + '_ {
        self.kv.read()
    }

    /// The order-free hash over all that lives, as kept up to date change by change.
    pub fn hash(&self) -> u64 {
        self.meta.lock().hash
    }

    /// What was found wrong with the state by those who read it.
    pub fn damage(&self) -> &Arc<Damage> {
        &self.damage
    }

    /// Reads all of the state as it is on the disk, and notes what is wrong with it. See [`verify`].
    ///
    /// # Errors
    /// As [`verify`]; also if no copy can be made to read from.
    pub fn check(&self, pace: &mut dyn FnMut(usize) -> bool) -> Result<SnapshotMeta, SnapshotError> {
        let copy = self.home.copy(&*self.kv.read());
        let checked = copy.map_err(snapshot::failed).and_then(|copy| verify(&copy, pace));
        if let Err(error) = &checked
            && error.is_damage()
        {
            self.damage.note(|| error.to_string());
        }
        checked
    }

    /// Reads from one view. A read that fails tells of damage, whoever it was that read.
    fn look<T>(&self, read: impl for<'v> FnOnce(&K::View<'v>) -> Result<T, ReadError>) -> Result<T, ReadError> {
        let kv = self.kv.read();
        let found = read(&kv.view());
        if let Err(ReadError::Database(why)) = &found
            && is_loss(why)
        {
            self.damage.note(|| why.clone());
        }
        found
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

impl<K: Kv + 'static> StateMachine for Machine<K> {
    fn applied(&self) -> AppliedState {
        let meta = self.meta.lock();
        AppliedState { index: meta.index, term: meta.term, revision: meta.revision, members: meta.members.clone() }
    }

    fn apply(&self, entries: &[CommittedEntry]) -> Result<Applied, ApplyError> {
        let mut current = self.meta.lock();
        let kv = self.kv.read();
        let mut run = apply::Run::new(&*kv, current.clone());
        let outcomes = entries.iter().map(|entry| run.entry(entry)).collect::<Result<Vec<_>, _>>()?;
        let apply::Finished { meta, set, batch, sightings, floors_raised } = run.finish();
        kv.write(set).map_err(failed)?;
        self.publish(&meta);
        *current = meta;
        Ok(Applied { outcomes, batch, sightings, floors_raised })
    }

    fn flush(&self) -> Result<Index, ApplyError> {
        // Read before the flush: what is written while it runs may or may not be in it.
        let index = self.index.load(Ordering::Acquire);
        self.kv.read().flush().map_err(failed)?;
        Ok(self.durable.fetch_max(index, Ordering::AcqRel).max(index))
    }

    fn durable(&self) -> Index {
        self.durable.load(Ordering::Acquire)
    }

    fn compact_slice(&self, max: usize) -> Result<bool, ApplyError> {
        let _one = self.sweeping.lock();
        compact::slice(&*self.kv.read(), max)
    }

    fn snapshot(&self) -> Result<Box<dyn SnapshotSource>, SnapshotError> {
        let copy = self.home.copy(&*self.kv.read()).map_err(snapshot::failed)?;
        Ok(Box::new(snapshot::Source::new(copy)?))
    }

    fn stage(&self) -> Result<Box<dyn SnapshotSink>, SnapshotError> {
        snapshot::make_room(&self.staged, self.index.load(Ordering::Acquire))?;
        Ok(Box::new(snapshot::Sink::new(self.home.fresh().map_err(snapshot::failed)?, self.staged.clone())))
    }

    fn unstage(&self, index: Index) {
        snapshot::refuse(&self.staged, index);
    }

    fn install(&self, index: Index) -> Result<AppliedState, SnapshotError> {
        let mut current = self.meta.lock();
        let (meta, staged) = snapshot::take_staged(&self.staged, index, current.index)?;
        // No compaction may write to a state that is on its way out.
        let _none = self.sweeping.lock();
        let adopted = self.home.adopt(staged).map_err(snapshot::failed)?;
        let old = std::mem::replace(&mut *self.kv.write(), adopted);
        self.publish(&meta);
        self.durable.store(meta.index, Ordering::Release);
        *current = meta;
        drop(current);
        self.damage.forget();
        self.home.retire(old);
        Ok(self.applied())
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
