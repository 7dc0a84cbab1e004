//! What goes on beside the pipeline: flushing the state, after which the log can be cut, and sweeping history below the
//! floor, slice by slice. Nothing here is on the path of a write.

use std::collections::VecDeque;
use std::time::Instant;

use navarch_raft_contract::Index;
use parking_lot::{Condvar, Mutex};

use super::{FatalError, Shared};
use crate::core::Input;

#[derive(Default)]
pub(super) struct Chores {
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Default)]
struct State {
    /// Bytes applied since the last flush.
    unflushed: usize,
    sweep: bool,
    /// A peer needs a snapshot, and none is being taken.
    snapshot: bool,
    stop: bool,
}

enum Chore {
    Snapshot,
    /// After so many bytes were applied.
    Flush(usize),
    Sweep,
    Stop,
}

impl Chores {
    /// The applier is done with a run.
    pub(super) fn applied(&self, bytes: usize, floors_raised: bool) {
        let mut state = self.state.lock();
        state.unflushed += bytes;
        state.sweep |= floors_raised;
        drop(state);
        self.woken.notify_one();
    }

    /// A peer needs a snapshot.
    pub(super) fn want_snapshot(&self) {
        let mut state = self.state.lock();
        if !state.snapshot {
            state.snapshot = true;
            drop(state);
            self.woken.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        self.state.lock().stop = true;
        self.woken.notify_one();
    }

    pub(super) fn run(&self, shared: &Shared) -> Result<(), FatalError> {
        let mut flushed_at = Instant::now();
        let mut kept = Kept::default();
        loop {
            match self.next(shared, flushed_at) {
                Chore::Snapshot => {
                    self.take_snapshot(shared);
                    self.state.lock().snapshot = false;
                }
                Chore::Flush(bytes) => {
                    let durable = shared.state.flush()?;
                    kept.flushed(durable, bytes, shared.config.log_keep_bytes);
                    let cut = durable.saturating_sub(shared.config.log_keep_entries).max(kept.from);
                    if cut > 0 {
                        shared.inbox.compact(cut);
                    }
                    flushed_at = Instant::now();
                }
                Chore::Sweep => {
                    if shared.state.compact_slice(shared.config.sweep_slice)? {
                        self.state.lock().sweep = true;
                    }
                }
                Chore::Stop => {
                    // So that the next start has nothing to apply again.
                    shared.state.flush()?;
                    return Ok(());
                }
            }
        }
    }

    /// Makes a copy of the state and offers it. A failure is told and tried again when the peer asks again.
    fn take_snapshot(&self, shared: &Shared) {
        match shared.state.snapshot() {
            Ok(source) => {
                let meta = source.meta().clone();
                tracing::info!(index = meta.index, revision = meta.revision, "a peer needs a snapshot: taken");
                *shared.outgoing.lock() = Some(source);
                shared.inbox.order(Input::Offer(meta));
            }
            Err(error) => tracing::warn!(%error, "a peer needs a snapshot, and none can be taken"),
        }
    }

    /// Waits for the next thing to do. One slice at a time is swept, so that a flush never waits long.
    fn next(&self, shared: &Shared, flushed_at: Instant) -> Chore {
        let due = flushed_at + shared.config.flush_interval;
        let mut state = self.state.lock();
        loop {
            let overdue = state.unflushed > 0 && Instant::now() >= due;
            if state.stop {
                return Chore::Stop;
            }
            if state.snapshot {
                return Chore::Snapshot;
            }
            if state.unflushed >= shared.config.flush_bytes || overdue {
                return Chore::Flush(std::mem::take(&mut state.unflushed));
            }
            if state.sweep {
                state.sweep = false;
                return Chore::Sweep;
            }
            if state.unflushed > 0 {
                self.woken.wait_until(&mut state, due);
            } else {
                self.woken.wait(&mut state);
            }
        }
    }
}

/// From where on the entries behind the flushed state are few enough in bytes to be kept.
#[derive(Debug, Default)]
struct Kept {
    /// The last entry that is one too many; 0: all may be kept.
    from: Index,
    /// Up to which entry each flush was, and the bytes that were applied before it since the flush before.
    flushes: VecDeque<(Index, usize)>,
    bytes: usize,
}

impl Kept {
    /// The state is flushed up to an entry, `bytes` after the flush before. `max` bytes are kept, and what is in the same flush
    /// as the first of them.
    fn flushed(&mut self, durable: Index, bytes: usize, max: usize) {
        self.flushes.push_back((durable, bytes));
        self.bytes += bytes;
        while let Some((index, bytes)) = self.flushes.front().copied()
            && self.bytes - bytes >= max
        {
            self.bytes -= bytes;
            self.from = index;
            self.flushes.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_kept_up_to_so_many_bytes() {
        let mut kept = Kept::default();
        let mut from = |durable, bytes| {
            kept.flushed(durable, bytes, 100);
            kept.from
        };
        assert_eq!(from(10, 60), 0);
        assert_eq!(from(20, 60), 0, "without the first flush there are fewer than may be kept");
        assert_eq!(from(30, 40), 10);
        assert_eq!(from(31, 1), 10);
        assert_eq!(from(40, 500), 31);
        assert_eq!(from(50, 5), 31);
    }
}
