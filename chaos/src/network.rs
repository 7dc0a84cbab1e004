//! The network between simulated members: packets that wait, are lost, doubled, reordered, or cannot pass in one direction.

use std::collections::BTreeSet;

use navarch_raft_contract::{Command, Outcome, SnapshotSource};
use raft::eraftpb::{Message, MessageType};
use rand::Rng;

use crate::counts::Counts;

/// Packets that wait for one member; more are lost, as its link's queue is bounded.
const WAITING_MAX: usize = 400;

/// Commands on their way into the log.
#[derive(Clone, Debug)]
pub struct Request {
    /// By which its answer is known.
    pub id: u64,
    /// The member where it was made, which is answered.
    pub origin: u64,
    /// What to do. Shares an entry with other requests.
    pub commands: Vec<Command>,
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// It was applied, or refused when it was.
    Applied(Vec<Outcome>),
    /// It never got into a log, and never will.
    Refused,
    /// Its entry was replaced by another: another member leads, and may or may not have it.
    Unknown,
}

/// What a packet carries.
#[derive(Clone)]
pub enum Body {
    /// Raft's message, and the state that comes with it if it announces one; `None` where it should and was not to be had.
    Raft(Box<Message>, Option<Vec<u8>>),
    /// A proposal for who leads.
    Forward(Request),
    /// What became of a proposal.
    Answer(u64, Reply),
    /// What became of a state that was sent to a peer. From the sender's own link, and never lost.
    Report(u64, bool),
    /// A peer seems not to be reachable. As above.
    Unreachable(u64),
}

/// What travels.
#[derive(Clone)]
pub struct Packet {
    /// Who sent it.
    pub from: u64,
    /// Who is to get it.
    pub to: u64,
    /// What it carries.
    pub body: Body,
}

impl Packet {
    /// Whether it says that entries are on the sender's disk.
    pub fn acknowledges(&self) -> bool {
        matches!(&self.body, Body::Raft(message, _)
            if message.get_msg_type() == MessageType::MsgAppendResponse && !message.reject)
    }

    /// Whether a state belongs to it.
    pub fn announces_state(&self) -> bool {
        matches!(&self.body, Body::Raft(message, _) if message.get_msg_type() == MessageType::MsgSnapshot)
    }
}

/// See the module.
#[derive(Default)]
pub struct Network {
    waiting: Vec<Packet>,
    /// Directions in which nothing passes.
    blocked: BTreeSet<(u64, u64)>,
    /// What happened.
    pub counts: Counts,
}

/// What becomes of the packet that was picked.
pub enum Fate {
    /// It arrives.
    Arrives(Packet),
    /// It is lost.
    Lost(Packet),
}

fn name(body: &Body) -> &'static str {
    use MessageType::*;
    match body {
        Body::Forward(_) => "packet: forwarded proposal",
        Body::Answer(..) => "packet: proposal's answer",
        Body::Report(..) => "told what became of a snapshot",
        Body::Unreachable(_) => "told that a peer cannot be reached",
        Body::Raft(message, _) => match message.get_msg_type() {
            MsgAppend => "packet: append",
            MsgAppendResponse => "packet: append answer",
            MsgHeartbeat => "packet: heartbeat",
            MsgHeartbeatResponse => "packet: heartbeat answer",
            MsgRequestVote => "packet: vote",
            MsgRequestVoteResponse => "packet: vote answer",
            MsgRequestPreVote => "packet: pre-vote",
            MsgRequestPreVoteResponse => "packet: pre-vote answer",
            MsgSnapshot => "packet: snapshot",
            MsgReadIndex => "packet: read index",
            MsgReadIndexResp => "packet: read index answer",
            MsgTimeoutNow => "packet: take over now",
            _ => "packet: other",
        },
    }
}

impl Network {
    /// Adds Raft's messages; a state is read for the one that announces it.
    pub fn send(&mut self, messages: Vec<Message>, outgoing: &mut Option<Box<dyn SnapshotSource>>) {
        for message in messages {
            let (from, to) = (message.from, message.to);
            let mut state = None;
            if message.get_msg_type() == MessageType::MsgSnapshot {
                let index = message.get_snapshot().get_metadata().index;
                state = outgoing.take().filter(|source| source.meta().index == index).and_then(|mut source| {
                    let mut bytes = Vec::new();
                    source.read_to_end(&mut bytes).is_ok().then_some(bytes)
                });
            }
            self.post(Packet { from, to, body: Body::Raft(Box::new(message), state) });
        }
    }

    /// Adds a packet.
    pub fn post(&mut self, packet: Packet) {
        self.counts.one(name(&packet.body));
        self.waiting.push(packet);
    }

    /// Picks a packet for one of those who are awake, and decides.
    pub fn pick(&mut self, rng: &mut impl Rng, awake: impl Fn(u64) -> bool) -> Option<Fate> {
        if self.waiting.is_empty() {
            return None;
        }
        let at = rng.random_range(0..self.waiting.len());
        let to = self.waiting[at].to;
        let raft = matches!(self.waiting[at].body, Body::Raft(..));
        if !awake(to) {
            // It keeps what has arrived, as far as its queue goes.
            let full = self.waiting.iter().filter(|packet| packet.to == to).count() > WAITING_MAX;
            return (full && raft).then(|| self.lose(at));
        }
        if matches!(self.waiting[at].body, Body::Report(..) | Body::Unreachable(_)) {
            return Some(Fate::Arrives(self.waiting.remove(at)));
        }
        self.counts.add("packets reordered", u64::from(at > 0));
        let blocked = self.blocked.contains(&(self.waiting[at].from, to));
        if raft && rng.random_bool(0.05) {
            self.counts.one("packets doubled");
            let twin = self.waiting[at].clone();
            self.waiting.push(twin);
        }
        if blocked || rng.random_bool(0.05) {
            return Some(self.lose(at));
        }
        Some(Fate::Arrives(self.waiting.remove(at)))
    }

    fn lose(&mut self, at: usize) -> Fate {
        self.counts.one("packets lost");
        Fate::Lost(self.waiting.remove(at))
    }

    /// The oldest packet; nothing is lost.
    pub fn oldest(&mut self) -> Option<Packet> {
        (!self.waiting.is_empty()).then(|| self.waiting.remove(0))
    }

    /// Blocks directions, or lets everything pass again.
    pub fn change(&mut self, members: u64, rng: &mut impl Rng) {
        if !self.blocked.is_empty() && rng.random_bool(0.7) {
            self.blocked.clear();
            return;
        }
        let one = rng.random_range(1..=members);
        let both = rng.random_bool(0.5);
        for other in (1..=members).filter(|other| *other != one) {
            self.counts.one("directions blocked");
            self.blocked.insert((one, other));
            if both {
                self.blocked.insert((other, one));
            }
        }
    }

    /// Directions in which nothing passes, in words.
    pub fn blocked(&self) -> String {
        let blocked: Vec<String> = self.blocked.iter().map(|(from, to)| format!("{from} to {to}")).collect();
        if blocked.is_empty() { "every packet can pass".into() } else { format!("cut off: {}", blocked.join(", ")) }
    }

    /// Everything passes.
    pub fn heal(&mut self) {
        self.blocked.clear();
    }
}
