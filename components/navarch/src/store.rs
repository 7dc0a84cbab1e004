//! Opening the data folder and starting consensus on it.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use navarch_cache::{CacheLimits, Caches};
use navarch_config::StoreSettings;
use navarch_raft_contract::{ApplySink, Command, Index, Outcome, StateReader, Term};
use navarch_raft_driver::{Config, NoPeers, Parts, ProposeError, RaftHandle};
use navarch_storage::{DataFolder, RocksConfig};
use navarch_store::{Consensus, ConsensusError, Progress, Store};

/// The store of this process. Dropped last: the databases close with it.
pub struct StoreParts {
    pub store: Store,
    pub caches: Arc<Caches>,
    pub raft: RaftHandle,
    _folder: DataFolder,
}

struct Raft(RaftHandle);

fn refused(error: ProposeError) -> ConsensusError {
    match error {
        ProposeError::NotLeader => ConsensusError::NoLeader,
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
        self.0.read_index().await.map_err(refused)
    }

    fn leading_term(&self) -> Option<Term> {
        let status = self.0.status();
        status.ready.then_some(status.term)
    }
}
