//! Making new objects.

use std::sync::Arc;

use navarch_raft_contract::Txn;
use navarch_types::{ApiError, Object, Status, StatusDetails, field};
use serde_json::Value;

use crate::call::{Call, Operation};
use crate::meta;
use crate::registry::{self, CommitError, Registry};

/// Tries with a generated name before giving up, as upstream.
const GENERATED_NAMES_MAX: usize = 8;

impl Registry {
    /// Creates an object from a decoded value in its storage version.
    ///
    /// # Errors
    /// `AlreadyExists`, `Invalid`, whatever admission or the store say.
    pub async fn create(&self, call: &Call<'_>, mut object: Value) -> Result<Arc<Object>, ApiError> {
        let strategy = call.resource.strategy;
        meta::settle_namespace(&mut object, call.resource, call.namespace)?;
        if meta::given_revision(&object)?.is_some() {
            return Err(unknown_failure("resourceVersion should not be set on objects to be created"));
        }
        meta::strip_system_fields(&mut object);
        strategy.default(&mut object);
        call.mutate(Operation::Create, &mut object, None).await?;
        strategy.default(&mut object);
        meta::settle_namespace(&mut object, call.resource, call.namespace)?;
        self.create_named(call, object).await
    }

    /// The part that is repeated for another generated name, or another allocation.
    async fn create_named(&self, call: &Call<'_>, object: Value) -> Result<Arc<Object>, ApiError> {
        let prefix = meta::text(&object, "generateName").to_owned();
        let generates = meta::text(&object, "name").is_empty() && !prefix.is_empty();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut candidate = object.clone();
            if generates {
                meta::set(&mut candidate, "name", Some(meta::generated_name(&prefix).into()));
            }
            let name = meta::text(&candidate, "name").to_owned();
            match self.create_once(call, candidate).await {
                Ok(object) => return Ok(object),
                Err(CommitError::Api(error) | CommitError::Store(error)) => return Err(error),
                // Another request took the address or port between our look and the commit.
                Err(CommitError::Conflict(at)) if at > 0 => {}
                Err(CommitError::Conflict(_)) => {
                    let error = ApiError::already_exists(&call.resource.group_resource(), &name);
                    if !generates {
                        return Err(error);
                    }
                    if attempt >= GENERATED_NAMES_MAX {
                        return Err(not_unique(error));
                    }
                }
            }
            if tokio::time::Instant::now() >= call.deadline {
                return Err(registry::store_error(navarch_store::StoreError::Timeout));
            }
        }
    }

    async fn create_once(&self, call: &Call<'_>, mut object: Value) -> Result<Arc<Object>, CommitError> {
        let (resource, strategy) = (call.resource, call.resource.strategy);
        let context = call.context();
        // Before the kind prepares it: some kinds make labels and selectors of the uid.
        let uid = uuid::Uuid::new_v4().to_string();
        meta::fill_new(&mut object, &uid, call.now, strategy.has_generation());
        strategy.prepare_create(&context, &mut object);
        let plan = self.plan_allocation(resource, Some(&mut object), None).map_err(CommitError::Api)?;
        let mut findings = meta::validate_metadata(resource, &object, None);
        findings.extend(strategy.validate_create(&context, &object));
        let name = meta::text(&object, "name").to_owned();
        field::into_result(&resource.kind, &name, findings).map_err(CommitError::Api)?;
        call.warn(strategy.warnings(&context, &object, None));
        call.validate(Operation::Create, &name, Some(&object), None).await.map_err(CommitError::Api)?;
        let bytes = registry::encode(&object).map_err(CommitError::Api)?;
        let present = |object| self.present(resource, object).map_err(CommitError::Api);
        if call.write.dry_run {
            if self.cache(resource).get(call.namespace, &name).is_some() {
                return Err(CommitError::Conflict(0));
            }
            return present(registry::written(bytes, 0).map_err(CommitError::Api)?);
        }
        let mut txn = Txn {
            compares: vec![registry::unchanged(resource, call.namespace, &name, 0)],
            ops: vec![registry::put(resource, call.namespace, &name, bytes.clone(), expiry(call))],
        };
        plan.add_to(&mut txn);
        let revision = self.commit(call, txn).await?;
        present(registry::written(bytes, revision).map_err(CommitError::Api)?)
    }
}

/// When an object of this kind written now may be expired; 0: never.
pub(crate) fn expiry(call: &Call<'_>) -> u64 {
    let now = u64::try_from(call.now.as_millisecond()).unwrap_or_default();
    call.resource.strategy.ttl_ms().map_or(0, |ttl| now.saturating_add(ttl))
}

fn not_unique(error: ApiError) -> ApiError {
    let mut status = error.status().clone();
    status.message = format!("{}, the server was not able to generate a unique name for the object", status.message);
    status.details.get_or_insert_default().retry_after_seconds = Some(1);
    ApiError::from_status(status)
}

/// A failure without a reason, as upstream answers errors that it has no name for.
pub(crate) fn unknown_failure(message: &str) -> ApiError {
    ApiError::from_status(Status {
        kind: "Status".into(),
        api_version: "v1".into(),
        metadata: serde_json::Map::new(),
        status: "Failure".into(),
        message: message.to_owned(),
        reason: String::new(),
        details: None::<StatusDetails>,
        code: 500,
    })
}
