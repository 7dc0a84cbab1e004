//! The applier: committed entries into the state, then to the sinks, then the answers; in this order, so that whoever was
//! answered finds its write everywhere.

use std::sync::{Arc, atomic::Ordering, mpsc::SyncSender};

use navarch_raft_contract::{ApplySink, CommittedEntry, Index, Outcome, Payload};

use super::{Checks, FatalError, ProposeError, Shared, chores::Chores, inbox::Proposal, queue::Queue};

/// Entries in one run, so that one write of the state stays small beside its write buffer.
const RUN_BYTES_MAX: usize = 1 << 20;

/// A committed entry, with those who wait for its outcomes, one for each command, if they are here.
pub(super) struct Committed {
    pub(super) entry: CommittedEntry,
    pub(super) waiters: Vec<Proposal>,
}

/// What the applier is given.
pub(super) enum Apply {
    Entries(Vec<Committed>),
    /// Put the staged state of this entry in the place of the present one, and say so.
    Install(Index, SyncSender<()>),
    /// Drop the staged state of this entry.
    Unstage(Index),
}

pub(super) struct Applier {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Arc<Queue<Apply>>,
    pub(super) sinks: Vec<Arc<dyn ApplySink>>,
    pub(super) chores: Arc<Chores>,
}

fn size(entry: &CommittedEntry) -> usize {
    match &entry.payload {
        Payload::Commands(data) => data.len() + 64,
        Payload::Empty | Payload::Members(_) => 64,
    }
}

/// Entries that are applied by one write.
#[derive(Default)]
struct Run {
    entries: Vec<CommittedEntry>,
    waiters: Vec<Vec<Proposal>>,
    bytes: usize,
}

impl Applier {
    pub(super) fn run(&self) -> Result<(), FatalError> {
        while let Some(waiting) = self.queue.take() {
            let mut run = Run::default();
            for item in waiting {
                match item {
                    Apply::Entries(entries) => {
                        for committed in entries {
                            run.bytes += size(&committed.entry);
                            run.entries.push(committed.entry);
                            run.waiters.push(committed.waiters);
                            if run.bytes >= RUN_BYTES_MAX {
                                self.apply(std::mem::take(&mut run))?;
                            }
                        }
                    }
                    Apply::Install(index, done) => {
                        self.apply(std::mem::take(&mut run))?;
                        self.install(index)?;
                        // Nobody waits if the log writer failed meanwhile.
                        let _ = done.send(());
                    }
                    Apply::Unstage(index) => self.shared.state.unstage(index),
                }
            }
            self.apply(run)?;
        }
        Ok(())
    }

    fn install(&self, index: Index) -> Result<(), FatalError> {
        let applied = self.shared.state.install(index)?;
        *self.shared.checks.lock() = Checks::default();
        self.shared.rebuilding.store(false, Ordering::Release);
        for sink in &self.sinks {
            sink.replaced();
        }
        self.shared.applied.send_replace(applied.index);
        tracing::info!(index, revision = applied.revision, "installed a snapshot");
        Ok(())
    }

    fn apply(&self, run: Run) -> Result<(), FatalError> {
        // Without a state nothing can be applied; the snapshot that comes has all of it. Who waits learns that the outcome is
        // unknown.
        if run.entries.is_empty() || self.shared.rebuilding.load(Ordering::Acquire) {
            return Ok(());
        }
        let applied = self.shared.state.apply(&run.entries)?;
        if !applied.sightings.is_empty() {
            let mut checks = self.shared.checks.lock();
            applied.sightings.iter().for_each(|sighting| checks.note(sighting));
        }
        for sink in &self.sinks {
            sink.applied(&applied.batch);
        }
        let commands = applied.outcomes.iter().map(Vec::len).sum::<usize>();
        self.shared.commands.fetch_add(commands as u64, Ordering::Relaxed);
        self.shared.apply_runs.fetch_add(1, Ordering::Relaxed);
        self.shared.applied.send_replace(applied.batch.index);
        let (index, revision) = (applied.batch.index, applied.batch.revision);
        for ((entry, outcomes), waiters) in run.entries.iter().zip(applied.outcomes).zip(run.waiters) {
            match entry.payload {
                // It takes no revision.
                Payload::Members(_) => {
                    answer(vec![Outcome::Done { index, first: revision + 1, last: revision }], waiters)
                }
                _ => answer(outcomes, waiters),
            }
        }
        self.shared.inbox.applied(applied.batch.index);
        self.chores.applied(run.bytes, applied.floors_raised);
        Ok(())
    }
}

fn answer(outcomes: Vec<Outcome>, waiters: Vec<Proposal>) {
    let mut outcomes = outcomes.into_iter();
    for waiter in waiters {
        waiter.answer(outcomes.next().ok_or(ProposeError::Unknown));
    }
}
