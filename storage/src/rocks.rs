//! Both databases on RocksDB, and the bounds of what they may use.

mod home;
mod kv;
mod log;
mod reclaim;

pub use home::RocksHome;
pub use kv::RocksKv;
pub use log::RocksLog;

use rocksdb::{BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, LogLevel, Options};

/// Values from this size on, bytes, lie apart from their keys, and are not written again whenever keys are merged. Of what an
/// object takes up, its value is the larger part by far: there is only one record in the state that has it, and one in the log.
const APART_FROM: u64 = 256;
/// Tables of the newest level, small because they hold keys: merging begins at the first number, and writes wait at the
/// others, which they reach only when merging is held up.
const NEW_TABLES: [i32; 3] = [8, 64, 128];

fn new_tables(options: &mut Options) {
    let [merge, slow_down, stop] = NEW_TABLES;
    options.set_level_zero_file_num_compaction_trigger(merge);
    options.set_level_zero_slowdown_writes_trigger(slow_down);
    options.set_level_zero_stop_writes_trigger(stop);
}

/// Bounds of RocksDB's memory and files, for both databases together where not said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RocksConfig {
    /// Cached blocks, indexes and filters.
    pub block_cache_bytes: usize,
    /// Memory of the log database's write buffers; two of half this size.
    pub log_buffer_bytes: usize,
    /// Memory of the state database's write buffers; two of half this size.
    pub state_buffer_bytes: usize,
    /// Open table files of each database.
    pub open_files_max: i32,
    /// Background threads of each database for flushes and compactions.
    pub background_jobs: i32,
}

impl Default for RocksConfig {
    fn default() -> Self {
        Self {
            block_cache_bytes: 16 << 20,
            log_buffer_bytes: 16 << 20,
            state_buffer_bytes: 16 << 20,
            open_files_max: 256,
            background_jobs: 2,
        }
    }
}

impl RocksConfig {
    /// Both databases together within so much memory: a quarter for the log's write buffers, and the rest in halves for those
    /// of the state and for cached blocks, which hold keys and small values only.
    pub fn within(bytes: usize) -> Self {
        let eighth = bytes / 8;
        Self {
            block_cache_bytes: 3 * eighth,
            log_buffer_bytes: 2 * eighth,
            state_buffer_bytes: 3 * eighth,
            ..Self::default()
        }
    }

    /// The block cache that both databases share.
    pub(crate) fn cache(&self) -> Cache {
        Cache::new_lru_cache(self.block_cache_bytes)
    }

    /// What both databases have in common.
    fn common(&self, cache: &Cache, buffer_bytes: usize) -> (Options, BlockBasedOptions) {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        // In parts: the index of a large table is as large as what is cached of both databases, and read as a whole it would
        // be fetched and uncompressed for nearly every read.
        table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        table.set_partition_filters(true);
        table.set_metadata_block_size(4 << 10);
        table.set_pin_top_level_index_and_filter(true);
        table.set_format_version(6);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_paranoid_checks(true);
        options.set_write_buffer_size(buffer_bytes / 2);
        options.set_max_write_buffer_number(2);
        options.set_max_open_files(self.open_files_max);
        options.set_max_background_jobs(self.background_jobs);
        // What is flushed is soon compacted, and most of the log is dead by then.
        options.set_compression_per_level(&[DBCompressionType::None, DBCompressionType::Lz4]);
        // Written out as they grow: else a flush, which is synced and waited for, queues behind all that a compaction wrote.
        options.set_bytes_per_sync(1 << 20);
        // One writer: no need for the concurrent memtable's overhead.
        options.set_allow_concurrent_memtable_write(false);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_skip_stats_update_on_db_open(true);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(1 << 20);
        options.set_max_manifest_file_size(1 << 20);
        options.set_manifest_preallocation_size(64 << 10);
        (options, table)
    }
}
