//! The replicated state as the driver sees it: committed entries go in, outcomes and events come out.

use bytes::Bytes;

use crate::{
    AppliedBatch, ConfState, Index, Outcome, Revision, Sighting, SnapshotError, SnapshotSink, SnapshotSource, Term,
};

/// What a committed entry does to the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// Nothing: the entry by which a leader opened its term.
    Empty,
    /// An encoded [`crate::Batch`].
    Commands(Bytes),
    /// These are the members now.
    Members(ConfState),
}

/// An entry that will never change again.
#[derive(Clone, Debug, PartialEq)]
pub struct CommittedEntry {
    /// Position.
    pub index: Index,
    /// Term.
    pub term: Term,
    /// What to do.
    pub payload: Payload,
}

/// How far the state is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppliedState {
    /// Last applied entry, 0 if none.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// The store's revision.
    pub revision: Revision,
    /// The members, if a change of them was ever applied or a first set recorded.
    pub members: Option<ConfState>,
}

/// What applying a run of entries came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// For each entry, the outcome of each of its commands.
    pub outcomes: Vec<Vec<Outcome>>,
    /// What changed.
    pub batch: AppliedBatch,
    /// Checks of the state, in order.
    pub sightings: Vec<Sighting>,
    /// A compaction floor was raised: there is history to sweep.
    pub floors_raised: bool,
}

/// Why entries could not be applied. The process must end: the members' states would drift apart.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ApplyError {
    /// A command of a newer version, or what is no command at all.
    #[error("entry {index}: command {position} is not known to this version")]
    Unknown {
        /// The entry.
        index: Index,
        /// Position of the command.
        position: usize,
    },
    /// The entry cannot be decoded.
    #[error("entry {index} cannot be decoded: {reason}")]
    Malformed {
        /// The entry.
        index: Index,
        /// What the decoder says.
        reason: String,
    },
    /// Entries must be applied one after the other.
    #[error("entry {got} follows {applied}")]
    OutOfOrder {
        /// Last applied entry.
        applied: Index,
        /// What was handed in.
        got: Index,
    },
    /// The database reported an error.
    #[error("state database: {0}")]
    Database(String),
    /// What was read cannot be.
    #[error("state database is corrupt: {0}")]
    Corrupt(String),
}

/// Keeps the state. `apply` is called from one thread; the rest from any.
pub trait StateMachine: Send + Sync {
    /// How far the state is, what is only in memory included.
    fn applied(&self) -> AppliedState;
    /// Applies consecutive entries, atomically. Deterministic and total.
    fn apply(&self, entries: &[CommittedEntry]) -> Result<Applied, ApplyError>;
    /// Brings what is applied to the disk. Returns the last entry that is there; the log may be cut behind it.
    fn flush(&self) -> Result<Index, ApplyError>;
    /// The last entry known to be on the disk.
    fn durable(&self) -> Index;
    /// Removes up to about `max` records that lie below the compaction floor. Whether more are left.
    fn compact_slice(&self, max: usize) -> Result<bool, ApplyError>;
    /// The state as it is now, to be sent or saved. What is applied meanwhile is not in it.
    fn snapshot(&self) -> Result<Box<dyn SnapshotSource>, SnapshotError>;
    /// Begins to receive a state. A few can be staged at a time; those that are behind the present one are dropped.
    fn stage(&self) -> Result<Box<dyn SnapshotSink>, SnapshotError>;
    /// A staged state of this entry is not going to be installed. It is dropped when this was said as often as it was staged.
    fn unstage(&self, index: Index);
    /// Puts the staged state in the place of the present one; on the disk when it returns. Nothing may be applied
    /// meanwhile. Readers see the one or the other.
    ///
    /// # Errors
    /// If the state staged is not that of `index`, or cannot be switched to.
    fn install(&self, index: Index) -> Result<AppliedState, SnapshotError>;
}
