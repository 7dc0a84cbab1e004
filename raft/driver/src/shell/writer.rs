//! The log writer: takes every batch that waits, writes them as one, with one sync, and reports the last one's number.

use std::sync::{Arc, mpsc::Receiver};

use navarch_raft_contract::{Index, LogBatch, SnapshotMeta};

use super::{FatalError, Shared, queue::Queue};
use crate::core::Persist;

/// What the log writer is given.
pub(super) enum Write {
    Persist(Persist),
    /// Begin the log anew after a snapshot, once the applier says that its state is installed.
    Restart {
        persist: Persist,
        snapshot: SnapshotMeta,
        installed: Receiver<()>,
    },
    Forget(Index),
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Arc<Queue<Write>>,
}

impl Writer {
    pub(super) fn run(&self) -> Result<(), FatalError> {
        while let Some(waiting) = self.queue.take() {
            let mut merged: Option<Persist> = None;
            let mut forget = None;
            for write in waiting {
                match write {
                    Write::Persist(next) => match &mut merged {
                        None => merged = Some(next),
                        Some(merged) => merge(merged, next),
                    },
                    Write::Restart { persist, snapshot, installed } => {
                        self.write(merged.take())?;
                        if installed.recv().is_err() {
                            // The applier failed: the process ends.
                            return Ok(());
                        }
                        self.shared.log.reset(snapshot.index, snapshot.term)?;
                        self.write(Some(persist))?;
                        self.shared.inbox.applied(snapshot.index);
                    }
                    Write::Forget(index) => forget = Some(index),
                }
            }
            self.write(merged)?;
            // After the entries that waited with it: it never reaches beyond what was durable when it was decided.
            if let Some(index) = forget {
                self.shared.log.compact(index)?;
            }
        }
        Ok(())
    }

    fn write(&self, persist: Option<Persist>) -> Result<(), FatalError> {
        if let Some(persist) = persist {
            self.shared.log.append(&persist.batch)?;
            self.shared.inbox.persisted(persist.number);
        }
        Ok(())
    }
}

/// One batch with the effect of both.
fn merge(earlier: &mut Persist, later: Persist) {
    let Persist { number, batch: LogBatch { entries, hard_state }, snapshot: _ } = later;
    earlier.number = number;
    earlier.batch.hard_state = hard_state.or(earlier.batch.hard_state.take());
    if let Some(first) = entries.first() {
        // The later batch replaces everything from its first index on.
        let kept = earlier.batch.entries.iter().take_while(|entry| entry.index < first.index).count();
        earlier.batch.entries.truncate(kept);
        earlier.batch.entries.extend(entries);
    }
}

#[cfg(test)]
mod tests {
    use navarch_raft_contract::{EntryKind, HardState, LogEntry};

    use super::*;

    fn persist(number: u64, entries: &[(u64, u64)], term: Option<u64>) -> Persist {
        let entries = entries.iter().map(|&(index, term)| LogEntry {
            index,
            term,
            kind: EntryKind::Normal,
            data: Default::default(),
            context: Default::default(),
        });
        let hard_state = term.map(|term| HardState { term, vote: 0, commit: 0 });
        Persist { number, batch: LogBatch { entries: entries.collect(), hard_state }, snapshot: None }
    }

    #[test]
    fn merged_batches_read_as_the_later_one_on_top() {
        let cases = [
            (
                persist(1, &[(1, 1), (2, 1)], Some(1)),
                persist(2, &[(3, 1)], None),
                vec![(1, 1), (2, 1), (3, 1)],
                Some(1),
            ),
            (
                persist(1, &[(1, 1), (2, 1), (3, 1)], Some(1)),
                persist(2, &[(2, 2)], Some(2)),
                vec![(1, 1), (2, 2)],
                Some(2),
            ),
            (persist(1, &[(5, 1)], None), persist(2, &[(4, 2)], Some(2)), vec![(4, 2)], Some(2)),
            (persist(1, &[(5, 1)], None), persist(2, &[], Some(3)), vec![(5, 1)], Some(3)),
        ];
        for (mut earlier, later, entries, term) in cases {
            merge(&mut earlier, later);
            assert_eq!(earlier.number, 2);
            assert_eq!(earlier.batch.entries.iter().map(|e| (e.index, e.term)).collect::<Vec<_>>(), entries);
            assert_eq!(earlier.batch.hard_state.map(|state| state.term), term);
        }
    }
}
