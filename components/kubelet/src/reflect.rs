//! List, then watch, then list again when the watch breaks: what the agent follows of the API.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use navarch_client::Api;
use navarch_client::client::Resource;
use navarch_types::{ApiError, ListOptions, Object, WatchEventType};
use tracing::debug;

/// One change of what is followed.
pub enum Change<K> {
    /// Everything there is.
    Listed(Vec<Arc<K>>),
    /// New or changed.
    Set(Arc<K>),
    /// Gone; its last state.
    Gone(Arc<K>),
    /// The server does not answer, or refuses; it is tried again.
    Failed(ApiError),
}

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(10);

/// Follows a selection until the future is dropped.
pub async fn reflect<K: Resource>(api: &Api<K>, field_selector: Option<String>, mut on: impl FnMut(Change<K>)) {
    let mut wait = RETRY_FIRST;
    loop {
        match follow(api, field_selector.as_ref(), &mut on).await {
            Ok(()) => wait = RETRY_FIRST,
            Err(error) => {
                debug!(resource = K::URL_PATH_SEGMENT, "watch broke: {error}");
                on(Change::Failed(error));
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_LONGEST);
            }
        }
    }
}

/// One list and the watches after it, until one breaks.
async fn follow<K: Resource>(
    api: &Api<K>,
    field_selector: Option<&String>,
    on: &mut impl FnMut(Change<K>),
) -> Result<(), ApiError> {
    let options = ListOptions { field_selector: field_selector.cloned(), ..ListOptions::default() };
    let list = api.list(options.clone()).await?;
    let mut revision = list.revision;
    on(Change::Listed(list.items.iter().map(|object| typed(object)).collect::<Result<_, _>>()?));
    loop {
        let watch = ListOptions {
            resource_version: Some(revision.to_string()),
            allow_watch_bookmarks: true,
            ..options.clone()
        };
        let mut stream = match api.watch(watch).await {
            Ok(stream) => stream,
            Err(error) if error.code() == 410 => return Ok(()),
            Err(error) => return Err(error),
        };
        while let Some(event) = stream.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) if error.code() == 410 => return Ok(()),
                Err(error) => return Err(error),
            };
            revision = revision.max(event.object.revision());
            match event.event_type {
                WatchEventType::Added | WatchEventType::Modified => on(Change::Set(typed(&event.object)?)),
                WatchEventType::Deleted => on(Change::Gone(typed(&event.object)?)),
                WatchEventType::Bookmark => {}
            }
        }
        // A server that closes at once must not be asked in a tight loop.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn typed<K: Resource>(object: &Arc<Object>) -> Result<Arc<K>, ApiError> {
    object.typed::<K>().map_err(ApiError::internal)
}
