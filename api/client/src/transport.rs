//! How requests travel.

use async_trait::async_trait;
use futures::stream::BoxStream;
use navarch_types::{ApiError, ResourceRequest, ResourceResponse, WatchEvent};

/// The events of one watch. Ends without an error when the server closes it in due time; after an error it ends, and
/// [`navarch_types::Reason::Expired`] asks for a new list.
pub type WatchStream = BoxStream<'static, Result<WatchEvent, ApiError>>;

/// Carries requests to an API server, as one identity. Every implementation passes every filter and check of the server's
/// pipeline. When nobody can be reached, that is [`navarch_types::Reason::ServiceUnavailable`], and a write was not carried
/// out; when the answer to a write does not come, that is [`navarch_types::Reason::Timeout`], and its outcome is unknown.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Everything but [`navarch_types::Verb::Watch`].
    async fn request(&self, request: ResourceRequest) -> Result<ResourceResponse, ApiError>;

    /// [`navarch_types::Verb::Watch`].
    async fn watch(&self, request: ResourceRequest) -> Result<WatchStream, ApiError>;
}
