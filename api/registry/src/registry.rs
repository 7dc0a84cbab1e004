//! The table of resources bound to the store and the caches.
//!
//! Generic operations are in [`crate::ops`], one a file; all of them are methods of [`Registry`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use navarch_cache::{Caches, ResourceCache};
use navarch_raft_contract::{Compare, Op, OpKind, Txn};
use navarch_store::{Store, StoreError, key};
use navarch_types::{ApiError, GroupVersionResource, Object, Reason};
use serde_json::Value;
use tokio::time::Instant;

use crate::allocate::ServiceNetwork;
use crate::call::Call;
use crate::convert;
use crate::resource::{Resource, Table};

/// Everything that generic operations work on. Shared.
pub struct Registry {
    pub(crate) table: Table,
    pub(crate) store: Store,
    pub(crate) caches: Arc<Caches>,
    pub(crate) services: ServiceNetwork,
}

/// How a commit failed, for those who try again.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// The compare at this position did not hold.
    Conflict(usize),
    /// The change was refused before it was proposed: of another state it may not be.
    Api(ApiError),
    /// The store's word. The change may have been made, or will be: it must not be tried again.
    Store(ApiError),
}

/// How long a read waits for a revision that is not here yet.
const FUTURE_WAIT: Duration = Duration::from_secs(3);

impl Registry {
    /// Over a table, a store and its caches.
    pub fn new(table: Table, store: Store, caches: Arc<Caches>, services: ServiceNetwork) -> Self {
        Self { table, store, caches, services }
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The caches.
    pub fn caches(&self) -> &Arc<Caches> {
        &self.caches
    }

    /// The resource at this place, or 404.
    ///
    /// # Errors
    /// `NotFound`, in the words of a server that knows no such path.
    pub fn resource(&self, served: &GroupVersionResource) -> Result<&Arc<Resource>, ApiError> {
        self.table.get(served).ok_or_else(no_such_path)
    }

    pub(crate) fn cache(&self, resource: &Resource) -> Arc<ResourceCache> {
        self.caches.resource(&resource.storage, resource.namespaced)
    }

    /// Everything acknowledged before this call is in the caches when it returns.
    pub(crate) async fn barrier(&self, deadline: Instant) -> Result<u64, ApiError> {
        self.store.barrier(deadline).await.map_err(store_error)
    }

    /// Waits for a revision; 504 with cause `ResourceVersionTooLarge` if it does not come.
    pub(crate) async fn wait_for(&self, revision: u64, deadline: Instant) -> Result<(), ApiError> {
        if self.store.revision() >= revision {
            return Ok(());
        }
        match self.store.wait_for(revision, deadline.min(Instant::now() + FUTURE_WAIT)).await {
            Ok(()) => Ok(()),
            Err(StoreError::Timeout) => Err(too_large(revision, self.store.revision())),
            Err(error) => Err(store_error(error)),
        }
    }

    /// Commits one transaction, fenced as the request asks.
    pub(crate) async fn commit(&self, call: &Call<'_>, txn: Txn) -> Result<u64, CommitError> {
        match self.store.commit(txn, call.write.fence_term, call.deadline).await {
            Ok(committed) => Ok(committed.first),
            Err(StoreError::Conflict { compare, .. }) => Err(CommitError::Conflict(compare)),
            Err(error) => Err(CommitError::Store(store_error(error))),
        }
    }

    /// The object as the request's version shows it.
    pub(crate) fn present(&self, resource: &Resource, object: Arc<Object>) -> Result<Arc<Object>, ApiError> {
        convert::present(resource, object)
    }
}

/// A Put of an object.
pub(crate) fn put(resource: &Resource, namespace: &str, name: &str, value: Bytes, expires_at_ms: u64) -> Op {
    let key = key::object_key(&resource.storage, namespace, name);
    Op { kind: OpKind::Put as i32, key, value, expires_at_ms }
}

/// A Delete of an object; watchers see the stored value.
pub(crate) fn delete(resource: &Resource, namespace: &str, name: &str) -> Op {
    let key = key::object_key(&resource.storage, namespace, name);
    Op { kind: OpKind::Delete as i32, key, value: Bytes::new(), expires_at_ms: 0 }
}

/// Holds if the object's last change is this one; 0 if it does not exist.
pub(crate) fn unchanged(resource: &Resource, namespace: &str, name: &str, mod_revision: u64) -> Compare {
    Compare { key: key::object_key(&resource.storage, namespace, name), mod_revision }
}

/// Canonical bytes of a value that generic code has checked.
pub(crate) fn encode(value: &Value) -> Result<Bytes, ApiError> {
    navarch_types::object::encode(value).map_err(ApiError::internal)
}

/// An object from what was written.
pub(crate) fn written(bytes: Bytes, revision: u64) -> Result<Arc<Object>, ApiError> {
    Object::from_stored(bytes, revision).map(Arc::new).map_err(ApiError::internal)
}

/// 404 as upstream's mux words it.
pub fn no_such_path() -> ApiError {
    ApiError::new(Reason::NotFound, "the server could not find the requested resource")
        .with_details(navarch_types::StatusDetails::default())
}

fn too_large(asked: u64, current: u64) -> ApiError {
    ApiError::new(Reason::Timeout, format!("Too large resource version: {asked}, current: {current}"))
        .with_cause("ResourceVersionTooLarge", "Too large resource version", "")
        .with_retry_after(1)
}

/// The answer for a store that could not do what it was asked.
pub fn store_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Conflict { .. } => ApiError::new(Reason::Conflict, "the object was changed at the same time"),
        StoreError::Fenced { term } => ApiError::new(
            Reason::Conflict,
            format!("the write was fenced with a term that is over; the entry's term is {term}"),
        ),
        StoreError::NoLeader => {
            ApiError::new(Reason::ServiceUnavailable, "the store has no leader").with_retry_after(1)
        }
        StoreError::Unknown => {
            ApiError::new(Reason::Timeout, "leadership changed during the write, its outcome is unknown")
        }
        StoreError::Busy => {
            ApiError::new(Reason::TooManyRequests, "the store has too many requests waiting, please try again later")
                .with_retry_after(1)
        }
        StoreError::Timeout => {
            ApiError::new(Reason::Timeout, "Timeout: request did not complete within the allotted timeout")
        }
        StoreError::NoSpace => {
            let why = "the disk of a member of the control plane is nearly full: nothing new is taken, and objects can be \
                       deleted; `navarch status` tells which (alarm NOSPACE)";
            ApiError::new(Reason::InternalError, why)
        }
        StoreError::Stopped => ApiError::new(Reason::ServiceUnavailable, "the server is shutting down"),
        StoreError::Read(error) => read_error(error),
    }
}

/// The answer for a read of history that failed.
pub(crate) fn read_error(error: navarch_raft_contract::ReadError) -> ApiError {
    use navarch_raft_contract::ReadError;
    match error {
        ReadError::Compacted { asked, floor } => {
            ApiError::new(Reason::Expired, format!("too old resource version: {asked} ({floor})"))
        }
        ReadError::Future { asked, current } => too_large(asked, current),
        ReadError::Database(why) => ApiError::internal(why),
    }
}
