//! What consensus, storage and the store agree on: commands, outcomes, events, and the traits between them.
//!
//! Types only. Nothing here opens a file, starts a thread or reads a clock. `raft/driver` and `storage` both import this
//! crate and never each other; `api/store` brings the two together.

pub mod command;
pub mod event;
pub mod log;
pub mod read;
pub mod room;
pub mod snapshot;
pub mod state;

pub use command::{
    Batch, Check, Command, CommandBody, Compact, Compare, Expire, Expiry, Op, OpKind, Outcome, PrefixFloor, Sighting,
    Txn, Witness,
};
pub use event::{AppliedBatch, ApplySink, Event, EventKind};
pub use log::{
    Bootstrap, ConfState, EntryKind, HardState, LogBatch, LogCounters, LogEntry, LogError, LogState, LogStore,
};
pub use read::{KeyRange, KeyValue, RangePage, ReadError, StateReader};
pub use room::{Room, RoomLevel};
pub use snapshot::{SnapshotError, SnapshotMeta, SnapshotSink, SnapshotSource};
pub use state::{Applied, AppliedState, ApplyError, CommittedEntry, Payload, StateMachine};

/// Position of an entry in the Raft log. The first entry has index 1.
pub type Index = u64;
/// A Raft term.
pub type Term = u64;
/// One position in the store's single sequence of changes. The empty store is at revision 1; the first change is 2, as
/// clients of Kubernetes treat revision 0 as "unset" and etcd starts at 1.
pub type Revision = u64;
