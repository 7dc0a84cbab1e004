//! Paths that are no resources and need more than a path: who asks, and what is in the body. They pass authentication and
//! authorization like every request.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use async_trait::async_trait;
use bytes::Bytes;
use navarch_types::{ApiError, Reason, UserInfo};
use serde_json::Value;

use crate::http::read_body;
use crate::pipeline::REQUEST_DEADLINE;
use crate::probes::json_response;

/// A POST of an authorized user.
#[derive(Debug)]
pub struct PathRequest {
    /// Who asks.
    pub user: UserInfo,
    /// From where.
    pub source: Option<IpAddr>,
    /// What was sent.
    pub body: Bytes,
}

/// Answers the POSTs to one path.
#[async_trait]
pub trait PathService: Send + Sync {
    /// The answer, sent as JSON with 200.
    ///
    /// # Errors
    /// Sent as the `Status` that it is.
    async fn answer(&self, request: PathRequest) -> Result<Value, ApiError>;
}

/// Carries a request to its service and back. Answers may be secret: nobody on the way keeps them.
pub(crate) async fn serve(
    request: &HttpRequest,
    payload: &mut Option<web::Payload>,
    user: UserInfo,
    service: Arc<dyn PathService>,
) -> Result<HttpResponse, ApiError> {
    if request.method() != actix_web::http::Method::POST {
        let why = "the server does not allow this method on the requested resource";
        return Err(ApiError::new(Reason::MethodNotAllowed, why));
    }
    let source = request.peer_addr().map(|address| address.ip().to_canonical());
    let body = read_body(payload).await?;
    let answer = service.answer(PathRequest { user, source, body });
    let value = tokio::time::timeout(REQUEST_DEADLINE, answer).await.map_err(|_| {
        ApiError::new(Reason::Timeout, "Timeout: request did not complete within the allotted timeout")
    })??;
    let mut response = json_response(&value);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
