//! Deleting a collection: each selected object as a delete of its own.

use std::sync::Arc;

use futures::StreamExt as _;
use navarch_types::{ApiError, ListOptions, Object, ObjectList, Reason};

use crate::call::Call;
use crate::ops::delete::{DeleteOptions, Deleted};
use crate::registry::Registry;

/// Deletes in flight at once: enough to share the store's syncs.
const CONCURRENT_DELETES: usize = 16;

impl Registry {
    /// Deletes the objects that the options select. What is gone already when its turn comes is no error.
    ///
    /// # Errors
    /// The first failure; other objects may be deleted by then.
    pub async fn delete_collection(
        &self,
        call: &Call<'_>,
        selection: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<ObjectList, ApiError> {
        let mut list = self.list(call, selection).await?;
        let items = std::mem::take(&mut list.items);
        let mut results = futures::stream::iter(items)
            .map(|object| self.delete_one(call, object, options))
            .buffered(CONCURRENT_DELETES);
        while let Some(result) = results.next().await {
            list.items.push(result?);
        }
        drop(results);
        Ok(list)
    }

    async fn delete_one(
        &self,
        call: &Call<'_>,
        object: Arc<Object>,
        options: &DeleteOptions,
    ) -> Result<Arc<Object>, ApiError> {
        let metadata = object.metadata().map_err(ApiError::internal)?;
        let (name, namespace) = (metadata.name.as_deref(), metadata.namespace.as_deref());
        let one = Call {
            resource: call.resource,
            user: call.user,
            namespace: namespace.unwrap_or_default(),
            name: name.unwrap_or_default(),
            subresource: call.subresource,
            write: call.write,
            now: call.now,
            deadline: call.deadline,
            admission: call.admission,
            warnings: parking_lot::Mutex::default(),
        };
        let result = self.delete(&one, options).await;
        call.warn(one.warnings.into_inner());
        match result {
            Ok(Deleted::Pending(pending)) => Ok(pending),
            Ok(Deleted::Gone(_)) => Ok(object),
            Err(error) if error.is(Reason::NotFound) => Ok(object),
            Err(error) => Err(error),
        }
    }
}
