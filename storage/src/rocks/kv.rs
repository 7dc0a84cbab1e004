//! The state database: one column family, so that a flush is atomic, and no write-ahead log, because the Raft log is one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{
    Cache, DB, DBCompressionType, DBRawIterator, FlushOptions, Options, ReadOptions, Snapshot, WriteBatch, WriteOptions,
};

use super::{APART_FROM, RocksConfig, home::Temporary, new_tables};
use crate::kv::{Cursor, Kv, KvError, KvView, WriteSet};

/// The state database.
pub struct RocksKv {
    /// Shared with a merge that was asked for.
    pub(super) db: Arc<DB>,
    unlogged: WriteOptions,
    pub(crate) path: PathBuf,
    /// After the database, which must be closed before its folder is removed.
    pub(super) temporary: Temporary,
}

pub(super) fn failed(error: rocksdb::Error) -> KvError {
    KvError(error.into_string())
}

/// Files of values that are written when others are collected: those in the oldest files are, to get rid of the dead ones among
/// them.
const VALUES_FILE_BYTES: u64 = 16 << 20;
/// Which share of the files is the oldest. What lives in them is written again whenever keys are merged, which must be little,
/// and before what is dead in them is freed, which must fit on a disk that is nearly full.
const OLDEST_SHARE: f64 = 0.05;
/// The share of dead values in the oldest files from which they are collected, though nothing else has to be merged.
const DEAD_SHARE: f64 = 0.5;

fn options(config: &RocksConfig, cache: &Cache) -> Options {
    let (mut options, mut table) = config.common(cache, config.state_buffer_bytes);
    table.set_bloom_filter(10.0, false);
    options.set_block_based_table_factory(&table);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(APART_FROM);
    options.set_blob_file_size(VALUES_FILE_BYTES);
    options.set_blob_compression_type(DBCompressionType::Lz4);
    options.set_enable_blob_gc(true);
    options.set_blob_gc_age_cutoff(OLDEST_SHARE);
    options.set_blob_gc_force_threshold(DEAD_SHARE);
    new_tables(&mut options);
    options
}

impl RocksKv {
    /// Opens or creates it in the folder `path`.
    pub fn open(path: &Path, config: &RocksConfig, cache: &Cache) -> Result<Self, KvError> {
        let db = DB::open(&options(config, cache), path).map_err(failed)?;
        Ok(Self::over(db, path, Temporary::default()))
    }

    /// Opens a copy, which nobody writes to.
    pub(super) fn open_copy(
        path: &Path,
        config: &RocksConfig,
        cache: &Cache,
        temporary: Temporary,
    ) -> Result<Self, KvError> {
        // Its blocks come from the disk and not from the cache: a copy is what the state is checked on, and is read once.
        let (mut options, mut table) = config.common(cache, config.state_buffer_bytes);
        table.disable_cache();
        options.set_block_based_table_factory(&table);
        let db = DB::open_for_read_only(&options, path, false).map_err(failed)?;
        Ok(Self::over(db, path, temporary))
    }

    fn over(db: DB, path: &Path, temporary: Temporary) -> Self {
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        Self { db: Arc::new(db), unlogged, path: path.to_owned(), temporary }
    }

    /// Its folder stays when it is dropped.
    pub(crate) fn keep(&self) {
        self.temporary.keep();
    }
}

impl Kv for RocksKv {
    type View<'a> = RocksView<'a>;

    fn view(&self) -> RocksView<'_> {
        RocksView { snapshot: self.db.snapshot() }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.db.get(key).map_err(failed)
    }

    fn write(&self, set: WriteSet) -> Result<(), KvError> {
        let mut batch = WriteBatch::default();
        for (key, value) in set.changes {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        self.db.write_opt(batch, &self.unlogged).map_err(failed)
    }

    fn flush(&self) -> Result<(), KvError> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_opt(&options).map_err(failed)
    }
}

/// A snapshot.
pub struct RocksView<'a> {
    snapshot: Snapshot<'a>,
}

impl KvView for RocksView<'_> {
    type Cursor<'a>
        = RocksCursor<'a>
    where
        Self: 'a;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.snapshot.get(key).map_err(failed)
    }

    fn cursor(&self, lower: Vec<u8>, upper: Vec<u8>) -> Result<RocksCursor<'_>, KvError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(upper);
        let mut iterator = self.snapshot.raw_iterator_opt(options);
        iterator.seek(&lower);
        let cursor = RocksCursor { iterator, lower };
        cursor.check()?;
        Ok(cursor)
    }
}

/// An iterator on a snapshot.
pub struct RocksCursor<'a> {
    iterator: DBRawIterator<'a>,
    lower: Vec<u8>,
}

impl RocksCursor<'_> {
    /// The end of the records and a failure look alike until the status is asked for.
    fn check(&self) -> Result<(), KvError> {
        if self.iterator.valid() { Ok(()) } else { self.iterator.status().map_err(failed) }
    }
}

impl Cursor for RocksCursor<'_> {
    fn entry(&self) -> Option<(&[u8], &[u8])> {
        self.iterator.item()
    }

    fn advance(&mut self) -> Result<(), KvError> {
        if self.iterator.valid() {
            self.iterator.next();
        }
        self.check()
    }

    fn seek(&mut self, key: &[u8]) -> Result<(), KvError> {
        self.iterator.seek(key.max(self.lower.as_slice()));
        self.check()
    }
}
