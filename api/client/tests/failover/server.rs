//! Servers with TLS that can be killed and silenced, all before one state: a cluster in small.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use navarch_client::testing::FakeServer;
use navarch_client::transport::Transport;
use navarch_types::{
    ApiError, Body, GroupVersionResource, ListedServer, Reason, ResourceRequest, ResourceResponse, SERVERS_PATH,
    ServerList, Verb,
};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: Vec<u8>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem().into_bytes();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn tls(&self, http2: bool) -> rustls::ServerConfig {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key.into())
            .unwrap();
        config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        config
    }
}

/// What all servers of a cluster share.
#[derive(Clone)]
pub struct Cluster {
    pub state: FakeServer,
    pub authority: Arc<Authority>,
    pub listed: Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    pub fn new() -> Self {
        Self { state: FakeServer::new(), authority: Arc::new(Authority::new()), listed: Arc::default() }
    }

    /// From now on the cluster says that it has these servers.
    pub fn list(&self, servers: &[&Server]) {
        *self.listed.lock() = servers.iter().map(|server| server.url()).collect();
    }
}

/// What happens to requests for resources.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Refused with 503; so is the list of servers.
    NotReady,
    /// Taken, and never answered.
    Holds,
}

pub struct Shared {
    cluster: Cluster,
    mood: Mutex<Mood>,
    /// Verbs of requests for resources.
    seen: Mutex<Vec<Verb>>,
    watches: AtomicUsize,
    connections: AtomicUsize,
    gate: watch::Sender<bool>,
    http2: AtomicBool,
}

pub struct Server {
    pub shared: Arc<Shared>,
    address: SocketAddr,
    running: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Server {
    pub async fn start(cluster: &Cluster) -> Self {
        Self::start_with(cluster, &cluster.authority, true).await
    }

    pub async fn start_with(cluster: &Cluster, authority: &Authority, http2: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            cluster: cluster.clone(),
            mood: Mutex::new(Mood::Well),
            seen: Mutex::default(),
            watches: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            gate: watch::Sender::new(true),
            http2: AtomicBool::new(http2),
        });
        let running = tokio::spawn(accept(listener, Arc::new(authority.tls(http2)), Arc::clone(&shared)));
        Self { shared, address, running: running.abort_handle() }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Nobody listens any more, and every connection is gone.
    pub fn kill(&self) {
        self.running.abort();
    }

    /// As a stopped process: connections are there, and nothing comes or goes.
    pub fn silence(&self) {
        self.shared.gate.send_replace(false);
    }

    pub fn set(&self, mood: Mood) {
        *self.shared.mood.lock() = mood;
    }

    pub fn seen(&self, verb: Verb) -> usize {
        self.shared.seen.lock().iter().filter(|seen| **seen == verb).count()
    }

    pub fn writes(&self) -> usize {
        self.seen(Verb::Create)
    }

    /// Those that are open.
    pub fn watches(&self) -> usize {
        self.shared.watches.load(Ordering::Relaxed)
    }

    /// Those that ever were.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, tls: Arc<rustls::ServerConfig>, shared: Arc<Shared>) {
    // Dropped with this future, and all connections with it.
    let mut open = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        shared.connections.fetch_add(1, Ordering::Relaxed);
        open.spawn(connection(stream, Arc::clone(&tls), Arc::clone(&shared)));
    }
}

/// TLS and HTTP behind a gate that can be shut.
async fn connection(stream: TcpStream, tls: Arc<rustls::ServerConfig>, shared: Arc<Shared>) {
    let (inner, outer) = tokio::io::duplex(64 << 10);
    let (from_client, to_client) = stream.into_split();
    let (from_server, to_server) = tokio::io::split(outer);
    let serving = async {
        let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(inner).await else { return };
        let io = TokioIo::new(stream);
        let service = service_fn(|request| answer(request, Arc::clone(&shared)));
        if shared.http2.load(Ordering::Relaxed) {
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
        } else {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        }
    };
    tokio::select! {
        () = serving => {}
        () = pass(from_client, to_server, shared.gate.subscribe()) => {}
        () = pass(from_server, to_client, shared.gate.subscribe()) => {}
    }
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut gate: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        if gate.wait_for(|open| *open).await.is_err() || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

fn json_answer(code: u16, value: &serde_json::Value) -> Answer {
    Response::builder().status(code).body(Full::from(value.to_string()).boxed_unsync()).unwrap()
}

fn failed(error: &ApiError) -> Answer {
    json_answer(error.code(), &serde_json::to_value(error.status()).unwrap())
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Answer, Infallible> {
    let mood = *shared.mood.lock();
    if request.uri().path() == SERVERS_PATH {
        let servers = shared.cluster.listed.lock().clone();
        let servers = servers.into_iter().map(|url| ListedServer { url, live: true }).collect();
        let ready = mood != Mood::NotReady;
        let list = ServerList { cluster_id: "c".to_owned(), ready, servers };
        return Ok(json_answer(if ready { 200 } else { 503 }, &serde_json::to_value(list).unwrap()));
    }
    let wanted = resource_request(request).await;
    shared.seen.lock().push(wanted.verb);
    match mood {
        Mood::Well => {}
        Mood::NotReady => return Ok(failed(&ApiError::new(Reason::ServiceUnavailable, "the store has no leader"))),
        Mood::Holds => std::future::pending().await,
    }
    let result = if wanted.verb == Verb::Watch { watch(wanted, &shared).await } else { respond(wanted, &shared).await };
    Ok(result.unwrap_or_else(|error| failed(&error)))
}

/// Config maps in one namespace are all there is.
async fn resource_request(request: Request<Incoming>) -> ResourceRequest {
    let path = request.uri().path().strip_prefix("/api/v1/namespaces/d/configmaps").unwrap().to_owned();
    let name = path.strip_prefix('/').map(str::to_owned);
    let query = request.uri().query().unwrap_or_default().to_owned();
    let parameter = |name: &str| {
        let pair = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        pair.map(str::to_owned)
    };
    let verb = match (request.method(), &name) {
        (&Method::GET, _) if parameter("watch").is_some() => Verb::Watch,
        (&Method::GET, None) => Verb::List,
        (&Method::GET, Some(_)) => Verb::Get,
        _ => Verb::Create,
    };
    let mut wanted = ResourceRequest::new(verb, GroupVersionResource::new("", "v1", "configmaps"));
    (wanted.namespace, wanted.name) = (Some("d".to_owned()), name);
    wanted.list.resource_version = parameter("resourceVersion");
    wanted.list.allow_watch_bookmarks = true;
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if verb == Verb::Create {
        wanted.body = Body::Value(serde_json::from_slice(&body).unwrap());
    }
    wanted
}

async fn respond(wanted: ResourceRequest, shared: &Shared) -> Result<Answer, ApiError> {
    Ok(match shared.cluster.state.request(wanted).await? {
        ResourceResponse::Object(object) => json_answer(200, &object.to_value().unwrap()),
        ResourceResponse::Created(object) => json_answer(201, &object.to_value().unwrap()),
        ResourceResponse::List(list) => {
            let items: Vec<_> = list.items.iter().map(|object| object.to_value().unwrap()).collect();
            let metadata = json!({"resourceVersion": list.revision.to_string()});
            json_answer(
                200,
                &json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": items}),
            )
        }
        _ => panic!("no other answers"),
    })
}

/// Counts an open watch.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn watch(wanted: ResourceRequest, shared: &Arc<Shared>) -> Result<Answer, ApiError> {
    let events = shared.cluster.state.watch(wanted).await?;
    shared.watches.fetch_add(1, Ordering::Relaxed);
    let open = Open(Arc::clone(shared));
    let lines = events.map(move |event| {
        let _open = &open;
        let line = match event {
            Ok(event) => json!({"type": event.event_type.as_str(), "object": event.object.to_value().unwrap()}),
            Err(error) => json!({"type": "ERROR", "object": error.status()}),
        };
        Ok(Frame::data(Bytes::from(format!("{line}\n"))))
    });
    Ok(Response::new(BodyExt::boxed_unsync(StreamBody::new(lines.boxed()))))
}
