//! A control-plane member: its parts, in the order they are made, and its subtree.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use navarch_admission::AdmissionChain;
use navarch_auth::pki::{self, Kubeconfig, ServingNames};
use navarch_auth::token::Tokens;
use navarch_auth::view::{CachesView, ObjectView};
use navarch_auth::{Authenticator, Authorizer, JOIN_PATH, Pki, VirtualResources};
use navarch_client::{Client, InformerFactory};
use navarch_config::Settings;
use navarch_raft_contract::RoomLevel;
use navarch_registry::allocate::ServiceNetwork;
use navarch_registry::{Registry, Table};
use navarch_scheduler::framework::Framework;
use navarch_server::metrics::RequestMetrics;
use navarch_server::probes::{Check, ExtraEndpoint};
use navarch_server::streaming::Kubelets;
use navarch_server::{ApiServer, InProcess, Pipeline, ServerConfig};
use navarch_supervision::{ChildSpec, Strategy, SupervisorSpec, TaskContext, Tree};
use navarch_telemetry::Metrics;
use navarch_types::{ApiError, UserInfo};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bootstrap;
use crate::endpoints::{self, OwnPaths, TreeView};
use crate::identity::Identity;
use crate::integrity::Integrity;
use crate::leader::{self, LeaderParts};
use crate::members::Members;
use crate::process::{Stages, admin_kubeconfig};
use crate::save::{SNAPSHOT_PATH, Save};
use crate::snapshots::Snapshots;
use crate::status::{StatusMetrics, StatusSource};
use crate::store::{self, StoreParts};
use crate::{in_process, machine, maintenance, room, siblings};

/// How long the cluster's first objects are tried to be made, and the pause after a time in vain.
const FURNISH_PATIENCE: Duration = Duration::from_secs(60);
const FURNISH_PAUSE: Duration = Duration::from_millis(100);
/// How often it is told that a member waits for others.
const CATCH_UP_TELL: Duration = Duration::from_secs(5);
/// Threads that serve connections. Two serve far more than one disk can sync; each costs memory.
const API_THREADS: usize = 2;

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// Keys and certificates.
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
    /// The listener.
    #[error(transparent)]
    Start(#[from] navarch_server::StartError),
    /// The first objects could not be written.
    #[error("cannot write the cluster's first objects: {0}")]
    Bootstrap(ApiError),
    /// The scheduler's profile.
    #[error("the scheduler's profile: {0}")]
    Profile(&'static str),
    /// A request of the process itself failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It is no member any more.
    #[error("this member was removed from its cluster; `navarch reset` deletes its data, {}", .0.display())]
    Removed(PathBuf),
}

/// An open member.
pub struct ControlPlane {
    store: StoreParts,
    pipeline: Arc<Pipeline>,
    view: Arc<dyn ObjectView>,
    pki: Arc<Pki>,
    listen: SocketAddr,
    /// Bound before anything else starts, so that a port in use is told at once; taken by the first start.
    bound: Arc<Mutex<Option<ApiServer>>>,
    make_server: Arc<dyn Fn() -> Result<ApiServer, navarch_server::StartError> + Send + Sync>,
    serving: Arc<AtomicBool>,
    tree: TreeView,
    framework: Arc<Framework>,
    settings: Settings,
    identity: Identity,
    members: Members,
    snapshots: Arc<Snapshots>,
}

impl ControlPlane {
    /// Opens the data folder, takes the port, and makes sure of the first objects.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is left running.
    pub async fn open(settings: &Settings) -> Result<Self, OpenError> {
        if siblings::is_removed(&settings.data_dir) {
            return Err(OpenError::Removed(settings.data_dir.clone()));
        }
        let identity = Identity::of(settings)?;
        let address = identity.address;
        let listen = SocketAddr::new(settings.server.bind_address, settings.server.port);
        let pki = Arc::new(Pki::open(&settings.data_dir.join("pki"))?);
        let store = store::open(settings, &identity, &pki)?;
        let view: Arc<dyn ObjectView> = Arc::new(CachesView::new(Arc::clone(&store.caches)));
        let issuer = format!("https://kubernetes.default.svc.{}", settings.cluster.domain);
        let tokens = Tokens::new(Arc::clone(pki.service_account_key()), &issuer);
        let authenticator = Arc::new(Authenticator::new(tokens, pki.client_verifier()?, Arc::clone(&view)));
        let authorizer = Arc::new(Authorizer::new(Arc::clone(&view)));
        let virtuals = VirtualResources::new(Arc::clone(&authenticator), Arc::clone(&authorizer), Arc::clone(&view));
        let services = ServiceNetwork {
            cidrs: vec![settings.cluster.service_cidr.into()],
            node_ports: (settings.server.node_port_min, settings.server.node_port_max),
        };
        let registry = Registry::new(Table::builtin(), store.store.clone(), Arc::clone(&store.caches), services);
        let chain = AdmissionChain::new(Arc::clone(&view), Arc::clone(&authorizer));
        let admission = Arc::new(navarch_server::admission::Chain(Arc::new(chain)));
        let to_kubelets = pki.client_config(&pki.apiserver_kubelet_client()?)?;
        let kubelets = Kubelets::new(Arc::clone(&view), to_kubelets);
        let pipeline = Pipeline::new(registry, authenticator, authorizer, virtuals, admission);
        let pipeline = pipeline.with_requests_in_flight_max(settings.server.requests_in_flight_max);
        let pipeline = Arc::new(pipeline.with_kubelets(kubelets));
        let framework = leader::framework().map_err(OpenError::Profile)?;
        let tree = TreeView::default();
        let metrics = Metrics::default();
        metrics.register(|registry| registry.register_collector(Box::new(tree.clone())));
        let serving = Arc::new(AtomicBool::new(false));
        let tls = Arc::new(ArcSwap::from_pointee(serving_config(&pki, settings, address)?));
        let members = Members {
            store: store.store.clone(),
            raft: store.raft.clone(),
            peers: store.peers.clone(),
            roster: Arc::clone(&store.roster),
        };
        let join = endpoints::join(settings, &pki, &view, &identity, Arc::new(members.clone()));
        let snapshots = Snapshots::new(
            store.raft.clone(),
            Arc::clone(&store.alarms),
            Arc::clone(&store.space),
            &identity.cluster_id,
            identity.member,
            settings,
        );
        let status = StatusSource {
            cluster_id: identity.cluster_id.clone(),
            members: members.clone(),
            room: store.space.clone(),
            alarms: Arc::clone(&store.alarms),
            snapshots: Arc::clone(&snapshots),
        };
        let save = Save {
            store: store.store.clone(),
            raft: store.raft.clone(),
            cluster_id: identity.cluster_id.clone(),
            own: identity.member,
        };
        let status = Arc::new(status);
        let figures = StatusMetrics(Arc::clone(&status));
        metrics.register(|registry| registry.register_collector(Box::new(figures)));
        let members_path = Arc::new(members.clone());
        let own = OwnPaths { tree: tree.clone(), status, join, members: members_path, save: Arc::new(save) };
        let make_server = server_maker(Arc::clone(&pipeline), listen, tls, address, own, &metrics, &serving);
        let bound = Arc::new(Mutex::new(Some(make_server()?)));
        let settings = settings.clone();
        let this = Self {
            store,
            pipeline,
            view,
            pki,
            listen,
            bound,
            make_server,
            serving,
            tree,
            framework,
            settings,
            identity,
            members,
            snapshots,
        };
        this.write_kubeconfig()?;
        tokio::select! {
            () = this.catch_up() => {}
            () = this.removed() => return Err(OpenError::Removed(this.settings.data_dir)),
        }
        this.members.introduce(&this.identity).await?;
        // Every other leader finds the cluster furnished by the first.
        if !this.identity.joined {
            this.furnish().await?;
        }
        Ok(this)
    }

    /// Makes the cluster's first objects. What is there stays as it is, so this is done again when leadership changes meanwhile.
    async fn furnish(&self) -> Result<(), OpenError> {
        let until = Instant::now() + FURNISH_PATIENCE;
        loop {
            match self.furnish_once().await {
                Err(error) if error.code() >= 500 && self.has_room() && Instant::now() < until => {
                    tracing::warn!(%error, "the cluster's first objects cannot be made yet");
                    tokio::time::sleep(FURNISH_PAUSE).await;
                }
                made => return self.unless_full(made),
            }
        }
    }

    async fn furnish_once(&self) -> Result<(), ApiError> {
        let registry = self.pipeline.registry();
        let made = bootstrap::run(registry, &*self.view, &self.settings).await;
        // With others, the leader does that: it knows who is there.
        if self.members.roster.members().len() > 1 {
            return made;
        }
        let published = bootstrap::publish(registry, &self.members.reach(self.identity.member)).await;
        made.and(published)
    }

    fn has_room(&self) -> bool {
        self.store.store.room() == RoomLevel::Ample
    }

    /// A full disk is no reason not to start: whoever makes room needs the API for it. What is missing is made at the next
    /// start.
    fn unless_full(&self, written: Result<(), ApiError>) -> Result<(), OpenError> {
        match written {
            Err(error) if !self.has_room() => {
                tracing::warn!(%error, "the cluster's first objects are not all as they should be");
                Ok(())
            }
            other => other.map_err(OpenError::Bootstrap),
        }
    }

    fn write_kubeconfig(&self) -> Result<(), OpenError> {
        let host = if self.listen.ip().is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { self.listen.ip() };
        let server = format!("https://{}", SocketAddr::new(host, self.listen.port()));
        let kubeconfig = Kubeconfig {
            cluster: &self.settings.cluster.name,
            server: &server,
            ca_pem: self.pki.ca_pem(),
            users: &[("kubernetes-admin", &self.pki.admin()?)],
        };
        pki::write_kubeconfig(&admin_kubeconfig(&self.settings.data_dir), &kubeconfig)?;
        Ok(())
    }

    /// Waits until this member has everything that was acknowledged before it started, for as long as it takes: without a
    /// quorum there is nothing to serve.
    async fn catch_up(&self) {
        while let Err(error) = self.store.store.barrier(Instant::now() + CATCH_UP_TELL).await {
            let status = self.store.raft.status();
            tracing::warn!(%error, leader = ?status.leader, term = status.term, "waiting for the other members");
        }
    }

    /// Returns when this member has been removed from its cluster; the data folder is marked then.
    pub async fn removed(&self) {
        self.members.removed(self.identity.member).await;
        tracing::error!("this member was removed from its cluster");
        if let Err(error) = siblings::mark_removed(&self.settings.data_dir) {
            // It is told again at the next start.
            tracing::warn!(%error, "the data folder cannot be marked");
        }
    }

    /// A client of this process, as a user.
    pub fn client(&self, user: UserInfo) -> Client {
        in_process::client(&InProcess::new(Arc::clone(&self.pipeline)), user)
    }

    /// Keys and certificates.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Shows the tree to whoever asks the API for it.
    pub fn show(&self, tree: &Tree) {
        self.tree.show(tree);
    }

    /// The subtree: API server, upkeep, informers, and what only the leader runs.
    pub fn spec(&self, stages: &Stages) -> ChildSpec {
        endpoints::allow_faults();
        // Informers are warm on every member; only the leader's subtree acts on them.
        let user = UserInfo::new("system:kube-controller-manager", &["system:authenticated"]);
        let informers = InformerFactory::new(self.client(user));
        let parts = LeaderParts {
            pipeline: Arc::clone(&self.pipeline),
            informers: informers.clone(),
            ca_pem: self.pki.ca_pem().to_owned(),
            settings: self.settings.clone(),
            members: self.members.clone(),
            own: self.identity.member,
        };
        let spec = SupervisorSpec::new("control-plane", Strategy::OneForOne)
            .child(self.api_server(stages))
            .child(self.maintenance())
            .child(informers_spec(&informers))
            .child(leader::gate(parts, Arc::clone(&self.framework), self.leading_term()));
        ChildSpec::supervisor(spec)
    }

    /// The term in which this member leads, while it does.
    fn leading_term(&self) -> watch::Receiver<Option<u64>> {
        let (sender, receiver) = watch::channel(None);
        let mut status = self.store.raft.watch();
        // Ends with the driver, or when nobody listens any more.
        actix::spawn(async move {
            loop {
                let term = {
                    let status = status.borrow_and_update();
                    status.ready.then_some(status.term)
                };
                sender.send_if_modified(|present| std::mem::replace(present, term) != term);
                tokio::select! {
                    changed = status.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        });
        receiver
    }

    fn api_server(&self, stages: &Stages) -> ChildSpec {
        let (bound, make, serving) =
            (Arc::clone(&self.bound), Arc::clone(&self.make_server), Arc::clone(&self.serving));
        let stages = stages.clone();
        ChildSpec::task("api-server", move |context: TaskContext| {
            let (bound, make, serving, stages) =
                (Arc::clone(&bound), Arc::clone(&make), Arc::clone(&serving), stages.clone());
            async move {
                let first = bound.lock().take();
                let server = match first {
                    Some(server) => server,
                    None => make()?,
                };
                let handle = server.start()?;
                serving.store(true, Ordering::Release);
                stages.reached("api-ready");
                tracing::info!(address = %handle.local_addr(), "the API serves");
                context.stopped().await;
                serving.store(false, Ordering::Release);
                handle.stop().await;
                Ok::<(), navarch_server::StartError>(())
            }
        })
    }

    fn maintenance(&self) -> ChildSpec {
        let integrity = Integrity {
            store: self.store.store.clone(),
            raft: self.store.raft.clone(),
            state: Arc::clone(&self.store.state),
            alarms: Arc::clone(&self.store.alarms),
            roster: Arc::clone(&self.store.roster),
            space: Arc::clone(&self.store.space),
            folder: store::folder_of(&self.settings.data_dir),
            data_dir: self.settings.data_dir.clone(),
            own: self.identity.member,
            settings: self.settings.server.store.clone(),
        };
        let room =
            room::spec(Arc::clone(&self.store.state), Arc::clone(&self.store.space), Arc::clone(&self.snapshots));
        let beside = [integrity.watcher(), integrity.scrubber(), self.snapshots.spec(), room];
        maintenance::spec(&self.store.store, &self.settings.server.store, beside)
    }

    /// Flushes and closes the store. Everything above it has stopped.
    pub async fn close(self) {
        // Hands leadership over, which needs the network.
        self.store.raft.shutdown().await;
        self.store.peers.shutdown().await;
    }
}

/// Runs informers as a child.
pub fn informers_spec(informers: &InformerFactory) -> ChildSpec {
    let informers = informers.clone();
    ChildSpec::task("informers", move |context: TaskContext| {
        let informers = informers.clone();
        async move {
            let stop = CancellationToken::new();
            let running = informers.run(stop.clone());
            tokio::pin!(running);
            tokio::select! {
                ended = &mut running => ended,
                () = context.stopped() => {
                    stop.cancel();
                    running.await
                }
            }
        }
    })
}

fn serving_config(pki: &Pki, settings: &Settings, address: IpAddr) -> Result<rustls::ServerConfig, pki::PkiError> {
    let mut names = ServingNames {
        dns: vec![machine::host_name()],
        addresses: vec![address, settings.cluster.kubernetes_service_ip()],
    };
    if !settings.server.bind_address.is_unspecified() {
        names.addresses.push(settings.server.bind_address);
    }
    for extra in &settings.server.extra_sans {
        match extra.parse() {
            Ok(address) => names.addresses.push(address),
            Err(_) => names.dns.push(extra.clone()),
        }
    }
    let mut config = pki.server_config(&pki.apiserver_serving(&names)?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

type MakeServer = Arc<dyn Fn() -> Result<ApiServer, navarch_server::StartError> + Send + Sync>;

fn server_maker(
    pipeline: Arc<Pipeline>,
    listen: SocketAddr,
    tls: Arc<ArcSwap<rustls::ServerConfig>>,
    address: IpAddr,
    own: OwnPaths,
    metrics: &Metrics,
    serving: &Arc<AtomicBool>,
) -> MakeServer {
    let (metrics, serving) = (metrics.clone(), Arc::clone(serving));
    let requests = RequestMetrics::register(&metrics);
    Arc::new(move || {
        let serving = Arc::clone(&serving);
        let ready: Vec<Check> = vec![(
            "started".to_owned(),
            Arc::new(move || serving.load(Ordering::Acquire).then_some(()).ok_or_else(|| "starting".to_owned())),
        )];
        let config = ServerConfig {
            listen,
            tls: Arc::clone(&tls),
            workers: API_THREADS,
            address: format!("https://{}", SocketAddr::new(address, listen.port())),
            metrics: metrics.clone(),
            requests: requests.clone(),
            ready,
            live: Vec::new(),
            extra: extra_endpoints(&own),
            services: vec![
                (JOIN_PATH.to_owned(), Arc::clone(&own.join)),
                (endpoints::MEMBERS_PATH.to_owned(), Arc::clone(&own.members)),
                (SNAPSHOT_PATH.to_owned(), Arc::clone(&own.save)),
            ],
        };
        ApiServer::bind(Arc::clone(&pipeline), config)
    })
}

fn extra_endpoints(own: &OwnPaths) -> Vec<ExtraEndpoint> {
    let (of_tree, status, of_servers) = (own.tree.clone(), Arc::clone(&own.status), Arc::clone(&own.status));
    vec![
        (
            endpoints::TREE_PATH.to_owned(),
            Arc::new(move |_: &http::Method, _: &str| (200, "application/json", Bytes::from(of_tree.json()))),
        ),
        (
            endpoints::STATUS_PATH.to_owned(),
            Arc::new(move |_: &http::Method, _: &str| {
                let text = serde_json::to_vec(&status.status()).unwrap_or_default();
                (200, "application/json", Bytes::from(text))
            }),
        ),
        (
            navarch_types::SERVERS_PATH.to_owned(),
            Arc::new(move |_: &http::Method, _: &str| {
                let list = of_servers.members.list(&of_servers.cluster_id);
                let text = serde_json::to_vec(&list).unwrap_or_default();
                (if list.ready { 200 } else { 503 }, "application/json", Bytes::from(text))
            }),
        ),
        (
            "/navarch/faults".to_owned(),
            Arc::new(|_: &http::Method, query: &str| {
                let (code, text) = endpoints::order_fault(query);
                (code, "text/plain", Bytes::from(text))
            }),
        ),
    ]
}
