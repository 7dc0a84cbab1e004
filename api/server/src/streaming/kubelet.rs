//! Calls kubelets: TLS with the API server's certificate, and with the node's verified against the cluster's authority
//! under the node's name. One connection a call: a stream keeps it to its end anyway.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use navarch_auth::ObjectView;
use navarch_types::{ApiError, Reason};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::location::Kubelet;

/// A kubelet that does not take a connection in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A kubelet that does not answer in this time (with the head; streams may go on) is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// What is read of an error's text.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// The way to kubelets.
pub struct Kubelets {
    pub(super) view: Arc<dyn ObjectView>,
    tls: TlsConnector,
}

/// A stream that a kubelet agreed to.
pub(super) struct UpgradedStream {
    /// The raw bytes.
    pub(super) io: TokioIo<Upgraded>,
    /// What the kubelet said with its 101.
    pub(super) headers: HeaderMap,
}

impl Kubelets {
    /// With the TLS configuration of [`navarch_auth::Pki::client_config`] for
    /// [`navarch_auth::Pki::apiserver_kubelet_client`].
    pub fn new(view: Arc<dyn ObjectView>, mut tls: rustls::ClientConfig) -> Self {
        // Upgrades are of HTTP/1.1.
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { view, tls: TlsConnector::from(Arc::new(tls)) }
    }

    async fn send(
        &self,
        kubelet: &Kubelet,
        method: Method,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, ApiError> {
        let failed = |why: &dyn std::fmt::Display| unreachable(kubelet, why);
        let connect = async {
            let tcp = TcpStream::connect((kubelet.host.as_str(), kubelet.port)).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from(kubelet.node.clone()).map_err(std::io::Error::other)?;
            self.tls.connect(name, tcp).await
        };
        let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(connected) => connected.map_err(|e| failed(&e))?,
            Err(_) => return Err(failed(&"i/o timeout")),
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
        // Ends with the connection, which ends when response or upgraded stream are dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection to a kubelet ended");
            }
        });
        let mut request =
            Request::builder().method(method).uri(path).body(Full::<Bytes>::default()).map_err(|e| failed(&e))?;
        *request.headers_mut() = headers;
        let host = HeaderValue::try_from(format!("{}:{}", kubelet.node, kubelet.port)).map_err(|e| failed(&e))?;
        request.headers_mut().insert(header::HOST, host);
        match tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(request)).await {
            Ok(answer) => answer.map_err(|e| failed(&e)),
            Err(_) => Err(failed(&"no answer in time")),
        }
    }

    /// A GET whose answer is streamed.
    pub(super) async fn get(&self, kubelet: &Kubelet, path: &str) -> Result<Response<Incoming>, ApiError> {
        let response = self.send(kubelet, Method::GET, path, HeaderMap::new()).await?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    /// Any request without a body, whatever it is answered.
    pub(super) async fn pass(
        &self,
        kubelet: &Kubelet,
        method: Method,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, ApiError> {
        self.send(kubelet, method, path, headers).await
    }

    /// A POST that becomes a SPDY/3.1 stream. `protocols` are offered in this order.
    pub(super) async fn upgrade(
        &self,
        kubelet: &Kubelet,
        path: &str,
        protocols: &[String],
    ) -> Result<UpgradedStream, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        for protocol in protocols {
            let value = HeaderValue::try_from(protocol.as_str())
                .map_err(|_| ApiError::bad_request("a stream protocol version is no text"))?;
            headers.append("x-stream-protocol-version", value);
        }
        let response = self.send(kubelet, Method::POST, path, headers).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(response).await);
        }
        let headers = response.headers().clone();
        let upgraded = hyper::upgrade::on(response).await.map_err(|e| unreachable(kubelet, &e))?;
        Ok(UpgradedStream { io: TokioIo::new(upgraded), headers })
    }
}

fn unreachable(kubelet: &Kubelet, why: &dyn std::fmt::Display) -> ApiError {
    let Kubelet { node, host, port } = kubelet;
    ApiError::internal(format!("error dialing backend: node {node:?} at {host}:{port}: {why}"))
}

/// What a kubelet says instead of doing it, as upstream passes it on.
async fn refusal(response: Response<Incoming>) -> ApiError {
    let status = response.status();
    let body = Limited::new(response.into_body(), ERROR_BYTES_MAX).collect().await;
    let text = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).trim().to_owned()).unwrap_or_default();
    if let Ok(found) = serde_json::from_str::<navarch_types::Status>(&text)
        && found.kind == "Status"
        && found.code >= 400
    {
        return ApiError::from_status(found);
    }
    match status {
        StatusCode::BAD_REQUEST => ApiError::bad_request(text),
        StatusCode::NOT_FOUND => {
            ApiError::new(Reason::NotFound, format!("the server could not find the requested resource: {text}"))
        }
        StatusCode::FORBIDDEN => ApiError::new(Reason::Forbidden, text),
        StatusCode::UNAUTHORIZED => ApiError::internal(format!("the kubelet does not accept the API server: {text}")),
        StatusCode::TOO_MANY_REQUESTS => ApiError::new(Reason::TooManyRequests, text).with_retry_after(1),
        StatusCode::SERVICE_UNAVAILABLE => ApiError::new(Reason::ServiceUnavailable, text),
        other => ApiError::internal(format!("the kubelet answered {other}: {text}")),
    }
}
