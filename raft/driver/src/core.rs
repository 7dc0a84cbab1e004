//! The consensus core: inputs in, effects out. No clock, no thread, no randomness, and no I/O but reads of old entries.
//!
//! Whoever runs it carries the effects out in the order in which they came: [`Persist`]s are written in order and reported
//! back by [`Input::Persisted`] when they are on the disk, committed entries are applied in order and reported by
//! [`Input::Applied`]. Messages in [`Effects::messages`] may leave at once: those that promise something were held back
//! by the core until the promise was on the disk.

mod hear;
mod members;
mod ready;
mod window;

use std::{collections::VecDeque, sync::Arc};

use navarch_raft_contract::{CommittedEntry, Index, LogBatch, LogStore, SnapshotMeta, Term};
use raft::{RawNode, SnapshotStatus, StateRole, eraftpb::Message};

pub use self::members::{MemberChange, PeerProgress};
use self::window::Window;
use crate::{logger, recover::Recovered};

/// Settings of the core.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// This member.
    pub member: u64,
    /// Ticks without a leader until an election; the real number is drawn between this and twice this.
    pub election_ticks: usize,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: usize,
    /// Where election timeouts are drawn from.
    pub seed: u64,
    /// Entries in one message to a peer, in bytes.
    pub message_bytes_max: u64,
    /// Messages with entries on the way to a peer.
    pub inflight_messages_max: usize,
    /// Entries that a leader has and that are not committed, in bytes; raft-rs's default has no bound.
    pub uncommitted_bytes_max: u64,
    /// Committed entries in one step's effects, in bytes, about.
    pub committed_bytes_max: u64,
    /// Entries kept in memory, in bytes.
    pub window_bytes: usize,
}

/// What can happen to the core.
#[derive(Debug)]
pub enum Input {
    /// A tick of the clock.
    Tick,
    /// Stand for election now.
    Campaign,
    /// A message from a peer.
    Message(Box<Message>),
    /// Append an entry, if this member leads.
    Propose {
        /// Comes back in [`Effects::proposed`].
        id: u64,
        /// The entry's data.
        data: Vec<u8>,
    },
    /// Find out which index a linearizable read must see.
    Read {
        /// Comes back in [`Effects::reads`].
        id: u64,
    },
    /// Change the members, if this member leads.
    ChangeMembers {
        /// Comes back in [`Effects::proposed`].
        id: u64,
        /// All at once; more than one go through a joint configuration.
        changes: Vec<MemberChange>,
    },
    /// Hand leadership over to this voter, if this member leads.
    Transfer {
        /// The voter.
        to: u64,
    },
    /// A member seems to have gone: its connection broke. If it leads, the next election need not wait for the timeout.
    Lost {
        /// The member.
        member: u64,
    },
    /// Messages to a peer were lost.
    Unreachable {
        /// The peer.
        peer: u64,
    },
    /// This state can be sent to a peer that needs one; see [`Effects::snapshot_wanted`].
    Offer(SnapshotMeta),
    /// A snapshot has arrived at a peer, or has not.
    SnapshotSent {
        /// The peer.
        to: u64,
        /// Whether it has it.
        arrived: bool,
    },
    /// Nobody waits for this read any more.
    ForgetRead {
        /// The read.
        id: u64,
    },
    /// A [`Persist`] and all before it are on the disk.
    Persisted {
        /// Its number.
        number: u64,
    },
    /// Entries up to this one are applied.
    Applied {
        /// The entry.
        index: Index,
    },
    /// Entries up to this one are not needed any more: applied, and flushed.
    Compact {
        /// The entry.
        index: Index,
    },
}

/// A batch to be written to the log and synced.
#[derive(Debug)]
pub struct Persist {
    /// To be reported back.
    pub number: u64,
    /// What to write.
    pub batch: LogBatch,
    /// First the staged state of this entry is installed, and the log begins anew after it. Everything committed that
    /// came before is to be applied before, or thrown away. When it is done, [`Input::Applied`] tells so as well.
    pub snapshot: Option<SnapshotMeta>,
}

/// Why a proposal was not taken. It has no effect, now or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// This member does not lead.
    NotLeader {
        /// Who does, if known.
        leader: Option<u64>,
    },
    /// Too much is uncommitted, or leadership is being handed over, or another change of members is under way.
    Busy,
    /// The change of members cannot be.
    Members(&'static str),
}

/// Who leads, as this member knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Current term.
    pub term: Term,
    /// The leader, if known.
    pub leader: Option<u64>,
    /// Whether it is this member.
    pub leading: bool,
    /// If it is: the entry that opened its term.
    pub term_start: Index,
}

/// What is to be done after a step.
#[derive(Debug, Default)]
pub struct Effects {
    /// Send these to the peers.
    pub messages: Vec<Message>,
    /// Write these, in order.
    pub persist: Vec<Persist>,
    /// Apply these, in order.
    pub committed: Vec<CommittedEntry>,
    /// What became of proposals: where the entry is, or why there is none.
    pub proposed: Vec<(u64, Result<(Index, Term), Rejected>)>,
    /// Reads that may be served once this index is applied.
    pub reads: Vec<(u64, Index)>,
    /// Who leads has changed.
    pub leadership: Option<Leadership>,
    /// The log store may forget entries up to this one.
    pub forget: Option<Index>,
    /// A peer is so far behind that it needs a snapshot, and there is none to be had: take one, and [`Input::Offer`] it.
    /// It is asked for again with every step until it is there.
    pub snapshot_wanted: bool,
    /// The states of these entries were received, and are not going to be installed.
    pub unwanted: Vec<Index>,
    /// There is more to be had by another step without input.
    pub more: bool,
}

/// Why the core cannot go on. The process must end.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// raft-rs reports what cannot be.
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
    /// A committed membership change that cannot be decoded.
    #[error("entry {index}: membership change cannot be decoded: {reason}")]
    Members {
        /// The entry.
        index: Index,
        /// What the decoder says.
        reason: String,
    },
}

struct PendingRead {
    id: u64,
    /// Ticks since Raft was asked; `None`: it has not been.
    asked: Option<usize>,
}

/// See the module.
pub struct Core {
    node: RawNode<Window>,
    config: CoreConfig,
    /// Persists on their way, oldest first, with the last index that each makes durable.
    writing: VecDeque<(u64, Index)>,
    /// Messages that must not leave before the persist of this number is done.
    held: VecDeque<(u64, Vec<Message>)>,
    /// The last persist with a new term or vote.
    election_persist: u64,
    persisted: Index,
    applied: Index,
    /// The last snapshot that was handed out to be installed; until it is, `applied` is less.
    installing: Index,
    /// A commit index that is not worth a write of its own: it goes with the next one.
    unsaved_hard_state: Option<navarch_raft_contract::HardState>,
    reads: VecDeque<PendingRead>,
    leadership: Leadership,
    /// The state is gone, and a snapshot is to come.
    rebuilding: bool,
}

impl Core {
    /// A core that goes on where `from` says.
    pub fn new(config: CoreConfig, log: Arc<dyn LogStore>, from: &Recovered) -> Result<Self, CoreError> {
        let settings = raft::Config {
            id: config.member,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: from.applied,
            max_size_per_msg: config.message_bytes_max,
            max_inflight_msgs: config.inflight_messages_max,
            check_quorum: true,
            pre_vote: true,
            read_only_option: raft::ReadOnlyOption::Safe,
            max_uncommitted_size: config.uncommitted_bytes_max,
            max_committed_size_per_ready: config.committed_bytes_max,
            ..raft::Config::default()
        };
        let node = RawNode::new(&settings, Window::new(log, from), &logger::logger())?;
        let mut core = Self {
            node,
            config,
            writing: VecDeque::new(),
            held: VecDeque::new(),
            election_persist: 0,
            persisted: from.last_index,
            applied: from.applied,
            installing: from.applied,
            unsaved_hard_state: None,
            reads: VecDeque::new(),
            leadership: Leadership { term: from.hard_state.term, ..Leadership::default() },
            rebuilding: from.rebuilding,
        };
        core.pin_election_timeout();
        Ok(core)
    }

    /// Takes inputs, in order, and says what is to be done.
    pub fn step(&mut self, inputs: impl IntoIterator<Item = Input>) -> Result<Effects, CoreError> {
        let mut effects = Effects::default();
        for input in inputs {
            self.take(input, &mut effects)?;
            self.pin_election_timeout();
        }
        self.ask_reads();
        self.ask_snapshot();
        self.collect(&mut effects)?;
        effects.snapshot_wanted = self.node.mut_store().wants_snapshot();
        self.pin_election_timeout();
        let persisted = self.persisted.min(self.applied);
        self.node.mut_store().trim(self.config.window_bytes, persisted);
        Ok(effects)
    }

    /// Who leads, as this member knows.
    pub fn leadership(&self) -> Leadership {
        self.leadership
    }

    /// Known to be committed.
    pub fn committed(&self) -> Index {
        self.node.raft.raft_log.committed
    }

    /// Whether the only voter is this member.
    pub fn alone(&self) -> bool {
        let members = self.node.raft.prs().conf().to_conf_state();
        let own = |voters: &[u64]| voters.iter().all(|voter| *voter == self.config.member);
        !members.voters.is_empty() && own(&members.voters) && own(&members.voters_outgoing)
    }

    /// Whether this member may vote and does not stand for election: it has no state, or a snapshot is on its way into the
    /// state. Then raft-rs would look for changes of members in entries that are not applied yet, which the log does not
    /// have any more, and would panic when it does not find them. Or it needs no other vote: then it would lead at once,
    /// and raft-rs panics if what it has from the leader before is not all on the disk.
    fn stands_back(&self) -> bool {
        let raft = &self.node.raft;
        let unwritten = raft.state != StateRole::Leader && raft.raft_log.persisted < raft.raft_log.last_index();
        self.rebuilding || self.installing > self.applied || unwritten && self.alone()
    }

    fn take(&mut self, input: Input, effects: &mut Effects) -> Result<(), CoreError> {
        match input {
            Input::Tick => {
                if self.stands_back() {
                    self.node.raft.election_elapsed += 1;
                } else {
                    self.node.tick();
                }
                for read in &mut self.reads {
                    read.asked = read.asked.map(|ticks| ticks + 1).filter(|ticks| *ticks <= self.config.election_ticks);
                }
            }
            Input::Campaign if self.stands_back() => {}
            Input::Campaign => self.node.campaign()?,
            Input::Message(message) => self.hear(message, effects),
            Input::Propose { id, data } => effects.proposed.push((id, self.propose(data)?)),
            Input::ChangeMembers { id, changes } => effects.proposed.push((id, self.change_members(&changes)?)),
            Input::Transfer { to } => self.node.transfer_leader(to),
            Input::Lost { member } => self.lost(member),
            Input::Unreachable { peer } => self.node.report_unreachable(peer),
            Input::Offer(meta) => self.node.mut_store().offer(meta),
            Input::SnapshotSent { to, arrived } => {
                let status = if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
                self.node.report_snapshot(to, status);
            }
            Input::Read { id } => self.reads.push_back(PendingRead { id, asked: None }),
            Input::ForgetRead { id } => self.reads.retain(|read| read.id != id),
            Input::Persisted { number } => self.persisted(number, effects),
            Input::Applied { index } => {
                self.applied = self.applied.max(index);
                self.node.advance_apply_to(self.applied);
            }
            Input::Compact { index } => {
                let index = index.min(self.applied).min(self.persisted).min(self.needed_by_peers());
                self.node.mut_store().forget(index)?;
                effects.forget = effects.forget.max(Some(index));
            }
        }
        Ok(())
    }

    fn propose(&mut self, data: Vec<u8>) -> Result<Result<(Index, Term), Rejected>, CoreError> {
        // A follower of raft-rs would pass the proposal on by itself, and nobody could tell what became of it.
        if self.node.raft.state != StateRole::Leader {
            return Ok(Err(Rejected::NotLeader { leader: self.known_leader() }));
        }
        match self.node.propose(Vec::new(), data) {
            Ok(()) => Ok(Ok((self.node.raft.raft_log.last_index(), self.node.raft.term))),
            Err(raft::Error::ProposalDropped) => Ok(Err(Rejected::Busy)),
            Err(error) => Err(error.into()),
        }
    }

    fn persisted(&mut self, number: u64, effects: &mut Effects) {
        let written = self.writing.iter().take_while(|(persist, _)| *persist <= number).count();
        if let Some((_, last)) = self.writing.drain(..written).next_back() {
            self.persisted = last;
        }
        self.node.on_persist_ready(number);
        let due = self.held.iter().take_while(|(after, _)| *after <= number).count();
        effects.messages.extend(self.held.drain(..due).flat_map(|(_, messages)| messages));
    }

    fn known_leader(&self) -> Option<u64> {
        Some(self.node.raft.leader_id).filter(|leader| *leader != raft::INVALID_ID)
    }

    /// Passes reads to Raft that it can answer now. It drops those that it cannot (no leader, or one that has not committed
    /// an entry of its term yet), without a word: so they are not asked too early, and asked again when no answer comes.
    fn ask_reads(&mut self) {
        let raft = &self.node.raft;
        let answerable = match raft.state {
            StateRole::Leader => raft.commit_to_current_term(),
            _ => raft.leader_id != raft::INVALID_ID,
        };
        if !answerable {
            return;
        }
        let (member, seed) = (self.config.member, self.config.seed);
        for read in self.reads.iter_mut().filter(|read| read.asked.is_none()) {
            read.asked = Some(0);
            // The leader knows reads by this alone: member and seed keep those of two members, or two starts, apart.
            let context = [member, seed, read.id].iter().flat_map(|part| part.to_be_bytes()).collect();
            self.node.read_index(context);
        }
    }

    /// Asks the leader for a snapshot, as long as none has come, and anew in each term. Raft refuses before an entry of the
    /// leader's term is here, and while it has asked already.
    fn ask_snapshot(&mut self) {
        let raft = &mut self.node.raft;
        if self.rebuilding && raft.leader_id != raft::INVALID_ID && raft.pending_request_snapshot == raft::INVALID_INDEX
        {
            // The next step tries again.
            let _ = raft.request_snapshot();
        }
    }

    /// raft-rs draws election timeouts from the thread's generator whenever it resets; this puts one in its place that
    /// depends on seed, member and term only.
    fn pin_election_timeout(&mut self) {
        let ticks = self.config.election_ticks as u64;
        let mut draw = self.config.seed ^ self.config.member.rotate_left(32) ^ self.node.raft.term;
        draw = (draw ^ (draw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        draw = (draw ^ (draw >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let timeout = if self.rebuilding { 2 * ticks - 1 } else { ticks + (draw ^ (draw >> 31)) % ticks };
        self.node.raft.set_randomized_election_timeout(timeout as usize);
    }
}

#[cfg(test)]
mod tests;
