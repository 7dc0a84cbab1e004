//! `/openapi/*` over HTTP.

use actix_web::{HttpRequest, HttpResponse};
use navarch_types::ApiError;

/// The document at a path.
///
/// # Errors
/// 404 for paths that have none.
pub async fn serve(_request: &HttpRequest, _path: &str) -> Result<HttpResponse, ApiError> {
    Err(navarch_registry::registry::no_such_path())
}
