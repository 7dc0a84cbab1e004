//! A state made anew from another one: the same keys and values, under revisions that nobody was ever told.
//!
//! Restoring a snapshot, and going on from one member of a cluster whose others are lost, take the store back in time:
//! clients have seen revisions, and changes, that the state does not have. None of them may see a revision go back, or
//! take a new change for one it knows. So all revisions move forward by one offset, which is written into the state
//! itself: into the counter, and into every key's creation and last change. What is served is then "stored + offset" as if
//! the offset were added at each read, but nobody has to add it: not the caches, not a compare in a transaction, not an
//! entry in the log; and there is none that a reader could forget. The price is that the state is written once more, which
//! only these two do.
//!
//! History is left behind, and the compaction floor is the new counter: whatever a client knew is below it, so watches,
//! continue tokens and lists of a past revision get 410 and begin anew.

use navarch_raft_contract::{ConfState, EventKind, Index, Revision, SnapshotError, SnapshotMeta, Term};

use crate::{
    check::describe,
    hash, keys,
    kv::{Cursor, Kv, KvError, KvView, WriteSet},
    machine::decode_meta,
    record::{Latest, Meta, Version},
};

/// Revisions go forward by at least this: at ten thousand changes a second the old cluster would take three years.
const STEP: Revision = 1 << 40;
/// Revisions are kept below this: clients read them as JSON numbers, which are exact up to 2^53, and there must be room
/// for the changes to come.
const REVISION_MAX: Revision = (1 << 53) - 2 * STEP;
/// By the clock, revisions go forward by so many powers of two a second: no store changes two million times a second.
const SHIFT_A_SECOND: u32 = 21;
/// Bytes written at once.
const WRITE_BYTES: usize = 1 << 20;

/// Where revisions go on for a state that had come to `revision`, by the wall clock in milliseconds since the Unix epoch.
///
/// The clock makes two states that are restored one after the other from the same snapshot follow each other, as their
/// clients may. If it is wrong, there is still a whole [`STEP`] between the old and the new.
/// `None`: there is no room left.
pub fn next_revision(revision: Revision, now_ms: u64) -> Option<Revision> {
    let by_step = (revision / STEP).checked_add(2)?.checked_mul(STEP)?;
    let by_clock = (now_ms / 1000).checked_mul(1 << SHIFT_A_SECOND).filter(|by_clock| *by_clock <= REVISION_MAX);
    Some(by_step.max(by_clock.unwrap_or(0))).filter(|next| *next <= REVISION_MAX)
}

/// What becomes of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Keep,
    /// It is left behind.
    Drop,
    /// It stays, with this value.
    Replace(Vec<u8>),
}

/// What the new state is.
#[derive(Clone, Debug, PartialEq)]
pub struct Base {
    /// The last entry in it.
    pub index: Index,
    /// That entry's term.
    pub term: Term,
    /// The counter and the floor, above any revision in the old state: see [`next_revision`].
    pub revision: Revision,
    /// The members.
    pub members: ConfState,
}

fn failed(error: KvError) -> SnapshotError {
    SnapshotError::Database(error.0)
}

fn damaged(what: impl Into<String>) -> SnapshotError {
    SnapshotError::Damaged(what.into())
}

struct Writer<'k, K> {
    into: &'k K,
    set: WriteSet,
    bytes: usize,
}

impl<K: Kv> Writer<'_, K> {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), SnapshotError> {
        self.bytes += key.len() + value.len();
        self.set.put(key, value);
        if self.bytes >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), SnapshotError> {
        self.bytes = 0;
        self.into.write(std::mem::take(&mut self.set)).map_err(failed)
    }
}

/// Writes the new state into an empty keeper, and flushes it. `fate` decides on each key and value.
///
/// # Errors
/// If the old state cannot be read, or the new one not be written.
pub fn rebase<F: Kv, K: Kv>(
    from: &F,
    into: &K,
    base: &Base,
    fate: &dyn Fn(&[u8], &[u8]) -> Fate,
) -> Result<SnapshotMeta, SnapshotError> {
    let view = from.view();
    let old = decode_meta(view.get(keys::META).map_err(failed)?).map_err(damaged)?;
    let offset = base.revision.checked_sub(old.revision).filter(|offset| *offset > 0);
    let offset = offset.ok_or_else(|| damaged("its revisions would not go forward"))?;
    let mut writer = Writer { into, set: WriteSet::default(), bytes: 0 };
    let mut sum = 0u64;
    let mut cursor = view.cursor(keys::latest(b""), keys::latest_end()).map_err(failed)?;
    while let Some((encoded, record)) = cursor.entry() {
        let key = keys::latest_key(encoded).ok_or_else(|| damaged("a latest key"))?;
        let latest = Latest::decode(record).ok_or_else(|| damaged("a latest record"))?;
        let stored = view.get(&keys::version(key, latest.modified)).map_err(failed)?;
        let shown = || String::from_utf8_lossy(key).into_owned();
        let stored = stored.ok_or_else(|| damaged(format!("the value of {} is missing", shown())))?;
        let version = Version::decode(&stored).and_then(|version| version.value);
        let value = version.ok_or_else(|| damaged(format!("the value record of {}", shown())))?;
        // What was said of it when it was written: a state with a value that is another one must not be given new hashes.
        if hash::share(key, latest.modified, value) != latest.hash {
            return Err(damaged(format!("the value of {} is not what was written", shown())));
        }
        let value = match fate(key, value) {
            Fate::Keep => value.to_vec(),
            Fate::Replace(value) => value,
            Fate::Drop => {
                cursor.advance().map_err(failed)?;
                continue;
            }
        };
        let (modified, created) = (latest.modified + offset, latest.created + offset);
        let hash = hash::share(key, modified, &value);
        sum = sum.wrapping_add(hash);
        let expires_at_ms = latest.expires_at_ms;
        writer.put(keys::latest(key), Latest { modified, created, expires_at_ms, hash }.encode())?;
        let version = Version { kind: EventKind::Put, created, value: Some(&value) };
        writer.put(keys::version(key, modified), version.encode())?;
        if expires_at_ms != 0 {
            writer.put(keys::expiry(expires_at_ms, key), modified.to_be_bytes().to_vec())?;
        }
        cursor.advance().map_err(failed)?;
    }
    let meta = Meta {
        index: base.index,
        term: base.term,
        revision: base.revision,
        floor: base.revision,
        members: Some(base.members.clone()),
        hash: sum,
        floors: Vec::new(),
    };
    writer.put(keys::SWEPT.to_vec(), base.revision.to_be_bytes().to_vec())?;
    writer.put(keys::META.to_vec(), prost::Message::encode_to_vec(&meta))?;
    writer.write()?;
    into.flush().map_err(failed)?;
    Ok(describe(&meta))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use navarch_raft_contract::{
        Batch, Command, CommandBody, CommittedEntry, KeyRange, Op, OpKind, Payload, ReadError, StateMachine,
        StateReader, Txn,
    };

    use super::*;
    use crate::{Machine, check::verify, memory::MemoryHome, memory::MemoryKv};

    fn apply(state: &Machine<MemoryKv>, key: &str, value: &str, kind: OpKind, expires_at_ms: u64) {
        let op = Op { kind: kind as i32, key: key.to_owned().into(), value: value.to_owned().into(), expires_at_ms };
        let txn = CommandBody::Txn(Txn { compares: vec![], ops: vec![op] });
        let data = Batch { commands: vec![Command { fence_term: 0, body: Some(txn) }] }.to_bytes();
        let index = state.applied_index() + 1;
        state.apply(&[CommittedEntry { index, term: 3, payload: Payload::Commands(data) }]).unwrap();
    }

    #[test]
    fn revisions_go_forward_whatever_the_clock_says() {
        let now_ms = 1_800_000_000_000;
        let first = next_revision(1_000, now_ms).unwrap();
        assert!(first > 1_000 + STEP);
        // The same snapshot again, a minute later: clients of the first restore see nothing go back.
        assert!(next_revision(1_000, now_ms + 60_000).unwrap() > first + 60 * 1_000_000);
        // From a snapshot of the restored cluster, with a clock that stands at the epoch, or beyond all bounds.
        for wrong in [0, u64::MAX] {
            assert!(next_revision(first + 5, wrong).unwrap() > first + 5 + STEP);
        }
        assert_eq!(next_revision(REVISION_MAX, now_ms), None);
        assert_eq!(next_revision(u64::MAX, now_ms), None);
        // The year 2100.
        assert!(next_revision(1, 4_102_444_800_000).unwrap() < 1 << 53);
    }

    #[test]
    fn a_rebased_state_is_the_old_one_under_other_revisions_and_without_history() {
        let from = Machine::open(MemoryKv::default(), Arc::new(MemoryHome)).unwrap();
        apply(&from, "a", "1", OpKind::Put, 0);
        apply(&from, "b", "1", OpKind::Put, 500);
        apply(&from, "a", "2", OpKind::Put, 0);
        apply(&from, "gone", "1", OpKind::Put, 0);
        apply(&from, "gone", "", OpKind::Delete, 0);
        apply(&from, "left", "behind", OpKind::Put, 900);
        apply(&from, "told", "old", OpKind::Put, 0);
        let old = from.revision();
        let base = Base {
            index: 40,
            term: 9,
            revision: next_revision(old, 0).unwrap(),
            members: ConfState { voters: vec![1], ..ConfState::default() },
        };
        let kv = MemoryKv::default();
        let fate = |key: &[u8], _: &[u8]| match key {
            b"left" => Fate::Drop,
            b"told" => Fate::Replace(b"new".to_vec()),
            _ => Fate::Keep,
        };
        let meta = rebase(&*from.kv(), &kv, &base, &fate).unwrap();
        assert_eq!(verify(&kv, &mut |_| true).unwrap(), meta);
        let state = Machine::open(kv.crashed(), Arc::new(MemoryHome)).unwrap();
        let applied = state.applied();
        assert_eq!((applied.index, applied.term, applied.revision), (40, 9, base.revision));
        assert_eq!(applied.members, Some(base.members));
        let range = KeyRange::prefix(b"");
        let (page, at) = state.range(&range, None, 9).unwrap();
        let (then, _) = from.range(&range, None, 9).unwrap();
        assert_eq!(at, base.revision);
        let offset = base.revision - old;
        let told: Vec<_> = page.items.iter().map(|kv| (kv.key.clone(), kv.value.clone())).collect();
        assert_eq!(told, [("a".into(), "2".into()), ("b".into(), "1".into()), ("told".into(), "new".into())]);
        let expected: Vec<_> = then.items.iter().filter(|kv| kv.key != "left").collect();
        for (new, old) in page.items.iter().zip(expected) {
            let moved = (old.create_revision + offset, old.mod_revision + offset);
            assert_eq!((new.create_revision, new.mod_revision), moved);
        }
        // What clients knew is gone, and what they know now can be read and watched.
        assert!(matches!(state.range(&range, Some(old), 9), Err(ReadError::Compacted { .. })));
        assert!(matches!(state.events(&range, old, 9), Err(ReadError::Compacted { .. })));
        assert_eq!(state.range(&range, Some(at), 9).unwrap().0, page);
        assert_eq!(state.events(&range, at, 9).unwrap(), (vec![], at));
        assert_eq!(state.expired(1_000, 9).unwrap().len(), 1);
        assert!(!state.compact_slice(10).unwrap(), "nothing is left to be swept");
        // And it goes on.
        apply(&state, "a", "3", OpKind::Put, 0);
        assert_eq!(state.events(&range, at, 9).unwrap().0.len(), 1);
        assert_eq!(state.get(b"a", Some(at)).unwrap().unwrap().value, "2");
        assert!(rebase(&*from.kv(), &MemoryKv::default(), &Base { revision: old, ..base_of(1) }, &fate).is_err());
    }

    fn base_of(index: Index) -> Base {
        Base { index, term: 1, revision: 0, members: ConfState::default() }
    }
}
