//! Requests that take the connection over, or stream without an end: logs, exec, attach, port-forward, proxying.
//!
//! Called after authorization. An upgraded request's payload is the raw byte stream behind the head, whichever protocol the
//! client asked for; see [`crate::listener`] for how that comes about.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use navarch_types::{ApiError, UserInfo, Verb};

use crate::info::{Query, ResourceTarget};
use crate::pipeline::Pipeline;

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
    let subresource = request.target.subresource.as_deref().unwrap_or_default();
    Err(ApiError::bad_request(format!("{}/{subresource} is not served yet", request.target.resource.resource)))
}
