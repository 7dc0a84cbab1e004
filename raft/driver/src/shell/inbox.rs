//! What waits for the driver thread: proposals and reads up to a bound each, messages up to a bound and then lost, and the
//! progress of the other stages, which needs no queue because the newest replaces all before.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use navarch_raft_contract::{Index, Outcome};
use parking_lot::{Condvar, Mutex};
use raft::eraftpb::{Message, MessageType};
use tokio::sync::{Notify, oneshot};

use super::{ProposeError, ReadIndexError};
use crate::{
    config::Config,
    core::{Input, MemberChange},
};

/// Where the answer to a proposal goes.
pub(super) type ProposeReply = oneshot::Sender<Result<Outcome, ProposeError>>;
/// Where the answer to a read goes.
pub(super) type ReadReply = oneshot::Sender<Result<Index, ReadIndexError>>;

/// A proposal with its place under the bounds, which it gives back when it is answered or dropped.
pub(super) struct Proposal {
    pub(super) data: Bytes,
    reply: Option<ProposeReply>,
    budget: Arc<Budget>,
}

impl Proposal {
    pub(super) fn answer(mut self, answer: Result<Outcome, ProposeError>) {
        if let Some(reply) = self.reply.take() {
            // Who gave up waiting is not told.
            let _ = reply.send(answer);
        }
    }
}

impl Drop for Proposal {
    fn drop(&mut self) {
        self.budget.count.fetch_sub(1, Ordering::Relaxed);
        self.budget.bytes.fetch_sub(self.data.len(), Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Budget {
    count: AtomicUsize,
    bytes: AtomicUsize,
}

/// What the driver takes at once.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) proposals: VecDeque<Proposal>,
    pub(super) reads: Vec<ReadReply>,
    pub(super) messages: VecDeque<Message>,
    /// Changes of members, with who waits for each.
    pub(super) changes: Vec<(Vec<MemberChange>, Proposal)>,
    /// What is rare: hints and reports for the core.
    pub(super) orders: Vec<Input>,
    pub(super) persisted: Option<u64>,
    pub(super) applied: Option<Index>,
    pub(super) compact: Option<Index>,
    pub(super) stop: bool,
}

impl Taken {
    fn is_empty(&self) -> bool {
        self.proposals.is_empty()
            && self.reads.is_empty()
            && self.messages.is_empty()
            && self.changes.is_empty()
            && self.orders.is_empty()
            && self.persisted.is_none()
            && self.applied.is_none()
            && self.compact.is_none()
    }
}

pub(super) struct Inbox {
    waiting: Mutex<Taken>,
    filled: Condvar,
    budget: Arc<Budget>,
    /// Reads asked and not answered: in `waiting` and with the driver.
    reads: Arc<AtomicUsize>,
    stopped: Notify,
    proposals_max: usize,
    proposal_bytes_max: usize,
    reads_max: usize,
    messages_max: usize,
}

impl Inbox {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            waiting: Mutex::default(),
            filled: Condvar::new(),
            budget: Arc::default(),
            reads: Arc::default(),
            stopped: Notify::new(),
            proposals_max: config.proposals_max,
            proposal_bytes_max: config.proposal_bytes_max,
            reads_max: config.reads_max,
            messages_max: config.messages_max,
        }
    }

    pub(super) fn propose(&self, data: Bytes, reply: ProposeReply) -> Result<(), ProposeError> {
        let bytes = data.len();
        self.budget.count.fetch_add(1, Ordering::Relaxed);
        self.budget.bytes.fetch_add(bytes, Ordering::Relaxed);
        // From here on dropping it gives its place back.
        let proposal = Proposal { data, reply: Some(reply), budget: self.budget.clone() };
        if self.budget.count.load(Ordering::Relaxed) > self.proposals_max
            || self.budget.bytes.load(Ordering::Relaxed) > self.proposal_bytes_max
        {
            return Err(ProposeError::Busy);
        }
        let mut waiting = self.waiting.lock();
        if waiting.stop {
            return Err(ProposeError::Stopped);
        }
        waiting.proposals.push_back(proposal);
        drop(waiting);
        self.filled.notify_one();
        Ok(())
    }

    pub(super) fn change_members(&self, changes: Vec<MemberChange>, reply: ProposeReply) -> Result<(), ProposeError> {
        self.budget.count.fetch_add(1, Ordering::Relaxed);
        let proposal = Proposal { data: Bytes::new(), reply: Some(reply), budget: self.budget.clone() };
        let mut waiting = self.waiting.lock();
        if waiting.stop {
            return Err(ProposeError::Stopped);
        }
        if waiting.changes.len() >= self.proposals_max {
            return Err(ProposeError::Busy);
        }
        waiting.changes.push((changes, proposal));
        drop(waiting);
        self.filled.notify_one();
        Ok(())
    }

    /// An input for the core. Beyond the bound it is lost, as a message would be.
    pub(super) fn order(&self, order: Input) {
        self.change(|waiting| {
            if waiting.orders.len() < self.messages_max {
                waiting.orders.push(order);
            }
        });
    }

    pub(super) fn read(&self, reply: ReadReply) -> Result<(), ReadIndexError> {
        let mut waiting = self.waiting.lock();
        if waiting.stop {
            return Err(ReadIndexError::Stopped);
        }
        if self.reads.load(Ordering::Relaxed) >= self.reads_max {
            return Err(ReadIndexError::Busy);
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        waiting.reads.push(reply);
        drop(waiting);
        self.filled.notify_one();
        Ok(())
    }

    /// Reads were answered or given up.
    pub(super) fn reads_done(&self, count: usize) {
        self.reads.fetch_sub(count, Ordering::Relaxed);
    }

    /// Raft makes up for a message that is lost here, but for one whose state is staged: it would stay so. There are never
    /// more of those than states that can be staged.
    pub(super) fn message(&self, message: Message) {
        self.change(|waiting| {
            let room = waiting.messages.len() < self.messages_max || message.get_msg_type() == MessageType::MsgSnapshot;
            if room && !waiting.stop {
                waiting.messages.push_back(message);
            }
        });
    }

    pub(super) fn persisted(&self, number: u64) {
        self.change(|waiting| waiting.persisted = waiting.persisted.max(Some(number)));
    }

    pub(super) fn applied(&self, index: Index) {
        self.change(|waiting| waiting.applied = waiting.applied.max(Some(index)));
    }

    pub(super) fn compact(&self, index: Index) {
        self.change(|waiting| waiting.compact = waiting.compact.max(Some(index)));
    }

    /// From now on nothing is taken.
    pub(super) fn stop(&self) {
        self.change(|waiting| waiting.stop = true);
        self.stopped.notify_waiters();
    }

    /// Waits until [`Inbox::stop`] was called.
    pub(super) async fn stopped(&self) {
        let notified = self.stopped.notified();
        if !self.waiting.lock().stop {
            notified.await;
        }
    }

    /// Proposals that are not answered.
    pub(super) fn pending(&self) -> usize {
        self.budget.count.load(Ordering::Relaxed)
    }

    /// All there is; waits for something until the deadline. That it must stop wakes the driver once: `stopping` says that
    /// it knows.
    pub(super) fn take(&self, until: Instant, stopping: bool) -> Taken {
        let mut waiting = self.waiting.lock();
        while waiting.is_empty() && waiting.stop == stopping {
            if self.filled.wait_until(&mut waiting, until).timed_out() {
                break;
            }
        }
        let stop = waiting.stop;
        let mut taken = std::mem::take(&mut *waiting);
        (waiting.stop, taken.stop) = (stop, stop);
        taken
    }

    fn change(&self, change: impl FnOnce(&mut Taken)) {
        change(&mut self.waiting.lock());
        self.filled.notify_one();
    }
}
