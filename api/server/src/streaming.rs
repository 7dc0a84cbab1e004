//! Requests that take the connection over, or stream without an end: logs, exec, attach, port-forward, proxying to nodes.
//!
//! Called after authorization. An upgraded request's payload is the raw byte stream behind the head, whichever protocol the
//! client asked for; see [`crate::listener`] for how that comes about. Everything here ends at a kubelet, over TLS with
//! both sides verified.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use k8s_openapi::api::core::v1::{Node, Pod};
use navarch_auth::view::{NODES, PODS};
use navarch_types::{ApiError, Reason, UserInfo, Verb};

use crate::info::{Query, ResourceTarget};
use crate::pipeline::Pipeline;

mod channels;
mod connect;
mod kubelet;
pub mod location;
mod logs;
pub mod protocol;
mod proxy;
pub mod spdy;
mod tunnel;
mod websocket;

pub use kubelet::Kubelets;
use location::Kubelet;

/// Set on requests whose `Upgrade` the listener has rewritten: what the client asked for.
pub const UPGRADE_HEADER: &str = "x-navarch-upgrade";

/// An authorized request for a connecting subresource.
pub struct StreamRequest {
    /// What the path names.
    pub target: ResourceTarget,
    /// Who asks.
    pub user: UserInfo,
    /// As authorization knows it.
    pub verb: Verb,
    /// The query.
    pub query: Query,
    /// The protocol that the client wants to upgrade to: `websocket`, `SPDY/3.1`.
    pub upgrade: Option<String>,
    /// The request.
    pub request: HttpRequest,
    /// Its body, or the raw stream.
    pub payload: web::Payload,
    /// The pipeline, to look things up.
    pub pipeline: Arc<Pipeline>,
}

/// Serves one such request.
///
/// # Errors
/// What is answered instead of an upgrade or a stream.
pub async fn serve(request: StreamRequest) -> Result<HttpResponse, ApiError> {
    let pipeline = Arc::clone(&request.pipeline);
    let kubelets = pipeline
        .kubelets()
        .ok_or_else(|| ApiError::new(Reason::ServiceUnavailable, "this server has no way to kubelets"))?;
    let subresource = request.target.subresource.clone().unwrap_or_default();
    match (request.target.resource.resource.as_ref(), subresource.as_str()) {
        ("pods", "log") => logs::serve(&request, kubelets).await,
        ("pods", "exec" | "attach" | "portforward") => connect::serve(request, &subresource, kubelets).await,
        ("nodes", "proxy") => proxy::serve(&request, kubelets).await,
        (resource, subresource) => Err(ApiError::new(
            Reason::MethodNotAllowed,
            format!("proxying to {resource} is not supported by this server ({resource}/{subresource})"),
        )),
    }
}

impl Kubelets {
    /// The pod of a request.
    fn pod(&self, target: &ResourceTarget) -> Result<Arc<Pod>, ApiError> {
        let (namespace, name) =
            (target.namespace.as_deref().unwrap_or_default(), target.name.as_deref().unwrap_or_default());
        let object = self.view.get(&PODS, namespace, name);
        let object = object.ok_or_else(|| ApiError::not_found(&PODS.resource, name))?;
        object.typed::<Pod>().map_err(ApiError::internal)
    }

    /// The kubelet of a node.
    fn of_node(&self, name: &str) -> Result<Kubelet, ApiError> {
        let object = self.view.get(&NODES, "", name).ok_or_else(|| ApiError::not_found(&NODES.resource, name))?;
        location::kubelet(&*object.typed::<Node>().map_err(ApiError::internal)?)
    }
}

/// The node that a pod is on; empty if it is on none yet.
fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}
