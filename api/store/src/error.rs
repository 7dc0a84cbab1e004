//! What a store call may come to instead of success.

use navarch_raft_contract::{ReadError, Revision, Term};

/// Each case says what the caller may do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A compare did not hold; nothing was changed. Read again and decide anew.
    #[error("compare {compare} failed: the key is at revision {actual}")]
    Conflict {
        /// Position in the transaction's compares.
        compare: usize,
        /// The key's last change, 0 if it does not exist.
        actual: Revision,
    },
    /// The write was fenced to another term; nothing was changed. Whoever asked no longer leads: stop.
    #[error("fenced: the write was meant for another term than {term}")]
    Fenced {
        /// The term in which it would have been applied.
        term: Term,
    },
    /// There is no leader; nothing was changed. Try again.
    #[error("no leader")]
    NoLeader,
    /// The write was proposed and its outcome is not known. Never repeat it blindly; answer 504.
    #[error("the outcome of the write is unknown")]
    Unknown,
    /// A bounded queue is full; nothing was changed. Come back later (429).
    #[error("too many writes are waiting")]
    Busy,
    /// A read could not be confirmed in time. Try again.
    #[error("timed out waiting for the store")]
    Timeout,
    /// A member's disk is nearly full; deletes still work. It is taken back by itself when there is room.
    #[error("a member's disk is nearly full: only deletes are taken, or nothing new")]
    NoSpace,
    /// The store is shutting down.
    #[error("the store is stopping")]
    Stopped,
    /// Reading the state failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}
