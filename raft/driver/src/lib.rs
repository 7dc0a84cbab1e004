//! Consensus: a core that decides, and threads that carry out.
//!
//! [`core`] wraps raft-rs without clock, thread, randomness or I/O of its own but reads of old log entries: inputs go in,
//! effects come out. [`start`] runs it: the *driver* thread steps the core, the *log writer* makes entries durable, the
//! *applier* applies what is committed, tells the sinks, and only then answers the proposers; *chores* flush the state,
//! cut the log and sweep history. The simulation in `chaos/` runs the same core.
//!
//! If any of the threads fails, so that the log or the state may be wrong, `fatal` is called: the process must end.

pub mod checks;
pub mod config;
pub mod convert;
pub mod core;
mod logger;
pub mod peer;
pub mod recover;
mod shell;
pub mod transport;

pub use checks::{Checks, Verdict};
pub use config::Config;
pub use core::{Core, CoreConfig, Effects, Input, MemberChange, PeerProgress};
pub use peer::{Local, PeerConfig, PeerFigures, PeerTls, Peers};
pub use recover::RecoverError;
pub use shell::{
    Fatal, FatalError, Figures, Parts, ProposeError, RaftHandle, ReadIndexError, Role, StartError, Status, View, start,
};
pub use transport::{NoPeers, Transport};
