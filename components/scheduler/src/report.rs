//! Writes the condition `PodScheduled` of pods that have no node, and sends events. What cannot be written is dropped; the
//! next attempt says it anew.

use std::convert::Infallible;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use navarch_client::Client;
use navarch_supervision::{TaskContext, fault};
use navarch_types::{ApiError, PatchType, Reason};
use serde_json::{Value, json};

use crate::pod::PodInfo;
use crate::shared::{Report, Shared};

/// Conditions written at a time.
const WRITES_MAX: usize = 16;
/// A condition is tried so often against others that write the pod.
const CONFLICTS_MAX: usize = 4;

/// The patch of a pod's status that says why it has no node, or nothing if it says so already. Names the version it was
/// made for: a pod that got its node meanwhile is left alone.
fn condition_patch(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Option<Value> {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let old = conditions.into_iter().find(|c| c.type_ == "PodScheduled");
    if old.is_some_and(|c| {
        c.status == "False" && c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(message)
    }) {
        return None;
    }
    let since = old.filter(|c| c.status == "False").and_then(|c| c.last_transition_time.clone());
    let since = since.map_or_else(|| json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()), |t| json!(t));
    let mut condition = json!({"type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        "lastTransitionTime": since});
    if let Some(generation) = pod.metadata.generation {
        condition["observedGeneration"] = generation.into();
    }
    Some(json!({
        "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
        "status": {"conditions": [condition]},
    }))
}

async fn write_condition(client: &Client, pod: &PodInfo, reason: &str, message: &str) -> Result<(), ApiError> {
    let api = client.namespaced::<Pod>(pod.namespace());
    let mut latest = Arc::clone(&pod.pod);
    for _ in 0..CONFLICTS_MAX {
        let has_node = latest.spec.as_ref().is_some_and(|s| s.node_name.as_deref().is_some_and(|n| !n.is_empty()));
        if has_node || latest.metadata.uid != pod.pod.metadata.uid {
            return Ok(());
        }
        let Some(patch) = condition_patch(&latest, reason, message, Timestamp::now()) else { return Ok(()) };
        match api.patch(pod.name(), Some("status".into()), PatchType::Strategic, patch).await {
            Err(error) if error.is(Reason::Conflict) => latest = api.get(pod.name()).await?,
            Err(error) => return Err(error),
            Ok(_) => return Ok(()),
        }
    }
    Ok(())
}

async fn write(shared: &Shared, client: &Client, report: Report) {
    let Report { pod, reason, message } = report;
    if let Err(error) = write_condition(client, &pod, reason, &message).await
        && !error.is(Reason::NotFound)
    {
        tracing::warn!(namespace = pod.namespace(), pod = pod.name(), %error, "cannot write why a pod has no node");
    }
    shared.reports_in_hand.lock().remove(pod.uid());
}

async fn write_conditions(shared: &Shared, client: &Client) {
    let mut reports = shared.reports_out.lock().await;
    // Taken out: a report that made the task fail is tried again once, not forever.
    let left = std::mem::take(&mut *shared.reports_in_hand.lock());
    let mut running: FuturesUnordered<_> = left.into_values().map(|report| write(shared, client, report)).collect();
    loop {
        tokio::select! {
            biased;
            Some(()) = running.next() => {}
            Some(report) = reports.recv(), if running.len() < WRITES_MAX => {
                shared.reports_in_hand.lock().insert(report.pod.uid().to_owned(), report.clone());
                fault::point("scheduler/reporter");
                running.push(write(shared, client, report));
            }
        }
    }
}

/// The task.
pub(crate) async fn run(shared: Arc<Shared>, client: Client, ctx: TaskContext) -> Result<(), Infallible> {
    tokio::select! {
        () = ctx.stopped() => {}
        () = shared.recorder.run(&client) => {}
        () = write_conditions(&shared, &client) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::testing::pod;

    #[test]
    fn a_condition_is_written_when_it_says_something_new() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let with = |condition: Value| json!({"metadata": {"generation": 2, "resourceVersion": "7"}, "status": {"conditions": [condition]}});
        let fresh = condition_patch(&pod("p", json!({})), "Unschedulable", "full", now).unwrap();
        assert_eq!(fresh["status"]["conditions"][0]["lastTransitionTime"], "2026-01-02T03:04:05Z");
        let old = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "full",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        assert_eq!(condition_patch(&pod("p", with(old.clone())), "Unschedulable", "full", now), None);
        let changed = condition_patch(&pod("p", with(old)), "Unschedulable", "fuller", now).unwrap();
        assert_eq!(changed["metadata"]["resourceVersion"], "7");
        assert_eq!(
            changed["status"]["conditions"][0],
            json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "fuller",
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 2})
        );
    }
}
