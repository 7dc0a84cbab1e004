//! Patching: the patch is applied to the object as the request's version shows it, and again to a newer one if somebody
//! was faster.

use std::sync::Arc;

use navarch_types::{ApiError, Object};
use serde_json::Value;

use crate::call::Call;
use crate::convert;
use crate::registry::Registry;

impl Registry {
    /// Patches an object, or one of its subresources that show the object itself. `apply` makes the patched value from the
    /// present one, both in the request's version, and refuses what is no object of the kind.
    ///
    /// # Errors
    /// As an update, and whatever `apply` says.
    pub async fn patch(
        &self,
        call: &Call<'_>,
        apply: &(dyn Fn(Value) -> Result<Value, ApiError> + Send + Sync),
    ) -> Result<Arc<Object>, ApiError> {
        let transform = |old: &Value| -> Result<Value, ApiError> {
            let patched = convert::to_storage(call.resource, apply(convert::to_served(call.resource, old.clone()))?);
            match call.subresource {
                None | Some("status") => Ok(patched),
                Some(corner) => super::review::merged(corner, old, &patched),
            }
        };
        self.update_with(call, &transform).await
    }

    /// Replaces one corner of an object: certificate approval, ephemeral containers, resize.
    ///
    /// # Errors
    /// As an update.
    pub async fn update_corner(&self, call: &Call<'_>, given: &Value) -> Result<Arc<Object>, ApiError> {
        let corner = call.subresource.unwrap_or_default();
        self.update_with(call, &|old: &Value| super::review::merged(corner, old, given)).await
    }
}
