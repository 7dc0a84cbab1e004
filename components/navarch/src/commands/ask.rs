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
pub const GET_TIMEOUT: Duration = Duration::from_secs(5);

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
pub fn get(settings: &Settings, server: SocketAddr, path: &str, time: Duration) -> Result<String, CommandError> {
    run(time, exchange(settings, server, Method::GET, path, String::new()))
}

/// What a server answers to a POST of JSON.
///
/// # Errors
/// As [`get`]; a `Status` is told by its message.
pub fn post(settings: &Settings, server: SocketAddr, path: &str, body: String) -> Result<String, CommandError> {
    run(TIMEOUT, exchange(settings, server, Method::POST, path, body))
}

/// Calls `take` with the bytes of what a server answers to a POST, as they come.
///
/// # Errors
/// As [`post`]; if the answer breaks off; what `take` says.
pub fn download(
    settings: &Settings,
    server: SocketAddr,
    path: &str,
    mut take: impl FnMut(&[u8]) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connected = tokio::time::timeout(TIMEOUT, connect(settings, server)).await;
        let (mut sender, connection) = connected.map_err(|_| silent(TIMEOUT))??;
        let request = request(Method::POST, path, String::new())?;
        let exchange = async move {
            let asked = tokio::time::timeout(TIMEOUT, sender.send_request(request));
            let response = asked.await.map_err(|_| silent(TIMEOUT))??;
            let status = response.status();
            let mut body = response.into_body();
            if !status.is_success() {
                return Err(refused(status, &body.collect().await?.to_bytes()));
            }
            loop {
                let frame = tokio::time::timeout(TIMEOUT, body.frame());
                let Some(frame) = frame.await.map_err(|_| "the server sends nothing any more")? else { return Ok(()) };
                if let Some(bytes) = frame?.data_ref() {
                    take(bytes)?;
                }
            }
        };
        let (answer, _) = tokio::join!(exchange, connection);
        answer
    })
}

fn run(time: Duration, exchange: impl Future<Output = Result<String, CommandError>>) -> Result<String, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(time, exchange).await.map_err(|_| silent(time))? })
}

/// A member serves nothing before it has a quorum.
fn silent(time: Duration) -> String {
    format!(
        "no answer within {} s: it may be waiting for the other members, see its log; if they are lost for good, stop it and \
         see `navarch recover`",
        time.as_secs_f64()
    )
}

type Connection = hyper::client::conn::http1::Connection<
    TokioIo<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>,
    Full<bytes::Bytes>,
>;
type Sender = hyper::client::conn::http1::SendRequest<Full<bytes::Bytes>>;

async fn connect(settings: &Settings, server: SocketAddr) -> Result<(Sender, Connection), CommandError> {
    let keys = settings.data_dir.join("pki");
    // Whoever asks makes no cluster's keys: they would be in the way of a cluster that is joined from here.
    if !keys.join("ca.crt").exists() {
        let why =
            format!("{}: no server of a cluster has its data here; is --data-dir right?", settings.data_dir.display());
        return Err(why.into());
    }
    let pki = Pki::open(&keys)?;
    let tls = tokio_rustls::TlsConnector::from(Arc::new(pki.client_config(&pki.admin()?)?));
    let stream = tokio::net::TcpStream::connect(server)
        .await
        .map_err(|error| format!("{server}: {error}; is navarch running?"))?;
    let stream = tls.connect(ServerName::try_from("kubernetes")?, stream).await?;
    Ok(hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?)
}

fn request(method: Method, path: &str, body: String) -> Result<hyper::Request<Full<bytes::Bytes>>, CommandError> {
    let request = hyper::Request::builder().method(method).uri(path).header("host", "kubernetes");
    Ok(request.header("content-type", "application/json").body(Full::new(bytes::Bytes::from(body)))?)
}

/// A `Status` is told by its message.
fn refused(status: hyper::StatusCode, body: &[u8]) -> CommandError {
    let told = serde_json::from_slice::<Status>(body).map(|told| told.message);
    told.unwrap_or_else(|_| format!("{status}: {}", String::from_utf8_lossy(body))).into()
}

async fn exchange(
    settings: &Settings,
    server: SocketAddr,
    method: Method,
    path: &str,
    body: String,
) -> Result<String, CommandError> {
    let (mut sender, connection) = connect(settings, server).await?;
    let request = request(method, path, body)?;
    // It ends the connection by dropping the sender; a server that closes it after its answer is no failure.
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if status.is_success() {
            return Ok(String::from_utf8_lossy(&body).into_owned());
        }
        Err::<_, CommandError>(refused(status, &body))
    };
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}
