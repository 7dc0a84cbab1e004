//! Paths that are no resources and need more than a path: who asks, and what is in the body. They pass authentication and
//! authorization like every request.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
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

/// Bytes of an answer that is too large to be held, with what they are.
pub struct PathStream {
    /// The media type.
    pub content_type: &'static str,
    /// The bytes. An error breaks the connection, so that nobody takes what was sent for all.
    pub bytes: BoxStream<'static, std::io::Result<Bytes>>,
}

/// Answers the POSTs to one path.
#[async_trait]
pub trait PathService: Send + Sync {
    /// The answer, sent as JSON with 200.
    ///
    /// # Errors
    /// Sent as the `Status` that it is.
    async fn answer(&self, request: PathRequest) -> Result<Value, ApiError>;

    /// The answer as a stream, from services that give one: they are not asked for [`PathService::answer`].
    ///
    /// # Errors
    /// As [`PathService::answer`].
    async fn stream(&self, _request: &PathRequest) -> Result<Option<PathStream>, ApiError> {
        Ok(None)
    }
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
    let request = PathRequest { user, source, body };
    let answer = async {
        match service.stream(&request).await? {
            // Only its beginning has a deadline.
            Some(stream) => Ok(HttpResponse::Ok().content_type(stream.content_type).streaming(stream.bytes)),
            None => service.answer(request).await.map(|value| json_response(&value)),
        }
    };
    let mut response = tokio::time::timeout(REQUEST_DEADLINE, answer).await.map_err(|_| {
        ApiError::new(Reason::Timeout, "Timeout: request did not complete within the allotted timeout")
    })??;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
