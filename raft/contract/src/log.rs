//! The Raft log as the driver sees it: entries, hard state, and the trait of whatever keeps them.

use bytes::Bytes;

use crate::{Index, Term};

/// What an entry carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Commands, or nothing (the entry by which a new leader opens its term).
    Normal,
    /// A change of one member.
    ConfChange,
    /// A change of several members, or the end of one.
    ConfChangeV2,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Position.
    pub index: Index,
    /// Term of the leader that appended it.
    pub term: Term,
    /// What `data` is.
    pub kind: EntryKind,
    /// A [`crate::Batch`], a membership change, or nothing.
    pub data: Bytes,
    /// Free for the proposer.
    pub context: Bytes,
}

impl LogEntry {
    /// Bytes it takes in memory and in a database, about.
    pub fn size(&self) -> usize {
        self.data.len() + self.context.len() + 64
    }
}

/// What Raft must not forget about elections; `commit` is a hint that may be behind.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct HardState {
    /// Current term.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Who got this member's vote in the term; 0: nobody.
    #[prost(uint64, tag = "2")]
    pub vote: u64,
    /// Known to be committed.
    #[prost(uint64, tag = "3")]
    pub commit: u64,
}

/// The members, as of some applied entry.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConfState {
    /// Voting members.
    #[prost(uint64, repeated, tag = "1")]
    pub voters: Vec<u64>,
    /// Members that only follow.
    #[prost(uint64, repeated, tag = "2")]
    pub learners: Vec<u64>,
    /// Voters of the outgoing half of a joint configuration.
    #[prost(uint64, repeated, tag = "3")]
    pub voters_outgoing: Vec<u64>,
    /// Voters that become learners when the joint configuration ends.
    #[prost(uint64, repeated, tag = "4")]
    pub learners_next: Vec<u64>,
    /// Whether Raft leaves the joint configuration by itself.
    #[prost(bool, tag = "5")]
    pub auto_leave: bool,
}

/// How the cluster began, and who this member is. Written once, before anything else.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Bootstrap {
    /// The cluster's id: a data folder never serves another cluster.
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    /// This member.
    #[prost(uint64, tag = "2")]
    pub member: u64,
    /// The members before the first entry.
    #[prost(message, optional, tag = "3")]
    pub members: Option<ConfState>,
}

/// What is to be written together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogBatch {
    /// Consecutive entries. Entries that the log already has from the first index on are replaced, all of them.
    pub entries: Vec<LogEntry>,
    /// New hard state.
    pub hard_state: Option<HardState>,
}

/// What the log holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogState {
    /// Last entry that was forgotten, 0 if none was.
    pub prefix_index: Index,
    /// Its term.
    pub prefix_term: Term,
    /// Last entry; `prefix_index` if the log is empty.
    pub last_index: Index,
    /// Hard state, if any was written.
    pub hard_state: Option<HardState>,
    /// How the cluster began.
    pub bootstrap: Option<Bootstrap>,
}

/// Figures of a log, counted from start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounters {
    /// Synced writes that returned.
    pub syncs: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes of those entries.
    pub bytes: u64,
}

/// Why the log failed. After any of these the process must end: what is on the disk is not known any more.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum LogError {
    /// The database reported an error; for a sync, whether the bytes are on the disk is unknown.
    #[error("log database: {0}")]
    Database(String),
    /// What was read cannot be.
    #[error("log database is corrupt: {0}")]
    Corrupt(String),
    /// The caller asked for what cannot be (a gap between entries, entries that are forgotten).
    #[error("log: {0}")]
    Misuse(String),
}

/// Keeps the log. One writer; readers on any thread.
pub trait LogStore: Send + Sync {
    /// What is there.
    fn state(&self) -> Result<LogState, LogError>;
    /// Entries `low..high`, at least one if there is any, then up to `max_bytes`.
    fn entries(&self, low: Index, high: Index, max_bytes: usize) -> Result<Vec<LogEntry>, LogError>;
    /// The term of an entry, or of the last forgotten one; `None` for any other.
    fn term(&self, index: Index) -> Result<Option<Term>, LogError>;
    /// Records how the cluster began; on the disk when it returns.
    fn bootstrap(&self, bootstrap: &Bootstrap) -> Result<(), LogError>;
    /// Writes a batch, atomically; on the disk when it returns.
    fn append(&self, batch: &LogBatch) -> Result<(), LogError>;
    /// Forgets entries up to `index`, which the durable state covers; what is forgotten already is no error. Need not be
    /// on the disk when it returns.
    fn compact(&self, index: Index) -> Result<(), LogError>;
    /// Forgets all entries, as if the last forgotten one were `index` of `term`. The hard state stays.
    fn reset(&self, index: Index, term: Term) -> Result<(), LogError>;
    /// Figures.
    fn counters(&self) -> LogCounters;
}
