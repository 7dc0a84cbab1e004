//! The driver thread: gathers what waits, steps the core, hands its effects to the other stages.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use navarch_raft_contract::{Index, Term};

use super::{
    FatalError, ProposeError, ReadIndexError, Role, Shared, Status,
    applier::{Apply, Committed},
    chores::Chores,
    inbox::{Proposal, ReadReply, Taken},
    queue::Queue,
    writer::Write,
};
use crate::{
    core::{Core, Effects, Input, Leadership, Rejected},
    transport::Transport,
};

/// Proposals in one entry: their outcomes are answered together, so one slow batch must not grow without end.
const ENTRY_COMMANDS_MAX: usize = 512;

/// How long a leader that stops waits for another one to take over.
const HAND_OVER: Duration = Duration::from_secs(1);

pub(super) struct Driver {
    shared: Arc<Shared>,
    core: Core,
    transport: Arc<dyn Transport>,
    to_writer: Arc<Queue<Write>>,
    to_applier: Arc<Queue<Apply>>,
    /// Proposals whose entry is in the log and not handed to the applier yet.
    waiting: BTreeMap<Index, (Term, Vec<Proposal>)>,
    reads: HashMap<u64, Vec<ReadReply>>,
    next_id: u64,
    next_tick: Instant,
    applied: Index,
    chores: Arc<Chores>,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        core: Core,
        transport: Arc<dyn Transport>,
        to_writer: Arc<Queue<Write>>,
        to_applier: Arc<Queue<Apply>>,
        chores: Arc<Chores>,
    ) -> Self {
        let (next_tick, applied) = (Instant::now() + shared.config.tick, *shared.applied.borrow());
        Self {
            shared,
            core,
            transport,
            to_writer,
            to_applier,
            waiting: BTreeMap::new(),
            reads: HashMap::new(),
            next_id: 0,
            next_tick,
            applied,
            chores,
        }
    }

    pub(super) fn queues(&self) -> (Arc<Queue<Write>>, Arc<Queue<Apply>>) {
        (self.to_writer.clone(), self.to_applier.clone())
    }

    pub(super) fn run(mut self) -> Result<(), FatalError> {
        if self.core.alone() {
            // Nobody else could lead: no need to wait for a timeout.
            self.step(vec![Input::Campaign], HashMap::new())?;
        }
        self.show();
        let (mut stopping, mut hand_over) = (false, None);
        loop {
            let taken = self.shared.inbox.take(self.next_tick, stopping);
            stopping |= taken.stop;
            self.turn(taken)?;
            // What was accepted is finished first, as long as this member can.
            let unable = !self.core.leadership().leading || self.shared.failed.load(Ordering::Acquire);
            if stopping && unable {
                return Ok(());
            }
            if stopping && self.waiting.is_empty() {
                // Whoever takes over now does not have to find out first that this one is gone.
                let until = match (hand_over, self.core.successor()) {
                    (Some(until), _) => until,
                    (None, Some(to)) => {
                        self.step(vec![Input::Transfer { to }], HashMap::new())?;
                        Instant::now() + HAND_OVER
                    }
                    (None, None) => return Ok(()),
                };
                if Instant::now() >= until {
                    return Ok(());
                }
                hand_over = Some(until);
            }
        }
    }

    /// One turn: everything that waits becomes one step.
    fn turn(&mut self, taken: Taken) -> Result<(), FatalError> {
        let mut inputs = Vec::new();
        let now = Instant::now();
        if now >= self.next_tick {
            inputs.push(Input::Tick);
            // Ticks missed by a stall are skipped: made up for, they would start an election for no reason.
            let config = &self.shared.config;
            self.next_tick = now + if self.core.alone() { config.tick_alone } else { config.tick };
            self.show();
        }
        inputs.extend(taken.persisted.map(|number| Input::Persisted { number }));
        if let Some(index) = taken.applied {
            self.applied = index;
            inputs.push(Input::Applied { index });
        }
        inputs.extend(taken.orders);
        inputs.extend(taken.messages.into_iter().map(|message| Input::Message(Box::new(message))));
        inputs.extend(taken.compact.map(|index| Input::Compact { index }));
        self.drop_reads_given_up(&mut inputs);
        if !taken.reads.is_empty() {
            let id = self.id();
            self.reads.insert(id, taken.reads);
            inputs.push(Input::Read { id });
        }
        let mut groups = self.group(taken.proposals, &mut inputs);
        for (changes, proposal) in taken.changes {
            let id = self.id();
            groups.insert(id, vec![proposal]);
            inputs.push(Input::ChangeMembers { id, changes });
        }
        self.step(inputs, groups)?;
        self.publish(self.core.leadership());
        Ok(())
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Packs proposals into entries.
    fn group(&mut self, proposals: VecDeque<Proposal>, inputs: &mut Vec<Input>) -> HashMap<u64, Vec<Proposal>> {
        let mut groups = HashMap::new();
        let mut proposals = proposals.into_iter().peekable();
        while proposals.peek().is_some() {
            let (mut data, mut group) = (Vec::new(), Vec::new());
            while let Some(proposal) = proposals.next_if(|next| {
                group.is_empty()
                    || group.len() < ENTRY_COMMANDS_MAX
                        && data.len() + next.data.len() <= self.shared.config.entry_bytes_max
            }) {
                // Encoded batches laid end to end are one batch.
                data.extend_from_slice(&proposal.data);
                group.push(proposal);
            }
            let id = self.id();
            groups.insert(id, group);
            inputs.push(Input::Propose { id, data });
        }
        groups
    }

    fn drop_reads_given_up(&mut self, inputs: &mut Vec<Input>) {
        let inbox = &self.shared.inbox;
        self.reads.retain(|id, replies| {
            let before = replies.len();
            replies.retain(|reply| !reply.is_closed());
            inbox.reads_done(before - replies.len());
            if replies.is_empty() {
                inputs.push(Input::ForgetRead { id: *id });
            }
            !replies.is_empty()
        });
    }

    fn step(&mut self, inputs: Vec<Input>, mut groups: HashMap<u64, Vec<Proposal>>) -> Result<(), FatalError> {
        let mut effects = self.core.step(inputs)?;
        loop {
            let more = effects.more;
            self.carry_out(effects, &mut groups);
            if !more {
                return Ok(());
            }
            effects = self.core.step([])?;
        }
    }

    fn carry_out(&mut self, effects: Effects, groups: &mut HashMap<u64, Vec<Proposal>>) {
        if !effects.messages.is_empty() {
            self.transport.send(effects.messages);
        }
        for (id, taken) in effects.proposed {
            let Some(group) = groups.remove(&id) else { continue };
            match taken {
                Ok((index, term)) => {
                    self.waiting.insert(index, (term, group));
                }
                Err(rejected) => group.into_iter().for_each(|proposal| proposal.answer(Err(refusal(rejected)))),
            }
        }
        for persist in effects.persist {
            match persist.snapshot.clone() {
                None => self.to_writer.push(Write::Persist(persist)),
                Some(snapshot) => {
                    let (done, installed) = mpsc::sync_channel(1);
                    self.to_applier.push(Apply::Install(snapshot.index, done));
                    self.to_writer.push(Write::Restart { persist, snapshot, installed });
                }
            }
        }
        if effects.snapshot_wanted {
            self.chores.want_snapshot();
        }
        for index in effects.unwanted {
            self.to_applier.push(Apply::Unstage(index));
        }
        if let Some(index) = effects.forget {
            self.to_writer.push(Write::Forget(index));
        }
        for (id, index) in effects.reads {
            let replies = self.reads.remove(&id).unwrap_or_default();
            self.shared.inbox.reads_done(replies.len());
            for reply in replies {
                let _ = reply.send(Ok(index));
            }
        }
        if !effects.committed.is_empty() {
            let committed = effects.committed.into_iter().map(|entry| {
                let waiters = match self.waiting.remove(&entry.index) {
                    Some((term, waiters)) if term == entry.term => waiters,
                    // Another leader's entry took the place: what was proposed here never takes effect, but the proposers
                    // were told already that it is unknown.
                    _ => Vec::new(),
                };
                Committed { entry, waiters }
            });
            self.to_applier.push(Apply::Entries(committed.collect()));
        }
        self.shared.committed.store(self.core.committed(), Ordering::Relaxed);
        if let Some(leadership) = effects.leadership {
            self.changed(leadership);
        }
    }

    fn changed(&mut self, leadership: Leadership) {
        let stale = |term: Term| !leadership.leading || term != leadership.term;
        let (unknown, kept) = std::mem::take(&mut self.waiting).into_iter().partition(|(_, (term, _))| stale(*term));
        self.waiting = kept;
        let unknown: BTreeMap<_, (Term, Vec<Proposal>)> = unknown;
        for proposal in unknown.into_values().flat_map(|(_, group)| group) {
            proposal.answer(Err(ProposeError::Unknown));
        }
        self.show();
        tracing::info!(term = leadership.term, leader = ?leadership.leader, leading = leadership.leading, "leadership");
        self.publish(leadership);
    }

    /// Shows members and peers to whoever looks.
    fn show(&self) {
        let mut view = self.shared.view.lock();
        view.members = self.core.members();
        view.peers = self.core.peers();
    }

    fn publish(&self, leadership: Leadership) {
        let status = Status {
            member: self.shared.config.member,
            role: if leadership.leading { Role::Leader } else { Role::Follower },
            term: leadership.term,
            leader: leadership.leader,
            ready: leadership.leading && self.applied >= leadership.term_start,
        };
        self.shared.status.send_if_modified(|current| std::mem::replace(current, status) != status);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for reply in self.reads.drain().flat_map(|(_, replies)| replies) {
            let _ = reply.send(Err(ReadIndexError::Stopped));
        }
    }
}

fn refusal(rejected: Rejected) -> ProposeError {
    match rejected {
        Rejected::NotLeader { leader } => ProposeError::NotLeader { leader },
        Rejected::Busy => ProposeError::Busy,
        Rejected::Members(why) => ProposeError::Members(why),
    }
}
