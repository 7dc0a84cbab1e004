//! Changing objects: read, decide, compare-and-commit, and again if somebody was faster.

use std::sync::Arc;
use tokio::time::Instant;

use navarch_raft_contract::Txn;
use navarch_types::field::{FieldError, Path};
use navarch_types::{ApiError, Object, field};
use serde_json::Value;

use crate::call::{Call, Operation};
use crate::meta;
use crate::ops::create::expiry;
use crate::registry::{self, CommitError, Registry};

/// What came of an update.
#[derive(Clone, Debug)]
pub struct Updated {
    /// The object as it is now, in the request's version.
    pub object: Arc<Object>,
    /// Whether the update made it.
    pub created: bool,
}

/// Makes the wanted object from the present one; both in the storage version, the present one with resourceVersion.
/// Called again for every attempt.
pub type Transform<'a> = &'a (dyn Fn(&Value) -> Result<Value, ApiError> + Send + Sync);

impl Registry {
    /// Replaces an object, or creates it where the kind allows that.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`, `Invalid`, whatever admission or the store say.
    pub async fn update(&self, call: &Call<'_>, object: Value) -> Result<Updated, ApiError> {
        if !call.resource.strategy.unconditional_update() && meta::given_revision(&object)?.is_none() {
            let metadata = Path::root("metadata");
            let finding = FieldError::invalid(&metadata.child("resourceVersion"), 0, "must be specified for an update");
            return field::into_result(&call.resource.kind, call.name, vec![finding])
                .and(Err(ApiError::internal("no finding")));
        }
        let result = self.update_with(call, &|_| Ok(object.clone())).await;
        match result {
            Err(error)
                if error.is(navarch_types::Reason::NotFound)
                    && call.resource.strategy.create_on_update()
                    && call.subresource.is_none()
                    && meta::text(&object, "uid").is_empty() =>
            {
                let mut object = object;
                meta::set(&mut object, "resourceVersion", None);
                let object = self.create(call, object).await?;
                Ok(Updated { object, created: true })
            }
            other => Ok(Updated { object: other?, created: false }),
        }
    }

    /// Changes an object by a function, and commits it against the version that the function saw. The first attempt works
    /// on the cache; a refusal counts only if it was made of a state that is certainly the latest.
    ///
    /// # Errors
    /// As [`Registry::update`], and whatever the function says.
    pub async fn update_with(&self, call: &Call<'_>, transform: Transform<'_>) -> Result<Arc<Object>, ApiError> {
        let cache = self.cache(call.resource);
        let mut latest = false;
        loop {
            let existing = cache.get(call.namespace, call.name);
            let seen = existing.as_ref().map_or(0, |o| o.revision());
            let result = match &existing {
                None => Err(CommitError::Api(ApiError::not_found(&call.resource.group_resource(), call.name))),
                Some(existing) => self.update_once(call, existing, transform).await,
            };
            match result {
                Ok(object) => return self.present(call.resource, object),
                Err(error) => self.again(call, error, seen, latest).await?,
            }
            latest = true;
        }
    }

    /// Whether a failed change is worth another attempt, on a state that is certainly the latest: after a conflict, and
    /// after a refusal that was made of an older state than the latest.
    ///
    /// # Errors
    /// What the caller is to be told, if it is not.
    pub(super) async fn again(
        &self,
        call: &Call<'_>,
        error: CommitError,
        seen: u64,
        latest: bool,
    ) -> Result<(), ApiError> {
        match error {
            CommitError::Store(error) => Err(error),
            CommitError::Api(error) if latest => Err(error),
            CommitError::Api(error) => {
                self.barrier(call.deadline).await?;
                let now = self.cache(call.resource).get(call.namespace, call.name).map_or(0, |o| o.revision());
                if now == seen { Err(error) } else { Ok(()) }
            }
            CommitError::Conflict(_) if Instant::now() >= call.deadline => {
                Err(ApiError::stale(&call.resource.group_resource(), call.name))
            }
            CommitError::Conflict(_) => self.barrier(call.deadline).await.map(drop),
        }
    }

    async fn update_once(
        &self,
        call: &Call<'_>,
        existing: &Arc<Object>,
        transform: Transform<'_>,
    ) -> Result<Arc<Object>, CommitError> {
        let api = CommitError::Api;
        let resource = call.resource;
        let mut old = meta::value_of(existing).map_err(api)?;
        let mut object = transform(&old).map_err(api)?;
        self.check_given(call, existing, &old, &object).map_err(api)?;
        self.settle(call, &mut object, &mut old).await.map_err(api)?;
        let plan = self.plan_allocation(resource, Some(&mut object), Some(&old)).map_err(api)?;
        let context = call.context();
        // Conditions on the revision were checked; validation sees both sides at the same one.
        let revision = Value::from(existing.revision().to_string());
        meta::set(&mut object, "resourceVersion", Some(revision));
        let mut findings = meta::validate_metadata(resource, &object, Some(&old));
        findings.extend(resource.strategy.validate_update(&context, &object, &old));
        field::into_result(&resource.kind, call.name, findings).map_err(api)?;
        call.warn(resource.strategy.warnings(&context, &object, Some(&old)));
        call.validate(Operation::Update, call.name, Some(&object), Some(&old)).await.map_err(api)?;
        if object == old && !plan.changes() && resource.strategy.ttl_ms().is_none() {
            return Ok(Arc::clone(existing));
        }
        let bytes = registry::encode(&object).map_err(api)?;
        if call.write.dry_run {
            return registry::written(bytes, existing.revision()).map_err(api);
        }
        let mut txn = Txn {
            compares: vec![registry::unchanged(resource, call.namespace, call.name, existing.revision())],
            ops: Vec::new(),
        };
        if finishes_deletion(call, &object) {
            let mut op = registry::delete(resource, call.namespace, call.name);
            op.value = bytes.clone();
            txn.ops.push(op);
            self.plan_allocation(resource, None, Some(&old)).map_err(api)?.add_to(&mut txn);
        } else {
            txn.ops.push(registry::put(resource, call.namespace, call.name, bytes.clone(), expiry(call)));
            plan.add_to(&mut txn);
        }
        let revision = self.commit(call, txn).await?;
        registry::written(bytes, revision).map_err(api)
    }

    /// What the client says about the version it has seen.
    fn check_given(&self, call: &Call<'_>, existing: &Object, old: &Value, object: &Value) -> Result<(), ApiError> {
        meta::check_uid(meta::text(object, "uid"), old, call.resource)?;
        let name = meta::text(object, "name");
        if !name.is_empty() && name != call.name {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                call.name
            )));
        }
        if meta::given_revision(object)?.is_some_and(|given| given != existing.revision()) {
            return Err(ApiError::stale(&call.resource.group_resource(), call.name));
        }
        Ok(())
    }

    /// Everything between the transformed object and its validation.
    async fn settle(&self, call: &Call<'_>, object: &mut Value, old: &mut Value) -> Result<(), ApiError> {
        let (resource, strategy) = (call.resource, call.resource.strategy);
        meta::settle_namespace(object, resource, call.namespace)?;
        meta::set(object, "name", Some(call.name.into()));
        keep_other_side(call, object, old);
        meta::carry_over(object, old);
        strategy.default(object);
        call.mutate(Operation::Update, object, Some(old)).await?;
        strategy.default(object);
        keep_other_side(call, object, old);
        meta::carry_over(object, old);
        strategy.prepare_update(&call.context(), object, old);
        if strategy.has_generation() && strategy.generation_changes(object, old) {
            meta::set(object, "generation", Some((meta::generation(old) + 1).into()));
        }
        Ok(())
    }
}

/// Of kinds with a status subresource, an update changes either the status or everything else.
fn keep_other_side(call: &Call<'_>, object: &mut Value, old: &Value) {
    let strategy = call.resource.strategy;
    match call.subresource {
        None if strategy.has_status() => replace(object, "status", old.get("status")),
        Some("status") => {
            let mut kept = old.clone();
            replace(&mut kept, "status", object.get("status"));
            if let Some(metadata) = object.get("metadata") {
                let mut metadata = metadata.clone();
                if let Some(map) = metadata.as_object_mut() {
                    // Ownership is no part of what a status reports.
                    match old["metadata"].get("ownerReferences") {
                        Some(owners) => map.insert("ownerReferences".to_owned(), owners.clone()),
                        None => map.remove("ownerReferences"),
                    };
                }
                kept["metadata"] = metadata;
            }
            *object = kept;
        }
        _ => {}
    }
}

fn replace(object: &mut Value, field: &str, value: Option<&Value>) {
    if let Some(map) = object.as_object_mut() {
        match value {
            Some(value) => map.insert(field.to_owned(), value.clone()),
            None => map.remove(field),
        };
    }
}

/// Whether this update takes away the last thing that kept an object from being deleted.
fn finishes_deletion(call: &Call<'_>, object: &Value) -> bool {
    if !meta::is_deleting(object) || !meta::finalizers(object).is_empty() {
        return false;
    }
    if call.resource.storage.group.is_empty() && call.resource.storage.resource == "namespaces" {
        return object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    }
    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
    grace == 0
}
