//! OpenAPI documents, made when they are first asked for.

use actix_web::HttpResponse;
use navarch_types::ApiError;

/// The documents.
#[derive(Default)]
pub struct OpenApi {}

impl OpenApi {
    /// The document at a path.
    ///
    /// # Errors
    /// 404 for paths that have none.
    pub fn serve(&self, _path: &str, _accept: Option<&str>) -> Result<HttpResponse, ApiError> {
        Err(navarch_registry::registry::no_such_path())
    }
}
