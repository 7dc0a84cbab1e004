//! Watches of the fake: cursors on its history.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use navarch_types::{ApiError, Object, Reason, ResourceRequest, WatchEvent, WatchEventType};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::group_resource;
use super::state::{Change, Selection, State};
use crate::transport::WatchStream;

struct Cursor {
    state: Arc<Mutex<State>>,
    request: ResourceRequest,
    selection: Selection,
    at: u64,
    epoch: u64,
    changed: watch::Receiver<(u64, u64)>,
    ready: VecDeque<WatchEvent>,
    over: bool,
}

fn expired() -> ApiError {
    ApiError::new(Reason::Expired, "too old resource version")
}

pub(super) fn open(state: &Arc<Mutex<State>>, request: &ResourceRequest) -> Result<WatchStream, ApiError> {
    let selection = Selection::of(request)?;
    let locked = state.lock();
    let mut ready = VecDeque::new();
    let at = match request.list.resource_version.as_deref() {
        None | Some("" | "0") => {
            for object in locked.list(&group_resource(request), request.namespace.as_deref()) {
                if selection.selects(&object) {
                    ready.push_back(event(WatchEventType::Added, object));
                }
            }
            locked.revision
        }
        Some(text) => text.parse().map_err(|_| ApiError::bad_request(format!("invalid resource version {text:?}")))?,
    };
    if at < locked.compacted {
        return Err(expired());
    }
    let cursor = Cursor {
        state: Arc::clone(state),
        request: request.clone(),
        selection,
        at,
        epoch: locked.epoch,
        changed: locked.changed.subscribe(),
        ready,
        over: false,
    };
    drop(locked);
    Ok(futures::stream::unfold(cursor, |mut cursor| async move {
        let next = cursor.next().await?;
        Some((next, cursor))
    })
    .boxed())
}

fn event(event_type: WatchEventType, object: Arc<Object>) -> WatchEvent {
    WatchEvent { event_type, object, initial_events_end: false }
}

impl Cursor {
    async fn next(&mut self) -> Option<Result<WatchEvent, ApiError>> {
        loop {
            if self.over {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            self.changed.borrow_and_update();
            if let Err(error) = self.fill() {
                self.over = true;
                return Some(Err(error));
            }
            if self.ready.is_empty() && self.changed.changed().await.is_err() {
                return None;
            }
        }
    }

    fn fill(&mut self) -> Result<(), ApiError> {
        let state = self.state.lock();
        if state.epoch != self.epoch {
            return Err(ApiError::new(Reason::ServiceUnavailable, "connection reset by peer"));
        }
        if self.at < state.compacted {
            return Err(expired());
        }
        let from = state.history.partition_point(|change| change.revision <= self.at);
        let events: Vec<_> = state.history[from..].iter().filter_map(|change| self.see(change)).collect();
        self.at = self.at.max(state.revision);
        drop(state);
        self.ready.extend(events);
        Ok(())
    }

    fn see(&self, change: &Change) -> Option<WatchEvent> {
        let (resource, namespace, name) = &change.key;
        let concerned = *resource == group_resource(&self.request)
            && self.request.namespace.as_ref().is_none_or(|n| n == namespace)
            && self.request.name.as_ref().is_none_or(|n| n == name);
        if !concerned {
            return None;
        }
        let before = change.old.as_ref().is_some_and(|old| self.selection.selects(old));
        let now = !change.deleted && self.selection.selects(&change.object);
        let kind = match (before, now) {
            (false, false) => return None,
            (false, true) => WatchEventType::Added,
            (true, true) => WatchEventType::Modified,
            (true, false) => WatchEventType::Deleted,
        };
        Some(event(kind, Arc::clone(&change.object)))
    }
}
