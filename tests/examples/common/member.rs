//! A member that is only the store: the real driver, log and state on RocksDB and links to peers, put together as the
//! program does it, without what makes a Kubernetes of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use navarch_auth::Pki;
use navarch_cache::{CacheLimits, Caches};
use navarch_raft_contract::{ApplySink, StateReader};
use navarch_raft_driver::{Config, Parts, PeerConfig, PeerTls, Peers, RaftHandle};
use navarch_storage::{DataFolder, RocksConfig, Space, SpaceConfig};
use navarch_store::upkeep::{self, Retention, RetentionRules};
use navarch_store::{Progress, Raft, Store};
use tokio::time::Instant;

use crate::Fallible;

/// The name of the consensus group; the same in all members' certificates.
const GROUP: &str = "storebench";
/// Between two looks at what history may be forgotten, as in the program.
const COMPACT_EVERY: Duration = Duration::from_secs(10);
const UPKEEP_DEADLINE: Duration = Duration::from_secs(10);

/// What a member is told.
#[derive(Clone, Debug, clap::Args)]
pub struct MemberOptions {
    /// This member's number.
    #[arg(long, default_value_t = 1)]
    pub member: u64,
    /// Its data folder.
    #[arg(long)]
    pub data: PathBuf,
    /// The members' ports on 127.0.0.1, in the order of their numbers; one, and it is alone.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    pub peer_ports: Vec<u16>,
    /// Memory that the databases share, as `server.store.memory_mib`; the default is the program's.
    #[arg(long, default_value_t = 16)]
    pub memory_mib: usize,
    /// Minutes for which history is kept, as `server.store.retention_minutes`.
    #[arg(long, default_value_t = 60)]
    pub retention_minutes: u64,
    /// Megabytes of history that are kept at most, as `server.store.history_mib`.
    #[arg(long, default_value_t = 1024)]
    pub history_mib: u64,
}

/// A running member. Closed by [`Member::close`].
pub struct Member {
    pub store: Store,
    pub raft: RaftHandle,
    peers: Peers,
    rules: RetentionRules,
    _folder: DataFolder,
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Links to peers, over mutual TLS with the members' own authority.
fn bind(options: &MemberOptions, pki: &Path) -> Fallible<Peers> {
    let port = usize::try_from(options.member).ok().and_then(|member| options.peer_ports.get(member.checked_sub(1)?));
    let port = *port.ok_or("--peer-ports: there is none for this member")?;
    let pki = Pki::open(pki)?;
    let identity = pki.peer(options.member, GROUP, &[IpAddr::V4(Ipv4Addr::LOCALHOST)])?;
    let tls = PeerTls {
        server: Arc::new(pki.peer_server_config(&identity)?),
        client: Arc::new(pki.peer_client_config(&identity)?),
    };
    let tls = Arc::new(ArcSwap::from_pointee(tls));
    Ok(Peers::bind(PeerConfig::new(options.member, GROUP, address(port), tls))?)
}

impl Member {
    /// Opens the databases and starts consensus on them. `pki` is a folder with the members' authority; it is made if it
    /// is missing, which a member that is not alone cannot want.
    pub fn open(options: &MemberOptions, pki: &Path) -> Fallible<Self> {
        let folder = DataFolder::acquire(&options.data)?;
        let (log, state) = folder.open_as(options.member, &RocksConfig::within(options.memory_mib << 20))?;
        let members = 1..=options.peer_ports.len() as u64;
        let mut config = Config::single(options.member, GROUP);
        config.voters = members.clone().collect();
        config.seed = uuid::Uuid::new_v4().as_u64_pair().0;
        let peers = bind(options, pki)?;
        let ports = members.zip(&options.peer_ports).map(|(member, port)| (member, address(*port).to_string()));
        peers.set_peers(ports.collect::<BTreeMap<_, _>>());
        let state = Arc::new(state);
        let reader: Arc<dyn StateReader> = state.clone();
        let caches = Caches::new(reader.clone(), CacheLimits::default());
        let progress = Arc::new(Progress::new(reader.clone()));
        let sinks: Vec<Arc<dyn ApplySink>> = vec![caches, progress.clone()];
        let parts = Parts {
            log: Arc::new(log),
            state,
            sinks,
            transport: Arc::new(peers.clone()),
            fatal: Arc::new(|error| {
                eprintln!("the store failed: {error}");
                std::process::abort();
            }),
        };
        let raft = navarch_raft_driver::start(config, parts)?;
        peers.serve(Arc::new(raft.clone()))?;
        let space = Arc::new(Space::watch(folder.path(), SpaceConfig::default()));
        let way = Arc::new(Raft::new(raft.clone(), Some(peers.clone())));
        let store = Store::new(way, progress, reader).with_room(space);
        let rules = RetentionRules {
            all_ms: options.retention_minutes * 60_000,
            prefixes: Vec::new(),
            bytes_max: options.history_mib << 20,
        };
        Ok(Self { store, raft, peers, rules, _folder: folder })
    }

    /// Raises the compaction floors while this member leads, as the program's compactor does. Returns on an error only.
    pub fn compactor(&self) -> impl Future<Output = Fallible<()>> + Send + 'static {
        let (store, mut retention) = (self.store.clone(), Retention::new(self.rules.clone()));
        async move {
            loop {
                tokio::time::sleep(COMPACT_EVERY).await;
                let floors = retention.observe(now_ms(), store.revision(), store.written_bytes(), false);
                upkeep::compact(&store, floors, Instant::now() + UPKEEP_DEADLINE).await?;
            }
        }
    }

    /// Flushes and closes everything.
    pub async fn close(self) {
        self.raft.shutdown().await;
        self.peers.shutdown().await;
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
