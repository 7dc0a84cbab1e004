//! The Raft driver as the store sees it.

use async_trait::async_trait;
use navarch_raft_contract::{Command, Index, Outcome, Term};
use navarch_raft_driver::{ProposeError, RaftHandle, ReadIndexError};

use crate::consensus::{Consensus, ConsensusError};

/// [`Consensus`] by this process's Raft driver.
#[derive(Clone)]
pub struct Raft(pub RaftHandle);

fn refused(error: ProposeError) -> ConsensusError {
    match error {
        ProposeError::NotLeader { .. } => ConsensusError::NoLeader,
        ProposeError::Busy | ProposeError::TooLarge { .. } => ConsensusError::Busy,
        ProposeError::Unknown => ConsensusError::Unknown,
        ProposeError::Stopped => ConsensusError::Stopped,
    }
}

#[async_trait]
impl Consensus for Raft {
    async fn propose(&self, command: Command) -> Result<Outcome, ConsensusError> {
        self.0.propose(command).await.map_err(refused)
    }

    async fn read_index(&self) -> Result<Index, ConsensusError> {
        self.0.read_index().await.map_err(|error| match error {
            ReadIndexError::Busy => ConsensusError::Busy,
            ReadIndexError::Stopped => ConsensusError::Stopped,
        })
    }

    fn leading_term(&self) -> Option<Term> {
        let status = self.0.status();
        status.ready.then_some(status.term)
    }
}
