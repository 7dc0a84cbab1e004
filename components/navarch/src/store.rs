//! Opening the data folder and starting consensus on it.

use std::path::Path;
use std::sync::Arc;

use navarch_cache::{CacheLimits, Caches};
use navarch_config::StoreSettings;
use navarch_raft_contract::{ApplySink, StateReader};
use navarch_raft_driver::{Config, NoPeers, Parts, RaftHandle};
use navarch_storage::{DataFolder, RocksConfig, Space, SpaceConfig};
use navarch_store::{Progress, Raft, Store};

/// The store of this process. Dropped last: the databases close with it.
pub struct StoreParts {
    pub store: Store,
    pub caches: Arc<Caches>,
    pub raft: RaftHandle,
    _folder: DataFolder,
}

/// Why the store did not open. The process must not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is in use or damaged.
    #[error(transparent)]
    Folder(#[from] navarch_storage::FolderError),
    /// The cluster's id cannot be read or written.
    #[error("{}: {source}", path.display())]
    ClusterId {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Consensus refused the log.
    #[error(transparent)]
    Start(#[from] navarch_raft_driver::StartError),
}

/// Opens the databases below `data_dir` and starts consensus as the cluster's only member.
///
/// # Errors
/// See [`OpenError`].
pub fn open(data_dir: &Path, settings: &StoreSettings) -> Result<StoreParts, OpenError> {
    let folder = DataFolder::acquire(&data_dir.join("store"))?;
    // A quarter each for the log's and the state's write buffers, half for blocks.
    let quarter = (settings.memory_mib << 20) / 4;
    let rocks = RocksConfig {
        block_cache_bytes: 2 * quarter,
        log_buffer_bytes: quarter,
        state_buffer_bytes: quarter,
        ..RocksConfig::default()
    };
    let (log, state) = folder.open(&rocks)?;
    let state = Arc::new(state);
    let reader: Arc<dyn StateReader> = state.clone();
    let caches = Caches::new(Arc::clone(&reader), CacheLimits::default());
    let progress = Arc::new(Progress::new(Arc::clone(&reader)));
    // Progress last: who waits for it finds the write in the caches.
    let sinks: Vec<Arc<dyn ApplySink>> = vec![caches.clone(), progress.clone()];
    let parts = Parts {
        log: Arc::new(log),
        state,
        sinks,
        transport: Arc::new(NoPeers),
        fatal: Arc::new(|error| {
            // Carrying on could acknowledge what is not on the disk.
            tracing::error!(%error, "the store failed; ending the process");
            std::process::abort();
        }),
    };
    let raft = navarch_raft_driver::start(Config::single(1, cluster_id(data_dir)?), parts)?;
    let room = Arc::new(Space::watch(folder.path(), SpaceConfig::default()));
    let store = Store::new(Arc::new(Raft(raft.clone())), progress, reader).with_room(room);
    Ok(StoreParts { store, caches, raft, _folder: folder })
}

/// The cluster's id, made once.
///
/// # Errors
/// If its file cannot be read or written.
pub fn cluster_id(data_dir: &Path) -> Result<String, OpenError> {
    let path = data_dir.join("cluster-id");
    match std::fs::read_to_string(&path) {
        Ok(id) => Ok(id.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = uuid::Uuid::new_v4().to_string();
            std::fs::write(&path, format!("{id}\n")).map_err(|source| OpenError::ClusterId { path, source })?;
            Ok(id)
        }
        Err(source) => Err(OpenError::ClusterId { path, source }),
    }
}
