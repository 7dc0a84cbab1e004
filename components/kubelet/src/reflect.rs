//! What the agent follows of the API, typed.

use std::sync::Arc;

use navarch_client::client::Resource;
use navarch_client::{Api, Step, follow};
use navarch_types::{ApiError, Object, Verb, WatchEventType};

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

/// Follows a selection until the future is dropped. What cannot be decoded is as good as a server that does not answer: a
/// list without it would be taken for a complete one.
pub async fn reflect<K: Resource>(api: &Api<K>, field_selector: Option<String>, mut on: impl FnMut(Change<K>)) {
    let mut list = api.request(Verb::List, None);
    list.list.field_selector = field_selector;
    follow(api.client(), &list, |step| {
        on(match step {
            Step::Listed { items, .. } => Change::Listed(items.iter().map(typed).collect::<Result<_, _>>()?),
            Step::Event(event) => match event.event_type {
                WatchEventType::Added | WatchEventType::Modified => Change::Set(typed(&event.object)?),
                WatchEventType::Deleted => Change::Gone(typed(&event.object)?),
                WatchEventType::Bookmark => return Ok(()),
            },
            Step::Failed(error) => Change::Failed(error),
        });
        Ok(())
    })
    .await;
}

fn typed<K: Resource>(object: &Arc<Object>) -> Result<Arc<K>, ApiError> {
    object.typed::<K>().map_err(ApiError::internal)
}
