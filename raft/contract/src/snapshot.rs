//! A copy of the whole state, on its way from one member to another or to a file.

use std::io;

use crate::{ConfState, Index, Revision, Term};

/// Which state a snapshot is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SnapshotMeta {
    /// The last entry in it.
    pub index: Index,
    /// That entry's term.
    pub term: Term,
    /// The store's revision there.
    pub revision: Revision,
    /// The members there.
    pub members: ConfState,
}

/// Why a snapshot was not made, or not taken over. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk failed, or the stream ended early.
    #[error("snapshot: {0}")]
    Io(#[from] io::Error),
    /// The bytes are not those of a whole, sound state.
    #[error("snapshot is damaged: {0}")]
    Damaged(String),
    /// The database reported an error.
    #[error("snapshot: state database: {0}")]
    Database(String),
}

/// Whether a database's message says that what was written cannot be had from the disk any more: a checksum that differs, a
/// record that cannot be decoded, a sector that cannot be read.
pub fn is_loss(why: &str) -> bool {
    why.starts_with("Corruption") || why.starts_with("corrupt ") || why.contains("Input/output error")
}

impl SnapshotError {
    /// Whether bytes are not what they must be; otherwise something failed that may go well the next time.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Database(why) => is_loss(why),
            Self::Io(_) => false,
        }
    }
}

/// A state that no longer changes, read once, from the beginning. What it takes on the disk is freed when it is dropped.
pub trait SnapshotSource: io::Read + Send {
    /// Which state it is.
    fn meta(&self) -> &SnapshotMeta;
}

/// Takes the bytes of a [`SnapshotSource`]. Dropping it without [`SnapshotSink::finish`] leaves nothing behind.
pub trait SnapshotSink: io::Write + Send {
    /// All bytes are here: verifies them and brings them to the disk. The state is *staged* then; it takes the present
    /// one's place by [`crate::StateMachine::install`].
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] if a byte is wrong or missing.
    fn finish(self: Box<Self>) -> Result<SnapshotMeta, SnapshotError>;
}
