//! The applier: committed entries into the state, then to the sinks, then the answers; in this order, so that whoever was
//! answered finds its write everywhere.

use std::sync::{Arc, atomic::Ordering};

use navarch_raft_contract::{ApplySink, CommittedEntry, Outcome, Payload};

use super::{FatalError, ProposeError, Shared, chores::Chores, inbox::Proposal, queue::Queue};

/// Entries in one run, so that one write of the state stays small beside its write buffer.
const RUN_BYTES_MAX: usize = 1 << 20;

/// A committed entry, with those who wait for its outcomes, one for each command, if they are here.
pub(super) struct Committed {
    pub(super) entry: CommittedEntry,
    pub(super) waiters: Vec<Proposal>,
}

pub(super) struct Applier {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Arc<Queue<Vec<Committed>>>,
    pub(super) sinks: Vec<Arc<dyn ApplySink>>,
    pub(super) chores: Arc<Chores>,
}

fn size(entry: &CommittedEntry) -> usize {
    match &entry.payload {
        Payload::Commands(data) => data.len() + 64,
        Payload::Empty | Payload::Members(_) => 64,
    }
}

impl Applier {
    pub(super) fn run(&self) -> Result<(), FatalError> {
        while let Some(waiting) = self.queue.take() {
            let (mut run, mut waiters, mut bytes) = (Vec::new(), Vec::new(), 0);
            for committed in waiting.into_iter().flatten() {
                bytes += size(&committed.entry);
                run.push(committed.entry);
                waiters.push(committed.waiters);
                if bytes >= RUN_BYTES_MAX {
                    self.apply(&std::mem::take(&mut run), std::mem::take(&mut waiters), bytes)?;
                    bytes = 0;
                }
            }
            if !run.is_empty() {
                self.apply(&run, waiters, bytes)?;
            }
        }
        Ok(())
    }

    fn apply(&self, run: &[CommittedEntry], waiters: Vec<Vec<Proposal>>, bytes: usize) -> Result<(), FatalError> {
        let before = self.chores.floor();
        let applied = self.shared.state.apply(run)?;
        for sink in &self.sinks {
            sink.applied(&applied.batch);
        }
        let commands = applied.outcomes.iter().map(Vec::len).sum::<usize>();
        self.shared.commands.fetch_add(commands as u64, Ordering::Relaxed);
        self.shared.apply_runs.fetch_add(1, Ordering::Relaxed);
        self.shared.applied.send_replace(applied.batch.index);
        for (outcomes, waiters) in applied.outcomes.into_iter().zip(waiters) {
            answer(outcomes, waiters);
        }
        self.shared.inbox.applied(applied.batch.index);
        self.chores.applied(bytes, applied.batch.compacted, applied.batch.compacted != before);
        Ok(())
    }
}

fn answer(outcomes: Vec<Outcome>, waiters: Vec<Proposal>) {
    let mut outcomes = outcomes.into_iter();
    for waiter in waiters {
        waiter.answer(outcomes.next().ok_or(ProposeError::Unknown));
    }
}
