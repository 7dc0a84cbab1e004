//! Transactions and linearizable points in time.

use std::sync::Arc;
use std::time::Duration;

use navarch_raft_contract::{
    Command, CommandBody, Index, Op, OpKind, Outcome, Revision, Room, RoomLevel, StateReader, Txn,
};
use tokio::time::Instant;

use crate::consensus::{Consensus, ConsensusError};
use crate::error::StoreError;
use crate::progress::Progress;

/// How long to wait before asking for a read index again while there is no leader.
const READ_INDEX_RETRY: Duration = Duration::from_millis(10);

/// The revisions that a transaction took, one for each operation that changed something, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The first.
    pub first: Revision,
    /// The last; smaller than `first` if nothing changed.
    pub last: Revision,
}

/// The door. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    consensus: Arc<dyn Consensus>,
    progress: Arc<Progress>,
    reader: Arc<dyn StateReader>,
    room: Option<Arc<dyn Room>>,
}

/// Whether a transaction may still go in. A put that expects its key to exist does not create anything.
fn fits(txn: &Txn, level: RoomLevel) -> bool {
    let puts = || txn.ops.iter().filter(|op| op.kind == OpKind::Put as i32);
    let changes = |op: &Op| txn.compares.iter().any(|compare| compare.key == op.key && compare.mod_revision != 0);
    match level {
        RoomLevel::Ample => true,
        RoomLevel::Low => puts().all(changes),
        RoomLevel::Critical => puts().next().is_none(),
    }
}

impl Store {
    /// Puts the parts together. `progress` must already be among the applier's sinks.
    pub fn new(consensus: Arc<dyn Consensus>, progress: Arc<Progress>, reader: Arc<dyn StateReader>) -> Self {
        Self { consensus, progress, reader, room: None }
    }

    /// Refuses writes by how much room there is on the disk, well before the log could not be written.
    #[must_use]
    pub fn with_room(mut self, room: Arc<dyn Room>) -> Self {
        self.room = Some(room);
        self
    }

    /// The revision applied here.
    pub fn revision(&self) -> Revision {
        self.progress.now().revision
    }

    /// Bytes of keys and values in all changes since the start.
    pub fn written_bytes(&self) -> u64 {
        self.progress.bytes()
    }

    /// How much room there is, as this store goes by.
    pub fn room(&self) -> RoomLevel {
        self.room.as_ref().map_or(RoomLevel::Ample, |room| room.level())
    }

    /// As [`Store::commit`], however full the disk is: for what must be told then.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn commit_reserved(&self, txn: Txn, deadline: Instant) -> Result<Committed, StoreError> {
        Self { room: None, ..self.clone() }.commit(txn, None, deadline).await
    }

    /// Reads of the state and its history.
    pub fn reader(&self) -> &Arc<dyn StateReader> {
        &self.reader
    }

    /// The term in which this member leads, if it does.
    pub fn leading_term(&self) -> Option<u64> {
        self.consensus.leading_term()
    }

    /// Returns when everything acknowledged before the call is applied here, with the revision then.
    ///
    /// # Errors
    /// [`StoreError::Timeout`] if no leader confirms in time.
    pub async fn barrier(&self, deadline: Instant) -> Result<Revision, StoreError> {
        let index = self.read_index(deadline).await?;
        Ok(self.progress.until(deadline, |applied| applied.index >= index).await?.revision)
    }

    async fn read_index(&self, deadline: Instant) -> Result<Index, StoreError> {
        loop {
            match tokio::time::timeout_at(deadline, self.consensus.read_index()).await {
                Ok(Ok(index)) => return Ok(index),
                Ok(Err(ConsensusError::Stopped)) => return Err(StoreError::Stopped),
                Ok(Err(ConsensusError::Busy)) => return Err(StoreError::Busy),
                Ok(Err(_)) if Instant::now() + READ_INDEX_RETRY < deadline => {
                    tokio::time::sleep(READ_INDEX_RETRY).await;
                }
                Ok(Err(_)) | Err(_) => return Err(StoreError::Timeout),
            }
        }
    }

    /// Returns when `revision` is applied here.
    ///
    /// # Errors
    /// [`StoreError::Timeout`] if it is not in time.
    pub async fn wait_for(&self, revision: Revision, deadline: Instant) -> Result<(), StoreError> {
        self.progress.until(deadline, |applied| applied.revision >= revision).await.map(drop)
    }

    /// Carries out a transaction.
    ///
    /// # Errors
    /// See [`StoreError`]; after [`StoreError::Unknown`] it may still be carried out.
    pub async fn commit(&self, txn: Txn, fence_term: Option<u64>, deadline: Instant) -> Result<Committed, StoreError> {
        if self.room.as_ref().is_some_and(|room| !fits(&txn, room.level())) {
            return Err(StoreError::NoSpace);
        }
        let body = CommandBody::Txn(txn);
        match self.propose(body, fence_term.unwrap_or_default(), deadline).await? {
            Outcome::Done { first, last, .. } => Ok(Committed { first, last }),
            Outcome::Conflict { compare, actual, .. } => Err(StoreError::Conflict { compare, actual }),
            Outcome::Fenced { term } => Err(StoreError::Fenced { term }),
        }
    }

    pub(crate) async fn propose(
        &self,
        body: CommandBody,
        fence_term: u64,
        deadline: Instant,
    ) -> Result<Outcome, StoreError> {
        let command = Command { fence_term, body: Some(body) };
        match tokio::time::timeout_at(deadline, self.consensus.propose(command)).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(ConsensusError::NoLeader)) => Err(StoreError::NoLeader),
            Ok(Err(ConsensusError::Busy)) => Err(StoreError::Busy),
            Ok(Err(ConsensusError::Stopped)) => Err(StoreError::Stopped),
            Ok(Err(ConsensusError::Unknown)) | Err(_) => Err(StoreError::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use navarch_raft_contract::Compare;

    use super::*;

    #[test]
    fn a_disk_that_fills_up_refuses_what_is_new_first_and_deletes_never() {
        let txn = |kind: OpKind, mod_revision| Txn {
            compares: vec![Compare { key: "a".into(), mod_revision }],
            ops: vec![Op { kind: kind as i32, key: "a".into(), ..Op::default() }],
        };
        let cases = [
            (txn(OpKind::Put, 0), [true, false, false]),
            (Txn { compares: vec![], ..txn(OpKind::Put, 0) }, [true, false, false]),
            (txn(OpKind::Put, 5), [true, true, false]),
            (txn(OpKind::Delete, 5), [true, true, true]),
        ];
        for (txn, expected) in cases {
            let levels = [RoomLevel::Ample, RoomLevel::Low, RoomLevel::Critical];
            assert_eq!(levels.map(|level| fits(&txn, level)), expected, "{txn:?}");
        }
    }
}
