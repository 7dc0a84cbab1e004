//! The network between simulated members: packets that wait, are lost, doubled, reordered, or cannot pass in one direction.

use std::collections::BTreeSet;

use navarch_raft_contract::SnapshotSource;
use raft::eraftpb::{Message, MessageType};
use rand::Rng;

/// What travels.
#[derive(Clone)]
pub struct Packet {
    /// Raft's message.
    pub message: Message,
    /// The state that comes with it, if it announces one; `None` where it should come and was not to be had.
    pub state: Option<Vec<u8>>,
}

impl Packet {
    /// Whether a state belongs to it.
    pub fn announces_state(&self) -> bool {
        self.message.get_msg_type() == MessageType::MsgSnapshot
    }
}

/// See the module.
#[derive(Default)]
pub struct Network {
    waiting: Vec<Packet>,
    /// Directions in which nothing passes.
    blocked: BTreeSet<(u64, u64)>,
    /// Packets lost.
    pub lost: u64,
    /// Packets that arrived twice.
    pub doubled: u64,
    /// Packets that overtook another.
    pub reordered: u64,
    /// Times that a direction was blocked.
    pub partitions: u64,
}

/// What becomes of the packet that was picked.
pub enum Fate {
    /// It arrives.
    Arrives(Packet),
    /// It is lost.
    Lost(Packet),
}

impl Network {
    /// Adds messages; a state is read for the one that announces it.
    pub fn send(&mut self, messages: Vec<Message>, outgoing: &mut Option<Box<dyn SnapshotSource>>) {
        for message in messages {
            let mut packet = Packet { message, state: None };
            if packet.announces_state() {
                let index = packet.message.get_snapshot().get_metadata().index;
                packet.state = outgoing.take().filter(|source| source.meta().index == index).and_then(|mut source| {
                    let mut bytes = Vec::new();
                    source.read_to_end(&mut bytes).is_ok().then_some(bytes)
                });
            }
            self.waiting.push(packet);
        }
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Picks a packet and decides.
    pub fn pick(&mut self, rng: &mut impl Rng) -> Option<Fate> {
        if self.waiting.is_empty() {
            return None;
        }
        let at = rng.random_range(0..self.waiting.len());
        self.reordered += u64::from(at > 0);
        let packet = if rng.random_bool(0.05) {
            self.doubled += 1;
            self.waiting[at].clone()
        } else {
            self.waiting.remove(at)
        };
        let blocked = self.blocked.contains(&(packet.message.from, packet.message.to));
        if blocked || rng.random_bool(0.05) {
            self.lost += 1;
            return Some(Fate::Lost(packet));
        }
        Some(Fate::Arrives(packet))
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
            self.partitions += 1;
            self.blocked.insert((one, other));
            if both {
                self.blocked.insert((other, one));
            }
        }
    }

    /// Everything passes.
    pub fn heal(&mut self) {
        self.blocked.clear();
    }
}
