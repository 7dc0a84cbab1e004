//! What the store needs of consensus; implemented for the Raft driver's handle, and by tests.

use async_trait::async_trait;
use navarch_raft_contract::{Command, Index, Outcome, Term};

/// Why consensus did not take or answer something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsensusError {
    /// This member does not lead and knows nobody who does. Nothing was proposed.
    #[error("no leader")]
    NoLeader,
    /// The proposal queue is full. Nothing was proposed.
    #[error("the proposal queue is full")]
    Busy,
    /// It was proposed, and leadership changed before it was applied.
    #[error("the outcome of the proposal is unknown")]
    Unknown,
    /// The driver is stopping.
    #[error("consensus is stopping")]
    Stopped,
}

/// Agreement on an order of commands.
#[async_trait]
pub trait Consensus: Send + Sync {
    /// Proposes a command and waits until it is applied here.
    async fn propose(&self, command: Command) -> Result<Outcome, ConsensusError>;

    /// An index such that everything acknowledged before the call stands at or before it.
    async fn read_index(&self) -> Result<Index, ConsensusError>;

    /// The term in which this member leads, if it does.
    fn leading_term(&self) -> Option<Term>;
}
