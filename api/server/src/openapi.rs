//! `/openapi/*` over HTTP: compression, entity tags, and documents made off the threads that serve.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};
use navarch_registry::openapi::{self, Document, OpenApiError};
use navarch_types::{ApiError, Reason};

use crate::http::accepts_gzip;

/// The document at a path.
///
/// # Errors
/// 404 for paths that have none, 406 for forms that there are none of.
pub async fn serve(request: &HttpRequest, path: &str) -> Result<HttpResponse, ApiError> {
    let text = |name: header::HeaderName| request.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let (asked, accept) = (path.to_owned(), text(header::ACCEPT));
    let made = tokio::task::spawn_blocking(move || openapi::document(&asked, accept.as_deref()))
        .await
        .map_err(ApiError::internal)?;
    let document = made.map_err(refused)?;
    if text(header::IF_NONE_MATCH).is_some_and(|tag| tag == document.etag) {
        return Ok(HttpResponse::NotModified().insert_header((header::ETAG, document.etag.clone())).finish());
    }
    let mut response = HttpResponse::Ok();
    response.content_type(document.content_type);
    response.insert_header((header::ETAG, document.etag.clone()));
    response.insert_header((header::VARY, "Accept, Accept-Encoding"));
    // The index names documents by what is in them: such an address never means anything else.
    if request.query_string().contains("hash=") {
        response.insert_header((header::CACHE_CONTROL, "public, immutable"));
        response.insert_header((header::EXPIRES, "Fri, 31 Dec 2100 00:00:00 GMT"));
    }
    content(response, &document, accepts_gzip(text(header::ACCEPT_ENCODING).as_deref()))
}

fn content(
    mut response: actix_web::HttpResponseBuilder,
    document: &Document,
    compressed: bool,
) -> Result<HttpResponse, ApiError> {
    if compressed {
        response.insert_header((header::CONTENT_ENCODING, "gzip"));
        return Ok(response.body(document.gzip.clone()));
    }
    Ok(response.body(document.plain().map_err(ApiError::internal)?))
}

fn refused(error: OpenApiError) -> ApiError {
    match error {
        OpenApiError::NotFound => navarch_registry::registry::no_such_path(),
        OpenApiError::NotAcceptable(_) => ApiError::new(Reason::NotAcceptable, error.to_string()),
        OpenApiError::Io(error) => ApiError::internal(error),
    }
}
