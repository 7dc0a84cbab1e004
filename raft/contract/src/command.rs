//! Commands as they stand in the log, and what applying one came to.
//!
//! Apply is deterministic and total: a command carries everything its effect depends on. Times, uids and names are fixed
//! before the proposal; a fence is compared with the entry's own term and nothing else.

use bytes::Bytes;

use crate::{Index, Revision, Term};

/// One entry's payload. Encoded with protobuf; several commands may share an entry (see [`Batch`]).
#[derive(Clone, PartialEq, prost::Message)]
pub struct Command {
    /// If not zero, the command has an effect only in an entry of this term ([`Outcome::Fenced`] otherwise).
    #[prost(uint64, tag = "1")]
    pub fence_term: u64,
    /// What to do. A member that meets a body it does not know stops.
    #[prost(oneof = "CommandBody", tags = "2, 3, 4, 5, 6")]
    pub body: Option<CommandBody>,
}

/// The commands of one log entry, applied in order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Batch {
    /// The commands.
    #[prost(message, repeated, tag = "1")]
    pub commands: Vec<Command>,
}

impl Batch {
    /// Encoded. Encodings of batches laid end to end are the encoding of one batch with all their commands.
    pub fn to_bytes(&self) -> Bytes {
        prost::Message::encode_to_vec(self).into()
    }

    /// Decoded. Byte fields share the memory of `data`.
    pub fn from_bytes(data: Bytes) -> Result<Self, prost::DecodeError> {
        prost::Message::decode(data)
    }
}

/// The kinds of command.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum CommandBody {
    /// Compare and change keys.
    #[prost(message, tag = "2")]
    Txn(Txn),
    /// Raise the compaction floor.
    #[prost(message, tag = "3")]
    Compact(Compact),
    /// Delete keys whose time has come.
    #[prost(message, tag = "4")]
    Expire(Expire),
    /// Every member is to note the hash of its state here.
    #[prost(message, tag = "5")]
    Check(Check),
    /// A member says which hash it noted.
    #[prost(message, tag = "6")]
    Witness(Witness),
}

/// All compares are checked, then all operations are carried out, or none of them. Each operation that changes something
/// takes the next revision; a key may occur in one operation only.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Txn {
    /// Conditions on the state before the transaction.
    #[prost(message, repeated, tag = "1")]
    pub compares: Vec<Compare>,
    /// Changes, in order.
    #[prost(message, repeated, tag = "2")]
    pub ops: Vec<Op>,
}

/// Holds if the key's last change is at `mod_revision`; 0 stands for "the key does not exist".
#[derive(Clone, PartialEq, prost::Message)]
pub struct Compare {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Revision of the last change that the proposer saw, 0 if it saw none.
    #[prost(uint64, tag = "2")]
    pub mod_revision: u64,
}

/// One change of one key.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Op {
    /// Put or delete.
    #[prost(enumeration = "OpKind", tag = "1")]
    pub kind: i32,
    /// The key.
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    /// The new value; for a delete, the last value as watchers are to see it, or empty: then the stored value stands.
    #[prost(bytes = "bytes", tag = "3")]
    pub value: Bytes,
    /// When the key may be expired, milliseconds since the Unix epoch by the proposer's clock; 0: never.
    #[prost(uint64, tag = "4")]
    pub expires_at_ms: u64,
}

/// What an [`Op`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum OpKind {
    /// Set the value.
    Put = 0,
    /// Remove the key. Deleting what does not exist changes nothing and takes no revision.
    Delete = 1,
}

/// Forget history: revisions up to `floor` cannot be read or watched from any more. The value live at the floor stays.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Compact {
    /// The new floor. Lower than the present one: no effect.
    #[prost(uint64, tag = "1")]
    pub floor: u64,
    /// Higher floors of keys whose history is worth less.
    #[prost(message, repeated, tag = "2")]
    pub prefixes: Vec<PrefixFloor>,
}

/// The floor of the keys that begin with a prefix. No prefix begins with another one.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PrefixFloor {
    /// What the keys begin with.
    #[prost(bytes = "bytes", tag = "1")]
    pub prefix: Bytes,
    /// Their floor. Lower than the present one: no effect.
    #[prost(uint64, tag = "2")]
    pub floor: u64,
}

/// Delete each key whose last change is still the one named: a renewed key is left alone.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Expire {
    /// The keys.
    #[prost(message, repeated, tag = "1")]
    pub keys: Vec<Compare>,
}

/// The place in the log at which every member notes the hash of its state. Changes nothing: what is found is not part of the
/// state, or members that differ would differ in one more thing.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Check {}

/// What a member found at a [`Check`]. Changes nothing. Everybody sees all of them, so that everybody knows by itself whether
/// it is the one who differs.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Witness {
    /// The member.
    #[prost(uint64, tag = "1")]
    pub member: u64,
    /// The entry of the check.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// The hash of its state after it.
    #[prost(fixed64, tag = "3")]
    pub hash: u64,
}

/// What applying came across that is about the state and not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// A [`Check`]: this member's state has this hash there.
    Check {
        /// The entry.
        index: Index,
        /// The hash.
        hash: u64,
    },
    /// What a member says.
    Witness(Witness),
}

/// What the leader's expiry loop reads from the state: a key that may be expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The key.
    pub key: Bytes,
    /// Its last change.
    pub mod_revision: Revision,
    /// Milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
}

/// What applying one command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done. `first..=last` are the revisions taken; `last < first` if nothing changed.
    Done {
        /// The entry.
        index: Index,
        /// First revision taken.
        first: Revision,
        /// Last revision taken; the store's revision after the command.
        last: Revision,
    },
    /// A compare did not hold; nothing was changed.
    Conflict {
        /// The entry.
        index: Index,
        /// Position in [`Txn::compares`] of the first that failed.
        compare: usize,
        /// The key's last change as it is, 0 if it does not exist.
        actual: Revision,
    },
    /// The fence named another term; nothing was changed.
    Fenced {
        /// The term of the entry.
        term: Term,
    },
}
