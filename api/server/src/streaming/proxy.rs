//! `nodes/proxy`: GETs to a kubelet's own endpoints, such as `/healthz`, `/stats/summary` and `/metrics`.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use futures::StreamExt as _;
use http_body_util::BodyStream;
use navarch_types::{ApiError, Reason, Verb};

use super::{Kubelets, StreamRequest};

pub(super) async fn serve(request: &StreamRequest, kubelets: &Kubelets) -> Result<HttpResponse, ApiError> {
    if request.verb != Verb::Get || request.upgrade.is_some() {
        let why = "only GET is proxied to nodes by this server";
        return Err(ApiError::new(Reason::MethodNotAllowed, why));
    }
    // `name:port` is another server on the node, which nobody vouches for.
    let node = request.target.name.as_deref().unwrap_or_default();
    let node = node.strip_prefix("https:").unwrap_or(node).trim_end_matches(':');
    if node.contains(':') {
        return Err(ApiError::bad_request("proxying to other ports of a node than the kubelet's is not supported"));
    }
    let kubelet = kubelets.of_node(node)?;
    let uri = request.request.uri();
    // As it was sent: the kubelet decodes it by itself.
    let path = uri.path().split_once("/proxy").map_or("", |(_, rest)| rest);
    let path = if path.is_empty() { "/" } else { path };
    let path = uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let response = kubelets.pass(&kubelet, http::Method::GET, &path, http::HeaderMap::new()).await?;
    let status = StatusCode::from_u16(response.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut answer = HttpResponse::build(status);
    if let Some(kind) = response.headers().get(http::header::CONTENT_TYPE) {
        answer.insert_header(("content-type", kind.as_bytes()));
    }
    let body = BodyStream::new(response.into_body()).filter_map(|frame| async move {
        match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(error)),
        }
    });
    Ok(answer.streaming(Box::pin(body)))
}
