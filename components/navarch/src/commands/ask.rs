//! Asking a running server something that is no resource, as the administrator.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Method;
use hyper_util::rt::TokioIo;
use navarch_auth::Pki;
use navarch_config::Settings;
use navarch_types::error::Status;
use rustls_pki_types::ServerName;

use super::CommandError;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(35);
/// How long one may take that is at hand.
const GET_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the server of this machine is.
pub fn own_server(settings: &Settings) -> SocketAddr {
    let bind = settings.server.bind_address;
    let address = if bind.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { bind };
    SocketAddr::new(address, settings.server.port)
}

/// What a server answers to a GET.
///
/// # Errors
/// If it is not reached, or does not answer with success in time.
pub fn get(settings: &Settings, server: SocketAddr, path: &str) -> Result<String, CommandError> {
    run(GET_TIMEOUT, exchange(settings, server, Method::GET, path, String::new()))
}

/// What a server answers to a POST of JSON.
///
/// # Errors
/// As [`get`]; a `Status` is told by its message.
pub fn post(settings: &Settings, server: SocketAddr, path: &str, body: String) -> Result<String, CommandError> {
    run(TIMEOUT, exchange(settings, server, Method::POST, path, body))
}

fn run(time: Duration, exchange: impl Future<Output = Result<String, CommandError>>) -> Result<String, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::time::timeout(time, exchange).await.map_err(|_| format!("no answer within {} s", time.as_secs()))?
    })
}

async fn exchange(
    settings: &Settings,
    server: SocketAddr,
    method: Method,
    path: &str,
    body: String,
) -> Result<String, CommandError> {
    let pki = Pki::open(&settings.data_dir.join("pki"))?;
    let tls = tokio_rustls::TlsConnector::from(Arc::new(pki.client_config(&pki.admin()?)?));
    let stream = tokio::net::TcpStream::connect(server)
        .await
        .map_err(|error| format!("{server}: {error}; is navarch running?"))?;
    let stream = tls.connect(ServerName::try_from("kubernetes")?, stream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::builder().method(method).uri(path).header("host", "kubernetes");
    let request = request.header("content-type", "application/json").body(Full::new(bytes::Bytes::from(body)))?;
    // It ends the connection by dropping the sender; a server that closes it after its answer is no failure.
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if status.is_success() {
            return Ok(String::from_utf8_lossy(&body).into_owned());
        }
        let told = serde_json::from_slice::<Status>(&body).map(|told| told.message);
        Err::<_, CommandError>(told.unwrap_or_else(|_| format!("{status}: {}", String::from_utf8_lossy(&body))).into())
    };
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}
