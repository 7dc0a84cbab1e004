//! Simulation of consensus and storage under crashes.
//!
//! A [`world::World`] runs the real core and the real state machine over a backend whose power can be cut at every write and
//! at every sync: what was not synced is gone, but for a torn beginning of it. Time is ticks, and every choice comes from
//! one seed, so that a failure is repeated by its seed. [`model`] says independently what every command must come to;
//! [`ledger`] holds the members to it, and to each other. [`explore`] cuts the power at every step of a run. Seeded
//! [`Bug`]s, of the kind that reviews miss, must be found: that is how the checkers are checked.
//!
//! Used by tests only. Never imported by anything.

pub mod check;
pub mod disk;
pub mod explore;
pub mod ledger;
pub mod model;
pub mod network;
pub mod simlog;
pub mod workload;
pub mod world;

/// A mistake made on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Every third write of the log is not synced.
    SkippedSync,
    /// The core is told that entries are on the disk when they are only on their way.
    EarlyAcknowledgement,
    /// The log is cut behind what is applied instead of what is flushed.
    CutUnflushed,
    /// A crash leaves half of the state's last write.
    HalfWrite,
    /// A member forgets in a crash whom it voted for.
    ForgottenVote,
    /// Reads are answered with what is applied instead of what consensus says.
    StaleRead,
}

/// What keeps a member's data, and loses part of it when the power is cut.
pub trait Backend {
    /// Opens what is there.
    fn open(&mut self) -> Result<Opened, String>;
    /// Cuts the power: what was not synced is lost. `torn` picks how much of it is left as a torn tail.
    fn crash(&mut self, torn: u64);
    /// The planned cut has happened: nothing that returned since is to be believed.
    fn dead(&self) -> bool;
    /// Writes and syncs so far: the moments at which the power can be cut.
    fn steps(&self) -> u64;
    /// Cuts the power at the given step from now on.
    fn plan_crash(&mut self, step: Option<u64>);
}

/// An opened log and state.
pub struct Opened {
    /// The log.
    pub log: std::sync::Arc<dyn navarch_raft_contract::LogStore>,
    /// The state.
    pub state: std::sync::Arc<dyn State>,
}

/// A state with all that the checkers want to see of it.
pub trait State: navarch_raft_contract::StateMachine + navarch_raft_contract::StateReader {
    /// The order-free hash that it keeps.
    fn hash(&self) -> u64;
}

impl<K: navarch_storage::kv::Kv + 'static> State for navarch_storage::Machine<K> {
    fn hash(&self) -> u64 {
        self.hash()
    }
}
