//! How far this member has applied.

use std::sync::atomic::{AtomicU64, Ordering};

use navarch_raft_contract::{AppliedBatch, ApplySink, Index, Revision, StateReader};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::StoreError;

/// A point in the log and the revision that the store had there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last applied entry.
    pub index: Index,
    /// The store's revision after it.
    pub revision: Revision,
}

/// Follows the applier. Must be the last of the sinks: who waits for an index here finds it in all the others.
pub struct Progress {
    applied: watch::Sender<Applied>,
    reader: std::sync::Arc<dyn StateReader>,
    bytes: AtomicU64,
}

impl Progress {
    /// Starts where the state stands.
    pub fn new(reader: std::sync::Arc<dyn StateReader>) -> Self {
        let start = Applied { index: reader.applied_index(), revision: reader.revision() };
        Self { applied: watch::Sender::new(start), reader, bytes: AtomicU64::new(0) }
    }

    /// Where the applier is now.
    pub fn now(&self) -> Applied {
        *self.applied.borrow()
    }

    /// Bytes of keys and values in all changes since the start.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Waits until `reached` holds.
    pub(crate) async fn until(
        &self,
        deadline: Instant,
        mut reached: impl FnMut(&Applied) -> bool,
    ) -> Result<Applied, StoreError> {
        let now = self.now();
        if reached(&now) {
            return Ok(now);
        }
        let mut receiver = self.applied.subscribe();
        match tokio::time::timeout_at(deadline, receiver.wait_for(|applied| reached(applied))).await {
            Ok(Ok(applied)) => Ok(*applied),
            Ok(Err(_)) => Err(StoreError::Stopped),
            Err(_) => Err(StoreError::Timeout),
        }
    }
}

impl ApplySink for Progress {
    fn applied(&self, batch: &AppliedBatch) {
        let bytes: usize = batch.events.iter().map(|event| event.key.len() + event.value.len()).sum();
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.applied.send_replace(Applied { index: batch.index, revision: batch.revision });
    }

    fn replaced(&self) {
        let at = Applied { index: self.reader.applied_index(), revision: self.reader.revision() };
        self.applied.send_replace(at);
    }
}
