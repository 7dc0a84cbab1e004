//! Notices what changes in the runtime, tells the workers of the pods concerned, and removes what belongs to no pod.
//!
//! containerd's event stream is only a hint to look; looking decides. Without such a stream it looks every second.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::cleanup;
use crate::cri::{CriError, api, events};
use crate::labels;
use crate::runtime::is_ours;
use crate::shared::Shared;

/// Between looks while events come.
const LOOK_WITH_EVENTS: Duration = Duration::from_secs(10);
/// Between looks without events.
const LOOK_WITHOUT: Duration = Duration::from_secs(1);
/// One container's end makes several events.
const SETTLE: Duration = Duration::from_millis(5);

/// The ids and states of what a pod has.
type Picture = BTreeMap<String, BTreeSet<(String, i32)>>;

/// Looks until it is dropped.
///
/// # Errors
/// Never.
pub async fn run(shared: Arc<Shared>) -> Result<(), Infallible> {
    let mut stream: Option<tonic::Streaming<events::Envelope>> = None;
    let mut before = Picture::new();
    let mut orphans: JoinSet<String> = JoinSet::new();
    let mut removing: BTreeSet<String> = BTreeSet::new();
    let mut reached = true;
    loop {
        if stream.is_none() {
            stream = match tokio::time::timeout(Duration::from_secs(2), shared.cri.task_events()).await {
                Ok(Ok(stream)) => Some(stream),
                _ => None,
            };
        }
        match look(&shared).await {
            Ok(now) => {
                if !reached {
                    info!("the container runtime is reachable again");
                    reached = true;
                }
                tell(&shared, &before, &now);
                if shared.synced.load(Ordering::Acquire) {
                    for uid in unwanted(&shared, &now) {
                        if removing.insert(uid.clone()) {
                            let shared = Arc::clone(&shared);
                            orphans.spawn(async move {
                                info!(pod = uid, "removing a pod that is not wanted here");
                                if let Err(error) = cleanup::remove_pod(&shared, &uid).await {
                                    warn!(pod = uid, "cannot remove it: {error}");
                                }
                                uid
                            });
                        }
                    }
                }
                before = now;
            }
            Err(error) => {
                if reached {
                    warn!("{error}");
                    reached = false;
                }
                stream = None;
            }
        }
        let wait = if stream.is_some() { LOOK_WITH_EVENTS } else { LOOK_WITHOUT };
        tokio::select! {
            event = next_event(&mut stream) => {
                if event.is_none() {
                    debug!("the runtime's event stream ended");
                    stream = None;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                } else {
                    tokio::time::sleep(SETTLE).await;
                    drain(&mut stream);
                }
            }
            () = shared.relist.notified() => {}
            Some(ended) = orphans.join_next() => {
                if let Ok(uid) = ended {
                    removing.remove(&uid);
                }
                // What could not be removed is tried again, not at once.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn next_event(stream: &mut Option<tonic::Streaming<events::Envelope>>) -> Option<()> {
    match stream {
        Some(stream) => stream.next().await.and_then(Result::ok).map(drop),
        None => std::future::pending().await,
    }
}

/// Takes what has come already: one look answers it all.
fn drain(stream: &mut Option<tonic::Streaming<events::Envelope>>) {
    use futures::FutureExt;
    if let Some(open) = stream {
        while let Some(Some(Ok(_))) = open.next().now_or_never() {}
    }
}

async fn look(shared: &Shared) -> Result<Picture, CriError> {
    let (sandboxes, containers) =
        tokio::try_join!(shared.cri.list_pod_sandbox(None), shared.cri.list_containers(None))?;
    let node = &shared.config.node_name;
    let mut picture = Picture::new();
    let uid_of = |found: &HashMap<String, String>| found.get(labels::POD_UID).cloned().filter(|_| is_ours(found, node));
    for api::PodSandbox { id, state, labels, .. } in sandboxes {
        if let Some(uid) = uid_of(&labels) {
            picture.entry(uid).or_default().insert((id, state));
        }
    }
    for api::Container { id, state, labels, .. } in containers {
        if let Some(uid) = uid_of(&labels) {
            picture.entry(uid).or_default().insert((id, state));
        }
    }
    Ok(picture)
}

fn tell(shared: &Shared, before: &Picture, now: &Picture) {
    let pods = shared.pods.lock();
    for (uid, handle) in pods.iter() {
        if before.get(uid) != now.get(uid) {
            handle.hint();
        }
    }
}

fn unwanted(shared: &Shared, now: &Picture) -> Vec<String> {
    let pods = shared.pods.lock();
    now.keys().filter(|uid| !pods.contains_key(*uid)).cloned().collect()
}
