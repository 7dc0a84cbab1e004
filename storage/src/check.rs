//! What must hold of a state's records: looked at in order of their keys, from a database or from a stream.
//!
//! The newest version of a key comes first, and the key lives if that is a put: so the sum over what lives needs no look
//! at the latest records, and both sums, and the one that was kept while applying, must agree.

use navarch_raft_contract::{EventKind, Revision, SnapshotError, SnapshotMeta};

use crate::{
    hash, keys,
    kv::{Cursor, Kv, KvError, KvView},
    record::{Change, Latest, Meta, Version},
};

/// The first key after all records.
pub(crate) const END: &[u8] = &[0xff];

/// A key that lives, with its value.
#[derive(Clone, Copy, Debug)]
pub struct Living<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its last change.
    pub modified: Revision,
    /// The value.
    pub value: &'a [u8],
    /// Its share of the state's hash, from the value.
    pub share: u64,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Checker {
    meta: Option<Meta>,
    last: Vec<u8>,
    latest: (u64, u64),
    living: (u64, u64),
}

fn damaged(what: impl Into<String>) -> SnapshotError {
    SnapshotError::Damaged(what.into())
}

fn failed(error: KvError) -> SnapshotError {
    SnapshotError::Database(error.0)
}

impl Checker {
    /// The next record. `living` is told of keys that live.
    pub(crate) fn record(
        &mut self,
        key: &[u8],
        value: &[u8],
        living: &mut dyn FnMut(Living<'_>) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        if key <= self.last.as_slice() && !self.last.is_empty() {
            return Err(damaged("records are out of order"));
        }
        match key.first() {
            Some(&keys::SINGLE) if key == keys::META => {
                self.meta = Some(super::machine::decode_meta(Some(value.to_vec())).map_err(damaged)?);
            }
            Some(&keys::SINGLE) => {}
            Some(&keys::LATEST) => {
                let shown = || String::from_utf8_lossy(key.get(1..).unwrap_or_default()).into_owned();
                let latest =
                    Latest::decode(value).ok_or_else(|| damaged(format!("the latest record of {}", shown())))?;
                self.latest = (self.latest.0 + 1, self.latest.1.wrapping_add(latest.hash));
            }
            Some(&keys::VERSION) => self.version(key, value, living)?,
            Some(&keys::CHANGE) if keys::parse_change(key).is_some() && Change::decode(value).is_some() => {}
            Some(&keys::EXPIRY) if keys::parse_expiry(key).is_some() && value.len() == 8 => {}
            _ => return Err(damaged("a record of no known kind")),
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(())
    }

    fn version(
        &mut self,
        encoded: &[u8],
        record: &[u8],
        living: &mut dyn FnMut(Living<'_>) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let (key, modified) = keys::parse_version(encoded).ok_or_else(|| damaged("the key of a value"))?;
        let version = Version::decode(record)
            .ok_or_else(|| damaged(format!("the value record of {}", String::from_utf8_lossy(&key))))?;
        let owner = |encoded: &[u8]| encoded.len().saturating_sub(8);
        let older = encoded.get(..owner(encoded)) == self.last.get(..owner(&self.last));
        if older || version.kind != EventKind::Put {
            return Ok(());
        }
        let value = version.value.unwrap_or_default();
        let share = hash::share(&key, modified, value);
        self.living = (self.living.0 + 1, self.living.1.wrapping_add(share));
        living(Living { key: &key, modified, value, share })
    }

    /// There are no more records.
    pub(crate) fn finish(self) -> Result<Meta, SnapshotError> {
        let meta = match self.meta {
            Some(meta) => meta,
            None => super::machine::decode_meta(None).map_err(damaged)?,
        };
        let ((listed, listed_sum), (found, found_sum)) = (self.latest, self.living);
        if listed != found {
            return Err(damaged(format!("{listed} keys are listed, and {found} have a value")));
        }
        if listed_sum != meta.hash || found_sum != meta.hash {
            let found = if found_sum == meta.hash { listed_sum } else { found_sum };
            return Err(damaged(format!("the hash of what lives is {found:016x}, must be {:016x}", meta.hash)));
        }
        Ok(meta)
    }
}

/// What a state is, for whoever sends or keeps it.
pub(crate) fn describe(meta: &Meta) -> SnapshotMeta {
    SnapshotMeta {
        index: meta.index,
        term: meta.term,
        revision: meta.revision,
        members: meta.members.clone().unwrap_or_default(),
    }
}

/// Reads every record, recomputes the state's hash from the values, and checks what must hold on the way.
///
/// `pace` is told of bytes as they are read: it may wait, so that nobody else has to wait for the disk, and says whether to
/// go on.
///
/// # Errors
/// What is wrong with which record, or that a sum differs; [`std::io::ErrorKind::Interrupted`] if `pace` said so.
pub fn verify<K: Kv>(kv: &K, pace: &mut dyn FnMut(usize) -> bool) -> Result<SnapshotMeta, SnapshotError> {
    let view = kv.view();
    let mut cursor = view.cursor(Vec::new(), END.to_vec()).map_err(failed)?;
    let mut checker = Checker::default();
    while let Some((key, value)) = cursor.entry() {
        let bytes = key.len() + value.len();
        checker.record(key, value, &mut |living| {
            let shown = || String::from_utf8_lossy(living.key).into_owned();
            let record = view.get(&keys::latest(living.key)).map_err(failed)?;
            let latest = record.as_deref().and_then(Latest::decode);
            let latest = latest.ok_or_else(|| damaged(format!("the latest record of {} is missing", shown())))?;
            if (latest.modified, latest.hash) == (living.modified, living.share) {
                return Ok(());
            }
            let modified = latest.modified;
            Err(damaged(format!("the value of {} at {modified} is not what was written", shown())))
        })?;
        if !pace(bytes) {
            return Err(SnapshotError::Io(std::io::ErrorKind::Interrupted.into()));
        }
        cursor.advance().map_err(failed)?;
    }
    checker.finish().map(|meta| describe(&meta))
}
