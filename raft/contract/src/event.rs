//! What changed, as the applier hands it on.

use bytes::Bytes;

use crate::{Index, Revision, Term};

/// Put or delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The key was created (`prev_revision == 0`) or changed.
    Put,
    /// The key was removed.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The revision of this change.
    pub revision: Revision,
    /// The key.
    pub key: Bytes,
    /// What happened.
    pub kind: EventKind,
    /// The new value; for a delete, the last value.
    pub value: Bytes,
    /// The revision at which the key was created.
    pub create_revision: Revision,
    /// The key's change before this one, 0 if there was none.
    pub prev_revision: Revision,
}

/// The events of one applied batch of entries, in order of revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedBatch {
    /// Last entry of the batch.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// The store's revision after the batch: the end of a transaction.
    pub revision: Revision,
    /// The compaction floor after the batch.
    pub compacted: Revision,
    /// What changed. Empty for a batch that changed nothing (no-op entries, failed compares).
    pub events: Vec<Event>,
}

/// Receives every applied batch, in order, on the applier's thread, after the state database has it and before any
/// proposer is answered: whoever was answered finds its write in every sink. Must be quick and must not block on clients.
pub trait ApplySink: Send + Sync {
    /// A batch was applied.
    fn applied(&self, batch: &AppliedBatch);
    /// The state was replaced as a whole (a snapshot was installed): rebuild from the reader.
    fn replaced(&self);
}
