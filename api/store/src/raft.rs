//! The Raft driver as the store sees it: proposals go to whoever leads.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use navarch_raft_contract::{Batch, Command, Index, Outcome, Term};
use navarch_raft_driver::{Peers, ProposeError, RaftHandle, ReadIndexError, Status};
use tokio::time::Instant;

use crate::consensus::{Consensus, ConsensusError};

/// How long a proposal waits for somebody who leads. Nothing was proposed then, so waiting is safe; an election takes far
/// less.
const LEADER_WAIT: Duration = Duration::from_secs(10);
/// Between two attempts while the one who is said to lead is not reached, or says otherwise.
const RETRY: Duration = Duration::from_millis(5);

/// [`Consensus`] by this process's Raft driver, and the way to the other members if there are any.
#[derive(Clone)]
pub struct Raft {
    handle: RaftHandle,
    peers: Option<Peers>,
}

fn refused(error: ProposeError) -> ConsensusError {
    match error {
        ProposeError::NotLeader { .. } => ConsensusError::NoLeader,
        ProposeError::Busy | ProposeError::TooLarge { .. } => ConsensusError::Busy,
        ProposeError::Unknown | ProposeError::Members(_) => ConsensusError::Unknown,
        ProposeError::Stopped => ConsensusError::Stopped,
    }
}

impl Raft {
    /// Puts the two together.
    pub fn new(handle: RaftHandle, peers: Option<Peers>) -> Self {
        Self { handle, peers }
    }

    /// One attempt, here or at the leader.
    async fn attempt(&self, command: Bytes) -> Result<Outcome, ProposeError> {
        let Status { member, leader, .. } = self.handle.status();
        match (leader, &self.peers) {
            (Some(leader), Some(peers)) if leader != member => {
                let outcome = tokio::select! {
                    answered = peers.propose(leader, command) => answered?,
                    // A leader that is paused or cut off does not answer, and its connection stands for a while.
                    () = self.until_led_by_another_than(leader) => return Err(ProposeError::Unknown),
                };
                // Whoever was answered finds its write here, too; and whoever failed, what it failed on.
                let (Outcome::Done { index, .. } | Outcome::Conflict { index, .. }) = outcome else {
                    return Ok(outcome);
                };
                if self.handle.wait_applied(index).await { Ok(outcome) } else { Err(ProposeError::Unknown) }
            }
            _ => self.handle.propose_bytes(command).await,
        }
    }

    /// Waits until somebody else is known to lead.
    async fn until_led_by_another_than(&self, leader: u64) {
        let mut status = self.handle.watch();
        if status.wait_for(|status| status.leader.is_some_and(|now| now != leader)).await.is_err() {
            // The driver has ended: whoever waits is told by others.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until somebody else may lead than at the last attempt.
    async fn until_changed(&self, deadline: Instant) {
        let mut status = self.handle.watch();
        status.mark_unchanged();
        let retry = deadline.min(Instant::now() + RETRY);
        // Either is a reason to try again, so is the end of the driver: the attempt tells.
        let _ = tokio::time::timeout_at(retry, status.changed()).await;
    }
}

#[async_trait]
impl Consensus for Raft {
    async fn propose(&self, command: Command) -> Result<Outcome, ConsensusError> {
        let data = Batch { commands: vec![command] }.to_bytes();
        let deadline = Instant::now() + LEADER_WAIT;
        loop {
            match self.attempt(data.clone()).await {
                Err(ProposeError::NotLeader { .. }) if Instant::now() < deadline => self.until_changed(deadline).await,
                answer => return answer.map_err(refused),
            }
        }
    }

    async fn read_index(&self) -> Result<Index, ConsensusError> {
        self.handle.read_index().await.map_err(|error| match error {
            ReadIndexError::Busy => ConsensusError::Busy,
            ReadIndexError::Stopped => ConsensusError::Stopped,
        })
    }

    fn leading_term(&self) -> Option<Term> {
        let status = self.handle.status();
        status.ready.then_some(status.term)
    }
}
