//! Tells the API a pod's status: only what changed, only the latest, one request at a time.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use navarch_types::{PatchType, Reason};
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::lifecycle::patch;
use crate::shared::Shared;

/// What is to be reported, and the number of the wish.
#[derive(Clone, Default)]
pub struct Wish {
    /// Counts up.
    pub number: u64,
    /// The status.
    pub status: Arc<PodStatus>,
    /// What the API has, if it was seen to change by others.
    pub seen: Option<(u64, Arc<Pod>)>,
}

/// How far reporting is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of the last wish that is in the API.
    pub number: u64,
    /// The API has the pod no more.
    pub gone: bool,
}

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// Reports until the worker ends, and calls `told` after each step. `pod` is the pod as first seen.
pub async fn run(
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    mut wishes: watch::Receiver<Wish>,
    progress: watch::Sender<Progress>,
    told: impl Fn(),
) {
    let metadata = &pod.metadata;
    let (namespace, name) =
        (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default());
    let uid = metadata.uid.as_deref().unwrap_or_default();
    let api = shared.client.namespaced::<Pod>(namespace);
    let mut base = pod.status.clone().unwrap_or_default();
    let mut revision = revision_of(&pod);
    let mut wait = RETRY_FIRST;
    while wishes.changed().await.is_ok() {
        loop {
            let wish = wishes.borrow_and_update().clone();
            if let Some((seen, pod)) = wish.seen.as_ref().filter(|(seen, _)| *seen > revision) {
                revision = *seen;
                base = pod.status.clone().unwrap_or_default();
            }
            let change = match patch::between(uid, &base, &wish.status) {
                Ok(change) => change,
                Err(error) => {
                    warn!(pod = %format_args!("{namespace}/{name}"), "cannot encode a status: {error}");
                    break;
                }
            };
            let Some(change) = change else {
                progress.send_replace(Progress { number: wish.number, gone: false });
                told();
                break;
            };
            match api.patch(name, Some("status".into()), PatchType::Strategic, change).await {
                Ok(pod) => {
                    base = (*wish.status).clone();
                    revision = revision.max(revision_of(&pod));
                    wait = RETRY_FIRST;
                    progress.send_replace(Progress { number: wish.number, gone: false });
                    told();
                    break;
                }
                Err(error) if error.is(Reason::NotFound) || (error.is(Reason::Conflict) && changed_uid(&error)) => {
                    progress.send_replace(Progress { number: wish.number, gone: true });
                    told();
                    return;
                }
                Err(error) => {
                    debug!(pod = %format_args!("{namespace}/{name}"), "cannot report a status: {error}");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_LONGEST);
                }
            }
        }
    }
}

/// Another pod has the name now.
fn changed_uid(error: &navarch_types::ApiError) -> bool {
    error.status().message.to_ascii_lowercase().contains("uid")
}

/// The revision of an object as a number.
pub fn revision_of(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}
