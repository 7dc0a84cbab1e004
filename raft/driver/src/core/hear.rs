//! What a member makes of what others tell it, where raft-rs would make the wrong thing of it.

use raft::{
    ProgressState, StateRole,
    eraftpb::{Message, MessageType},
};

use super::{Core, Effects};

impl Core {
    /// What a peer sends wrong is its own affair: the message is refused, and this member goes on.
    pub(super) fn hear(&mut self, mut message: Box<Message>, effects: &mut Effects) {
        let raft = &self.node.raft;
        let term = raft.term;
        let received = message.get_snapshot().get_metadata().index;
        match message.get_msg_type() {
            MessageType::MsgTimeoutNow if self.stands_back() => return,
            // raft-rs would put any state in the place of the log, also one that was sent before the one that was asked for:
            // and with it forget entries that this member has acknowledged, and that were committed because it had.
            MessageType::MsgSnapshot if received < raft.pending_request_snapshot => {
                effects.unwanted.push(received);
                return;
            }
            _ => {}
        }
        if message.get_msg_type() == MessageType::MsgAppendResponse
            && message.reject
            && raft.state == StateRole::Leader
            && !self.hear_refusal(&mut message)
        {
            return;
        }
        if let Err(error) = self.node.step(*message) {
            tracing::debug!(%error, "message refused");
        }
        let raft = &mut self.node.raft;
        if self.rebuilding && raft.term > term {
            // raft-rs would go on to ask the new leader for the state of an entry that it may not have, and would take none of its
            // entries until then. It is asked again when one of them is here.
            raft.pending_request_snapshot = raft::INVALID_INDEX;
        }
        if received == 0 {
            return;
        }
        let taken = raft.snap().map(|snapshot| snapshot.get_metadata().index);
        // It may have come twice, and be on its way into the state.
        let installs = taken == Some(received) || self.installing == received && self.applied < received;
        if !installs {
            effects.unwanted.push(received);
        }
    }

    /// A follower has not what was sent, or asks for a state. Puts right what raft-rs makes of that; whether it may hear it.
    fn hear_refusal(&mut self, message: &mut Message) -> bool {
        let raft = &self.node.raft;
        let Some(progress) = raft.prs().get(message.from) else { return true };
        let (matched, receives) = (progress.matched, progress.state == ProgressState::Snapshot);
        if message.request_snapshot != raft::INVALID_INDEX {
            // raft-rs takes the request for an old one if what the sender knows to be committed is less than what it once
            // acknowledged, however often it is repeated. Its log never ends before that.
            message.index = message.index.max(message.reject_hint);
            // Whoever asks acknowledges nothing until it has the state, and what it asks for may not be committed before it
            // does: but its log is on its disk as far as it says.
            let agrees = message.term == raft.term && raft.raft_log.match_term(message.reject_hint, message.log_term);
            if agrees && message.reject_hint > matched && !receives {
                let (from, to, term, index) = (message.from, message.to, message.term, message.reject_hint);
                let mut has = Message { from, to, term, index, commit: message.commit, ..Message::default() };
                has.set_msg_type(MessageType::MsgAppendResponse);
                if let Err(error) = self.node.step(has) {
                    tracing::debug!(%error, "message refused");
                }
            }
            return true;
        }
        // Of what it has acknowledged since.
        if message.index <= matched {
            return false;
        }
        // raft-rs would go back behind what it has acknowledged since, where the log may be cut already.
        let agrees_to = match message.log_term {
            0 => message.reject_hint,
            term => raft.raft_log.find_conflict_by_term(message.reject_hint.min(raft.raft_log.last_index()), term).0,
        };
        if agrees_to < matched {
            (message.reject_hint, message.log_term) = (matched, 0);
        }
        true
    }

    /// A connection that breaks tells of a leader's end long before its silence does. Without a leader this member grants
    /// pre-votes at once, and soon asks for them itself; if the leader lives after all, its next message ends that.
    pub(super) fn lost(&mut self, member: u64) {
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Follower && raft.leader_id == member && raft.promotable() && !self.rebuilding {
            raft.leader_id = raft::INVALID_ID;
            // Not all at once, or they would split their votes.
            let wait = 1 + (self.config.member.wrapping_add(raft.term) % 4) as usize;
            raft.election_elapsed = raft.randomized_election_timeout().saturating_sub(wait);
        }
    }
}
