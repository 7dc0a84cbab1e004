//! Reads, each from one view: the present from the latest records, the past from versions, history from changes.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use navarch_raft_contract::{
    Event, EventKind, Expiry, Index, KeyRange, KeyValue, RangePage, ReadError, Revision, StateReader,
};

use super::{Machine, meta_of, unreadable};
use crate::{
    keys,
    kv::{Cursor, Kv, KvView},
    record::{Change, Latest, Meta, Version},
};

/// Changes that one call of `events` looks at, so that a watcher of one key does not scan all of history in one call.
const EVENTS_SCANNED_MAX: usize = 10_000;

fn corrupt(what: &str) -> ReadError {
    ReadError::Database(format!("corrupt {what}"))
}

fn check(at: Revision, floor: Revision, meta: &Meta) -> Result<(), ReadError> {
    if at < floor {
        Err(ReadError::Compacted { asked: at, floor })
    } else if at > meta.revision {
        Err(ReadError::Future { asked: at, current: meta.revision })
    } else {
        Ok(())
    }
}

/// A key at one of its revisions, and its value there; none if it is that of the change before.
fn stored<V: KvView>(view: &V, key: &[u8], revision: Revision) -> Result<(Revision, Option<Bytes>), ReadError> {
    let record = view.get(&keys::version(key, revision)).map_err(unreadable)?;
    let record = Bytes::from(record.ok_or_else(|| corrupt("history: a version is missing"))?);
    let version = Version::decode(&record).ok_or_else(|| corrupt("value record"))?;
    Ok((version.created, version.value.map(|value| record.slice_ref(value))))
}

fn version_of<V: KvView>(view: &V, key: &[u8], revision: Revision) -> Result<KeyValue, ReadError> {
    let (create_revision, value) = stored(view, key, revision)?;
    let value = value.ok_or_else(|| corrupt("value record: there is no value"))?;
    Ok(KeyValue { key: Bytes::copy_from_slice(key), value, create_revision, mod_revision: revision })
}

/// What a change of the past wrote, or took away.
fn value_of<V: KvView>(view: &V, change: &Change<'_>, revision: Revision) -> Result<Bytes, ReadError> {
    match stored(view, change.key, revision)?.1 {
        Some(value) => Ok(value),
        None => Ok(version_of(view, change.key, change.previous)?.value),
    }
}

fn get_now<V: KvView>(view: &V, key: &[u8]) -> Result<Option<KeyValue>, ReadError> {
    let Some(record) = view.get(&keys::latest(key)).map_err(unreadable)? else { return Ok(None) };
    let latest = Latest::decode(&record).ok_or_else(|| corrupt("latest record"))?;
    version_of(view, key, latest.modified).map(Some)
}

fn range_now<V: KvView>(view: &V, range: &KeyRange, limit: usize) -> Result<RangePage, ReadError> {
    let mut page = RangePage::default();
    let mut cursor = view.cursor(keys::latest(&range.start), keys::latest(&range.end)).map_err(unreadable)?;
    while let Some((key, record)) = cursor.entry() {
        if page.items.len() == limit {
            page.more = true;
            break;
        }
        let key = keys::latest_key(key).ok_or_else(|| corrupt("latest key"))?;
        let latest = Latest::decode(record).ok_or_else(|| corrupt("latest record"))?;
        page.items.push(version_of(view, key, latest.modified)?);
        cursor.advance().map_err(unreadable)?;
    }
    Ok(page)
}

/// For each key, its newest version at or before `at`, unless that is a delete.
fn range_at<V: KvView>(view: &V, range: &KeyRange, at: Revision, limit: usize) -> Result<RangePage, ReadError> {
    let mut page = RangePage::default();
    let (lower, upper) = (keys::version_from(&range.start), keys::version_from(&range.end));
    let mut cursor = view.cursor(lower, upper).map_err(unreadable)?;
    while let Some((encoded, record)) = cursor.entry() {
        let (key, revision) = keys::parse_version(encoded).ok_or_else(|| corrupt("version key"))?;
        if revision > at {
            cursor.seek(&keys::version(&key, at)).map_err(unreadable)?;
            continue;
        }
        let version = Version::decode(record).ok_or_else(|| corrupt("value record"))?;
        if let (EventKind::Put, Some(value)) = (version.kind, version.value) {
            if page.items.len() == limit {
                page.more = true;
                break;
            }
            page.items.push(KeyValue {
                value: Bytes::copy_from_slice(value),
                create_revision: version.created,
                mod_revision: revision,
                key: key.clone().into(),
            });
        }
        cursor.seek(&keys::version_after(&key)).map_err(unreadable)?;
    }
    Ok(page)
}

fn get_at<V: KvView>(view: &V, key: &[u8], at: Revision) -> Result<Option<KeyValue>, ReadError> {
    let cursor = view.cursor(keys::version(key, at), keys::version_after(key)).map_err(unreadable)?;
    let Some((encoded, record)) = cursor.entry() else { return Ok(None) };
    let (_, revision) = keys::parse_version(encoded).ok_or_else(|| corrupt("version key"))?;
    let version = Version::decode(record).ok_or_else(|| corrupt("value record"))?;
    let value = version.value.filter(|_| version.kind == EventKind::Put);
    Ok(value.map(|value| KeyValue {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        create_revision: version.created,
        mod_revision: revision,
    }))
}

fn events_after<V: KvView>(
    view: &V,
    range: &KeyRange,
    after: Revision,
    meta: &Meta,
    max_bytes: usize,
) -> Result<(Vec<Event>, Revision), ReadError> {
    let (mut events, mut bytes, mut scanned) = (Vec::new(), 0, 0);
    let mut cursor = view.cursor(keys::change(after + 1), keys::change_end()).map_err(unreadable)?;
    while let Some((encoded, record)) = cursor.entry() {
        let revision = keys::parse_change(encoded).ok_or_else(|| corrupt("change key"))?;
        let change = Change::decode(record).ok_or_else(|| corrupt("change record"))?;
        if (range.start.as_ref()..range.end.as_ref()).contains(&change.key) {
            let value = value_of(view, &change, revision)?;
            bytes += change.key.len() + value.len();
            events.push(Event {
                revision,
                key: Bytes::copy_from_slice(change.key),
                kind: change.kind,
                value,
                create_revision: change.created,
                prev_revision: change.previous,
            });
        }
        scanned += 1;
        if !change.more && (bytes >= max_bytes || scanned >= EVENTS_SCANNED_MAX) {
            return Ok((events, revision));
        }
        cursor.advance().map_err(unreadable)?;
    }
    Ok((events, meta.revision))
}

impl<K: Kv + 'static> StateReader for Machine<K> {
    fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire)
    }

    fn applied_index(&self) -> Index {
        self.index.load(Ordering::Acquire)
    }

    fn compacted(&self) -> Revision {
        self.floor.load(Ordering::Acquire)
    }

    fn floor_of(&self, range: &KeyRange) -> Revision {
        self.look(|view| Ok(meta_of(view)?.floor_of(range))).unwrap_or_else(|_| self.compacted())
    }

    fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<KeyValue>, ReadError> {
        self.look(|view| match at {
            None => get_now(view, key),
            Some(at) => {
                let meta = meta_of(view)?;
                check(at, meta.floor_at(key), &meta)?;
                get_at(view, key, at)
            }
        })
    }

    fn range(&self, range: &KeyRange, at: Option<Revision>, limit: usize) -> Result<(RangePage, Revision), ReadError> {
        self.look(|view| {
            let meta = meta_of(view)?;
            match at {
                Some(at) if at != meta.revision => {
                    check(at, meta.floor_of(range), &meta)?;
                    Ok((range_at(view, range, at, limit)?, at))
                }
                _ => Ok((range_now(view, range, limit)?, meta.revision)),
            }
        })
    }

    fn count(&self, range: &KeyRange) -> Result<u64, ReadError> {
        self.look(|view| {
            let mut cursor = view.cursor(keys::latest(&range.start), keys::latest(&range.end)).map_err(unreadable)?;
            let mut count = 0;
            while cursor.entry().is_some() {
                count += 1;
                cursor.advance().map_err(unreadable)?;
            }
            Ok(count)
        })
    }

    fn events(&self, range: &KeyRange, after: Revision, max_bytes: usize) -> Result<(Vec<Event>, Revision), ReadError> {
        self.look(|view| {
            let meta = meta_of(view)?;
            check(after, meta.floor_of(range), &meta)?;
            events_after(view, range, after, &meta, max_bytes)
        })
    }

    fn expired(&self, now_ms: u64, limit: usize) -> Result<Vec<Expiry>, ReadError> {
        self.look(|view| expired(view, now_ms, limit))
    }
}

fn expired<V: KvView>(view: &V, now_ms: u64, limit: usize) -> Result<Vec<Expiry>, ReadError> {
    let mut cursor = view.cursor(keys::expiry_start(), keys::expiry_after(now_ms)).map_err(unreadable)?;
    let mut found = Vec::new();
    while let Some((encoded, record)) = cursor.entry() {
        if found.len() == limit {
            break;
        }
        let (expires_at_ms, key) = keys::parse_expiry(encoded).ok_or_else(|| corrupt("expiry key"))?;
        let modified = record.try_into().map_err(|_| corrupt("expiry record"))?;
        found.push(Expiry {
            key: Bytes::copy_from_slice(key),
            mod_revision: u64::from_be_bytes(modified),
            expires_at_ms,
        });
        cursor.advance().map_err(unreadable)?;
    }
    Ok(found)
}
