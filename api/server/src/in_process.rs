//! The adapter for callers in this process: no socket and no encoding, but every filter, check and plugin.

use std::sync::Arc;

use futures::stream::BoxStream;
use navarch_types::{ApiError, ResourceRequest, ResourceResponse, UserInfo, WatchEvent};

use crate::pipeline::Pipeline;

/// Carries requests into the pipeline, as whoever the caller says. Cheap to clone.
#[derive(Clone)]
pub struct InProcess {
    pipeline: Arc<Pipeline>,
}

impl InProcess {
    /// Into a pipeline.
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        Self { pipeline }
    }

    /// Everything but a watch.
    ///
    /// # Errors
    /// Whatever the pipeline says.
    pub async fn request(&self, user: &UserInfo, request: ResourceRequest) -> Result<ResourceResponse, ApiError> {
        self.pipeline.request(user, request).await.map(|answer| answer.response)
    }

    /// A watch. The stream ends without an error when its time is over.
    ///
    /// # Errors
    /// Whatever the pipeline says.
    pub async fn watch(
        &self,
        user: &UserInfo,
        request: ResourceRequest,
    ) -> Result<BoxStream<'static, Result<WatchEvent, ApiError>>, ApiError> {
        let watch = self.pipeline.watch(user, &request).await?;
        let stream = futures::stream::unfold(Some(watch), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(Some(event)) => Some((Ok(event), Some(watch))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Box::pin(stream))
    }
}
