//! Simulation of consensus, storage and their callers under faults, and judges of recorded histories.
//!
//! A [`world::World`] runs the real core and the real state machine over a backend whose power can be cut, and whose writes
//! can fail, at every write and at every sync: what was not synced is gone, but for a torn beginning of it. Members are
//! killed, stopped and woken, have clocks of different speed, slow disks and states that drift apart; the [`network`] loses, doubles, reorders and
//! cuts off; members come and go. Clients, watchers and leaders' work go through any member. Time is choices, and every
//! choice comes from one seed, so that a failure is repeated by its seed.
//!
//! What went wrong is said twice. From inside: [`model`] says independently what every command must come to, and [`ledger`]
//! holds the members to it, and to each other. From outside: the judges of [`check`] read what clients, watchers and the
//! applier wrote down, share no code with what they judge, and are used on histories of real processes as well. Seeded
//! [`Bug`]s, of the kind that reviews miss, must be found: that is how both are checked. [`explore`] has the ways to run;
//! the example `seeds` runs as many as are wanted. Whatever fails leaves its [`story`].
//!
//! Used by tests only. Never imported by anything.

pub mod check;
pub mod counts;
pub mod disk;
pub mod explore;
pub mod ledger;
pub mod model;
pub mod network;
pub mod simlog;
pub mod story;
pub mod workload;
pub mod world;

use navarch_raft_contract::ConfState;

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
    /// A write's fence is not looked at.
    FenceIgnored,
    /// A fence is compared with the member's term of the moment instead of the entry's.
    FenceOfTheMoment,
    /// A watcher that connects elsewhere goes on one revision too late.
    LateResume,
    /// The events that a snapshot stands for are missing from those that watchers are served.
    LostAtInstall,
    /// Whoever asks for history that is gone is served from where it begins.
    AnsweredBelowFloor,
    /// A member that learns at a check that its state differs goes on with it.
    DamageKept,
    /// The hash that members compare leaves some keys out.
    BlindCheck,
    /// A member without a state stands for election, and asks nobody for a state.
    StandsWithoutState,
    /// Nobody's acknowledgement counts while a member is away.
    NeedsEverybody,
}

/// What keeps a member's data, and loses part of it when the power is cut.
pub trait Backend {
    /// Condemns the state, durably: the next [`Backend::open`] discards it, and until another one is installed
    /// [`Backend::condemned`] says who the members were. Does nothing where states are never damaged.
    fn condemn(&mut self, _members: ConfState) -> Result<(), String> {
        Ok(())
    }
    /// Who the members were when the state was condemned, until another one is in its place.
    fn condemned(&self) -> Option<ConfState> {
        None
    }
    /// Opens what is there.
    fn open(&mut self) -> Result<Opened, String>;
    /// Cuts the power: what was not synced is lost. `torn` picks how much of it is left as a torn tail.
    fn crash(&mut self, torn: u64);
    /// The process ends, and the power stays: what was written can be read again. Unless there is something better, the
    /// power is cut too.
    fn kill(&mut self) {
        self.crash(0);
    }
    /// A planned cut or failure has happened: nothing that returned since is to be believed.
    fn dead(&self) -> bool;
    /// Writes and syncs so far: the moments at which the power can be cut.
    fn steps(&self) -> u64;
    /// Cuts the power at the given step from now on.
    fn plan_crash(&mut self, step: Option<u64>);
    /// Lets the write or sync at the given step from now on fail with an error, where that can be done.
    fn plan_failure(&mut self, _step: Option<u64>) {}
    /// The disk is dead because a write or a sync failed.
    fn failed(&self) -> bool {
        false
    }
    /// Bytes that were written, not synced, and lost by crashes so far; 0 where they are not counted.
    fn discarded_bytes(&self) -> u64 {
        0
    }
    /// Crashes so far that left a part of what was not synced; 0 where they are not counted.
    fn torn_writes(&self) -> u64 {
        0
    }
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
