//! Opening the data folder and starting consensus on it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use navarch_auth::{Pki, PkiError};
use navarch_cache::{CacheLimits, Caches};
use navarch_config::Settings;
use navarch_raft_contract::{ApplyError, ApplySink, LogStore as _, ReadError, StateReader};
use navarch_raft_driver::{Config, FatalError, Parts, PeerConfig, PeerTls, Peers, RaftHandle};
use navarch_storage::{DataFolder, FolderError, RocksConfig, RocksLog, Space, SpaceConfig, StateDb};
use navarch_store::{Progress, Raft, Store};

use crate::alarms::{Alarms, ClusterRoom};
use crate::identity::Identity;
use crate::integrity;
use crate::join::JoinError;
use crate::roster::Roster;

/// The store of this process. Dropped last: the databases close with it.
pub struct StoreParts {
    pub store: Store,
    pub caches: Arc<Caches>,
    pub raft: RaftHandle,
    pub peers: Peers,
    pub roster: Arc<Roster>,
    pub alarms: Arc<Alarms>,
    /// Of this member alone.
    pub space: Arc<Space>,
    pub state: Arc<StateDb>,
    _folder: DataFolder,
}

/// Why the store did not open. The process must not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is in use or damaged.
    #[error(transparent)]
    Folder(#[from] FolderError),
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

/// How the databases share the memory that they may use.
pub fn rocks_config(settings: &Settings) -> RocksConfig {
    RocksConfig::within(settings.server.store.memory_mib << 20)
}

/// Where the databases are.
pub fn folder_of(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("store")
}

/// Opens the databases. A state that cannot be read is condemned, if others have it.
fn databases(
    folder: &DataFolder,
    identity: &Identity,
    settings: &Settings,
) -> Result<(RocksLog, StateDb), FolderError> {
    let rocks = rocks_config(settings);
    match folder.open_as(identity.member, &rocks) {
        Err(FolderError::State { source: source @ ApplyError::Corrupt(_), .. })
            if integrity::condemn_unread(folder.path(), identity.member, &source.to_string()) =>
        {
            folder.open_as(identity.member, &rocks)
        }
        opened => opened,
    }
}

/// Opens the databases below the data folder and starts consensus.
///
/// # Errors
/// See [`OpenError`].
pub fn open(settings: &Settings, identity: &Identity, pki: &Pki) -> Result<StoreParts, OpenError> {
    let folder = DataFolder::acquire(&folder_of(&settings.data_dir))?;
    let (log, state) = databases(&folder, identity, settings)?;
    let mut config = Config::single(identity.member, group(&log, identity)?);
    config.rebuild = folder.rebuilding()?.map(|condemned| condemned.members);
    config.voters.clone_from(&identity.first_voters);
    // Another one at each start: the members of a cluster must not draw the same timeouts.
    config.seed = uuid::Uuid::new_v4().as_u64_pair().0;
    let peers = listen(identity, &config.cluster_id, pki)?;
    let state = Arc::new(state);
    let reader: Arc<dyn StateReader> = state.clone();
    let caches = Caches::new(Arc::clone(&reader), CacheLimits::default());
    let progress = Arc::new(Progress::new(Arc::clone(&reader)));
    let roster = Roster::new(Arc::clone(&reader), peers.clone(), identity.seeds.clone())?;
    let alarms = Alarms::new(identity.member, Arc::clone(&reader))?;
    // Progress last: who waits for it finds the write in the caches.
    let sinks: Vec<Arc<dyn ApplySink>> = vec![roster.clone(), alarms.clone(), caches.clone(), progress.clone()];
    let (at, member) = (folder.path().to_owned(), identity.member);
    let parts = Parts {
        log: Arc::new(log),
        state: state.clone(),
        sinks,
        transport: Arc::new(peers.clone()),
        fatal: Arc::new(move |error| {
            // A state that cannot be read has nothing to lose, if others have it.
            if let FatalError::Apply(ApplyError::Corrupt(why)) = &error
                && integrity::condemn_unread(&at, member, why)
            {
                integrity::begin_anew(why);
            }
            // Carrying on could acknowledge what is not on the disk.
            tracing::error!(%error, "the store failed; ending the process");
            std::process::abort();
        }),
    };
    let raft = navarch_raft_driver::start(config, parts)?;
    let address = peers.local_addr();
    peers.serve(Arc::new(raft.clone())).map_err(|source| OpenError::Listen { address, source })?;
    let space = Arc::new(Space::watch(folder.path(), SpaceConfig::default()));
    let room = Arc::new(ClusterRoom { own: space.clone(), alarms: alarms.clone(), peers: peers.clone() });
    let way = Arc::new(Raft::new(raft.clone(), Some(peers.clone())));
    let store = Store::new(way, progress, reader).with_room(room);
    Ok(StoreParts { store, caches, raft, peers, roster, alarms, space, state, _folder: folder })
}

/// The name under which members know each other. The log's, if it has begun: a recovery changes it there.
fn group(log: &RocksLog, identity: &Identity) -> Result<String, OpenError> {
    let began = log.state().map_err(navarch_raft_driver::RecoverError::from);
    let began = began.map_err(navarch_raft_driver::StartError::from)?.bootstrap;
    Ok(match began {
        Some(began) if identity.owns(&began.cluster_id) => began.cluster_id,
        // Another cluster's, which consensus refuses by name.
        _ => identity.group.clone(),
    })
}

/// Takes the port for the other members. They know each other by certificates of an authority of their own.
fn listen(identity: &Identity, group: &str, pki: &Pki) -> Result<Peers, OpenError> {
    let config = peer_config(identity, group, pki)?;
    let address = identity.listen;
    Peers::bind(config).map_err(|source| OpenError::Listen { address, source })
}

/// How this member shows itself to the others.
///
/// # Errors
/// If it cannot be given a certificate.
pub fn peer_config(identity: &Identity, group: &str, pki: &Pki) -> Result<PeerConfig, PkiError> {
    let certificate = pki.peer(identity.member, group, &[identity.address])?;
    let tls = PeerTls {
        server: Arc::new(pki.peer_server_config(&certificate)?),
        client: Arc::new(pki.peer_client_config(&certificate)?),
    };
    let tls = Arc::new(ArcSwap::from_pointee(tls));
    Ok(PeerConfig::new(identity.member, group, identity.listen, tls))
}

/// The file of the cluster's id, in the data folder.
const CLUSTER_ID: &str = "cluster-id";

/// The cluster's id, made once.
///
/// # Errors
/// If its file cannot be read or written.
pub fn cluster_id(data_dir: &Path) -> Result<String, OpenError> {
    let path = data_dir.join(CLUSTER_ID);
    let failed = |source| OpenError::ClusterId { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(id) if id.trim().is_empty() => {
            Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is empty")))
        }
        Ok(id) => Ok(id.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = uuid::Uuid::new_v4().to_string();
            navarch_storage::damage::write_whole(data_dir, CLUSTER_ID, format!("{id}\n").as_bytes()).map_err(failed)?;
            Ok(id)
        }
        Err(source) => Err(failed(source)),
    }
}
