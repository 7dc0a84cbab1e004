//! Whether this member leads.

use tokio::sync::watch;

/// The Raft term in which this member leads and may run what only a leader runs; `None` while it may not. Whoever starts a
/// subtree under it gives every write the term as a fence ([`crate::Client::fenced`]).
pub type LeaderGate = watch::Receiver<Option<u64>>;

/// Opens and closes the gate: held by whoever knows who leads.
#[derive(Debug)]
pub struct LeaderSwitch(watch::Sender<Option<u64>>);

impl Default for LeaderSwitch {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl LeaderSwitch {
    /// Closed.
    pub fn new() -> Self {
        Self::default()
    }

    /// A gate behind this switch.
    pub fn gate(&self) -> LeaderGate {
        self.0.subscribe()
    }

    /// This member leads in this term, and has applied the term's first entry.
    pub fn open(&self, term: u64) {
        self.0.send_if_modified(|now| now.replace(term) != Some(term));
    }

    /// This member leads no more.
    pub fn close(&self) {
        self.0.send_if_modified(|now| now.take().is_some());
    }
}
