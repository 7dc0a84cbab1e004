//! The threads that run the core, and the handle by which everybody else reaches them.

mod applier;
mod chores;
mod driver;
mod inbox;
mod queue;
mod writer;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use navarch_raft_contract::{
    ApplyError, ApplySink, Batch, Command, ConfState, Index, LogCounters, LogError, LogStore, Outcome, SnapshotError,
    SnapshotSink, SnapshotSource, StateMachine, Term,
};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use self::{applier::Applier, chores::Chores, driver::Driver, inbox::Inbox, queue::Queue, writer::Writer};
use crate::{
    checks::Checks,
    config::Config,
    core::{Core, CoreError, Input, MemberChange, PeerProgress},
    peer::Local,
    recover::{RecoverError, recover},
    transport::Transport,
};

/// What this member is to its term's leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It follows, or stands for election.
    #[default]
    Follower,
    /// It leads.
    Leader,
}

/// Who leads, as this member knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub member: u64,
    /// Its role.
    pub role: Role,
    /// Current term.
    pub term: Term,
    /// The leader, if known.
    pub leader: Option<u64>,
    /// This member leads, and the entry that opened its term is applied here: it has all that was ever acknowledged.
    pub ready: bool,
}

/// Figures of this member, counted from start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Of the log.
    pub log: LogCounters,
    /// Known to be committed.
    pub committed: Index,
    /// Last applied entry.
    pub applied: Index,
    /// Last entry whose effect is flushed to the state database.
    pub durable: Index,
    /// Commands applied.
    pub commands: u64,
    /// Runs of entries applied, each with one write.
    pub apply_runs: u64,
    /// Proposals that are accepted and not answered.
    pub pending: u64,
    /// Proposals refused because a bound was reached.
    pub refused_busy: u64,
}

/// Why a proposal was not answered with an outcome.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProposeError {
    /// This member does not lead. Nothing happened; ask the leader.
    #[error("not the leader (leader: {leader:?})")]
    NotLeader {
        /// Who does, if known.
        leader: Option<u64>,
    },
    /// A bound is reached. Nothing happened; try again later.
    #[error("too many proposals are waiting")]
    Busy,
    /// It can never be taken. Nothing happened.
    #[error("the command has {bytes} bytes, more than the {max} allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Leadership changed, or the member stopped, while it was under way: it may take effect or not. Do not propose again.
    #[error("leadership changed: the outcome is unknown")]
    Unknown,
    /// This member is stopping. Nothing happened.
    #[error("this member is stopping")]
    Stopped,
    /// The change of members cannot be. Nothing happened.
    #[error("the members cannot be changed so: {0}")]
    Members(&'static str),
}

/// Why there is no read index.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReadIndexError {
    /// A bound is reached. Try again later.
    #[error("too many reads are waiting")]
    Busy,
    /// This member is stopping.
    #[error("this member is stopping")]
    Stopped,
}

/// Why the process must end.
#[derive(Debug, thiserror::Error)]
pub enum FatalError {
    /// The log failed: what is on the disk is unknown.
    #[error("log writer: {0}")]
    Log(#[from] LogError),
    /// The state failed, or an entry cannot be applied.
    #[error("applier: {0}")]
    Apply(#[from] ApplyError),
    /// A snapshot that was received could not be installed.
    #[error("applier: {0}")]
    Snapshot(#[from] SnapshotError),
    /// The core failed.
    #[error("driver: {0}")]
    Core(#[from] CoreError),
    /// A thread panicked.
    #[error("{thread} panicked: {message}")]
    Panic {
        /// Which one.
        thread: &'static str,
        /// With what.
        message: String,
    },
}

/// Called once, on the failing thread, when the process must end. The binary aborts in it.
pub type Fatal = Arc<dyn Fn(FatalError) + Send + Sync>;

/// Why a member did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What it found on the disk does not fit.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The core refuses.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// What a member is made of.
pub struct Parts {
    /// The log.
    pub log: Arc<dyn LogStore>,
    /// The state.
    pub state: Arc<dyn StateMachine>,
    /// Told of every applied batch, in this order.
    pub sinks: Vec<Arc<dyn ApplySink>>,
    /// The way to peers.
    pub transport: Arc<dyn Transport>,
    /// What ends the process.
    pub fatal: Fatal,
}

/// The cluster as this member sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The members as of the last committed change.
    pub members: ConfState,
    /// How far the others are; nothing unless this member leads.
    pub peers: Vec<PeerProgress>,
}

/// What the threads and the handle share.
struct Shared {
    config: Config,
    log: Arc<dyn LogStore>,
    state: Arc<dyn StateMachine>,
    inbox: Inbox,
    status: watch::Sender<Status>,
    committed: AtomicU64,
    applied: watch::Sender<Index>,
    commands: AtomicU64,
    apply_runs: AtomicU64,
    refused_busy: AtomicU64,
    view: Mutex<View>,
    first_voters: Vec<u64>,
    checks: Mutex<Checks>,
    /// The state was discarded, and no other one has come yet.
    rebuilding: AtomicBool,
    /// The state that was offered to the core last, until it is sent.
    outgoing: Mutex<Option<Box<dyn SnapshotSource>>>,
    failed: AtomicBool,
    fatal: Fatal,
}

impl Shared {
    /// Runs a thread's work; if it fails, the process must end. Everything that waits is let go first or after: it learns
    /// that the outcome is unknown.
    fn guard(&self, thread: &'static str, work: impl FnOnce() -> Result<(), FatalError>) {
        let error = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(panic) => FatalError::Panic { thread, message: panic_message(panic.as_ref()) },
        };
        tracing::error!(%error, "consensus failed: the process must end");
        self.failed.store(true, Ordering::Release);
        (self.fatal)(error);
        self.inbox.stop();
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => (*message).to_owned(),
        (_, Some(message)) => message.clone(),
        _ => "no message".to_owned(),
    }
}

/// Everybody's way to consensus. Cheap to clone; the last one dropped stops nothing: call [`RaftHandle::shutdown`].
#[derive(Clone)]
pub struct RaftHandle {
    shared: Arc<Shared>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// Starts a member. Returns when its threads run; a cluster of one leads a moment later.
pub fn start(config: Config, parts: Parts) -> Result<RaftHandle, StartError> {
    let applied = parts.state.applied();
    let from = recover(&config, parts.log.as_ref(), &applied)?;
    let beginning = parts.log.state().map_err(RecoverError::from)?.bootstrap.and_then(|bootstrap| bootstrap.members);
    let first_voters = beginning.map(|members| members.voters).unwrap_or_default();
    let core = Core::new(config.core(), parts.log.clone(), &from)?;
    let to_writer = Arc::new(Queue::new(config.stage_queue_max));
    let to_applier = Arc::new(Queue::new(config.stage_queue_max));
    let chores = Arc::new(Chores::default());
    let status = Status { member: config.member, term: from.hard_state.term, ..Status::default() };
    let shared = Arc::new(Shared {
        inbox: Inbox::new(&config),
        log: parts.log,
        state: parts.state,
        status: watch::Sender::new(status),
        committed: AtomicU64::new(from.hard_state.commit),
        applied: watch::Sender::new(applied.index),
        commands: AtomicU64::new(0),
        apply_runs: AtomicU64::new(0),
        refused_busy: AtomicU64::new(0),
        view: Mutex::default(),
        first_voters,
        checks: Mutex::default(),
        rebuilding: AtomicBool::new(from.rebuilding),
        outgoing: Mutex::default(),
        failed: AtomicBool::new(false),
        fatal: parts.fatal,
        config,
    });
    let handle = RaftHandle { shared: shared.clone(), threads: Arc::default() };
    let writer = Writer { shared: shared.clone(), queue: to_writer.clone() };
    let applier =
        Applier { shared: shared.clone(), queue: to_applier.clone(), sinks: parts.sinks, chores: chores.clone() };
    let driver = Driver::new(shared.clone(), core, parts.transport, to_writer, to_applier, chores.clone());
    handle.spawn("raft-log", move |shared| {
        let queue = writer.queue.clone();
        shared.guard("log writer", || writer.run());
        queue.close();
    })?;
    handle.spawn("raft-apply", move |shared| {
        let (queue, chores) = (applier.queue.clone(), applier.chores.clone());
        shared.guard("applier", || applier.run());
        queue.close();
        chores.stop();
    })?;
    handle.spawn("raft-chores", move |shared| shared.guard("chores", || chores.run(shared)))?;
    handle.spawn("raft", move |shared| {
        let (writer, applier) = driver.queues();
        shared.guard("driver", || driver.run());
        writer.close();
        applier.close();
        shared.inbox.stop();
    })?;
    Ok(handle)
}

impl RaftHandle {
    fn spawn(&self, name: &str, run: impl FnOnce(&Shared) + Send + 'static) -> Result<(), StartError> {
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared))?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Proposes a command and waits until it is applied here. Dropping the future gives up waiting, not the command.
    pub async fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        let data = Batch { commands: vec![command] }.to_bytes();
        self.propose_encoded(data)?.await.unwrap_or(Err(ProposeError::Unknown))
    }

    fn propose_encoded(&self, data: Bytes) -> Result<oneshot::Receiver<Result<Outcome, ProposeError>>, ProposeError> {
        let max = self.shared.config.command_bytes_max;
        if data.len() > max {
            return Err(ProposeError::TooLarge { bytes: data.len(), max });
        }
        let (reply, answer) = oneshot::channel();
        let pushed = self.shared.inbox.propose(data, reply);
        if pushed == Err(ProposeError::Busy) {
            self.shared.refused_busy.fetch_add(1, Ordering::Relaxed);
        }
        pushed.map(|()| answer)
    }

    /// The index that a linearizable read which begins now must see applied. Waits for a leader as long as it takes: the
    /// caller has a deadline.
    pub async fn read_index(&self) -> Result<Index, ReadIndexError> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.read(reply)?;
        answer.await.unwrap_or(Err(ReadIndexError::Stopped))
    }

    /// Waits until an entry is applied here. `false`: this member stopped before.
    pub async fn wait_applied(&self, index: Index) -> bool {
        let mut applied = self.shared.applied.subscribe();
        tokio::select! {
            reached = applied.wait_for(|applied| *applied >= index) => reached.is_ok(),
            () = self.shared.inbox.stopped() => *self.shared.applied.borrow() >= index,
        }
    }

    /// Who leads.
    pub fn status(&self) -> Status {
        *self.shared.status.borrow()
    }

    /// Who leads, as it changes.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Last applied entry.
    pub fn applied(&self) -> Index {
        *self.shared.applied.borrow()
    }

    /// Figures.
    pub fn figures(&self) -> Figures {
        let shared = &self.shared;
        Figures {
            log: shared.log.counters(),
            committed: shared.committed.load(Ordering::Relaxed),
            applied: self.applied(),
            durable: shared.state.durable(),
            commands: shared.commands.load(Ordering::Relaxed),
            apply_runs: shared.apply_runs.load(Ordering::Relaxed),
            pending: shared.inbox.pending() as u64,
            refused_busy: shared.refused_busy.load(Ordering::Relaxed),
        }
    }

    /// Proposes an encoded [`Batch`] of one command, as a peer forwards it.
    pub async fn propose_bytes(&self, command: Bytes) -> Result<Outcome, ProposeError> {
        self.propose_encoded(command)?.await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// Changes the members and waits until the change is applied here; all changes at once, if there are several.
    pub async fn change_members(&self, changes: Vec<MemberChange>) -> Result<(), ProposeError> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.change_members(changes, reply)?;
        answer.await.unwrap_or(Err(ProposeError::Unknown)).map(drop)
    }

    /// Asks another voter to take over. Whether it did is seen by [`RaftHandle::watch`].
    pub fn transfer(&self, to: u64) {
        self.shared.inbox.order(Input::Transfer { to });
    }

    /// The voters that the cluster began with: a member that joins is started with the same.
    pub fn first_voters(&self) -> Vec<u64> {
        self.shared.first_voters.clone()
    }

    /// The members, and how far they are.
    pub fn view(&self) -> View {
        self.shared.view.lock().clone()
    }

    /// The last check of the states, and what was said of it.
    pub fn checks(&self) -> Checks {
        self.shared.checks.lock().clone()
    }

    /// Whether the state was discarded and no other one has come yet: this member has nothing to serve.
    pub fn rebuilding(&self) -> bool {
        self.shared.rebuilding.load(Ordering::Acquire)
    }

    /// The state as it is now, to be saved. May block.
    ///
    /// # Errors
    /// If no copy can be made, or there is no state.
    pub fn take_snapshot(&self) -> Result<Box<dyn SnapshotSource>, SnapshotError> {
        if self.rebuilding() {
            return Err(SnapshotError::Damaged("this member waits for another one's state".to_owned()));
        }
        self.shared.state.snapshot()
    }

    /// The consensus group: the name under which this member and its peers know each other.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn group(&self) -> Result<String, LogError> {
        let bootstrap = self.shared.log.state()?.bootstrap;
        Ok(bootstrap.map(|bootstrap| bootstrap.cluster_id).unwrap_or_default())
    }

    /// Hands over a message from a peer. What does not fit into the queue is lost.
    pub fn receive(&self, message: raft::eraftpb::Message) {
        self.shared.inbox.message(message);
    }

    /// Stops: nothing new is taken, what was accepted is answered, the state is flushed. Blocks until the threads ended.
    pub fn shutdown_blocking(&self) {
        self.shared.inbox.stop();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a consensus thread panicked while it stopped");
            }
        }
    }

    /// As [`RaftHandle::shutdown_blocking`], without blocking the caller's thread.
    pub async fn shutdown(&self) {
        let handle = self.clone();
        if tokio::task::spawn_blocking(move || handle.shutdown_blocking()).await.is_err() {
            tracing::error!("the shutdown of consensus panicked");
        }
    }
}

/// What peers ask of a member, its driver answers.
impl Local for RaftHandle {
    fn message(&self, message: raft::eraftpb::Message) {
        self.receive(message);
    }

    fn propose(&self, command: Bytes) -> BoxFuture<'static, Result<Outcome, ProposeError>> {
        let handle = self.clone();
        Box::pin(async move { handle.propose_bytes(command).await })
    }

    fn lost(&self, member: u64) {
        self.shared.inbox.order(Input::Lost { member });
    }

    fn unreachable(&self, member: u64) {
        self.shared.inbox.order(Input::Unreachable { peer: member });
    }

    fn snapshot(&self, index: u64) -> Option<Box<dyn SnapshotSource>> {
        self.shared.outgoing.lock().take_if(|source| source.meta().index == index)
    }

    fn snapshot_sent(&self, to: u64, arrived: bool) {
        self.shared.inbox.order(Input::SnapshotSent { to, arrived });
    }

    fn stage(&self) -> Result<Box<dyn SnapshotSink>, SnapshotError> {
        self.shared.state.stage()
    }

    fn unstage(&self, index: Index) {
        self.shared.state.unstage(index);
    }
}

#[cfg(test)]
mod tests;
