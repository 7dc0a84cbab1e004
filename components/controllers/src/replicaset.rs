//! ReplicaSets: as many pods as wanted, made and deleted with care, and a status that says so.
//!
//! A set whose writes its pod informer does not show yet is left alone, or it would count wrong and make pods twice.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use navarch_client::{
    Change, Client, DeleteOptions, EventRecorder, EventType, Expectations, Informer, InformerFactory, ObjectKey,
    Subscription, WorkQueue,
};
use navarch_types::selector::Selector;
use navarch_types::{ApiError, Reason};

use crate::controller::{Next, Reconcile, own_key};
use crate::owners::{self, Claim};
use crate::{pods, sources};
use plan::Failure;

/// Changes of a pod's status come in bursts; one look serves them.
const STATUS_PAUSE: Duration = Duration::from_millis(10);
/// A net below the events that end an expectation.
const EXPECTATION_PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct ReplicaSets {
    client: Client,
    recorder: EventRecorder,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    expectations: Expectations<ObjectKey>,
}

impl ReplicaSets {
    pub fn new(client: Client, recorder: EventRecorder, informers: &InformerFactory) -> Self {
        Self {
            client,
            recorder,
            sets: sources::replica_sets(informers),
            pods: sources::pods(informers),
            expectations: Expectations::default(),
        }
    }

    /// The pods of a set, after adopting and releasing.
    async fn claim(&self, set: &Arc<ReplicaSet>, selector: &Selector) -> Result<Vec<Arc<Pod>>, ApiError> {
        let (namespace, uid) = identity(&set.metadata);
        let deleting = set.metadata.deletion_timestamp.is_some();
        let mut mine = Vec::new();
        let mut allowed = None;
        let orphans = self.pods.store().by_index(sources::ORPHANS, namespace);
        for pod in self.pods.store().by_index(sources::CONTROLLER, uid).into_iter().chain(orphans) {
            let matches = selector.matches(&pod.metadata.labels);
            match owners::claim(&pod.metadata, uid, deleting, matches) {
                Claim::Keep => mine.push(pod),
                Claim::Release => owners::release(&self.client, &*pod, uid).await?,
                // A pod at its end is of no use to anybody.
                Claim::Adopt if pods::is_active(&pod) => {
                    if allowed.is_none() {
                        allowed = Some(owners::may_adopt(&self.client, &**set).await?);
                    }
                    if allowed == Some(true) {
                        match owners::adopt(&self.client, &*pod, &**set).await {
                            Ok(()) => mine.push(pod),
                            Err(error) if error.is(Reason::NotFound) || error.is(Reason::Invalid) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                Claim::Adopt | Claim::Ignore => {}
            }
        }
        Ok(mine)
    }

    /// The pods of every set with the same owner, this one's among them.
    fn related(&self, set: &ReplicaSet, own: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        let Some(owner) = owners::controller_of(&set.metadata) else { return own.to_vec() };
        let siblings = self.sets.store().by_index(sources::CONTROLLER, &owner.uid);
        let uids = siblings.iter().filter_map(|s| s.metadata.uid.as_deref());
        uids.flat_map(|uid| self.pods.store().by_index(sources::CONTROLLER, uid)).collect()
    }

    /// Makes pods in batches that double while all goes well, so that a set that cannot have pods asks once, not 500 times.
    async fn create(&self, key: &ObjectKey, set: &ReplicaSet, count: usize) -> Option<Failure> {
        let pod = new_pod(set);
        let api = self.client.namespaced::<Pod>(&key.namespace);
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            let size = batch.min(left);
            let results = join_all((0..size).map(|_| api.create(&pod))).await;
            let mut failure = None;
            for result in results {
                match result {
                    Ok(made) => {
                        self.expectations.expect_version(key, made.metadata.resource_version.as_deref());
                        let name = made.metadata.name.as_deref().unwrap_or_default();
                        self.recorder.event(set, EventType::Normal, "SuccessfulCreate", format!("Created pod: {name}"));
                    }
                    // The namespace is going, and the set with it.
                    Err(error) if is_terminating_namespace(&error) => return None,
                    Err(error) => {
                        let message = format!("Error creating: {error}");
                        self.recorder.event(set, EventType::Warning, "FailedCreate", message);
                        failure = Some(Failure { creating: true, message: error.to_string() });
                    }
                }
            }
            if failure.is_some() {
                return failure;
            }
            left -= size;
            batch = batch.saturating_mul(2);
        }
        None
    }

    async fn delete(&self, key: &ObjectKey, set: &ReplicaSet, mine: &[Arc<Pod>], names: &[String]) -> Option<Failure> {
        let api = self.client.namespaced::<Pod>(&key.namespace);
        let doomed = mine.iter().filter(|p| p.metadata.name.as_ref().is_some_and(|n| names.contains(n)));
        let results = join_all(doomed.map(|pod| {
            let api = &api;
            async move {
                let options = DeleteOptions { uid: pod.metadata.uid.clone(), ..DeleteOptions::default() };
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                (pod, api.delete_returning(name, &options).await)
            }
        }))
        .await;
        let mut failure = None;
        for (pod, result) in results {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            match result {
                Ok(left) => {
                    match left {
                        Some(left) => self.expectations.expect_version(key, left.metadata.resource_version.as_deref()),
                        None => {
                            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                            self.expectations.expect_deletion(key, ObjectKey::of(&pod.metadata), uid);
                        }
                    }
                    self.recorder.event(set, EventType::Normal, "SuccessfulDelete", format!("Deleted pod: {name}"));
                }
                Err(error) if error.is(Reason::NotFound) => {}
                Err(error) => {
                    self.recorder.event(set, EventType::Warning, "FailedDelete", format!("Error deleting: {error}"));
                    failure = Some(Failure { creating: false, message: error.to_string() });
                }
            }
        }
        failure
    }

    async fn write_status(
        &self,
        key: &ObjectKey,
        set: &Arc<ReplicaSet>,
        mine: &[Arc<Pod>],
        failure: Option<&Failure>,
    ) -> Result<Next, ApiError> {
        let now = Timestamp::now();
        let (status, changes_at) = plan::status(set, mine, failure, now);
        if set.status.as_ref() != Some(&status) {
            let mut changed = (**set).clone();
            changed.status = Some(status);
            self.client.namespaced::<ReplicaSet>(&key.namespace).update_status(&changed).await?;
        }
        Ok(match changes_at {
            Some(at) => Next::After(Duration::try_from(at.duration_since(now)).unwrap_or_default()),
            None => Next::Done,
        })
    }
}

fn identity(metadata: &ObjectMeta) -> (&str, &str) {
    (metadata.namespace.as_deref().unwrap_or_default(), metadata.uid.as_deref().unwrap_or_default())
}

pub(crate) fn is_terminating_namespace(error: &ApiError) -> bool {
    let causes = error.status().details.iter().flat_map(|d| &d.causes);
    error.is(Reason::Forbidden) && causes.into_iter().any(|c| c.reason.as_deref() == Some("NamespaceTerminating"))
}

fn new_pod(set: &ReplicaSet) -> Pod {
    let template = set.spec.as_ref().and_then(|s| s.template.clone()).unwrap_or_default();
    let from = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: set.metadata.name.as_ref().map(|name| format!("{name}-")),
            namespace: set.metadata.namespace.clone(),
            labels: from.labels,
            annotations: from.annotations,
            finalizers: from.finalizers,
            owner_references: Some(vec![owners::controller_reference(set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

#[async_trait(?Send)]
impl Reconcile for ReplicaSets {
    async fn synced(&self) {
        self.sets.synced().await;
        self.pods.synced().await;
    }

    fn subscribe(&self, queue: &WorkQueue<ObjectKey>) -> Vec<Subscription> {
        let (sets, wanted) = (self.sets.clone(), queue.clone());
        let of_pod = move |change: &Change<Pod>| {
            let pod = &change.object().metadata;
            let pause =
                if matches!(change, Change::Applied { old: Some(_), .. }) { STATUS_PAUSE } else { Duration::ZERO };
            let namespace = pod.namespace.as_deref().unwrap_or_default();
            let before = change.old().and_then(|old| owners::controller_of(&old.metadata));
            let owner = owners::controller_of(pod);
            for owner in [before, owner].into_iter().flatten().filter(|o| o.kind == "ReplicaSet") {
                wanted.add_after(ObjectKey::new(namespace, &owner.name), pause);
            }
            if owner.is_none() && matches!(change, Change::Applied { .. }) {
                for set in sets.store().in_namespace(namespace) {
                    if selector_of(&set).is_ok_and(|s| s.matches(&pod.labels)) {
                        wanted.add(ObjectKey::of(&set.metadata));
                    }
                }
            }
        };
        vec![self.sets.subscribe(own_key(queue)), self.pods.subscribe(of_pod)]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ApiError> {
        let Some(set) = self.sets.store().get(key) else {
            self.expectations.forget(key);
            return Ok(Next::Done);
        };
        let selector = match selector_of(&set) {
            Ok(selector) if !selector.is_everything() => selector,
            // Validation lets neither through; nothing good can come of acting on one.
            _ => return Ok(Next::Done),
        };
        let satisfied = self.expectations.satisfied(key, &self.pods);
        let mine = self.claim(&set, &selector).await?;
        let mut failure = None;
        let mut acted = false;
        if satisfied && set.metadata.deletion_timestamp.is_none() {
            let active: Vec<Arc<Pod>> = mine.iter().filter(|p| pods::is_active(p)).cloned().collect();
            let replicas = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
            let is_too_many = active.len() > usize::try_from(replicas).unwrap_or(0);
            let related = if is_too_many { self.related(&set, &mine) } else { Vec::new() };
            let plan = plan::plan(replicas, &active, &related, Timestamp::now());
            acted = plan != plan::Plan::default();
            if plan.create > 0 {
                failure = self.create(key, &set, plan.create).await;
            } else if !plan.delete.is_empty() {
                failure = self.delete(key, &set, &mine, &plan.delete).await;
            }
        }
        // After a success the events of what was done bring the key again, and only then the count is right.
        let next = if failure.is_some() || (satisfied && !acted) {
            self.write_status(key, &set, &mine, failure.as_ref()).await?
        } else {
            Next::After(EXPECTATION_PAUSE)
        };
        match failure {
            Some(failure) => Err(ApiError::internal(failure.message)),
            None => Ok(next),
        }
    }
}

fn selector_of(set: &ReplicaSet) -> Result<Selector, ApiError> {
    Ok(Selector::from_label_selector(set.spec.as_ref().map(|s| &s.selector))?)
}

#[cfg(test)]
mod tests;
