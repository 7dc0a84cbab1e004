//! Deployments: one ReplicaSet for each revision of the template, scaled step by step until the new one has all pods.
//!
//! Numbers come from [`rolling`], conditions from [`status`], revisions from [`history`]; [`rollout`] carries them out.
//! Pods are not touched here, only ReplicaSets.

mod history;
mod rolling;
mod rollout;
mod status;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use navarch_client::{
    Change, Client, EventRecorder, EventType, Expectations, Informer, InformerFactory, ObjectKey, Subscription,
    WorkQueue,
};
use navarch_types::selector::Selector;
use navarch_types::{ApiError, Reason};

use crate::controller::{Next, Reconcile, own_key};
use crate::owners::{self, Claim};
use crate::sources;
use rollout::Rollout;

/// ReplicaSets report pod by pod; one look serves a burst.
const STATUS_PAUSE: Duration = Duration::from_millis(10);
const EXPECTATION_PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct Deployments {
    client: Client,
    recorder: EventRecorder,
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    expectations: Expectations<ObjectKey>,
}

impl Deployments {
    pub fn new(client: Client, recorder: EventRecorder, informers: &InformerFactory) -> Self {
        Self {
            client,
            recorder,
            deployments: informers.informer(),
            sets: sources::replica_sets(informers),
            pods: sources::pods(informers),
            expectations: Expectations::default(),
        }
    }

    /// The ReplicaSets of a Deployment, after adopting and releasing.
    async fn claim(&self, deployment: &Arc<Deployment>, selector: &Selector) -> Result<Vec<Arc<ReplicaSet>>, ApiError> {
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let deleting = deployment.metadata.deletion_timestamp.is_some();
        let mut mine = Vec::new();
        let mut allowed = None;
        let orphans = self.sets.store().by_index(sources::ORPHANS, namespace);
        for set in self.sets.store().by_index(sources::CONTROLLER, uid).into_iter().chain(orphans) {
            let matches = selector.matches(&set.metadata.labels);
            match owners::claim(&set.metadata, uid, deleting, matches) {
                Claim::Keep => mine.push(set),
                Claim::Release => owners::release(&self.client, &*set, uid).await?,
                Claim::Adopt => {
                    if allowed.is_none() {
                        allowed = Some(owners::may_adopt(&self.client, &**deployment).await?);
                    }
                    if allowed == Some(true) {
                        match owners::adopt(&self.client, &*set, &**deployment).await {
                            Ok(()) => mine.push(set),
                            Err(error) if error.is(Reason::NotFound) || error.is(Reason::Invalid) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                Claim::Ignore => {}
            }
        }
        Ok(mine)
    }
}

fn selector_of(deployment: &Deployment) -> Result<Selector, ApiError> {
    Ok(Selector::from_label_selector(deployment.spec.as_ref().map(|s| &s.selector))?)
}

#[async_trait(?Send)]
impl Reconcile for Deployments {
    async fn synced(&self) {
        self.deployments.synced().await;
        self.sets.synced().await;
        self.pods.synced().await;
    }

    fn subscribe(&self, queue: &WorkQueue<ObjectKey>) -> Vec<Subscription> {
        let (deployments, wanted) = (self.deployments.clone(), queue.clone());
        let of_set = move |change: &Change<ReplicaSet>| {
            let set = &change.object().metadata;
            let pause =
                if matches!(change, Change::Applied { old: Some(_), .. }) { STATUS_PAUSE } else { Duration::ZERO };
            let namespace = set.namespace.as_deref().unwrap_or_default();
            let before = change.old().and_then(|old| owners::controller_of(&old.metadata));
            let owner = owners::controller_of(set);
            for owner in [before, owner].into_iter().flatten().filter(|o| o.kind == "Deployment") {
                wanted.add_after(ObjectKey::new(namespace, &owner.name), pause);
            }
            if owner.is_none() && matches!(change, Change::Applied { .. }) {
                for deployment in deployments.store().in_namespace(namespace) {
                    if selector_of(&deployment).is_ok_and(|s| s.matches(&set.labels)) {
                        wanted.add(ObjectKey::of(&deployment.metadata));
                    }
                }
            }
        };
        // A Recreate rollout waits for the last old pod to go.
        let (sets, wanted) = (self.sets.clone(), queue.clone());
        let of_pod = move |change: &Change<Pod>| {
            if let Change::Deleted(pod) = change
                && let Some(owner) = owners::controller_of(&pod.metadata).filter(|o| o.kind == "ReplicaSet")
                && let namespace = pod.metadata.namespace.as_deref().unwrap_or_default()
                && let Some(set) = sets.store().find(namespace, &owner.name)
                && let Some(owner) = owners::controller_of(&set.metadata)
            {
                wanted.add_after(ObjectKey::new(namespace, &owner.name), STATUS_PAUSE);
            }
        };
        vec![self.deployments.subscribe(own_key(queue)), self.sets.subscribe(of_set), self.pods.subscribe(of_pod)]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ApiError> {
        let Some(deployment) = self.deployments.store().get(key) else {
            self.expectations.forget(key);
            return Ok(Next::Done);
        };
        let selector = selector_of(&deployment)?;
        if selector.is_everything() {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.event(&*deployment, EventType::Warning, "SelectingAll", message);
            return Ok(Next::Done);
        }
        if !self.expectations.satisfied(key, &self.sets) {
            return Ok(Next::After(EXPECTATION_PAUSE));
        }
        let sets = self.claim(&deployment, &selector).await?;
        Rollout::new(self, key, deployment, sets).run().await
    }
}

#[cfg(test)]
mod tests;
