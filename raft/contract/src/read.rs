//! Reading the replicated state.

use bytes::Bytes;

use crate::{Event, Expiry, Revision};

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The revision at which the key was created.
    pub create_revision: Revision,
    /// The revision of its last change.
    pub mod_revision: Revision,
}

/// Keys from `start` (included) to `end` (excluded).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key.
    pub start: Bytes,
    /// First key after the range.
    pub end: Bytes,
}

impl KeyRange {
    /// All keys that begin with `prefix`. An empty prefix, or one of 0xff bytes only, is the whole key space.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return Self { start: Bytes::copy_from_slice(prefix), end: end.into() };
            }
        }
        Self { start: Bytes::copy_from_slice(prefix), end: Bytes::from_static(&[0xff; 64]) }
    }
}

/// A page of a range read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangePage {
    /// In order of key.
    pub items: Vec<KeyValue>,
    /// Whether keys of the range are left after the last of `items`.
    pub more: bool,
}

/// Why a read failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReadError {
    /// The revision asked for is below the compaction floor. Give up; list anew.
    #[error("required revision {asked} has been compacted (floor {floor})")]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// The floor.
        floor: Revision,
    },
    /// The revision asked for is not here yet. Wait and try again.
    #[error("revision {asked} is in the future (current {current})")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// The store's revision.
        current: Revision,
    },
    /// The database failed or holds what cannot be decoded. The process must stop serving.
    #[error("state database: {0}")]
    Database(String),
}

/// Reads of the state, each from one consistent snapshot. Implemented by `storage`, called from any thread.
pub trait StateReader: Send + Sync {
    /// Revision and applied index, from one snapshot.
    fn revision(&self) -> Revision;
    /// The last applied entry.
    fn applied_index(&self) -> crate::Index;
    /// The compaction floor.
    fn compacted(&self) -> Revision;
    /// The compaction floor of all keys of a range: at least [`StateReader::compacted`].
    fn floor_of(&self, _range: &KeyRange) -> Revision {
        self.compacted()
    }
    /// One key at a revision (`None`: now).
    fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<KeyValue>, ReadError>;
    /// Up to `limit` keys of a range at a revision (`None`: now), with the revision that was read.
    fn range(&self, range: &KeyRange, at: Option<Revision>, limit: usize) -> Result<(RangePage, Revision), ReadError>;
    /// The number of keys of a range now.
    fn count(&self, range: &KeyRange) -> Result<u64, ReadError>;
    /// Changes after revision `after` of keys in `range`, in order, up to about `max_bytes`; with the revision up to which
    /// history was read (the end of a transaction), from where the next call goes on.
    fn events(&self, range: &KeyRange, after: Revision, max_bytes: usize) -> Result<(Vec<Event>, Revision), ReadError>;
    /// Keys whose expiry is at or before `now_ms`, oldest first.
    fn expired(&self, now_ms: u64, limit: usize) -> Result<Vec<Expiry>, ReadError>;
}
