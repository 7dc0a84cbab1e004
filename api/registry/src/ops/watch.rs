//! Following a collection.
//!
//! A watch is a cursor on the cache's window with the request's selection on top: what comes into the selection is added,
//! what leaves it is deleted. It keeps no queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use navarch_cache::{CacheEvent, Scope, WatchError, Watcher};
use navarch_types::field::{FieldError, Path, into_result};
use navarch_types::{ApiError, GroupVersionKind, ListOptions, Object, Reason, WatchEvent, WatchEventType};
use serde_json::json;
use tokio::time::Instant;

use crate::call::Call;
use crate::convert;
use crate::ops::get::parse_revision;
use crate::registry::{self, Registry};
use crate::resource::Resource;
use crate::select::Selection;

/// How often a client that allows bookmarks gets one.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// An open watch. Dropping it ends it.
pub struct Watch {
    resource: Arc<Resource>,
    watcher: Watcher,
    selection: Selection,
    pending: VecDeque<WatchEvent>,
    bookmarks: bool,
    next_bookmark: Instant,
    ends: Instant,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// With all objects as added.
    State { latest: bool, at_least: u64, then_bookmark: bool },
    /// With what changes from now on.
    Now,
    /// With what changed after a revision.
    After(u64),
}

impl Registry {
    /// Opens a watch on a namespace, on all of them if the call's is empty, or on one object if the call has a name.
    ///
    /// # Errors
    /// 400 for bad options, 410 for a revision that is no longer retained, 504 for one that does not come.
    pub async fn watch(&self, call: &Call<'_>, options: &ListOptions) -> Result<Watch, ApiError> {
        let resource = self.resource(&call.resource.served)?;
        let start = start_of(options)?;
        let selection =
            Selection::parse(resource, options.label_selector.as_deref(), options.field_selector.as_deref())?;
        let scope = scope_of(call, resource, &selection);
        match start {
            Start::State { latest: true, .. } | Start::Now => {
                self.barrier(call.deadline).await?;
            }
            Start::State { at_least, .. } => self.wait_for(at_least, call.deadline).await?,
            Start::After(revision) => self.wait_for(revision, call.deadline).await?,
        }
        let cache = self.cache(resource);
        let mut pending = VecDeque::new();
        let watcher = match start {
            Start::State { then_bookmark, .. } => {
                let (revision, objects, watcher) = cache.list_and_watch(scope.clone());
                let named = |object: &Object| {
                    scope
                        .name
                        .as_deref()
                        .is_none_or(|name| object.metadata().is_ok_and(|m| m.name.as_deref() == Some(name)))
                };
                for object in objects.iter().filter(|o| named(o) && selection.matches(o)) {
                    let object = self.present(resource, Arc::clone(object))?;
                    pending.push_back(event(WatchEventType::Added, object));
                }
                if then_bookmark && options.allow_watch_bookmarks {
                    pending.push_back(bookmark(resource, revision, true)?);
                }
                watcher
            }
            Start::Now => {
                let now = cache.revision();
                cache.watch(scope, now).map_err(|e| expired(&e.to_string()))?
            }
            Start::After(revision) => cache.watch(scope, revision).map_err(|e| expired(&e.to_string()))?,
        };
        let now = Instant::now();
        Ok(Watch {
            resource: Arc::clone(resource),
            watcher,
            selection,
            pending,
            bookmarks: options.allow_watch_bookmarks,
            next_bookmark: now + BOOKMARK_INTERVAL,
            ends: now + duration(options),
        })
    }
}

impl Watch {
    /// The next event; `None` when the watch ends in due time. Cancel-safe.
    ///
    /// # Errors
    /// 410 if the watch fell behind what is retained. It is over then.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, ApiError> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            let wake = if self.bookmarks { self.ends.min(self.next_bookmark) } else { self.ends };
            match tokio::time::timeout_at(wake, self.watcher.next()).await {
                Ok(Ok(event)) => {
                    if let Some(event) = self.select(&event)? {
                        return Ok(Some(event));
                    }
                }
                Ok(Err(WatchError::Expired(error))) => return Err(expired(&error.to_string())),
                Ok(Err(WatchError::Read(error))) => return Err(registry::read_error(error)),
                Err(_) => {
                    let now = Instant::now();
                    if now >= self.ends {
                        return Ok(None);
                    }
                    self.next_bookmark = now + BOOKMARK_INTERVAL;
                    return bookmark(&self.resource, self.watcher.revision(), false).map(Some);
                }
            }
        }
    }

    /// The resource that is watched.
    pub fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    /// The event as this selection sees it.
    fn select(&self, change: &CacheEvent) -> Result<Option<WatchEvent>, ApiError> {
        let is_in = !change.deleted && self.selection.matches(&change.object);
        let before = match &change.previous {
            Some(previous) => self.selection.matches(previous),
            // What it was is not known when history begins after it: its last version stands for it.
            None => change.deleted && self.selection.matches(&change.object),
        };
        let (event_type, object) = match (before, is_in) {
            (false, false) => return Ok(None),
            (false, true) => (WatchEventType::Added, Arc::clone(&change.object)),
            (true, true) => (WatchEventType::Modified, Arc::clone(&change.object)),
            (true, false) if change.deleted => (WatchEventType::Deleted, Arc::clone(&change.object)),
            (true, false) => {
                let last = change.previous.as_ref().unwrap_or(&change.object);
                let last = Object::from_stored(last.stored().clone(), change.revision).map_err(ApiError::internal)?;
                (WatchEventType::Deleted, Arc::new(last))
            }
        };
        Ok(Some(event(event_type, convert::present(&self.resource, object)?)))
    }
}

fn event(event_type: WatchEventType, object: Arc<Object>) -> WatchEvent {
    WatchEvent { event_type, object, initial_events_end: false }
}

fn bookmark(resource: &Resource, revision: u64, initial_events_end: bool) -> Result<WatchEvent, ApiError> {
    let mut value = json!({"apiVersion": resource.kind.api_version(), "kind": resource.kind.kind, "metadata": {}});
    if initial_events_end {
        value["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    let object = Object::from_value(&value, revision).map_err(ApiError::internal)?;
    Ok(WatchEvent { event_type: WatchEventType::Bookmark, object: Arc::new(object), initial_events_end })
}

fn expired(why: &str) -> ApiError {
    ApiError::new(Reason::Expired, why)
}

/// Between half an hour and an hour if the client does not say: all watches of a server must not end at once.
fn duration(options: &ListOptions) -> Duration {
    match options.timeout_seconds {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
        _ => Duration::from_secs(rand::random_range(1800..3600)),
    }
}

fn start_of(options: &ListOptions) -> Result<Start, ApiError> {
    let rule = options.resource_version_match.as_deref().filter(|m| !m.is_empty());
    let revision = parse_revision(options.resource_version.as_deref())?;
    let mut findings = Vec::new();
    let path = Path::root("resourceVersionMatch");
    match (options.send_initial_events, rule) {
        (Some(_), None) => {
            let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            findings.push(FieldError::forbidden(&path, detail));
        }
        (Some(_), Some("NotOlderThan")) | (None, None) => {}
        (Some(_), Some(other)) => findings.push(FieldError::not_supported(&path, other, &["NotOlderThan"])),
        (None, Some(_)) => {
            let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            findings.push(FieldError::forbidden(&path, detail));
        }
    }
    into_result(&GroupVersionKind::new("meta.k8s.io", "v1", "ListOptions"), "", findings)?;
    Ok(match (options.send_initial_events, revision) {
        (Some(true), None) => Start::State { latest: true, at_least: 0, then_bookmark: true },
        (Some(true), Some(at_least)) => Start::State { latest: false, at_least, then_bookmark: true },
        (Some(false), None | Some(0)) => Start::Now,
        (None, None) => Start::State { latest: true, at_least: 0, then_bookmark: false },
        (None, Some(0)) => Start::State { latest: false, at_least: 0, then_bookmark: false },
        (_, Some(revision)) => Start::After(revision),
    })
}

/// The part of the selection that the cache's wake index knows.
fn scope_of(call: &Call<'_>, resource: &Resource, selection: &Selection) -> Scope {
    let given = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    let namespace = given(call.namespace).or_else(|| selection.namespace().map(str::to_owned));
    let name = given(call.name).or_else(|| selection.name().map(str::to_owned));
    let field = if resource.storage.resource == "pods" {
        selection.field("spec.nodeName").map(|(name, value)| (name, value.to_owned()))
    } else {
        None
    };
    Scope { namespace, name, field }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn where_a_watch_begins() {
        let options = |version: Option<&str>, initial: Option<bool>, rule: Option<&str>| ListOptions {
            resource_version: version.map(str::to_owned),
            send_initial_events: initial,
            resource_version_match: rule.map(str::to_owned),
            ..ListOptions::default()
        };
        let newer = Some("NotOlderThan");
        let state = |latest, at_least, then_bookmark| Start::State { latest, at_least, then_bookmark };
        for (version, initial, rule, start) in [
            (None, None, None, state(true, 0, false)),
            (Some("0"), None, None, state(false, 0, false)),
            (Some("7"), None, None, Start::After(7)),
            (None, Some(true), newer, state(true, 0, true)),
            (Some("7"), Some(true), newer, state(false, 7, true)),
            (None, Some(false), newer, Start::Now),
            (Some("7"), Some(false), newer, Start::After(7)),
        ] {
            assert_eq!(start_of(&options(version, initial, rule)).unwrap(), start, "{version:?} {initial:?}");
        }
        for (version, initial, rule) in
            [(None, Some(true), None), (None, None, newer), (None, Some(true), Some("Exact")), (Some("x"), None, None)]
        {
            assert!(start_of(&options(version, initial, rule)).is_err(), "{version:?} {initial:?} {rule:?}");
        }
    }
}
