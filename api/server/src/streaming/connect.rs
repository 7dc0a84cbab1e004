//! `pods/exec`, `pods/attach` and `pods/portforward`: agrees on a protocol with the client, opens the kubelet's stream, and
//! only then answers 101, so that whatever the kubelet objects to reaches the client as a plain error.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use navarch_auth::Attributes;
use navarch_types::{ApiError, Verb};
use tokio::sync::mpsc;

use super::location::{self, Streams};
use super::protocol::{Protocol, negotiate};
use super::{Kubelets, StreamRequest, channels, node_of, tunnel, websocket};

/// Messages that wait for the client's connection; each is of one read.
const OUTPUT_MAX: usize = 8;
/// What is spoken with kubelets about exec and attach.
const REMOTE_COMMAND: &str = "v4.channel.k8s.io";
const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

pub(super) async fn serve(
    request: StreamRequest,
    subresource: &str,
    kubelets: &Kubelets,
) -> Result<HttpResponse, ApiError> {
    authorize(&request, subresource)?;
    let headers = request.request.headers();
    let port_forward = subresource == "portforward";
    let protocol = negotiate(request.upgrade.as_deref(), &listed(headers, "sec-websocket-protocol"), port_forward)?;
    let pod = kubelets.pod(&request.target)?;
    let (namespace, name) =
        (request.target.namespace.as_deref().unwrap_or_default(), request.target.name.as_deref().unwrap_or_default());
    let container =
        if port_forward { "" } else { location::container(&pod, request.query.get("container").unwrap_or_default())? };
    let (path, streams) = match subresource {
        "exec" => {
            let streams = Streams::parse(&request.query, "PodExecOptions")?;
            (location::exec(namespace, name, container, &streams, &request.query)?, Some(streams))
        }
        "attach" => {
            let streams = Streams::parse(&request.query, "PodAttachOptions")?;
            (location::attach(namespace, name, container, &streams), Some(streams))
        }
        _ => (location::port_forward(namespace, name, &request.query), None),
    };
    if node_of(&pod).is_empty() {
        return Err(ApiError::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let kubelet = kubelets.of_node(node_of(&pod))?;
    let offered = match &protocol {
        Protocol::Spdy => listed(headers, STREAM_PROTOCOL),
        Protocol::Channels { .. } => vec![REMOTE_COMMAND.to_owned()],
        Protocol::Tunnel { inner, .. } => vec![inner.clone()],
    };
    // Before the kubelet is asked: a handshake that cannot be answered starts no command.
    let accepted = match &protocol {
        Protocol::Spdy => String::new(),
        _ => websocket::accept(text(headers, "sec-websocket-key"), text(headers, "sec-websocket-version"))?,
    };
    let stream = kubelets.upgrade(&kubelet, &path, &offered).await?;
    let (output, body) = mpsc::channel(OUTPUT_MAX);
    let mut answer = HttpResponse::build(StatusCode::SWITCHING_PROTOCOLS);
    let (input, io) = (request.payload, stream.io);
    match protocol {
        Protocol::Spdy => {
            answer.upgrade("SPDY/3.1");
            if let Some(chosen) = stream.headers.get(STREAM_PROTOCOL) {
                answer.insert_header((STREAM_PROTOCOL, chosen.as_bytes()));
            }
            actix_rt::spawn(tunnel::raw(input, output, io));
        }
        Protocol::Channels { name, closes } => {
            websocket_answer(&mut answer, &accepted, name);
            let streams = streams.unwrap_or(Streams { stdin: false, stdout: false, stderr: false, tty: false });
            actix_rt::spawn(async move { channels::run(input, output, io, &streams, closes).await });
        }
        Protocol::Tunnel { name, .. } => {
            websocket_answer(&mut answer, &accepted, &name);
            actix_rt::spawn(tunnel::messages(input, output, io));
        }
    }
    Ok(answer.streaming(body_of(body)))
}

/// A WebSocket handshake is a GET, and running a command is no reading: it takes the verb of a POST too.
fn authorize(request: &StreamRequest, subresource: &str) -> Result<(), ApiError> {
    if request.verb != Verb::Get {
        return Ok(());
    }
    let mut attributes = Attributes::resource(&request.user, "create", "", "v1", "pods");
    attributes.subresource = subresource;
    attributes.namespace = request.target.namespace.as_deref().unwrap_or_default();
    attributes.name = request.target.name.as_deref().unwrap_or_default();
    let decision = request.pipeline.authorizer().authorize(&attributes);
    if decision.allowed() { Ok(()) } else { Err(attributes.forbidden(decision.reason())) }
}

fn websocket_answer(answer: &mut HttpResponseBuilder, accepted: &str, protocol: &str) {
    answer.upgrade("websocket");
    answer.insert_header((header::SEC_WEBSOCKET_ACCEPT, accepted));
    answer.insert_header((header::SEC_WEBSOCKET_PROTOCOL, protocol));
}

fn body_of(receiver: mpsc::Receiver<Bytes>) -> impl futures::Stream<Item = Result<Bytes, std::convert::Infallible>> {
    futures::stream::unfold(receiver, |mut receiver| async move { Some((Ok(receiver.recv().await?), receiver)) })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

/// The values of a header that is a list, over all its lines.
fn listed(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(name).filter_map(|v| v.to_str().ok());
    lines.flat_map(|l| l.split(',')).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).collect()
}
