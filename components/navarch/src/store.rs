//! Opening the data folder and starting consensus on it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use navarch_auth::{Pki, PkiError};
use navarch_cache::{CacheLimits, Caches};
use navarch_config::Settings;
use navarch_raft_contract::{ApplySink, ReadError, StateReader};
use navarch_raft_driver::{Config, Parts, PeerConfig, PeerTls, Peers, RaftHandle};
use navarch_storage::{DataFolder, RocksConfig, Space, SpaceConfig};
use navarch_store::{Progress, Raft, Store};

use crate::identity::Identity;
use crate::join::JoinError;
use crate::roster::Roster;

/// The store of this process. Dropped last: the databases close with it.
pub struct StoreParts {
    pub store: Store,
    pub caches: Arc<Caches>,
    pub raft: RaftHandle,
    pub peers: Peers,
    pub roster: Arc<Roster>,
    pub room: Arc<Space>,
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
    /// As what this machine has joined cannot be read, or it is no member.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The certificate for the other members.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The port for the other members.
    #[error("cannot listen to other members on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The members' records.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Consensus refused the log.
    #[error(transparent)]
    Start(#[from] navarch_raft_driver::StartError),
}

/// Opens the databases below the data folder and starts consensus.
///
/// # Errors
/// See [`OpenError`].
pub fn open(settings: &Settings, identity: &Identity, pki: &Pki) -> Result<StoreParts, OpenError> {
    let folder = DataFolder::acquire(&settings.data_dir.join("store"))?;
    let peers = listen(identity, pki)?;
    // A quarter each for the log's and the state's write buffers, half for blocks.
    let quarter = (settings.server.store.memory_mib << 20) / 4;
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
    let roster = Roster::new(Arc::clone(&reader), peers.clone(), identity.seeds.clone())?;
    // Progress last: who waits for it finds the write in the caches.
    let sinks: Vec<Arc<dyn ApplySink>> = vec![roster.clone(), caches.clone(), progress.clone()];
    let parts = Parts {
        log: Arc::new(log),
        state,
        sinks,
        transport: Arc::new(peers.clone()),
        fatal: Arc::new(|error| {
            // Carrying on could acknowledge what is not on the disk.
            tracing::error!(%error, "the store failed; ending the process");
            std::process::abort();
        }),
    };
    let mut config = Config::single(identity.member, &identity.cluster_id);
    config.voters.clone_from(&identity.first_voters);
    // Another one at each start: the members of a cluster must not draw the same timeouts.
    config.seed = uuid::Uuid::new_v4().as_u64_pair().0;
    let raft = navarch_raft_driver::start(config, parts)?;
    let address = peers.local_addr();
    peers.serve(Arc::new(raft.clone())).map_err(|source| OpenError::Listen { address, source })?;
    let room = Arc::new(Space::watch(folder.path(), SpaceConfig::default()));
    let way = Arc::new(Raft::new(raft.clone(), Some(peers.clone())));
    let store = Store::new(way, progress, reader).with_room(room.clone());
    Ok(StoreParts { store, caches, raft, peers, roster, room, _folder: folder })
}

/// Takes the port for the other members. They know each other by certificates of an authority of their own.
fn listen(identity: &Identity, pki: &Pki) -> Result<Peers, OpenError> {
    let certificate = pki.peer(identity.member, &identity.cluster_id, &[identity.address])?;
    let tls = PeerTls {
        server: Arc::new(pki.peer_server_config(&certificate)?),
        client: Arc::new(pki.peer_client_config(&certificate)?),
    };
    let tls = Arc::new(ArcSwap::from_pointee(tls));
    let config = PeerConfig::new(identity.member, &identity.cluster_id, identity.listen, tls);
    let address = identity.listen;
    Peers::bind(config).map_err(|source| OpenError::Listen { address, source })
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
