//! The server as a whole: binds, starts, stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use arc_swap::ArcSwap;
use navarch_telemetry::Metrics;
use tokio_util::sync::CancellationToken;

use crate::discovery::Discovery;
use crate::http::State;
use crate::in_process::InProcess;
use crate::listener;
use crate::metrics::RequestMetrics;
use crate::pipeline::Pipeline;
use crate::probes::{Check, Endpoints, ExtraEndpoint};
use crate::service::PathService;

/// How long requests under way may take to finish when the server stops. Watches are ended at once.
const DRAIN: Duration = Duration::from_secs(5);

/// What a server is started with, besides its pipeline.
pub struct ServerConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Certificates and how clients' are asked for. Swap it to rotate them. ALPN protocols are set here.
    pub tls: Arc<ArcSwap<rustls::ServerConfig>>,
    /// Threads that serve connections.
    pub workers: usize,
    /// How clients reach this server: `https://10.0.0.1:6443`.
    pub address: String,
    /// All metrics.
    pub metrics: Metrics,
    /// What this server counts, registered in `metrics` once: a server that is started again counts on.
    pub requests: RequestMetrics,
    /// What must hold before the server is ready.
    pub ready: Vec<Check>,
    /// What must hold for the server to be alive.
    pub live: Vec<Check>,
    /// Paths that others answer.
    pub extra: Vec<ExtraEndpoint>,
    /// Paths that others answer, and need to know who asks what.
    pub services: Vec<(String, Arc<dyn PathService>)>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else has the address, or it is not ours.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A document could not be made.
    #[error("cannot prepare documents: {0}")]
    Documents(navarch_types::ApiError),
}

/// A server that is bound and does not serve yet.
pub struct ApiServer {
    listener: std::net::TcpListener,
    local: SocketAddr,
    tls: Arc<ArcSwap<rustls::ServerConfig>>,
    workers: usize,
    state: web::Data<State>,
    pipeline: Arc<Pipeline>,
    stop: CancellationToken,
}

/// A running server.
pub struct Handle {
    stop: CancellationToken,
    arbiters: Vec<actix::Arbiter>,
    /// Each worker tells when its last request has ended.
    ended: Vec<tokio::sync::oneshot::Receiver<()>>,
    local: SocketAddr,
}

impl ApiServer {
    /// Binds the address and prepares everything; serves nothing yet.
    ///
    /// # Errors
    /// If the address cannot be had: the error names it.
    pub fn bind(pipeline: Arc<Pipeline>, config: ServerConfig) -> Result<Self, StartError> {
        let bound = |source| StartError::Bind { address: config.listen, source };
        let listener = bind(config.listen).map_err(bound)?;
        let local = listener.local_addr().map_err(bound)?;
        let discovery = Discovery::new(pipeline.registry().table()).map_err(StartError::Documents)?;
        let endpoints = Endpoints {
            discovery,
            authenticator: Arc::clone(&pipeline.authenticator),
            metrics: config.metrics,
            ready: config.ready,
            live: config.live,
            extra: config.extra,
            services: config.services,
            address: config.address,
        };
        let stop = CancellationToken::new();
        let state = web::Data::new(State {
            pipeline: Arc::clone(&pipeline),
            endpoints,
            stop: stop.clone(),
            metrics: config.requests,
        });
        Ok(Self { listener, local, tls: config.tls, workers: config.workers.max(1), state, pipeline, stop })
    }

    /// The address that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// A way in for callers of this process.
    pub fn in_process(&self) -> InProcess {
        InProcess::new(Arc::clone(&self.pipeline))
    }

    /// Starts to serve. Called inside an actix system.
    ///
    /// # Errors
    /// If the listener cannot be made asynchronous.
    pub fn start(self) -> Result<Handle, StartError> {
        let bound = |source| StartError::Bind { address: self.local, source };
        self.listener.set_nonblocking(true).map_err(bound)?;
        let stop = self.stop.clone();
        let mut arbiters = Vec::new();
        let mut senders = Vec::new();
        let mut ended = Vec::new();
        for _ in 0..self.workers {
            let (sender, receiver) = listener::channel();
            senders.push(sender);
            let arbiter = actix::Arbiter::new();
            let (tls, state, stop) = (Arc::clone(&self.tls), self.state.clone(), stop.clone());
            let (done, waits) = tokio::sync::oneshot::channel();
            ended.push(waits);
            arbiter.spawn_fn(move || {
                actix::spawn(async move {
                    listener::worker(receiver, tls, state, stop).await;
                    // Nobody waits if the server is not being stopped.
                    let _: Result<(), ()> = done.send(());
                });
            });
            arbiters.push(arbiter);
        }
        if let Some(first) = arbiters.first() {
            let (listener, stop) = (self.listener, stop.clone());
            first.spawn(async move {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => listener::accept(listener, senders, stop).await,
                    Err(error) => tracing::error!(%error, "cannot use the listener"),
                }
            });
        }
        Ok(Handle { stop, arbiters, ended, local: self.local })
    }
}

fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Handle {
    /// The address that is served.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Closes the door, waits for requests under way, ends the rest.
    pub async fn stop(self) {
        self.stop.cancel();
        let drained = async {
            for ended in self.ended {
                // A worker that is gone has nothing under way.
                let _: Result<(), _> = ended.await;
            }
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::info!("requests under way were cut off");
        }
        for arbiter in self.arbiters {
            arbiter.stop();
        }
    }
}
