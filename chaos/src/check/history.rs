//! The records that judges read. Times are of one clock of the recorder, in any unit; only their order counts.

use serde::{Deserialize, Serialize};

/// What a client asked of one key, and what it was answered. A transaction over several keys is one of these for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Who asked.
    pub client: u64,
    /// The key.
    pub key: String,
    /// When it was called.
    pub called: u64,
    /// What was asked.
    pub act: Act,
    /// The answer. Without one the operation may have happened at any time after its call, or never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Answered>,
}

/// What can be asked of a key. Where a revision is expected, 0 stands for "the key does not exist".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// A linearizable read.
    Read,
    /// Set the value, whatever is there.
    Put {
        /// The new value. Values should be unique, or the judges see less.
        value: String,
    },
    /// Set the value if the key's last change is the one expected.
    Swap {
        /// Revision of the last change.
        expected: u64,
        /// The new value.
        value: String,
    },
    /// Remove the key, if its last change is the one expected, where one is.
    Delete {
        /// Revision of the last change.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected: Option<u64>,
    },
    /// Leave the key as it is, if its last change is the one expected: a compare of a transaction that changes other keys.
    Check {
        /// Revision of the last change.
        expected: u64,
    },
}

/// An answer and when it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// When.
    pub at: u64,
    /// What.
    pub what: Answer,
    /// For a read: the store's revision that it was served from, if that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<u64>,
}

/// What an operation came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A read found a value.
    Found {
        /// The value.
        value: String,
        /// Revision of its last change.
        revision: u64,
    },
    /// A read, or a delete, found nothing.
    Absent,
    /// The change was made.
    Done {
        /// The revision that it took, if that was told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<u64>,
    },
    /// A check held.
    Held,
    /// What was expected is not so; nothing was changed.
    Conflict {
        /// Revision of the last change as it was, 0 if the key did not exist; if that was told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        actual: Option<u64>,
    },
    /// It certainly has not happened and never will, for reasons that say nothing about the key.
    Refused,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Item {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// Revision of the last change.
    pub revision: u64,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It did not exist before.
    Added,
    /// It existed before.
    Modified,
    /// It does not exist any more.
    Deleted,
}

/// One change of one key, as history or a watcher has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The revision of the change.
    pub revision: u64,
    /// The key.
    pub key: String,
    /// What happened.
    pub kind: Kind,
    /// The new value; for a delete, the last one.
    pub value: String,
    /// Revision of the key's change before this one, 0 if there was none; if that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<u64>,
}

/// What a watcher came across, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// All that was there at a revision; from here on events count.
    Listed {
        /// The revision.
        revision: u64,
        /// What was there, in any order.
        items: Vec<Item>,
    },
    /// A watch began.
    Opened {
        /// Events after this revision were asked for.
        after: u64,
        /// Of whom. For the reader only.
        member: String,
    },
    /// An event.
    Event(Change),
    /// The server says that all up to this revision was delivered.
    Bookmark {
        /// The revision.
        revision: u64,
    },
    /// The server says that history after this revision is gone (410): the watcher must list anew.
    Expired {
        /// The revision that was asked for.
        after: u64,
    },
}

/// What one watcher came across.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchLog {
    /// Its name.
    pub watcher: String,
    /// It watches the keys that begin with this.
    pub prefix: String,
    /// What it came across.
    pub seen: Vec<Seen>,
}

/// A read that asked for a state not older than some revision, from whichever member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRead {
    /// Who read.
    pub client: u64,
    /// Not older than this.
    pub asked: u64,
    /// The store's revision that it was served from.
    pub store: u64,
    /// The keys that begin with this were read.
    pub prefix: String,
    /// What was there, in any order.
    pub items: Vec<Item>,
}

/// A read at a revision that was, from whichever member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRead {
    /// Who read.
    pub client: u64,
    /// The revision.
    pub asked: u64,
    /// The revision of the store that answered.
    pub store: u64,
    /// The keys that begin with this were read.
    pub prefix: String,
    /// What was there, in any order; `None`: refused, because that much of history is gone.
    pub items: Option<Vec<Item>>,
}

/// A write that carries the term of the leader that made it, at the place where it was applied or refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FencedWrite {
    /// Position in the order in which writes were applied: a revision, or an entry's index.
    pub position: u64,
    /// The term that it carries; 0: it carries none.
    pub fence: u64,
    /// The term of the entry that it was in, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_term: Option<u64>,
    /// Whether it was applied; otherwise it was refused for its fence.
    pub applied: bool,
}
