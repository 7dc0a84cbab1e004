//! Accepting connections: TLS, then HTTP/1.1 or HTTP/2 by what was negotiated.
//!
//! Each worker is an actix arbiter with its own copy of the HTTP service; connections go to them in turn. A connection
//! stays on its worker. Stopping closes the door first and lets requests under way finish.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Protocol};
use actix_rt::net::TcpStream;
use actix_service::{IntoServiceFactory as _, Service as _, ServiceFactory as _, map_config};
use actix_web::dev::AppConfig;
use actix_web::{App, web};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::http::{PeerCertificate, State, handle};
use crate::upgrade::Connection;

/// Connections that wait for a worker.
const ACCEPTED_MAX: usize = 256;
/// A client that does not finish its handshake in this time is let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections are kept this long; client-go keeps them for 90 s.
const KEEP_ALIVE: Duration = Duration::from_secs(120);
/// A client that does not finish the head of its request in this time is let go.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Takes connections from the listener and hands them to the workers in turn, until stopped.
pub(crate) async fn accept(
    listener: tokio::net::TcpListener,
    workers: Vec<mpsc::Sender<std::net::TcpStream>>,
    stop: CancellationToken,
) {
    let mut turn = 0;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: others may finish meanwhile.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        turn = (turn + 1) % workers.len().max(1);
        let Ok(stream) = stream.into_std() else { continue };
        if let Some(worker) = workers.get(turn)
            && worker.send(stream).await.is_err()
        {
            tracing::warn!(%peer, "a worker has gone; connection dropped");
        }
    }
}

/// The channel to one worker.
pub(crate) fn channel() -> (mpsc::Sender<std::net::TcpStream>, mpsc::Receiver<std::net::TcpStream>) {
    mpsc::channel(ACCEPTED_MAX)
}

/// Serves connections on the current thread's arbiter until stopped, then until those under way have ended.
pub(crate) async fn worker(
    mut connections: mpsc::Receiver<std::net::TcpStream>,
    tls: Arc<arc_swap::ArcSwap<rustls::ServerConfig>>,
    state: web::Data<State>,
    stop: CancellationToken,
) {
    let app = move || {
        let state = state.clone();
        App::new().app_data(state).default_service(web::to(handle))
    };
    let stopping = stop.clone();
    let factory = HttpService::build()
        .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(Duration::from_secs(5))
        .h1_allow_half_closed(false)
        .secure()
        .graceful_shutdown_signal(move || {
            let stopping = stopping.clone();
            async move { stopping.cancelled_owned().await }
        })
        .on_connect_ext(|connection: &Connection, data: &mut actix_http::Extensions| {
            let certificates = connection.tls().get_ref().1.peer_certificates();
            if let Some(certificate) = certificates.and_then(<[_]>::first) {
                data.insert(PeerCertificate(Bytes::copy_from_slice(certificate)));
            }
        })
        .finish(map_config(app().into_factory(), |()| AppConfig::default()));
    let service = match factory.new_service(()).await {
        Ok(service) => std::rc::Rc::new(service),
        Err(()) => {
            tracing::error!("the HTTP service could not be made");
            return;
        }
    };
    let mut open = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = open.join_next() => continue,
            stream = connections.recv() => stream,
        };
        let Some(stream) = stream else { break };
        let tls = TlsAcceptor::from(tls.load_full());
        let service = std::rc::Rc::clone(&service);
        open.spawn_local(async move {
            if let Some((connection, protocol, peer)) = handshake(stream, &tls).await
                && let Err(error) = service.call((connection, protocol, Some(peer))).await
            {
                tracing::debug!(%peer, %error, "connection ended");
            }
        });
    }
    while open.join_next().await.is_some() {}
}

async fn handshake(stream: std::net::TcpStream, tls: &TlsAcceptor) -> Option<(Connection, Protocol, SocketAddr)> {
    let stream = TcpStream::from_std(stream).ok()?;
    let peer = stream.peer_addr().ok()?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let finished = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await;
    let stream = match finished {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "TLS handshake failed");
            return None;
        }
        Err(_) => return None,
    };
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let protocol = if h2 { Protocol::Http2 } else { Protocol::Http1 };
    Some((Connection::new(stream, !h2), protocol, peer))
}
