//! Removing history below the floor, a bounded slice at a time, beside everything else that goes on.
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

fn decode_swept(record: Option<Vec<u8>>) -> Result<Revision, ApplyError> {
    match record {
        None => Ok(0),
        Some(bytes) => bytes.try_into().map(u64::from_be_bytes).map_err(|_| corrupt("compaction progress")),
    }
}

/// Removes what up to `max` changes at or below the floor have superseded. Whether changes are left.
pub(super) fn slice<K: Kv>(kv: &K, max: usize) -> Result<bool, ApplyError> {
    let mut set = WriteSet::default();
    let more = {
        let view = kv.view();
        let floor = decode_meta(view.get(keys::META).map_err(failed)?).map_err(ApplyError::Corrupt)?.floor;
        let swept = decode_swept(view.get(keys::SWEPT).map_err(failed)?)?;
        if swept >= floor {
            return Ok(false);
        }
        let mut cursor = view.cursor(keys::change(swept + 1), keys::change(floor + 1)).map_err(failed)?;
        let mut done = 0;
        let mut last = floor;
        while let Some((key, value)) = cursor.entry() {
            let revision = keys::parse_change(key).ok_or_else(|| corrupt("change key"))?;
            if done == max {
                last = revision - 1;
                break;
            }
            let change = Change::decode(value).ok_or_else(|| corrupt("change record"))?;
            if change.previous != 0 {
                set.delete(keys::version(change.key, change.previous));
            }
            if change.kind == EventKind::Delete {
                set.delete(keys::version(change.key, revision));
            }
            set.delete(key.to_vec());
            done += 1;
            cursor.advance().map_err(failed)?;
        }
        set.put(keys::SWEPT.to_vec(), last.to_be_bytes().to_vec());
        last < floor
    };
    kv.write(set).map_err(failed)?;
    Ok(more)
}
