//! The log database. Its synced writes are the only syncs on the path of a write.
//!
//! Recovery tolerates a torn tail of the write-ahead log, which is what a crash in the middle of a write leaves, and
//! refuses anything else: RocksDB's default would silently drop all after a corrupt record in the middle.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use navarch_raft_contract::{
    Bootstrap, HardState, Index, LogBatch, LogCounters, LogEntry, LogError, LogState, LogStore, Term,
};
use parking_lot::Mutex;
use prost::Message;
use rocksdb::{Cache, DB, DBRecoveryMode, ReadOptions, WriteBatch, WriteOptions};

use super::{APART_FROM, RocksConfig, new_tables};
use crate::{
    keys,
    record::{Prefix, decode_entry, encode_entry, entry_term},
};

/// The log database.
pub struct RocksLog {
    db: DB,
    synced: WriteOptions,
    unsynced: WriteOptions,
    bounds: Mutex<Bounds>,
    syncs: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
}

/// Which entries there are.
#[derive(Clone, Copy)]
struct Bounds {
    prefix: Prefix,
    last: Index,
}

fn failed(error: rocksdb::Error) -> LogError {
    LogError::Database(error.into_string())
}

fn corrupt(what: impl std::fmt::Display) -> LogError {
    LogError::Corrupt(what.to_string())
}

impl RocksLog {
    /// Opens or creates it in the folder `path`.
    pub fn open(path: &Path, config: &RocksConfig, cache: &Cache) -> Result<Self, LogError> {
        let (mut options, table) = config.common(cache, config.log_buffer_bytes);
        options.set_block_based_table_factory(&table);
        // Entries are written once more when they are flushed, and never again: their files go as a whole when the last entry in
        // them is forgotten, which shows when their keys are merged.
        options.set_enable_blob_files(true);
        options.set_min_blob_size(APART_FROM);
        new_tables(&mut options);
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_max_total_wal_size(4 * config.log_buffer_bytes as u64);
        let db = DB::open(&options, path).map_err(failed)?;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        let bounds = read_bounds(&db)?;
        Ok(Self {
            db,
            synced,
            unsynced: WriteOptions::default(),
            bounds: Mutex::new(bounds),
            syncs: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// Forgets all entries and how the cluster began, and begins as this says, as if the last forgotten entry were `index` of
    /// `entry_term`, in term `term`, without a vote. On the disk when it returns.
    pub(crate) fn begin_anew(
        &self,
        bootstrap: &Bootstrap,
        index: Index,
        entry_term: Term,
        term: Term,
    ) -> Result<(), LogError> {
        let mut bounds = self.bounds.lock();
        let prefix = Prefix { index, term: entry_term };
        let mut batch = WriteBatch::default();
        batch.put(keys::LOG_BOOTSTRAP, bootstrap.encode_to_vec());
        batch.put(keys::LOG_PREFIX, prefix.encode_to_vec());
        batch.put(keys::LOG_HARD_STATE, HardState { term, vote: 0, commit: index }.encode_to_vec());
        batch.delete_range(keys::log_entry(0), keys::log_end());
        self.write_synced(batch)?;
        *bounds = Bounds { prefix, last: index };
        Ok(())
    }

    fn record<M: Message + Default>(&self, key: &[u8]) -> Result<Option<M>, LogError> {
        let Some(bytes) = self.db.get_pinned(key).map_err(failed)? else { return Ok(None) };
        M::decode(&*bytes).map(Some).map_err(corrupt)
    }

    fn write_synced(&self, batch: WriteBatch) -> Result<(), LogError> {
        self.db.write_opt(batch, &self.synced).map_err(failed)?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn read_bounds(db: &DB) -> Result<Bounds, LogError> {
    let prefix = match db.get_pinned(keys::LOG_PREFIX).map_err(failed)? {
        Some(bytes) => Prefix::decode(&*bytes).map_err(corrupt)?,
        None => Prefix::default(),
    };
    let mut iterator = db.raw_iterator();
    iterator.seek_for_prev(keys::log_end());
    iterator.status().map_err(failed)?;
    let last = iterator.key().and_then(keys::parse_log_entry).unwrap_or(0).max(prefix.index);
    if last > prefix.index {
        // Entries must follow the prefix without a gap: a missing one would be a loss that nobody notices.
        iterator.seek(keys::log_entry(prefix.index + 1));
        let mut expected = prefix.index + 1;
        while let Some(index) = iterator.key().and_then(keys::parse_log_entry) {
            if index != expected {
                return Err(corrupt(format!("entry {expected} is missing, the log goes on at {index}")));
            }
            expected += 1;
            iterator.next();
        }
        iterator.status().map_err(failed)?;
    }
    Ok(Bounds { prefix, last })
}

impl LogStore for RocksLog {
    fn state(&self) -> Result<LogState, LogError> {
        let bounds = *self.bounds.lock();
        Ok(LogState {
            prefix_index: bounds.prefix.index,
            prefix_term: bounds.prefix.term,
            last_index: bounds.last,
            hard_state: self.record::<HardState>(keys::LOG_HARD_STATE)?,
            bootstrap: self.record::<Bootstrap>(keys::LOG_BOOTSTRAP)?,
        })
    }

    fn entries(&self, low: Index, high: Index, max_bytes: usize) -> Result<Vec<LogEntry>, LogError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(keys::log_entry(high));
        let mut iterator = self.db.raw_iterator_opt(options);
        iterator.seek(keys::log_entry(low));
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some((key, value)) = iterator.item() {
            let index = keys::parse_log_entry(key).ok_or_else(|| corrupt("entry key"))?;
            if index != low + entries.len() as u64 {
                return Err(corrupt(format!("entry {} is missing", low + entries.len() as u64)));
            }
            let entry = decode_entry(index, value.to_vec()).ok_or_else(|| corrupt(format!("entry {index}")))?;
            bytes += entry.size();
            if !entries.is_empty() && bytes > max_bytes {
                break;
            }
            entries.push(entry);
            iterator.next();
        }
        iterator.status().map_err(failed)?;
        Ok(entries)
    }

    fn term(&self, index: Index) -> Result<Option<Term>, LogError> {
        let prefix = self.bounds.lock().prefix;
        if index == prefix.index {
            return Ok(Some(prefix.term));
        }
        if index < prefix.index {
            return Ok(None);
        }
        let record = self.db.get_pinned(keys::log_entry(index)).map_err(failed)?;
        record.map(|bytes| entry_term(&bytes).ok_or_else(|| corrupt(format!("entry {index}")))).transpose()
    }

    fn bootstrap(&self, bootstrap: &Bootstrap) -> Result<(), LogError> {
        let mut batch = WriteBatch::default();
        batch.put(keys::LOG_BOOTSTRAP, bootstrap.encode_to_vec());
        self.write_synced(batch)
    }

    fn append(&self, changes: &LogBatch) -> Result<(), LogError> {
        let mut bounds = self.bounds.lock();
        let mut batch = WriteBatch::default();
        let mut last = bounds.last;
        let mut bytes = 0;
        if let Some(first) = changes.entries.first() {
            if first.index <= bounds.prefix.index || first.index > bounds.last + 1 {
                let (from, to) = (bounds.prefix.index, bounds.last);
                return Err(LogError::Misuse(format!("entry {} does not fit on {from}..={to}", first.index)));
            }
            for (position, entry) in changes.entries.iter().enumerate() {
                if entry.index != first.index + position as u64 {
                    return Err(LogError::Misuse(format!("entry {} is out of order", entry.index)));
                }
                bytes += entry.size();
                last = entry.index;
                batch.put(keys::log_entry(entry.index), encode_entry(entry));
            }
            if last < bounds.last {
                batch.delete_range(keys::log_entry(last + 1), keys::log_entry(bounds.last + 1));
            }
        }
        if let Some(hard_state) = &changes.hard_state {
            batch.put(keys::LOG_HARD_STATE, hard_state.encode_to_vec());
        }
        self.write_synced(batch)?;
        bounds.last = last;
        self.entries.fetch_add(changes.entries.len() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    fn compact(&self, index: Index) -> Result<(), LogError> {
        let term = self.term(index)?;
        let mut bounds = self.bounds.lock();
        if index <= bounds.prefix.index {
            return Ok(());
        }
        let Some(term) = term.filter(|_| index <= bounds.last) else {
            return Err(LogError::Misuse(format!("entry {index} is not there to be forgotten")));
        };
        let prefix = Prefix { index, term };
        let mut batch = WriteBatch::default();
        batch.put(keys::LOG_PREFIX, prefix.encode_to_vec());
        batch.delete_range(keys::log_entry(bounds.prefix.index + 1), keys::log_entry(index + 1));
        self.db.write_opt(batch, &self.unsynced).map_err(failed)?;
        bounds.prefix = prefix;
        Ok(())
    }

    fn reset(&self, index: Index, term: Term) -> Result<(), LogError> {
        let mut bounds = self.bounds.lock();
        let prefix = Prefix { index, term };
        let mut batch = WriteBatch::default();
        batch.put(keys::LOG_PREFIX, prefix.encode_to_vec());
        batch.delete_range(keys::log_entry(0), keys::log_end());
        self.write_synced(batch)?;
        *bounds = Bounds { prefix, last: index };
        Ok(())
    }

    fn counters(&self) -> LogCounters {
        LogCounters {
            syncs: self.syncs.load(Ordering::Relaxed),
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}
