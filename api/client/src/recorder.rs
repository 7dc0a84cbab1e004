//! Events about objects: recorded without waiting, sent by a task, repeated ones counted instead of created anew.
//!
//! The rules are client-go's: the same event again raises `count`; more than ten that differ only in their message within
//! ten minutes are combined; each object has a budget of twenty-five, refilled one in five minutes. An event that cannot be
//! sent is dropped and counted: events must never hold up the work they tell of.

mod correlate;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use navarch_types::{ApiError, PatchType, Reason};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;

use crate::client::{Client, Resource};
use correlate::{Correlator, Verdict};

/// Events that wait to be sent.
const QUEUE_MAX: usize = 1000;
const TRIES_MAX: u32 = 4;
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// What the API accepts.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Whether all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// For information.
    Normal,
    /// Something is wrong.
    Warning,
}

impl EventType {
    /// As it stands in `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

struct Recorded {
    about: ObjectReference,
    event_type: EventType,
    reason: String,
    message: String,
    at: Time,
}

/// Records events of one component. Clones share the queue.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Recorded>,
    receiver: Arc<Mutex<Option<mpsc::Receiver<Recorded>>>>,
    source: Arc<EventSource>,
    dropped: Arc<AtomicU64>,
}

/// A reference to an object, as events have it.
pub fn reference_to<K: Resource>(object: &K) -> ObjectReference {
    let metadata = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    }
}

impl EventRecorder {
    /// For a component (`deployment-controller`), on a host for node agents.
    pub fn new(component: &str, host: Option<&str>) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        Self {
            queue,
            receiver: Arc::new(Mutex::new(Some(receiver))),
            source: Arc::new(EventSource { component: Some(component.to_owned()), host: host.map(str::to_owned) }),
            dropped: Arc::default(),
        }
    }

    /// Records an event about an object.
    pub fn event<K: Resource>(&self, about: &K, event_type: EventType, reason: &str, message: impl Into<String>) {
        self.record(reference_to(about), event_type, reason, message);
    }

    /// Records an event about something referred to.
    pub fn record(&self, about: ObjectReference, event_type: EventType, reason: &str, message: impl Into<String>) {
        let mut message: String = message.into();
        if message.len() > MESSAGE_BYTES_MAX {
            let cut = (0..=MESSAGE_BYTES_MAX - 3).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
            message.truncate(cut);
            message.push_str("...");
        }
        let at = Time(jiff::Timestamp::now());
        let recorded = Recorded { about, event_type, reason: reason.to_owned(), message, at };
        if self.queue.try_send(recorded).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events that were not sent: the queue was full, the object over its budget, or the server refused.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Sends events until dropped. One sender at a time: a second call returns at once while the first runs.
    pub async fn run(&self, client: &Client) {
        let Some(receiver) = self.receiver.lock().take() else { return };
        // Put back when this future is dropped, so that a restarted owner goes on with what waits.
        let mut held = Held { slot: Arc::clone(&self.receiver), receiver: Some(receiver) };
        let mut correlator = Correlator::default();
        loop {
            let Some(receiver) = held.receiver.as_mut() else { return };
            let Some(recorded) = receiver.recv().await else { return };
            if !self.send(client, &mut correlator, recorded).await {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn send(&self, client: &Client, correlator: &mut Correlator, recorded: Recorded) -> bool {
        let (key, message) = match correlator.judge(&recorded, Instant::now()) {
            Verdict::Drop => return false,
            Verdict::Send { key, message } => (key, message),
        };
        for attempt in 0..TRIES_MAX {
            let result = match correlator.sent(&key) {
                Some((name, count)) => self.repeat(client, &recorded, &name, count + 1, &message).await,
                None => self.create(client, &recorded, &message).await,
            };
            match result {
                Ok(event) => {
                    let name = event.metadata.name.clone().unwrap_or_default();
                    correlator.note(key, name, event.count.unwrap_or(1), Instant::now());
                    return true;
                }
                // The event expired meanwhile: begin a new one.
                Err(error) if error.is(Reason::NotFound) && correlator.forget(&key) => {}
                Err(error) if retryable(&error) => tokio::time::sleep(RETRY_AFTER * (attempt + 1)).await,
                Err(error) => {
                    tracing::debug!(%error, reason = recorded.reason, "an event was refused");
                    return false;
                }
            }
        }
        false
    }

    async fn create(&self, client: &Client, recorded: &Recorded, message: &str) -> Result<Arc<Event>, ApiError> {
        let namespace = recorded.about.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or("default");
        let about = recorded.about.name.as_deref().unwrap_or("unknown");
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{about}.{:016x}", recorded.at.0.as_nanosecond())),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: recorded.about.clone(),
            type_: Some(recorded.event_type.as_str().to_owned()),
            reason: Some(recorded.reason.clone()),
            message: Some(message.to_owned()),
            source: Some((*self.source).clone()),
            reporting_component: self.source.component.clone(),
            reporting_instance: self.source.host.clone(),
            first_timestamp: Some(recorded.at.clone()),
            last_timestamp: Some(recorded.at.clone()),
            count: Some(1),
            ..Event::default()
        };
        client.namespaced::<Event>(namespace).create(&event).await
    }

    async fn repeat(
        &self,
        client: &Client,
        recorded: &Recorded,
        name: &str,
        count: i32,
        message: &str,
    ) -> Result<Arc<Event>, ApiError> {
        let namespace = recorded.about.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or("default");
        let patch = json!({"count": count, "lastTimestamp": recorded.at, "message": message});
        client.namespaced::<Event>(namespace).patch(name, None, PatchType::Merge, patch).await
    }
}

fn retryable(error: &ApiError) -> bool {
    [Reason::ServiceUnavailable, Reason::ServerTimeout, Reason::Timeout, Reason::TooManyRequests, Reason::InternalError]
        .iter()
        .any(|reason| error.is(*reason))
}

struct Held {
    slot: Arc<Mutex<Option<mpsc::Receiver<Recorded>>>>,
    receiver: Option<mpsc::Receiver<Recorded>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.slot.lock() = self.receiver.take();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::testing::FakeServer;

    #[tokio::test]
    async fn repeated_events_are_counted_and_similar_ones_combined() {
        let server = FakeServer::new();
        let pod =
            server.put_json::<Pod>(json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"containers": []}}));
        let recorder = EventRecorder::new("kubelet", Some("n1"));
        for _ in 0..3 {
            recorder.event(&*pod, EventType::Warning, "BackOff", "Back-off restarting");
        }
        for n in 0..14 {
            recorder.event(&*pod, EventType::Normal, "Pulled", format!("image {n}"));
        }
        recorder.event(&*pod, EventType::Normal, "Long", "ä".repeat(2000));
        let client = server.client();
        let end = Instant::now() + Duration::from_secs(20);
        tokio::select! {
            () = recorder.run(&client) => {}
            () = async {
                while server.list::<Event>().iter().filter(|e| e.reason.as_deref() == Some("Long")).count() == 0 {
                    assert!(Instant::now() < end);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            } => {}
        }
        let events = server.list::<Event>();
        let of = |reason: &str| -> Vec<_> { events.iter().filter(|e| e.reason.as_deref() == Some(reason)).collect() };
        assert_eq!(of("BackOff").iter().map(|e| e.count.unwrap()).collect::<Vec<_>>(), [3]);
        let pulled = of("Pulled");
        assert_eq!(pulled.len(), 10, "nine on their own, the rest combined");
        let combined = pulled.iter().find(|e| e.message.as_deref().unwrap().starts_with("(combined")).unwrap();
        assert_eq!(combined.message.as_deref(), Some("(combined from similar events): image 13"));
        assert_eq!(combined.count, Some(5));
        assert!(of("Long")[0].message.as_ref().unwrap().len() <= MESSAGE_BYTES_MAX);
        for n in 0..60 {
            recorder.event(&*pod, EventType::Normal, "Spam", format!("{n}"));
        }
        assert_eq!(recorder.dropped(), 0);
    }
}
