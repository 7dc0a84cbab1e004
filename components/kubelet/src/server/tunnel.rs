//! Exec, attach and port forwarding: the caller's upgraded connection is joined to the runtime's own server, byte for
//! byte. Both ends agree on the protocol between themselves.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tracing::debug;

use super::query::Query;
use super::{Body, text};
use crate::cri::{CriError, api};
use crate::shared::Shared;

/// Whom a request is about.
pub(super) struct Target<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub pod: &'a str,
    /// The container's name.
    pub container: &'a str,
}

impl Target<'_> {
    /// The id of the running container.
    fn container_id(&self, shared: &Shared) -> Result<String, Response<Body>> {
        let Some(handle) = shared.pod_named(self.namespace, self.pod) else {
            return Err(text(StatusCode::NOT_FOUND, "pod does not exist"));
        };
        let status = handle.status.lock().clone();
        let all = status.iter().flat_map(|s| s.container_statuses.iter().chain(&s.init_container_statuses)).flatten();
        let found = all.into_iter().find(|status| status.name == self.container);
        let running = found.filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
        let id = running.and_then(|status| status.container_id.as_deref()?.strip_prefix("containerd://"));
        id.map(str::to_owned)
            .ok_or_else(|| text(StatusCode::NOT_FOUND, format!("container not found ({:?})", self.container)))
    }
}

fn failed(error: &CriError) -> Response<Body> {
    text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

/// Runs a command.
pub(super) async fn exec(shared: &Arc<Shared>, target: &Target<'_>, request: Request<Incoming>) -> Response<Body> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let id = match target.container_id(shared) {
        Ok(id) => id,
        Err(response) => return response,
    };
    let tty = query.flag(&["tty"]);
    let asked = api::ExecRequest {
        container_id: id,
        cmd: query.all("command"),
        tty,
        stdin: query.flag(&["input", "stdin"]),
        stdout: query.flag(&["output", "stdout"]),
        // A terminal has one stream for both.
        stderr: query.flag(&["error", "stderr"]) && !tty,
    };
    if !asked.stdin && !asked.stdout && !asked.stderr {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr");
    }
    match shared.cri.exec(asked).await {
        Ok(url) => join(&url, request).await,
        Err(error) => failed(&error),
    }
}

/// Attaches to the container's own process.
pub(super) async fn attach(shared: &Arc<Shared>, target: &Target<'_>, request: Request<Incoming>) -> Response<Body> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let id = match target.container_id(shared) {
        Ok(id) => id,
        Err(response) => return response,
    };
    let tty = query.flag(&["tty"]);
    let asked = api::AttachRequest {
        container_id: id,
        tty,
        stdin: query.flag(&["input", "stdin"]),
        stdout: query.flag(&["output", "stdout"]),
        stderr: query.flag(&["error", "stderr"]) && !tty,
    };
    match shared.cri.attach(asked).await {
        Ok(url) => join(&url, request).await,
        Err(error) => failed(&error),
    }
}

/// Forwards ports of the pod.
pub(super) async fn port_forward(
    shared: &Arc<Shared>,
    target: &Target<'_>,
    request: Request<Incoming>,
) -> Response<Body> {
    let Some(handle) = shared.pod_named(target.namespace, target.pod) else {
        return text(StatusCode::NOT_FOUND, "pod does not exist");
    };
    let label = Some((crate::labels::POD_UID, handle.uid.as_str()));
    let sandboxes = match shared.cri.list_pod_sandbox(label).await {
        Ok(sandboxes) => sandboxes,
        Err(error) => return failed(&error),
    };
    let ready = sandboxes.into_iter().find(|sandbox| sandbox.state == api::PodSandboxState::SandboxReady as i32);
    let Some(sandbox) = ready else { return text(StatusCode::NOT_FOUND, "pod has no running sandbox") };
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let ports =
        query.all("port").iter().flat_map(|list| list.split(',')).filter_map(|port| port.parse().ok()).collect();
    match shared.cri.port_forward(&sandbox.id, ports).await {
        Ok(url) => join(&url, request).await,
        Err(error) => failed(&error),
    }
}

/// Headers that speak of the upgrade go through; others are of one connection only.
fn upgrade_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        let text = name.as_str();
        let wanted = matches!(text, "upgrade" | "connection")
            || text.starts_with("x-stream-protocol")
            || text.starts_with("sec-websocket");
        if wanted {
            to.append(name.clone(), value.clone());
        }
    }
}

async fn join(url: &str, request: Request<Incoming>) -> Response<Body> {
    match upgraded(url, request).await {
        Ok(response) => response,
        Err(message) => text(StatusCode::BAD_GATEWAY, message),
    }
}

async fn upgraded(url: &str, mut request: Request<Incoming>) -> Result<Response<Body>, String> {
    let to_text = |error: &dyn std::fmt::Display| format!("cannot reach the runtime's streaming server: {error}");
    if !request.headers().contains_key("upgrade") {
        return Ok(text(StatusCode::BAD_REQUEST, "unable to upgrade: missing upgrade headers in request"));
    }
    let uri: http::Uri = url.parse().map_err(|error| to_text(&error))?;
    let authority = uri.authority().map(ToString::to_string).ok_or_else(|| to_text(&"no address"))?;
    let stream = TcpStream::connect(&authority).await.map_err(|error| to_text(&error))?;
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| to_text(&error))?;
    // Ends with the upgrade, or when the sender is dropped.
    tokio::spawn(connection.with_upgrades());
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut outgoing = Request::builder()
        .method(request.method().clone())
        .uri(path)
        .header("host", &authority)
        .body(Empty::<Bytes>::new())
        .map_err(|error| to_text(&error))?;
    upgrade_headers(request.headers(), outgoing.headers_mut());
    let answer = sender.send_request(outgoing).await.map_err(|error| to_text(&error))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let code = answer.status();
        let body = answer.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        return Ok(text(code, String::from_utf8_lossy(&body).into_owned()));
    }
    let mut response = Response::new(Empty::new().map_err(|never: std::convert::Infallible| match never {}).boxed());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    upgrade_headers(answer.headers(), response.headers_mut());
    let caller = hyper::upgrade::on(&mut request);
    // Lives as long as both ends; a panic in it ends this stream alone.
    tokio::spawn(async move {
        let both = tokio::try_join!(caller, hyper::upgrade::on(answer));
        match both {
            Ok((caller, runtime)) => {
                let (mut caller, mut runtime) = (TokioIo::new(caller), TokioIo::new(runtime));
                if let Err(error) = tokio::io::copy_bidirectional(&mut caller, &mut runtime).await {
                    debug!("a stream ended: {error}");
                }
            }
            Err(error) => debug!("a connection was not upgraded: {error}"),
        }
    });
    Ok(response)
}
