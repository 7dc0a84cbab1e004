//! Removing history below the floors, a bounded slice at a time, beside everything else that goes on.
//!
//! What a reader at or above the floor can see never changes: of each key the version that is live at the floor stays.
//! Local to a member and not replicated: two members with the same floor may hold different remains below it.

use navarch_raft_contract::{ApplyError, EventKind, Revision};

use super::{corrupt, decode_meta, failed};
use crate::{
    keys,
    kv::{Cursor, Kv, KvView, WriteSet},
    record::Change,
};

/// Changes that a slice looks at without removing any: those of keys with another floor.
const LOOK_FACTOR: usize = 8;

fn decode_swept(record: Option<Vec<u8>>) -> Result<Revision, ApplyError> {
    match record {
        None => Ok(0),
        Some(bytes) => bytes.try_into().map(u64::from_be_bytes).map_err(|_| corrupt("compaction progress")),
    }
}

/// Removes what up to `max` changes at or below the floors have superseded. Whether changes are left.
pub(super) fn slice<K: Kv>(kv: &K, max: usize) -> Result<bool, ApplyError> {
    let meta = decode_meta(kv.get(keys::META).map_err(failed)?).map_err(ApplyError::Corrupt)?;
    let swept = decode_swept(kv.get(keys::SWEPT).map_err(failed)?)?;
    if swept < meta.floor {
        let more = sweep(kv, keys::SWEPT.to_vec(), swept, meta.floor, b"", max)?;
        return Ok(more || !meta.floors.is_empty());
    }
    for (at, floor) in meta.floors.iter().enumerate() {
        let progress = keys::swept_of(&floor.prefix);
        // What all keys were swept of needs not be looked at.
        let swept = swept.max(decode_swept(kv.get(&progress).map_err(failed)?)?);
        if swept < floor.floor {
            let more = sweep(kv, progress, swept, floor.floor, &floor.prefix, max)?;
            return Ok(more || at + 1 < meta.floors.len());
        }
    }
    Ok(false)
}

/// One slice, of keys that begin with `prefix`, from after `swept` to `floor`. Whether changes are left in it.
fn sweep<K: Kv>(
    kv: &K,
    progress: Vec<u8>,
    swept: Revision,
    floor: Revision,
    prefix: &[u8],
    max: usize,
) -> Result<bool, ApplyError> {
    let mut set = WriteSet::default();
    let mut last = floor;
    {
        let view = kv.view();
        let mut cursor = view.cursor(keys::change(swept + 1), keys::change(floor + 1)).map_err(failed)?;
        let (mut done, mut looked) = (0, 0);
        while let Some((key, value)) = cursor.entry() {
            let revision = keys::parse_change(key).ok_or_else(|| corrupt("change key"))?;
            if done == max || looked == max * LOOK_FACTOR {
                last = revision - 1;
                break;
            }
            looked += 1;
            let change = Change::decode(value).ok_or_else(|| corrupt("change record"))?;
            if change.key.starts_with(prefix) {
                if change.previous != 0 {
                    set.delete(keys::version(change.key, change.previous));
                }
                if change.kind == EventKind::Delete {
                    set.delete(keys::version(change.key, revision));
                }
                set.delete(key.to_vec());
                done += 1;
            }
            cursor.advance().map_err(failed)?;
        }
        set.put(progress, last.to_be_bytes().to_vec());
    }
    kv.write(set).map_err(failed)?;
    Ok(last < floor)
}
