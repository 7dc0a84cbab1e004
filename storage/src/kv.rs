//! What the state machine asks of whatever keeps its records: ordered keys, atomic writes, snapshots, flush.
//!
//! RocksDB is one ([`crate::rocks::RocksKv`]), memory another ([`crate::memory::MemoryKv`], for simulation and tests).

/// The keeper failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct KvError(pub String);

impl KvError {
    /// Whether what was written cannot be had from the disk any more, in the words of RocksDB's statuses. Other failures may
    /// pass, such as the want of file descriptors.
    pub fn is_corruption(&self) -> bool {
        navarch_raft_contract::snapshot::is_loss(&self.0)
    }
}

/// Changes that are written together, or not at all.
#[derive(Clone, Debug, Default)]
pub struct WriteSet {
    /// In order; a value to put, or `None` to delete.
    pub changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl WriteSet {
    /// Adds a put.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push((key, Some(value)));
    }

    /// Adds a delete.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.changes.push((key, None));
    }
}

/// Keeps records. Writes from several threads are allowed and are each atomic.
pub trait Kv: Send + Sync {
    /// A view.
    type View<'a>: KvView
    where
        Self: 'a;
    /// The records as they are now, and stay for the view's holder.
    fn view(&self) -> Self::View<'_>;
    /// One record as it is now.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;
    /// Writes. What was written may be lost by a crash until [`Kv::flush`], but only together with all that came after.
    fn write(&self, set: WriteSet) -> Result<(), KvError>;
    /// Brings everything written before the call to the disk.
    fn flush(&self) -> Result<(), KvError>;
}

/// Where a member keeps its state: makes copies of it and empty ones, and knows which of them counts.
pub trait Home: Send + Sync {
    /// What keeps the records.
    type Kv: Kv + 'static;
    /// The records as they are now, in a keeper that nobody writes to. Freed when it is dropped.
    fn copy(&self, of: &Self::Kv) -> Result<Self::Kv, KvError>;
    /// An empty keeper beside the present one. Freed when it is dropped without having been adopted.
    fn fresh(&self) -> Result<Self::Kv, KvError>;
    /// From now on, also after a crash, the state is what this flushed keeper holds.
    fn adopt(&self, staged: Self::Kv) -> Result<Self::Kv, KvError>;
    /// Frees a keeper in whose place another one was adopted.
    fn retire(&self, old: Self::Kv);
}

/// Records as of one moment.
pub trait KvView {
    /// A cursor.
    type Cursor<'a>: Cursor
    where
        Self: 'a;
    /// One record.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;
    /// A cursor on the first record of `lower..upper`, in order of the keys.
    fn cursor(&self, lower: Vec<u8>, upper: Vec<u8>) -> Result<Self::Cursor<'_>, KvError>;
}

/// Walks records in order.
pub trait Cursor {
    /// The record it is on; `None` at the end.
    fn entry(&self) -> Option<(&[u8], &[u8])>;
    /// To the next record.
    fn advance(&mut self) -> Result<(), KvError>;
    /// To the first record at or after `key`.
    fn seek(&mut self, key: &[u8]) -> Result<(), KvError>;
}
