//! Removing objects: at once, after a period of grace, or when the last finalizer is gone.

use std::sync::Arc;

use jiff::SignedDuration;
use navarch_raft_contract::Txn;
use navarch_types::field::{FieldError, Path};
use navarch_types::{ApiError, GroupVersionKind, Object, Propagation, Status, StatusDetails, field};
use serde_json::Value;

use crate::call::{Call, Operation};
use crate::meta;
use crate::ops::create::expiry;
use crate::registry::{self, CommitError, Registry};

/// `DeleteOptions`, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// `preconditions.uid`.
    pub uid: Option<String>,
    /// `preconditions.resourceVersion`.
    pub resource_version: Option<String>,
    /// `gracePeriodSeconds`.
    pub grace_period_seconds: Option<i64>,
    /// `propagationPolicy`, or what `orphanDependents` says.
    pub propagation: Option<Propagation>,
}

/// What came of a delete.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// The object is gone.
    Gone(Box<Status>),
    /// It goes when its grace is over or its finalizers are gone.
    Pending(Arc<Object>),
}

impl DeleteOptions {
    /// From a decoded body.
    ///
    /// # Errors
    /// `Invalid` for what upstream's `ValidateDeleteOptions` refuses.
    pub fn from_value(value: &Value) -> Result<Self, ApiError> {
        let text = |v: &Value| v.as_str().filter(|s| !s.is_empty()).map(str::to_owned);
        let path = Path::root("propagationPolicy");
        let mut findings = Vec::new();
        let orphan = value["orphanDependents"].as_bool();
        let propagation = match value["propagationPolicy"].as_str() {
            None => orphan.map(|o| if o { Propagation::Orphan } else { Propagation::Background }),
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                findings.push(FieldError::not_supported(&path, other, &["Foreground", "Background", "Orphan", "nil"]));
                None
            }
        };
        if orphan.is_some() && value["propagationPolicy"].is_string() {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            findings.push(FieldError::invalid(&path, value["propagationPolicy"].clone(), detail));
        }
        let grace_period_seconds = value["gracePeriodSeconds"].as_i64();
        if let Some(seconds) = grace_period_seconds.filter(|s| *s < 0) {
            // Upstream takes a negative period for the shortest one.
            tracing::debug!(seconds, "negative grace period");
        }
        let kind = GroupVersionKind::new("meta.k8s.io", "v1", "DeleteOptions");
        field::into_result(&kind, "", findings)?;
        Ok(Self {
            uid: text(&value["preconditions"]["uid"]),
            resource_version: text(&value["preconditions"]["resourceVersion"]),
            grace_period_seconds: grace_period_seconds.map(|s| if s < 0 { 1 } else { s }),
            propagation,
        })
    }
}

/// What is to be done with an object that somebody wants deleted.
enum Step {
    /// Remove it.
    Remove,
    /// Write it, marked.
    Mark(Value),
    /// It is marked already.
    Wait,
}

impl Registry {
    /// Deletes one object.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` on a failed precondition, whatever admission or the store say.
    pub async fn delete(&self, call: &Call<'_>, options: &DeleteOptions) -> Result<Deleted, ApiError> {
        let cache = self.cache(call.resource);
        let mut latest = false;
        loop {
            let existing = cache.get(call.namespace, call.name);
            let seen = existing.as_ref().map_or(0, |o| o.revision());
            let result = match &existing {
                None => Err(CommitError::Api(ApiError::not_found(&call.resource.group_resource(), call.name))),
                Some(existing) => self.delete_once(call, existing, options).await,
            };
            match result {
                Ok(deleted) => return Ok(deleted),
                Err(error) => self.again(call, error, seen, latest).await?,
            }
            latest = true;
        }
    }

    async fn delete_once(
        &self,
        call: &Call<'_>,
        existing: &Arc<Object>,
        options: &DeleteOptions,
    ) -> Result<Deleted, CommitError> {
        let api = CommitError::Api;
        let old = meta::value_of(existing).map_err(api)?;
        check_preconditions(call, existing, &old, options).map_err(api)?;
        call.validate(Operation::Delete, call.name, None, Some(&old)).await.map_err(api)?;
        let compare = registry::unchanged(call.resource, call.namespace, call.name, existing.revision());
        match next_step(call, &old, options) {
            Step::Wait => Ok(Deleted::Pending(self.present(call.resource, Arc::clone(existing)).map_err(api)?)),
            Step::Mark(marked) => {
                let bytes = registry::encode(&marked).map_err(api)?;
                let mut revision = existing.revision();
                if !call.write.dry_run {
                    let put = registry::put(call.resource, call.namespace, call.name, bytes.clone(), expiry(call));
                    revision = self.commit(call, Txn { compares: vec![compare], ops: vec![put] }).await?;
                }
                let object = registry::written(bytes, revision).map_err(api)?;
                Ok(Deleted::Pending(self.present(call.resource, object).map_err(api)?))
            }
            Step::Remove => {
                if !call.write.dry_run {
                    let ops = vec![registry::delete(call.resource, call.namespace, call.name)];
                    let mut txn = Txn { compares: vec![compare], ops };
                    self.plan_allocation(call.resource, None, Some(&old)).map_err(api)?.add_to(&mut txn);
                    self.commit(call, txn).await?;
                }
                Ok(Deleted::Gone(Box::new(success(call, &old))))
            }
        }
    }
}

fn check_preconditions(
    call: &Call<'_>,
    existing: &Object,
    old: &Value,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    if let Some(uid) = &options.uid {
        meta::check_uid(uid, old, call.resource)?;
    }
    match &options.resource_version {
        Some(given) if *given != existing.revision().to_string() => {
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {given}, ResourceVersion in object meta: {}",
                existing.revision()
            );
            Err(ApiError::conflict(&call.resource.group_resource(), call.name, &why))
        }
        _ => Ok(()),
    }
}

/// Decides what a delete does to an object. Pure.
fn next_step(call: &Call<'_>, old: &Value, options: &DeleteOptions) -> Step {
    let finalizers = finalizers_after(call, old, options);
    let grace = match call.resource.strategy.grace_period(old, options.grace_period_seconds) {
        None => 0,
        Some(grace) => grace.max(0),
    };
    let is_namespace = call.resource.storage.group.is_empty() && call.resource.storage.resource == "namespaces";
    let held =
        !finalizers.is_empty() || (is_namespace && old["spec"]["finalizers"].as_array().is_some_and(|l| !l.is_empty()));
    let begun = meta::is_deleting(old);
    let remaining = old["metadata"]["deletionGracePeriodSeconds"].as_i64();
    if !held && grace == 0 {
        return Step::Remove;
    }
    let finalizers_changed = finalizers != meta::finalizers(old);
    let shortens = begun && remaining.is_some_and(|r| grace < r);
    if begun && !finalizers_changed && !shortens {
        return Step::Wait;
    }
    let mut marked = old.clone();
    meta::set_finalizers(&mut marked, &finalizers);
    if !begun || shortens {
        let ends = call.now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(call.now);
        // A shorter grace counts from the moment at which the first one began.
        let ends = match (begun, remaining, meta::text(old, "deletionTimestamp").parse::<jiff::Timestamp>()) {
            (true, Some(before), Ok(at)) => at.checked_sub(SignedDuration::from_secs(before - grace)).unwrap_or(ends),
            _ => ends,
        };
        meta::set(&mut marked, "deletionTimestamp", Some(meta::time_text(ends).into()));
        meta::set(&mut marked, "deletionGracePeriodSeconds", Some(grace.into()));
    }
    if !begun && meta::generation(old) > 0 {
        meta::set(&mut marked, "generation", Some((meta::generation(old) + 1).into()));
    }
    if is_namespace {
        marked["status"]["phase"] = "Terminating".into();
    }
    Step::Mark(marked)
}

/// The finalizers after the request's propagation policy: `orphan` and `foregroundDeletion` are the garbage collector's.
fn finalizers_after(call: &Call<'_>, old: &Value, options: &DeleteOptions) -> Vec<String> {
    const ORPHAN: &str = "orphan";
    const FOREGROUND: &str = "foregroundDeletion";
    let mut finalizers = meta::finalizers(old);
    let has = |finalizers: &[String], name: &str| finalizers.iter().any(|f| f == name);
    let (orphan, foreground) = match options.propagation {
        Some(Propagation::Orphan) => (true, false),
        Some(Propagation::Foreground) => (false, true),
        Some(Propagation::Background) => (false, false),
        // Without a word in the request, what an earlier one said stands, then the kind's habit.
        None if has(&finalizers, ORPHAN) => (true, false),
        None if has(&finalizers, FOREGROUND) => (false, true),
        None => (call.resource.strategy.orphans_by_default(), false),
    };
    for (wanted, name) in [(orphan, ORPHAN), (foreground, FOREGROUND)] {
        if wanted && !has(&finalizers, name) {
            finalizers.push(name.to_owned());
        } else if !wanted {
            finalizers.retain(|f| f != name);
        }
    }
    finalizers
}

fn success(call: &Call<'_>, old: &Value) -> Status {
    let resource = call.resource.group_resource();
    Status {
        kind: "Status".into(),
        api_version: "v1".into(),
        metadata: serde_json::Map::new(),
        status: "Success".into(),
        message: String::new(),
        reason: String::new(),
        details: Some(StatusDetails {
            name: Some(call.name.to_owned()),
            group: Some(resource.group.to_string()).filter(|g| !g.is_empty()),
            kind: Some(resource.resource.to_string()),
            uid: Some(meta::text(old, "uid").to_owned()),
            ..StatusDetails::default()
        }),
        code: 0,
    }
}
