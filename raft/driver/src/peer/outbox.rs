//! What waits to be written to one peer, and the forwarded proposals that wait for its answer. All of it bounded: a peer
//! that does not read costs no more than these bounds.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use navarch_raft_contract::Outcome;
use parking_lot::Mutex;
use raft::eraftpb::Message;
use tokio::sync::{Notify, oneshot};

use super::{
    PeerConfig,
    frame::{Body, OVERHEAD_BYTES, Proposal, message_bytes, put, put_message},
};
use crate::shell::ProposeError;

/// Bytes of messages, and of proposals, that one write takes: messages never wait behind more than that of proposals.
const WRITE_BYTES: usize = 256 << 10;

type Reply = oneshot::Sender<Result<Outcome, ProposeError>>;

pub(super) struct Outbox {
    state: Mutex<State>,
    filled: Notify,
    messages_max: usize,
    message_bytes_max: usize,
    proposals_max: usize,
    proposal_bytes_max: usize,
    frame_bytes_max: usize,
}

#[derive(Default)]
struct State {
    /// Nothing is taken in without a connection: what is old when it arrives is of no use.
    connected: bool,
    messages: VecDeque<(Message, usize)>,
    message_bytes: usize,
    proposals: VecDeque<(u64, Bytes)>,
    proposal_bytes: usize,
    waiting: HashMap<u64, Waiting>,
    last_id: u64,
}

struct Waiting {
    reply: Reply,
    /// It may have reached the peer.
    written: bool,
}

impl Outbox {
    pub(super) fn new(config: &PeerConfig) -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
            messages_max: config.messages_max,
            message_bytes_max: config.message_bytes_max,
            proposals_max: config.proposals_max,
            proposal_bytes_max: config.proposal_bytes_max,
            frame_bytes_max: config.frame_bytes_max,
        }
    }

    /// Takes a message in. `false`: it is lost.
    pub(super) fn message(&self, message: Message) -> bool {
        let bytes = message_bytes(&message);
        if bytes + OVERHEAD_BYTES > self.frame_bytes_max {
            tracing::error!(
                to = message.to,
                bytes,
                max = self.frame_bytes_max,
                "message too large for a frame: dropped"
            );
            return false;
        }
        let mut state = self.state.lock();
        let full = state.messages.len() >= self.messages_max || state.message_bytes + bytes > self.message_bytes_max;
        if full || !state.connected {
            return false;
        }
        state.message_bytes += bytes;
        state.messages.push_back((message, bytes));
        drop(state);
        self.filled.notify_one();
        true
    }

    /// Takes a proposal in. The answer comes when the peer gives it, or when the connection ends.
    pub(super) fn propose(
        &self,
        command: Bytes,
    ) -> Result<oneshot::Receiver<Result<Outcome, ProposeError>>, ProposeError> {
        let (bytes, max) = (command.len(), self.frame_bytes_max - OVERHEAD_BYTES);
        if bytes > max {
            return Err(ProposeError::TooLarge { bytes, max });
        }
        let mut state = self.state.lock();
        if !state.connected {
            return Err(ProposeError::NotLeader { leader: None });
        }
        if state.waiting.len() >= self.proposals_max || state.proposal_bytes + bytes > self.proposal_bytes_max {
            return Err(ProposeError::Busy);
        }
        let (reply, answer) = oneshot::channel();
        state.last_id += 1;
        let id = state.last_id;
        state.waiting.insert(id, Waiting { reply, written: false });
        state.proposal_bytes += bytes;
        state.proposals.push_back((id, command));
        drop(state);
        self.filled.notify_one();
        Ok(answer)
    }

    /// Waits until there is something to write.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Moves into the buffer what one write takes. Returns the number of messages.
    pub(super) fn take(&self, buffer: &mut BytesMut) -> u64 {
        let (mut messages, mut proposals, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut state = self.state.lock();
        while bytes < WRITE_BYTES
            && let Some((message, size)) = state.messages.pop_front()
        {
            state.message_bytes -= size;
            bytes += size;
            messages.push(message);
        }
        bytes = 0;
        while bytes < WRITE_BYTES
            && let Some((id, command)) = state.proposals.pop_front()
        {
            state.proposal_bytes -= command.len();
            match state.waiting.get_mut(&id) {
                // Whoever proposed gave up before anything was sent.
                Some(waiting) if waiting.reply.is_closed() => {
                    state.waiting.remove(&id);
                }
                Some(waiting) => {
                    waiting.written = true;
                    bytes += command.len();
                    proposals.push(Proposal { id, command });
                }
                None => {}
            }
        }
        if !state.messages.is_empty() || !state.proposals.is_empty() {
            self.filled.notify_one();
        }
        drop(state);
        messages.iter().for_each(|message| put_message(message, buffer));
        proposals.into_iter().for_each(|proposal| put(Body::Proposal(proposal), buffer));
        messages.len() as u64
    }

    /// The peer answered a proposal.
    pub(super) fn answer(&self, id: u64, result: Result<Outcome, ProposeError>) {
        let waiting = self.state.lock().waiting.remove(&id);
        if let Some(waiting) = waiting {
            // Who gave up waiting is not told.
            let _ = waiting.reply.send(result);
        }
    }

    pub(super) fn connected(&self) {
        self.state.lock().connected = true;
    }

    /// The connection ended: messages are lost; proposals that may have arrived have an unknown outcome, and the others
    /// get `unsent`. Returns the number of messages.
    pub(super) fn disconnected(&self, unsent: ProposeError) -> u64 {
        let mut state = self.state.lock();
        let last_id = state.last_id;
        let before = std::mem::replace(&mut *state, State { last_id, ..State::default() });
        drop(state);
        for waiting in before.waiting.into_values() {
            let _ = waiting.reply.send(Err(if waiting.written { ProposeError::Unknown } else { unsent }));
        }
        before.messages.len() as u64
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state.lock().connected
    }

    /// Proposals that are not answered.
    pub(super) fn proposals(&self) -> usize {
        self.state.lock().waiting.len()
    }
}
