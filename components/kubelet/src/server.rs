//! The agent's own server: logs, commands, attaching and port forwarding for the API server, and a little about itself.
//!
//! TLS only, and only for callers whose certificate the cluster's CA signed and whose name is allowed. Streams are passed
//! to the runtime as they are: this module knows nothing of their protocols.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info};

use crate::context::ServerConfig;
use crate::shared::Shared;

mod logs;
mod query;
mod stats;
mod tunnel;

/// Bodies of answers.
pub(crate) type Body = BoxBody<Bytes, io::Error>;

/// Connections at once: more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
/// For the handshake and the head of a request.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// Certificates or keys are not usable.
    #[error("cannot use the agent's certificate: {0}")]
    Tls(String),
}

/// An answer of plain text.
pub(crate) fn text(code: StatusCode, text: impl Into<String>) -> Response<Body> {
    let text: String = text.into();
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = text(StatusCode::OK, value.to_string());
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

fn acceptor(config: &ServerConfig) -> Result<TlsAcceptor, ServerError> {
    let bad = |error: &dyn std::fmt::Display| ServerError::Tls(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&config.client_ca_pem) {
        roots.add(certificate.map_err(|error| bad(&error))?).map_err(|error| bad(&error))?;
    }
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| bad(&error))?;
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&config.cert_pem).collect();
    let key = PrivateKeyDer::from_pem_slice(&config.key_pem).map_err(|error| bad(&error))?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.map_err(|error| bad(&error))?, key)
        .map_err(|error| bad(&error))?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

/// Serves until it is dropped; then open connections end too.
///
/// # Errors
/// If it cannot listen or its certificate is bad.
pub async fn run(shared: Arc<Shared>) -> Result<(), ServerError> {
    let Some(config) = shared.config.server.clone() else { return std::future::pending().await };
    let acceptor = acceptor(&config)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| ServerError::Listen { address: config.listen.to_string(), source })?;
    info!(address = %config.listen, "the agent's server listens");
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!("cannot accept: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
        connections.spawn(async move {
            let _permit = permit;
            if let Err(error) = connection(shared, acceptor, stream).await {
                debug!("a connection ended: {error}");
            }
        });
    }
}

async fn connection(shared: Arc<Shared>, acceptor: TlsAcceptor, stream: TcpStream) -> Result<(), String> {
    let _ = stream.set_nodelay(true);
    let accepted = tokio::time::timeout(HEAD_DEADLINE, acceptor.accept(stream)).await;
    let stream = accepted.map_err(|_| "no handshake in time".to_owned())?.map_err(|error| error.to_string())?;
    let name = stream.get_ref().1.peer_certificates().and_then(|chain| common_name(chain.first()?));
    let allowed = shared.config.server.as_ref().is_some_and(|server| {
        server.allowed_names.is_empty() || name.as_ref().is_some_and(|name| server.allowed_names.contains(name))
    });
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move {
            let response =
                if allowed { route(&shared, request).await } else { text(StatusCode::FORBIDDEN, "Forbidden") };
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await
        .map_err(|error| error.to_string())
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

async fn route(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let parts: Vec<String> = path
        .trim_matches('/')
        .split('/')
        .map(|part| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned())
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match parts.as_slice() {
        ["healthz"] if reads => text(StatusCode::OK, "ok"),
        ["pods"] if reads => json(&stats::pods(shared)),
        ["metrics"] if reads => text(StatusCode::OK, stats::metrics(shared)),
        ["stats", "summary"] if reads => match stats::summary(shared).await {
            Ok(summary) => json(&summary),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        ["containerLogs", namespace, pod, container] if reads => {
            logs::serve(shared, namespace, pod, container, request.uri().query().unwrap_or_default())
        }
        ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
            let target = tunnel::Target { namespace, pod, container };
            tunnel::exec(shared, &target, request).await
        }
        ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
            let target = tunnel::Target { namespace, pod, container };
            tunnel::attach(shared, &target, request).await
        }
        ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
            let target = tunnel::Target { namespace, pod, container: "" };
            tunnel::port_forward(shared, &target, request).await
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}
