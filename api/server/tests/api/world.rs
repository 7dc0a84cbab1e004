//! A server over a real store in a temporary folder.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use navarch_admission::AdmissionChain;
use navarch_auth::token::Tokens;
use navarch_auth::view::{CachesView, ObjectView};
use navarch_auth::{Authenticator, Authorizer, Pki, VirtualResources};
use navarch_cache::{CacheLimits, Caches};
use navarch_raft_contract::{ApplySink, Command, Index, Outcome, StateReader, Term};
use navarch_raft_driver::{Config, NoPeers, Parts};
use navarch_registry::allocate::ServiceNetwork;
use navarch_registry::{Registry, Table};
use navarch_server::{InProcess, Pipeline};
use navarch_storage::{DataFolder, RocksConfig};
use navarch_store::{Consensus, ConsensusError, Progress, Raft, Store};
use navarch_types::UserInfo;

/// Everything that a server consists of, and nothing else running.
pub struct World {
    pub pipeline: Arc<Pipeline>,
    pub pki: Pki,
    pub store: Store,
    /// While set, commands are carried out and their answers lost, as when leadership changes meanwhile.
    pub lossy: Arc<AtomicBool>,
    _folder: DataFolder,
}

/// Consensus whose answers may be lost.
struct Lossy {
    raft: Raft,
    lossy: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl Consensus for Lossy {
    async fn propose(&self, command: Command) -> Result<Outcome, ConsensusError> {
        let answer = self.raft.propose(command).await;
        if self.lossy.load(Ordering::Acquire) { Err(ConsensusError::Unknown) } else { answer }
    }

    async fn read_index(&self) -> Result<Index, ConsensusError> {
        self.raft.read_index().await
    }

    fn leading_term(&self) -> Option<Term> {
        self.raft.leading_term()
    }
}

impl World {
    /// In this folder.
    pub async fn open(dir: &Path) -> Self {
        let folder = DataFolder::acquire(&dir.join("store")).unwrap();
        let (log, state) = folder.open(&RocksConfig::default()).unwrap();
        let state = Arc::new(state);
        let reader: Arc<dyn StateReader> = state.clone();
        let caches = Caches::new(Arc::clone(&reader), CacheLimits::default());
        let progress = Arc::new(Progress::new(Arc::clone(&reader)));
        let sinks: Vec<Arc<dyn ApplySink>> = vec![caches.clone(), progress.clone()];
        let parts = Parts {
            log: Arc::new(log),
            state,
            sinks,
            transport: Arc::new(NoPeers),
            fatal: Arc::new(|error| panic!("the store failed: {error}")),
        };
        let raft = navarch_raft_driver::start(Config::single(1, "test".to_owned()), parts).unwrap();
        let mut status = raft.watch();
        tokio::time::timeout(Duration::from_secs(30), status.wait_for(|s| s.ready)).await.unwrap().unwrap();
        let lossy = Arc::new(AtomicBool::new(false));
        let consensus = Lossy { raft: Raft::new(raft, None), lossy: Arc::clone(&lossy) };
        let store = Store::new(Arc::new(consensus), progress, reader);
        let pki = Pki::open(&dir.join("pki")).unwrap();
        let view: Arc<dyn ObjectView> = Arc::new(CachesView::new(Arc::clone(&caches)));
        let tokens = Tokens::new(Arc::clone(pki.service_account_key()), "https://kubernetes.default.svc.cluster.local");
        let verifier = pki.client_verifier().unwrap();
        let authn = Arc::new(Authenticator::new(tokens, verifier, Arc::clone(&view)));
        let authz = Arc::new(Authorizer::new(Arc::clone(&view)));
        let virtuals = VirtualResources::new(Arc::clone(&authn), Arc::clone(&authz), Arc::clone(&view));
        let services = ServiceNetwork { cidrs: vec!["10.96.0.0/16".parse().unwrap()], node_ports: (30000, 32767) };
        let registry = Registry::new(Table::builtin(), store.clone(), caches, services);
        let chain = AdmissionChain::new(view, Arc::clone(&authz));
        let admission = Arc::new(navarch_server::admission::Chain(Arc::new(chain)));
        let pipeline = Arc::new(Pipeline::new(registry, authn, authz, virtuals, admission));
        Self { pipeline, pki, store, lossy, _folder: folder }
    }

    /// A way in.
    pub fn client(&self) -> InProcess {
        InProcess::new(Arc::clone(&self.pipeline))
    }
}

/// An administrator.
pub fn admin() -> UserInfo {
    UserInfo::new("admin", &["system:masters", "system:authenticated"])
}
