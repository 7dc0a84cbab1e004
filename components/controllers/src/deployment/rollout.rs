//! Carries out what [`super::rolling`], [`super::status`] and [`super::history`] decide about one Deployment.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use navarch_client::{DeleteOptions, EventType, ObjectKey};
use navarch_types::{ApiError, PatchType, Reason};
use serde_json::json;

use super::rolling::{self, Limits, Size};
use super::{Deployments, history, status};
use crate::controller::Next;
use crate::replicaset::is_terminating_namespace;
use crate::{owners, pods, sources};

pub(super) struct Rollout<'a> {
    controller: &'a Deployments,
    key: &'a ObjectKey,
    deployment: Arc<Deployment>,
    is_rolling: bool,
    limits: Limits,
    new: Option<Arc<ReplicaSet>>,
    old: Vec<Arc<ReplicaSet>>,
    /// The stored status with the conditions that this pass adds; written once, at the end.
    base: DeploymentStatus,
    now: Timestamp,
}

/// Why a pass ends early.
enum Stop {
    /// With an error, after the status was written.
    Failed(ApiError),
    /// The object is going or was taken: nothing to do now.
    Quiet(Next),
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

impl<'a> Rollout<'a> {
    pub fn new(
        controller: &'a Deployments,
        key: &'a ObjectKey,
        deployment: Arc<Deployment>,
        sets: Vec<Arc<ReplicaSet>>,
    ) -> Self {
        let new = history::find_new(&deployment, &sets).cloned();
        let is_new = |set: &Arc<ReplicaSet>| new.as_ref().is_some_and(|n| n.metadata.uid == set.metadata.uid);
        let old = sets.into_iter().filter(|set| !is_new(set)).collect();
        let strategy = deployment.spec.as_ref().and_then(|s| s.strategy.as_ref());
        let is_rolling = strategy.is_none_or(|s| s.type_.as_deref() != Some("Recreate"));
        let desired = status::desired(&deployment);
        let limits = if is_rolling {
            let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
            let (surge, unavailable) =
                (rolling.and_then(|r| r.max_surge.as_ref()), rolling.and_then(|r| r.max_unavailable.as_ref()));
            Limits::rolling(desired, surge, unavailable)
        } else {
            Limits::recreate(desired)
        };
        let base = deployment.status.clone().unwrap_or_default();
        Self { controller, key, deployment, is_rolling, limits, new, old, base, now: Timestamp::now() }
    }

    pub async fn run(mut self) -> Result<Next, ApiError> {
        match self.step().await {
            Ok(()) => self.write_status().await,
            Err(Stop::Quiet(next)) => Ok(next),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    async fn step(&mut self) -> Result<(), Stop> {
        if self.deployment.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        status::pause_condition(&self.deployment, &mut self.base, self.now);
        let paused = self.deployment.spec.as_ref().and_then(|s| s.paused).unwrap_or(false);
        if paused || self.was_scaled() {
            self.sync_new().await?;
            self.rescale().await?;
            if paused {
                self.clean_up().await?;
            }
            return Ok(());
        }
        if self.is_rolling { self.roll().await } else { self.recreate().await }
    }

    /// Whether the Deployment was scaled since its ReplicaSets were.
    fn was_scaled(&self) -> bool {
        self.new.iter().chain(&self.old).filter(|set| status::spec_replicas(set) > 0).any(|set| {
            let noted = history::annotation(set.metadata.annotations.as_ref(), history::DESIRED_REPLICAS);
            noted.and_then(|n| n.parse::<i32>().ok()).is_some_and(|n| n != self.limits.desired)
        })
    }

    fn size(set: &ReplicaSet, age: usize) -> Size {
        let noted = history::annotation(set.metadata.annotations.as_ref(), history::MAX_REPLICAS);
        Size {
            spec: status::spec_replicas(set),
            available: status::available_replicas(set),
            max_before: noted.and_then(|n| n.parse().ok()).unwrap_or(0),
            age: i64::try_from(age).unwrap_or(i64::MAX),
        }
    }

    fn all(&self) -> Vec<&ReplicaSet> {
        self.old.iter().chain(&self.new).map(|set| &**set).collect()
    }

    async fn roll(&mut self) -> Result<(), Stop> {
        self.ensure_new().await?;
        self.old.sort_by_key(|set| history::age(set));
        let Some(new) = self.new.clone() else { return Ok(()) };
        let all_pods: i32 = self.all().iter().map(|set| status::spec_replicas(set)).sum();
        let size = rolling::new_size(&self.limits, true, status::spec_replicas(&new), all_pods);
        if size != status::spec_replicas(&new) {
            self.new = Some(self.scale(&new, size).await?);
            return Ok(());
        }
        let sizes: Vec<Size> = self.old.iter().enumerate().map(|(age, set)| Self::size(set, age)).collect();
        let wanted = rolling::old_sizes(&self.limits, &Self::size(&new, usize::MAX), &sizes);
        if self.scale_old(&wanted).await? {
            return Ok(());
        }
        self.clean_up_if_complete().await
    }

    async fn recreate(&mut self) -> Result<(), Stop> {
        let nothing = vec![0; self.old.len()];
        self.sync_new().await?;
        if self.scale_old(&nothing).await? || self.old_pods_run() {
            return Ok(());
        }
        self.ensure_new().await?;
        if let Some(new) = self.new.clone() {
            self.new = Some(self.scale(&new, self.limits.desired).await?);
        }
        self.clean_up_if_complete().await
    }

    fn old_pods_run(&self) -> bool {
        self.old.iter().any(|set| {
            let uid = set.metadata.uid.as_deref().unwrap_or_default();
            let own = self.controller.pods.store().by_index(sources::CONTROLLER, uid);
            status::actual_replicas(set) > 0 || own.iter().any(|pod| !pods::is_terminal(pod))
        })
    }

    async fn scale_old(&mut self, wanted: &[i32]) -> Result<bool, ApiError> {
        let mut scaled = false;
        for index in 0..self.old.len() {
            let set = Arc::clone(&self.old[index]);
            if wanted.get(index).is_some_and(|size| *size != status::spec_replicas(&set)) {
                self.old[index] = self.scale(&set, wanted[index]).await?;
                scaled = true;
            }
        }
        Ok(scaled)
    }

    /// After a change of `replicas`, or while paused: no step of the rollout, but the right number of pods.
    async fn rescale(&mut self) -> Result<(), ApiError> {
        self.old.sort_by_key(|set| history::age(set));
        let new = self.new.clone();
        let mut active: Vec<Arc<ReplicaSet>> =
            self.old.iter().chain(&new).filter(|set| status::spec_replicas(set) > 0).cloned().collect();
        active.sort_by_key(|set| history::age(set));
        let single = match active.as_slice() {
            [] => new.clone().or_else(|| self.old.last().cloned()),
            [one] => Some(Arc::clone(one)),
            _ => None,
        };
        if let Some(set) = single {
            if status::spec_replicas(&set) != self.limits.desired {
                let scaled = self.scale(&set, self.limits.desired).await?;
                self.replace(scaled);
            }
            return Ok(());
        }
        let saturated = new.as_ref().is_some_and(|new| {
            let noted = history::annotation(new.metadata.annotations.as_ref(), history::DESIRED_REPLICAS);
            noted.and_then(|n| n.parse().ok()) == Some(self.limits.desired)
                && status::spec_replicas(new) == self.limits.desired
                && status::available_replicas(new) == self.limits.desired
        });
        if saturated {
            let nothing = vec![0; self.old.len()];
            self.scale_old(&nothing).await?;
        } else if self.is_rolling {
            let sizes: Vec<Size> = active.iter().enumerate().map(|(age, set)| Self::size(set, age)).collect();
            let wanted = rolling::proportional(&self.limits, self.base.replicas.unwrap_or(0), &sizes);
            for (set, size) in active.iter().zip(wanted) {
                let scaled = self.scale(set, size).await?;
                self.replace(scaled);
            }
        }
        Ok(())
    }

    fn replace(&mut self, set: Arc<ReplicaSet>) {
        let slots = self.old.iter_mut().chain(self.new.as_mut());
        if let Some(slot) = slots.into_iter().find(|slot| slot.metadata.uid == set.metadata.uid) {
            *slot = set;
        }
    }

    /// Writes a ReplicaSet's size, and for which size of the Deployment it is, if either changes.
    async fn scale(&self, set: &Arc<ReplicaSet>, size: i32) -> Result<Arc<ReplicaSet>, ApiError> {
        let before = status::spec_replicas(set);
        let mut changed = (**set).clone();
        let numbers = (self.limits.desired, self.limits.max_total());
        let noted = history::annotate_numbers(changed.metadata.annotations.get_or_insert_default(), numbers);
        if before == size && !noted {
            return Ok(Arc::clone(set));
        }
        changed.spec.get_or_insert_default().replicas = Some(size);
        let written = self.write(&changed).await?;
        if before != size {
            let direction = if size > before { "up" } else { "down" };
            let name = set.metadata.name.as_deref().unwrap_or_default();
            let message = format!("Scaled {direction} replica set {name} from {before} to {size}");
            self.controller.recorder.event(&*self.deployment, EventType::Normal, "ScalingReplicaSet", message);
        }
        Ok(written)
    }

    async fn write(&self, set: &ReplicaSet) -> Result<Arc<ReplicaSet>, ApiError> {
        let written = self.controller.client.namespaced::<ReplicaSet>(&self.key.namespace).update(set).await?;
        self.controller.expectations.expect_version(self.key, written.metadata.resource_version.as_deref());
        Ok(written)
    }

    /// Brings the annotations of the present ReplicaSet up to date, if there is one, and the Deployment's own revision.
    async fn sync_new(&mut self) -> Result<(), ApiError> {
        let Some(new) = self.new.clone() else { return Ok(()) };
        let mut changed = (*new).clone();
        let next = history::next_revision(self.old.iter());
        let numbers = (self.limits.desired, self.limits.max_total());
        let annotations = changed.metadata.annotations.get_or_insert_default();
        let annotated = history::annotate(&self.deployment, annotations, next, true, numbers);
        let min_ready = self.deployment.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0);
        let spec = changed.spec.get_or_insert_default();
        let differs = spec.min_ready_seconds.unwrap_or(0) != min_ready;
        if differs {
            spec.min_ready_seconds = Some(min_ready);
        }
        let new = if annotated || differs { self.write(&changed).await? } else { new };
        if status::progress_deadline(&self.deployment).is_some()
            && status::find(&self.base, status::PROGRESSING).is_none()
        {
            let message = format!("Found new replica set {:?}", new.metadata.name.as_deref().unwrap_or_default());
            let found = status::condition(status::PROGRESSING, "True", status::FOUND_NEW_RS, message, self.now);
            status::set(&mut self.base, found);
        }
        self.note_revision(history::revision(&new)).await?;
        self.new = Some(new);
        Ok(())
    }

    async fn note_revision(&mut self, revision: i64) -> Result<(), ApiError> {
        let revision = revision.to_string();
        let noted = history::annotation(self.deployment.metadata.annotations.as_ref(), history::REVISION);
        if noted == Some(revision.as_str()) {
            return Ok(());
        }
        let patch =
            json!({"metadata": {"uid": self.deployment.metadata.uid, "annotations": {history::REVISION: revision}}});
        let api = self.controller.client.namespaced::<Deployment>(&self.key.namespace);
        let written = api.patch(&self.key.name, None, PatchType::Merge, patch).await?;
        // Only the version moves on: decisions of this pass stay with the template they were made for.
        let mut current = (*self.deployment).clone();
        if written.metadata.generation == current.metadata.generation {
            current.metadata.resource_version.clone_from(&written.metadata.resource_version);
            current.metadata.annotations.clone_from(&written.metadata.annotations);
            self.deployment = Arc::new(current);
        }
        Ok(())
    }

    /// Makes the ReplicaSet of the present template, or brings it up to date.
    async fn ensure_new(&mut self) -> Result<(), Stop> {
        if self.new.is_some() {
            return Ok(self.sync_new().await?);
        }
        let wanted = self.new_set();
        let name = wanted.metadata.name.clone().unwrap_or_default();
        let api = self.controller.client.namespaced::<ReplicaSet>(&self.key.namespace);
        let (made, is_mine) = match api.create(&wanted).await {
            Ok(made) => (made, false),
            Err(error) if error.is(Reason::AlreadyExists) => (self.existing_or_collision(&name).await?, true),
            Err(error) if is_terminating_namespace(&error) => return Err(Stop::Quiet(Next::Done)),
            Err(error) => return Err(self.creation_failed(&name, error).await),
        };
        self.controller.expectations.expect_version(self.key, made.metadata.resource_version.as_deref());
        let size = status::spec_replicas(&made);
        if !is_mine && size > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {size}");
            self.controller.recorder.event(&*self.deployment, EventType::Normal, "ScalingReplicaSet", message);
        }
        if !is_mine && status::progress_deadline(&self.deployment).is_some() {
            let message = format!("Created new replica set {name:?}");
            let created = status::condition(status::PROGRESSING, "True", status::NEW_RS_CREATED, message, self.now);
            status::set(&mut self.base, created);
        }
        self.note_revision(history::revision(&made)).await?;
        self.new = Some(made);
        Ok(())
    }

    fn new_set(&self) -> ReplicaSet {
        let spec = self.deployment.spec.clone().unwrap_or_default();
        let hash = history::template_hash(&spec.template, self.base.collision_count.unwrap_or(0));
        let mut template = spec.template;
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(history::TEMPLATE_HASH.to_owned(), hash.clone());
        let labels = labels.clone();
        let mut selector = spec.selector;
        selector.match_labels.get_or_insert_default().insert(history::TEMPLATE_HASH.to_owned(), hash.clone());
        let all_pods: i32 = self.old.iter().map(|set| status::spec_replicas(set)).sum();
        let replicas = rolling::new_size(&self.limits, self.is_rolling, 0, all_pods);
        let mut annotations = std::collections::BTreeMap::new();
        let revision = history::next_revision(self.old.iter());
        let numbers = (self.limits.desired, self.limits.max_total());
        history::annotate(&self.deployment, &mut annotations, revision, false, numbers);
        ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", self.key.name)),
                namespace: Some(self.key.namespace.to_string()),
                owner_references: Some(vec![owners::controller_reference(&*self.deployment)]),
                labels: Some(labels),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(replicas),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(template),
            }),
            status: None,
        }
    }

    /// The name is taken: by this very ReplicaSet, not seen yet, or by another, and then the next hash is another.
    async fn existing_or_collision(&mut self, name: &str) -> Result<Arc<ReplicaSet>, Stop> {
        let api = self.controller.client.namespaced::<ReplicaSet>(&self.key.namespace);
        let there = api.get(name).await?;
        let is_mine = owners::controller_of(&there.metadata).map(|o| Some(o.uid.as_str()))
            == Some(self.deployment.metadata.uid.as_deref());
        if is_mine && history::find_new(&self.deployment, std::slice::from_ref(&there)).is_some() {
            return Ok(there);
        }
        self.base.collision_count = Some(self.base.collision_count.unwrap_or(0) + 1);
        let mut changed = (*self.deployment).clone();
        changed.status = Some(self.base.clone());
        self.controller.client.namespaced::<Deployment>(&self.key.namespace).update_status(&changed).await?;
        Err(Stop::Quiet(Next::Done))
    }

    async fn creation_failed(&mut self, name: &str, error: ApiError) -> Stop {
        let message = format!("Failed to create new replica set {name:?}: {error}");
        self.controller.recorder.event(&*self.deployment, EventType::Warning, status::FAILED_CREATE, message.clone());
        if status::progress_deadline(&self.deployment).is_some() {
            let failed = status::condition(status::PROGRESSING, "False", status::FAILED_CREATE, message, self.now);
            status::set(&mut self.base, failed);
            if self.deployment.status.as_ref() != Some(&self.base) {
                let mut changed = (*self.deployment).clone();
                changed.status = Some(self.base.clone());
                let api = self.controller.client.namespaced::<Deployment>(&self.key.namespace);
                if let Err(error) = api.update_status(&changed).await {
                    return Stop::Failed(error);
                }
            }
        }
        Stop::Failed(error)
    }

    async fn clean_up_if_complete(&mut self) -> Result<(), Stop> {
        let observed = self.observed();
        if status::is_complete(&self.deployment, &observed) {
            self.clean_up().await?;
        }
        Ok(())
    }

    async fn clean_up(&self) -> Result<(), ApiError> {
        let api = self.controller.client.namespaced::<ReplicaSet>(&self.key.namespace);
        for set in history::to_delete(&self.deployment, &self.old) {
            let options = DeleteOptions { uid: set.metadata.uid.clone(), ..DeleteOptions::default() };
            match api.delete(set.metadata.name.as_deref().unwrap_or_default(), &options).await {
                Err(error) if !error.is(Reason::NotFound) => return Err(error),
                _ => {
                    let uid = set.metadata.uid.as_deref().unwrap_or_default();
                    self.controller.expectations.expect_deletion(self.key, ObjectKey::of(&set.metadata), uid);
                }
            }
        }
        Ok(())
    }

    fn observed(&self) -> DeploymentStatus {
        status::observed(&self.deployment, &self.base, &self.limits, self.new.as_deref(), &self.all(), self.now)
    }

    async fn write_status(&mut self) -> Result<Next, ApiError> {
        let old = self.deployment.status.clone().unwrap_or_default();
        let mut observed = self.observed();
        let paused = self.deployment.spec.as_ref().and_then(|s| s.paused).unwrap_or(false);
        if self.deployment.metadata.deletion_timestamp.is_none() && !paused {
            let all = self.all();
            status::judge_progress(&self.deployment, &old, &mut observed, self.new.as_deref(), &all, self.now);
        }
        let next = match status::recheck_after(&self.deployment, &observed, self.now) {
            Some(after) if !paused => Next::After(Duration::try_from(after).unwrap_or_default()),
            _ => Next::Done,
        };
        if observed != old {
            let mut changed = (*self.deployment).clone();
            changed.status = Some(observed);
            self.controller.client.namespaced::<Deployment>(&self.key.namespace).update_status(&changed).await?;
        }
        Ok(next)
    }
}
