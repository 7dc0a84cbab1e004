//! Every key of both databases. Nobody else builds or takes apart a key.
//!
//! State database, by first byte:
//!
//! | tag | rest | value |
//! |---|---|---|
//! | 0 `m` | | [`crate::record::Meta`]: applied entry, revision, floor, members, hash |
//! | 0 `s` | | revision up to which compaction has swept |
//! | 0 `t` | prefix | the same, of the keys that begin with the prefix |
//! | 1 | key | [`crate::record::Latest`] |
//! | 2 | escaped key, 00 00, inverted revision | [`crate::record::Version`]: the newest of a key comes first |
//! | 3 | revision | [`crate::record::Change`] |
//! | 4 | expiry in milliseconds, key | revision of the key's last change |
//!
//! Log database: 0 and a letter for single records, 1 and the index for entries.
//!
//! Numbers are big-endian, so that bytes sort as they do.

use navarch_raft_contract::{Index, Revision};

/// State: the one record of applied index, revision and floor.
pub const META: &[u8] = &[0, b'm'];
/// State: how far compaction has swept.
pub const SWEPT: &[u8] = &[0, b's'];
/// State: how far compaction has swept the keys of a prefix that has a floor of its own.
pub fn swept_of(prefix: &[u8]) -> Vec<u8> {
    [&[SINGLE, b't'], prefix].concat()
}
/// Log: hard state.
pub const LOG_HARD_STATE: &[u8] = &[0, b'h'];
/// Log: how the cluster began.
pub const LOG_BOOTSTRAP: &[u8] = &[0, b'b'];
/// Log: last forgotten entry.
pub const LOG_PREFIX: &[u8] = &[0, b'p'];

/// What keys of single records begin with.
pub(crate) const SINGLE: u8 = 0;
/// What keys of latest records begin with.
pub(crate) const LATEST: u8 = 1;
/// What keys of versions begin with.
pub(crate) const VERSION: u8 = 2;
/// What keys of changes begin with.
pub(crate) const CHANGE: u8 = 3;
/// What keys of expiries begin with.
pub(crate) const EXPIRY: u8 = 4;
const LOG_ENTRY: u8 = 1;

const U64: usize = 8;
const TERMINATOR: [u8; 2] = [0, 0];

/// Key of the latest record of a key. In order of the keys.
pub fn latest(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.len());
    out.push(LATEST);
    out.extend_from_slice(key);
    out
}

/// The key a latest record is of.
pub fn latest_key(encoded: &[u8]) -> Option<&[u8]> {
    encoded.strip_prefix(&[LATEST])
}

/// The first key after all latest records.
pub fn latest_end() -> Vec<u8> {
    vec![LATEST + 1]
}

fn escape_into(out: &mut Vec<u8>, key: &[u8]) {
    for byte in key {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
}

/// Key of a key's version at a revision. A key's versions lie together, the newest first, in order of the keys.
pub fn version(key: &[u8], revision: Revision) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.len() + 2 + U64);
    out.push(VERSION);
    escape_into(&mut out, key);
    out.extend_from_slice(&TERMINATOR);
    out.extend_from_slice(&(!revision).to_be_bytes());
    out
}

/// Where versions of keys at or after `key` begin.
pub fn version_from(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.len());
    out.push(VERSION);
    escape_into(&mut out, key);
    out
}

/// The first key after all versions of `key`.
pub fn version_after(key: &[u8]) -> Vec<u8> {
    let mut out = version_from(key);
    out.extend_from_slice(&[0, 1]);
    out
}

/// Key and revision of a version.
pub fn parse_version(encoded: &[u8]) -> Option<(Vec<u8>, Revision)> {
    let body = encoded.strip_prefix(&[VERSION])?;
    let (escaped, revision) = body.split_at_checked(body.len().checked_sub(U64 + TERMINATOR.len())?)?;
    let revision = !u64::from_be_bytes(revision.strip_prefix(&TERMINATOR)?.try_into().ok()?);
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(byte) = bytes.next() {
        key.push(*byte);
        if *byte == 0 && bytes.next() != Some(&0xff) {
            return None;
        }
    }
    Some((key, revision))
}

/// Key of a change in the index by revision.
pub fn change(revision: Revision) -> Vec<u8> {
    tagged(CHANGE, revision)
}

/// The revision of a change.
pub fn parse_change(encoded: &[u8]) -> Option<Revision> {
    parse_tagged(CHANGE, encoded)
}

/// The first key after all changes.
pub fn change_end() -> Vec<u8> {
    vec![CHANGE + 1]
}

/// Key of an expiry.
pub fn expiry(at_ms: u64, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + U64 + key.len());
    out.push(EXPIRY);
    out.extend_from_slice(&at_ms.to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// Where expiries begin.
pub fn expiry_start() -> Vec<u8> {
    vec![EXPIRY]
}

/// The first key after the expiries at or before `at_ms`.
pub fn expiry_after(at_ms: u64) -> Vec<u8> {
    match at_ms.checked_add(1) {
        Some(next) => tagged(EXPIRY, next),
        None => vec![EXPIRY + 1],
    }
}

/// Time and key of an expiry.
pub fn parse_expiry(encoded: &[u8]) -> Option<(u64, &[u8])> {
    let (at, key) = encoded.strip_prefix(&[EXPIRY])?.split_at_checked(U64)?;
    Some((u64::from_be_bytes(at.try_into().ok()?), key))
}

/// Log: key of an entry.
pub fn log_entry(index: Index) -> Vec<u8> {
    tagged(LOG_ENTRY, index)
}

/// Log: the index of an entry.
pub fn parse_log_entry(encoded: &[u8]) -> Option<Index> {
    parse_tagged(LOG_ENTRY, encoded)
}

/// Log: the first key after all entries.
pub fn log_end() -> Vec<u8> {
    vec![LOG_ENTRY + 1]
}

fn tagged(tag: u8, number: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + U64);
    out.push(tag);
    out.extend_from_slice(&number.to_be_bytes());
    out
}

fn parse_tagged(tag: u8, encoded: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(encoded.strip_prefix(&[tag])?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), Just(b'/'), any::<u8>()], 0..6)
    }

    proptest! {
        #[test]
        fn versions_sort_by_key_then_newest_first(a in key(), b in key(), ra in 0u64..5, rb in 0u64..5) {
            let order = a.cmp(&b).then(rb.cmp(&ra));
            prop_assert_eq!(version(&a, ra).cmp(&version(&b, rb)), order);
            prop_assert_eq!(parse_version(&version(&a, ra)).unwrap(), (a, ra));
        }

        #[test]
        fn bounds_of_versions_fall_between_keys(a in key(), b in key(), rev in any::<u64>()) {
            prop_assert_eq!(version(&a, rev) >= version_from(&b), a >= b);
            prop_assert_eq!(version(&a, rev) > version_after(&b), a > b);
        }

        #[test]
        fn expiries_sort_by_time(a in any::<u64>(), b in any::<u64>(), k in key()) {
            prop_assert_eq!(expiry(a, &k) < expiry_after(b), a <= b);
            let encoded = expiry(a, &k);
            prop_assert_eq!(parse_expiry(&encoded).unwrap(), (a, k.as_slice()));
        }

        #[test]
        fn what_is_no_key_is_refused_not_a_panic(junk in prop::collection::vec(any::<u8>(), 0..24)) {
            let _ = (parse_version(&junk), parse_expiry(&junk), parse_change(&junk), parse_log_entry(&junk));
        }
    }
}
