//! Values of both databases: what stands behind the keys of [`crate::keys`].
//!
//! Fixed fields first, big-endian, then bytes of any length up to the end. Decoding never panics.

use bytes::{BufMut, Bytes};
use navarch_raft_contract::{ConfState, EntryKind, EventKind, Index, KeyRange, LogEntry, PrefixFloor, Revision};

/// How far the state is. One record, written with every batch.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Meta {
    /// Last applied entry.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// Its term.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// Last revision taken.
    #[prost(uint64, tag = "3")]
    pub revision: u64,
    /// Compaction floor.
    #[prost(uint64, tag = "4")]
    pub floor: u64,
    /// Members as of `index`.
    #[prost(message, optional, tag = "5")]
    pub members: Option<ConfState>,
    /// Order-free hash over key, revision and value of everything that lives.
    #[prost(fixed64, tag = "6")]
    pub hash: u64,
    /// Floors of keys whose history is kept for a shorter time, in order of the prefixes.
    #[prost(message, repeated, tag = "7")]
    pub floors: Vec<PrefixFloor>,
}

impl Meta {
    /// The floor of all keys of a range.
    pub fn floor_of(&self, range: &KeyRange) -> Revision {
        let overlaps = |prefix: &[u8]| {
            let keys = KeyRange::prefix(prefix);
            keys.start < range.end && range.start < keys.end
        };
        let floors = self.floors.iter().filter(|at| overlaps(&at.prefix)).map(|at| at.floor);
        floors.fold(self.floor, Revision::max)
    }

    /// The floor of a key.
    pub fn floor_at(&self, key: &[u8]) -> Revision {
        let floors = self.floors.iter().filter(|at| key.starts_with(&at.prefix)).map(|at| at.floor);
        floors.fold(self.floor, Revision::max)
    }
}

/// Last forgotten entry of the log.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Prefix {
    /// The entry.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// Its term.
    #[prost(uint64, tag = "2")]
    pub term: u64,
}

/// A key that exists, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latest {
    /// Its last change.
    pub modified: Revision,
    /// When it was created.
    pub created: Revision,
    /// When it may be expired, 0: never.
    pub expires_at_ms: u64,
    /// Its share of [`Meta::hash`].
    pub hash: u64,
}

/// A key at one of its revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version<'a> {
    /// Put, or delete.
    pub kind: EventKind,
    /// When the key was created.
    pub created: Revision,
    /// The value; for a delete the last one, or none if that is the one of the key's change before. That one's record is kept
    /// as long as this one.
    pub value: Option<&'a [u8]>,
}

/// What happened at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// Put, or delete.
    pub kind: EventKind,
    /// Whether the transaction goes on at the next revision.
    pub more: bool,
    /// When the key was created.
    pub created: Revision,
    /// The key's change before, 0 if none.
    pub previous: Revision,
    /// The key.
    pub key: &'a [u8],
}

const DELETE: u8 = 1;
const MORE: u8 = 2;
const AS_BEFORE: u8 = 4;

fn take_u64<'a>(bytes: &mut &'a [u8]) -> Option<u64> {
    let (head, rest): (&'a [u8; 8], _) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_be_bytes(*head))
}

fn take_u8(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn kind_of(flags: u8) -> EventKind {
    if flags & DELETE == 0 { EventKind::Put } else { EventKind::Delete }
}

fn flag_of(kind: EventKind) -> u8 {
    match kind {
        EventKind::Put => 0,
        EventKind::Delete => DELETE,
    }
}

impl Latest {
    /// Encoded.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        for field in [self.modified, self.created, self.expires_at_ms, self.hash] {
            out.put_u64(field);
        }
        out
    }

    /// Decoded, if it is one.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let (modified, created) = (take_u64(bytes)?, take_u64(bytes)?);
        let (expires_at_ms, hash) = (take_u64(bytes)?, take_u64(bytes)?);
        bytes.is_empty().then_some(Self { modified, created, expires_at_ms, hash })
    }
}

impl<'a> Version<'a> {
    /// Encoded.
    pub fn encode(&self) -> Vec<u8> {
        let value = self.value.unwrap_or_default();
        let mut out = Vec::with_capacity(9 + value.len());
        out.put_u8(flag_of(self.kind) | if self.value.is_none() { AS_BEFORE } else { 0 });
        out.put_u64(self.created);
        out.put_slice(value);
        out
    }

    /// Decoded, if it is one.
    pub fn decode(mut bytes: &'a [u8]) -> Option<Self> {
        let flags = take_u8(&mut bytes)?;
        let created = take_u64(&mut bytes)?;
        Some(Self { kind: kind_of(flags), created, value: (flags & AS_BEFORE == 0).then_some(bytes) })
    }
}

impl<'a> Change<'a> {
    /// Encoded.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(17 + self.key.len());
        out.put_u8(flag_of(self.kind) | if self.more { MORE } else { 0 });
        out.put_u64(self.created);
        out.put_u64(self.previous);
        out.put_slice(self.key);
        out
    }

    /// Decoded, if it is one.
    pub fn decode(mut bytes: &'a [u8]) -> Option<Self> {
        let flags = take_u8(&mut bytes)?;
        let created = take_u64(&mut bytes)?;
        let previous = take_u64(&mut bytes)?;
        Some(Self { kind: kind_of(flags), more: flags & MORE != 0, created, previous, key: bytes })
    }
}

/// A log entry, encoded without its index, which is in the key.
pub fn encode_entry(entry: &LogEntry) -> Vec<u8> {
    let mut out = Vec::with_capacity(13 + entry.context.len() + entry.data.len());
    out.put_u64(entry.term);
    out.put_u8(match entry.kind {
        EntryKind::Normal => 0,
        EntryKind::ConfChange => 1,
        EntryKind::ConfChangeV2 => 2,
    });
    out.put_u32(u32::try_from(entry.context.len()).unwrap_or(u32::MAX));
    out.put_slice(&entry.context);
    out.put_slice(&entry.data);
    out
}

/// The term of an encoded log entry.
pub fn entry_term(mut bytes: &[u8]) -> Option<u64> {
    take_u64(&mut bytes)
}

/// A log entry, decoded, if it is one.
pub fn decode_entry(index: Index, bytes: Vec<u8>) -> Option<LogEntry> {
    let bytes = Bytes::from(bytes);
    let mut rest: &[u8] = &bytes;
    let term = take_u64(&mut rest)?;
    let kind = match take_u8(&mut rest)? {
        0 => EntryKind::Normal,
        1 => EntryKind::ConfChange,
        2 => EntryKind::ConfChangeV2,
        _ => return None,
    };
    let (length, rest): (&[u8; 4], _) = rest.split_first_chunk()?;
    let (context, data) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some(LogEntry { index, term, kind, context: bytes.slice_ref(context), data: bytes.slice_ref(data) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_come_back(a in any::<u64>(), b in any::<u64>(), value in prop::collection::vec(any::<u8>(), 0..64), flag in any::<bool>()) {
            let kind = if flag { EventKind::Delete } else { EventKind::Put };
            let latest = Latest { modified: a, created: b, expires_at_ms: a ^ b, hash: !a };
            prop_assert_eq!(Latest::decode(&latest.encode()), Some(latest));
            let version = Version { kind, created: a, value: (a > b).then_some(&value) };
            let encoded = version.encode();
            prop_assert_eq!(Version::decode(&encoded).unwrap(), version);
            let change = Change { kind, more: !flag, created: a, previous: b, key: &value };
            let encoded = change.encode();
            prop_assert_eq!(Change::decode(&encoded).unwrap(), change);
            let entry = LogEntry { index: a, term: b, kind: EntryKind::ConfChangeV2, data: value.clone().into(), context: value.into() };
            prop_assert_eq!(decode_entry(a, encode_entry(&entry)).unwrap(), entry);
        }

        #[test]
        fn junk_is_refused_not_a_panic(junk in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = (Latest::decode(&junk), Version::decode(&junk).is_some(), Change::decode(&junk).is_some(), decode_entry(1, junk.clone()));
        }
    }
}
