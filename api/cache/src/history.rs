//! Events from the store's history, for watchers that the window has left behind.

use std::sync::Arc;

use navarch_raft_contract::{EventKind, KeyRange, ReadError};

use crate::event::CacheEvent;
use crate::resource::ResourceCache;
use crate::watcher::{Expired, Scope, WatchError};

/// Bytes read at a time: large enough to catch up, small enough not to hold much for a slow client.
const CHUNK_BYTES: usize = 1 << 20;

/// A chunk of events after `after`, and the revision that it reaches.
pub(crate) async fn read(
    cache: Arc<ResourceCache>,
    scope: Scope,
    after: u64,
) -> Result<(Vec<Arc<CacheEvent>>, u64), WatchError> {
    let reading = tokio::task::spawn_blocking(move || read_blocking(&cache, &scope, after));
    match reading.await {
        Ok(read) => read,
        Err(error) => Err(WatchError::Read(ReadError::Database(error.to_string()))),
    }
}

fn read_blocking(cache: &ResourceCache, scope: &Scope, after: u64) -> Result<(Vec<Arc<CacheEvent>>, u64), WatchError> {
    let reader = &cache.caches.reader;
    let mut prefix = cache.prefix.to_vec();
    if let Some(namespace) = scope.namespace.as_ref().filter(|_| cache.namespaced()) {
        prefix.extend_from_slice(namespace.as_bytes());
        prefix.push(b'/');
    }
    let (events, reached) = reader.events(&KeyRange::prefix(&prefix), after, CHUNK_BYTES).map_err(read_error)?;
    let mut out = Vec::with_capacity(events.len());
    for event in events {
        let (key, object) = cache.decode(&event.key, &event.value, event.revision);
        let previous = match event.prev_revision {
            0 => None,
            // Below the floor only the version live there is kept; without it the event reads as an addition.
            revision => match reader.get(&event.key, Some(revision)) {
                Ok(found) => found.map(|kv| cache.decode(&kv.key, &kv.value, kv.mod_revision).1),
                Err(ReadError::Compacted { .. }) => None,
                Err(error) => return Err(read_error(error)),
            },
        };
        let deleted = event.kind == EventKind::Delete;
        out.push(Arc::new(CacheEvent { revision: event.revision, key, object, previous, deleted }));
    }
    Ok((out, reached))
}

fn read_error(error: ReadError) -> WatchError {
    match error {
        ReadError::Compacted { asked, floor } => WatchError::Expired(Expired { asked, floor }),
        other => WatchError::Read(other),
    }
}
