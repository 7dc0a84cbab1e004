//! Getting back what the dead records of the state take on the disk.
//!
//! Deletes take no room away by themselves: keys go when tables are merged, and values, which lie apart, when most of a file
//! of them is dead. Both happen by and by, which is too late on a disk that is nearly full.

use std::sync::Arc;

use rocksdb::{BottommostLevelCompaction, CompactOptions};

use super::RocksKv;
use crate::Machine;

/// One part of so many of the values may be dead.
const DEAD_PART: u64 = 20;
/// One part of so many of the values, the oldest, is looked at for what is dead at a time.
const OLDEST_PART: u64 = 16;

impl RocksKv {
    fn figure(&self, name: &str) -> u64 {
        self.db.property_int_value(name).ok().flatten().unwrap_or(0)
    }

    fn new_tables(&self) -> u64 {
        let text = self.db.property_value("rocksdb.num-files-at-level0").ok().flatten();
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

impl Machine<RocksKv> {
    /// Whether [`Machine::reclaim`] would free anything.
    pub fn can_reclaim(&self) -> bool {
        let kv = self.kv();
        let tombstones =
            kv.figure("rocksdb.num-deletes-active-mem-table") + kv.figure("rocksdb.num-deletes-imm-mem-tables");
        let (all, dead) = (kv.figure("rocksdb.live-blob-file-size"), kv.figure("rocksdb.live-blob-file-garbage-size"));
        tombstones > 0 || kv.new_tables() > 0 || dead > all / DEAD_PART
    }

    /// Bytes that [`Machine::reclaim`] may write before it frees any.
    pub fn reclaim_needs_bytes(&self) -> u64 {
        let kv = self.kv();
        let keys = kv.figure("rocksdb.live-sst-files-size") + kv.figure("rocksdb.cur-size-all-mem-tables");
        keys + kv.figure("rocksdb.live-blob-file-size") / OLDEST_PART
    }

    /// Merges all keys, and rewrites the living values of the oldest files of values; called again, of the next.
    /// Blocks for as long as that takes.
    pub fn reclaim(&self) {
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        // What RocksDB does by itself goes on.
        options.set_exclusive_manual_compaction(false);
        // Readers, and whoever puts another state in this one's place, do not wait.
        let db = Arc::clone(&self.kv().db);
        db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
    }
}
