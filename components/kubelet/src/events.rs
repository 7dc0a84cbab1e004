//! Events about pods and the node. Equal ones are counted in one object; a full queue drops, because events are for
//! people and must never hold up a pod.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use navarch_client::Client;
use navarch_types::{PatchType, Reason};
use tokio::sync::mpsc;
use tracing::debug;

/// Events waiting to be sent.
const QUEUE_EVENTS_MAX: usize = 1000;
/// Events remembered for counting.
const REMEMBERED_MAX: usize = 4096;
/// Of one object and reason, so many at once, then one in five minutes: as upstream's spam filter.
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;

/// `Normal` or `Warning`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
struct Happened {
    object: ObjectReference,
    level: Level,
    reason: String,
    message: String,
    at: Timestamp,
}

/// Takes events. Cheap to clone, never blocks.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Happened>,
    inbox: std::sync::Arc<tokio::sync::Mutex<mpsc::Receiver<Happened>>>,
}

impl Default for Recorder {
    fn default() -> Self {
        let (queue, inbox) = mpsc::channel(QUEUE_EVENTS_MAX);
        Self { queue, inbox: std::sync::Arc::new(tokio::sync::Mutex::new(inbox)) }
    }
}

/// A reference to a pod, or to a container of it.
pub fn pod_reference(pod: &Pod, container: Option<(&str, bool)>) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: container.map(|(name, init)| {
            let list = if init { "initContainers" } else { "containers" };
            format!("spec.{list}{{{name}}}")
        }),
    }
}

/// A reference to the node. Its uid is its name, as in upstream.
pub fn node_reference(node: &Node) -> ObjectReference {
    ObjectReference {
        kind: Some("Node".into()),
        name: node.metadata.name.clone(),
        uid: node.metadata.name.clone(),
        ..ObjectReference::default()
    }
}

impl Recorder {
    /// Records one.
    pub fn record(&self, object: ObjectReference, level: Level, reason: &str, message: impl Into<String>) {
        let message = message.into();
        let happened = Happened { object, level, reason: reason.to_owned(), message, at: Timestamp::now() };
        if self.queue.try_send(happened).is_err() {
            debug!(reason, "an event was dropped: the queue is full");
        }
    }

    /// Sends what is recorded. Runs as `component` on `host`.
    pub async fn run(&self, client: &Client, host: &str) {
        let mut inbox = self.inbox.lock().await;
        let mut seen: HashMap<String, Counted> = HashMap::new();
        let mut allowance: HashMap<String, (f64, Timestamp)> = HashMap::new();
        while let Some(happened) = inbox.recv().await {
            if seen.len() > REMEMBERED_MAX {
                seen.clear();
            }
            if allowance.len() > REMEMBERED_MAX {
                allowance.clear();
            }
            let object = &happened.object;
            let spam = format!("{:?}/{:?}", object.uid, object.kind);
            let (tokens, last) = allowance.entry(spam).or_insert((BURST, happened.at));
            let elapsed = happened.at.duration_since(*last).as_secs_f64().max(0.0);
            *tokens = (*tokens + elapsed * REFILL_PER_SECOND).min(BURST);
            *last = happened.at;
            if *tokens < 1.0 {
                continue;
            }
            *tokens -= 1.0;
            let sending = send(client, host, &happened, &mut seen);
            let _ = tokio::time::timeout(Duration::from_secs(5), sending).await;
        }
    }
}

struct Counted {
    name: String,
    count: i32,
}

async fn send(client: &Client, host: &str, happened: &Happened, seen: &mut HashMap<String, Counted>) {
    let object = &happened.object;
    let namespace = object.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let api = client.namespaced::<Event>(&namespace);
    let key = format!(
        "{:?}/{:?}/{}/{}/{}",
        object.uid,
        object.field_path,
        happened.level.as_str(),
        happened.reason,
        happened.message
    );
    if let Some(counted) = seen.get_mut(&key) {
        counted.count += 1;
        let patch = serde_json::json!({"count": counted.count, "lastTimestamp": Time(happened.at)});
        match api.patch(&counted.name, None, PatchType::Merge, patch).await {
            Ok(_) => return,
            Err(error) if error.is(Reason::NotFound) => drop(seen.remove(&key)),
            Err(error) => return debug!("cannot count an event: {error}"),
        }
    }
    let stamp = happened.at.as_nanosecond();
    let name = format!("{}.{stamp:x}", object.name.as_deref().unwrap_or_default());
    let event = Event {
        metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace), ..ObjectMeta::default() },
        involved_object: object.clone(),
        reason: Some(happened.reason.clone()),
        message: Some(happened.message.clone()),
        source: Some(EventSource { component: Some("kubelet".into()), host: Some(host.to_owned()) }),
        first_timestamp: Some(Time(happened.at)),
        last_timestamp: Some(Time(happened.at)),
        count: Some(1),
        type_: Some(happened.level.as_str().to_owned()),
        reporting_component: Some("kubelet".into()),
        reporting_instance: Some(host.to_owned()),
        ..Event::default()
    };
    match api.create(&event).await {
        Ok(_) => drop(seen.insert(key, Counted { name, count: 1 })),
        Err(error) => debug!("cannot record an event: {error}"),
    }
}
