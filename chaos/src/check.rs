//! Judges of recorded histories: what clients called and were answered, what watchers saw, what was applied, what is there.
//!
//! Nothing here knows how navarch does anything: no code is shared with what is checked, only plain records go in. They are
//! written as lines of JSON (see [`recorder`]), so that a harness of real processes can record while load runs and check
//! afterwards; the simulation fills the same records in memory. A judge that runs out of its budget says so as a fault:
//! none ever passes what it has not decided.

pub mod durability;
pub mod fencing;
pub mod history;
pub mod linearizability;
pub mod orphans;
pub mod recorder;
pub mod retention;
pub mod sessions;
pub mod truth;
pub mod watch;

/// Why a history is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A promise was broken.
    #[error("{checker}: {what}")]
    Broken {
        /// Which judge says so.
        checker: &'static str,
        /// What is wrong, with the evidence.
        what: String,
    },
    /// The budget was spent before there was an answer. Not a pass: give a larger budget or a smaller history.
    #[error("{checker}: undecided: {what}")]
    Undecided {
        /// Which judge says so.
        checker: &'static str,
        /// What it was at.
        what: String,
    },
    /// The records contradict themselves or lack what is needed: the recorder is wrong, or the history incomplete.
    #[error("{checker}: the record cannot be judged: {what}")]
    Unusable {
        /// Which judge says so.
        checker: &'static str,
        /// What is wrong with it.
        what: String,
    },
}

impl Fault {
    /// Which judge says so.
    pub fn checker(&self) -> &'static str {
        match self {
            Self::Broken { checker, .. } | Self::Undecided { checker, .. } | Self::Unusable { checker, .. } => checker,
        }
    }
}

/// Makes the faults of one judge.
#[derive(Clone, Copy)]
struct Judge(&'static str);

impl Judge {
    fn broken(self, what: impl Into<String>) -> Fault {
        Fault::Broken { checker: self.0, what: what.into() }
    }

    fn unusable(self, what: impl Into<String>) -> Fault {
        Fault::Unusable { checker: self.0, what: what.into() }
    }

    /// Fails with the words if it does not hold.
    fn demand(self, holds: bool, what: impl FnOnce() -> String) -> Result<(), Fault> {
        if holds { Ok(()) } else { Err(self.broken(what())) }
    }
}
