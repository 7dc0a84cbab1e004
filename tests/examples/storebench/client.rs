//! gRPC over one HTTP/2 connection, no more than a load needs. The same for both sides.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, Version};
use prost::Message;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Fallible;
use crate::rpc;

/// What the other side may send ahead.
const WINDOW_BYTES: u32 = 1 << 20;

/// Why a call failed.
#[derive(Debug)]
pub enum CallError {
    /// The connection is of no use any more.
    Connection(h2::Error),
    /// The answer's code.
    Status(u32),
    /// The answer is none of gRPC's.
    Malformed,
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connection(error) => write!(f, "connection: {error}"),
            Self::Status(code) => write!(f, "gRPC code {code}"),
            Self::Malformed => f.write_str("malformed answer"),
        }
    }
}

impl std::error::Error for CallError {}

impl From<h2::Error> for CallError {
    fn from(error: h2::Error) -> Self {
        Self::Connection(error)
    }
}

/// A connection, shared by as many callers as like. Closed when the last is dropped.
#[derive(Clone)]
pub struct Channel {
    requests: SendRequest<Bytes>,
    base: Arc<str>,
}

fn status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

impl Channel {
    /// Connects, with TLS and the client's certificate.
    pub async fn connect(to: SocketAddr, tls: &Arc<ClientConfig>) -> Fallible<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(tls.clone()).connect(ServerName::from(to.ip()), stream).await?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (requests, connection) = builder.handshake(stream).await?;
        // Ends with the channel; whoever waits for an answer on it learns why.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { requests, base: format!("https://{to}").into() })
    }

    /// Calls a method and waits for its answer.
    pub async fn call<A: Message + Default>(&self, path: &str, question: &impl Message) -> Result<A, CallError> {
        let request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("{}{path}", self.base))
            .header("content-type", rpc::CONTENT_TYPE)
            .header("te", "trailers")
            .body(())
            .map_err(|_| CallError::Malformed)?;
        let (answer, mut body) = self.requests.clone().ready().await?.send_request(request, false)?;
        body.send_data(rpc::frame(question), true)?;
        let (head, mut body) = answer.await?.into_parts();
        // An answer without a body has its code in the head.
        match status(&head.headers) {
            None | Some(rpc::code::OK) => {}
            Some(code) => return Err(CallError::Status(code)),
        }
        let bytes = rpc::read(&mut body).await.ok_or(CallError::Malformed)?;
        match body.trailers().await?.as_ref().and_then(status) {
            Some(rpc::code::OK) => rpc::unframe(bytes).ok_or(CallError::Malformed),
            Some(code) => Err(CallError::Status(code)),
            None => Err(CallError::Malformed),
        }
    }
}
