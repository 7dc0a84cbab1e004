//! The way to other members, as the driver sees it: another consumer of the core's effects.

use raft::eraftpb::Message;

/// Sends messages to peers, best effort, without waiting: what cannot be sent is lost, and Raft sends again.
pub trait Transport: Send + Sync {
    /// Sends each message to the member in its `to`.
    fn send(&self, messages: Vec<Message>);
}

/// The transport of a cluster of one: there is nobody to send to.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Transport for NoPeers {
    fn send(&self, messages: Vec<Message>) {
        for message in messages {
            tracing::debug!(to = message.to, "no way to a peer: message dropped");
        }
    }
}
