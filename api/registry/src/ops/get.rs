//! Reading one object.

use std::sync::Arc;

use navarch_types::{ApiError, Object};

use crate::call::Call;
use crate::registry::Registry;
use crate::resource::Resource;

impl Registry {
    /// Reads one object: linearizably if `resource_version` is absent, otherwise from a state at least as new.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` resourceVersion, 504.
    pub async fn get(&self, call: &Call<'_>, resource_version: Option<&str>) -> Result<Arc<Object>, ApiError> {
        match parse_revision(resource_version)? {
            None => {
                self.barrier(call.deadline).await?;
            }
            Some(0) => {}
            Some(revision) => self.wait_for(revision, call.deadline).await?,
        }
        let object = self.cached(call.resource, call.namespace, call.name)?;
        self.present(call.resource, object)
    }

    /// The object as it is in the cache, or `NotFound`.
    pub(crate) fn cached(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Arc<Object>, ApiError> {
        self.cache(resource).get(namespace, name).ok_or_else(|| ApiError::not_found(&resource.group_resource(), name))
    }
}

/// A resourceVersion of a query: `None` if unset.
///
/// # Errors
/// 400 if it is no number.
pub fn parse_revision(text: Option<&str>) -> Result<Option<u64>, ApiError> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|error| {
            let _: std::num::ParseIntError = error;
            ApiError::bad_request(format!(
                "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
            ))
        }),
    }
}
