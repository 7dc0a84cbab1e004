//! What arrives, and what becomes of what does not.

use navarch_raft_driver::Input;
use raft::eraftpb::Message;
use rand::Rng;

use super::{World, member::Member};
use crate::{
    Backend, Bug,
    ledger::Violation,
    network::{Body, Fate, Packet},
};

impl<B: Backend> World<B> {
    pub(super) fn deliver(&mut self) -> Result<(), Violation> {
        let (members, now) = (&self.members, self.now);
        let awake = |id: u64| members.get(id as usize - 1).is_none_or(|member| member.paused_until <= now);
        match self.network.pick(&mut self.rng, awake) {
            None => Ok(()),
            Some(Fate::Arrives(packet)) => self.arrive(packet),
            Some(Fate::Lost(packet)) => {
                self.report(&packet, false);
                if self.rng.random_bool(0.3) {
                    self.post(Packet { from: packet.from, to: packet.from, body: Body::Unreachable(packet.to) });
                }
                Ok(())
            }
        }
    }

    pub(super) fn arrive(&mut self, packet: Packet) -> Result<(), Violation> {
        let to = packet.to as usize - 1;
        let announced = packet.announces_state();
        if self.bug == Some(Bug::NeedsEverybody) && packet.acknowledges() && self.members.iter().any(Member::is_away) {
            return Ok(());
        }
        match packet.body {
            Body::Raft(message, state) if announced => {
                let whole = self.stage(to, state)?;
                self.report(&Packet { body: Body::Raft(message.clone(), None), ..packet }, whole);
                if whole { self.hand_over(to, message) } else { Ok(()) }
            }
            Body::Raft(message, _) => self.hand_over(to, message),
            Body::Forward(request) => {
                if self.members[to].running.is_some() {
                    self.submit(to, request);
                }
                Ok(())
            }
            Body::Answer(id, reply) => {
                self.replied(to, id, reply);
                Ok(())
            }
            Body::Unreachable(peer) => self.step(to, vec![Input::Unreachable { peer }]),
            Body::Report(peer, arrived) => self.step(to, vec![Input::SnapshotSent { to: peer, arrived }]),
        }
    }

    fn hand_over(&mut self, to: usize, message: Box<Message>) -> Result<(), Violation> {
        self.step(to, vec![Input::Message(message)])
    }

    /// A state that comes with a message is staged before the core hears of it. Whether it is there.
    fn stage(&mut self, to: usize, state: Option<Vec<u8>>) -> Result<bool, Violation> {
        let whole = match (&self.members[to].running, state) {
            (Some(running), Some(bytes)) => {
                let staged = running.state.stage().and_then(|mut sink| {
                    sink.write_all(&bytes)?;
                    sink.finish()
                });
                staged.is_ok()
            }
            _ => false,
        };
        if self.members[to].backend.dead() {
            self.crashed(to)?;
        }
        Ok(whole)
    }

    /// The sender of a state learns what became of it, from its own link.
    fn report(&mut self, packet: &Packet, arrived: bool) {
        if packet.announces_state() {
            self.post(Packet { from: packet.from, to: packet.from, body: Body::Report(packet.to, arrived) });
        }
    }
}
