//! What a plugin is.

use std::sync::Arc;

use async_trait::async_trait;
use navarch_auth::{Authorizer, ObjectView};
use navarch_types::ApiError;
use serde_json::Value;

use crate::attributes::AdmissionAttributes;

/// Nothing to object, with warnings for the client; or the refusal.
pub type Verdict = Result<Vec<String>, ApiError>;

/// A verdict without warnings.
pub(crate) const FINE: Verdict = Ok(Vec::new());

/// What plugins may look at.
#[derive(Clone)]
pub struct Environment {
    /// The cluster's objects.
    pub view: Arc<dyn ObjectView>,
    /// Who may do what.
    pub authorizer: Arc<Authorizer>,
}

/// A step of the chain.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Upstream's name where it has one.
    fn name(&self) -> &'static str;

    /// Whether it has anything to do with a request. Asked before the others, for every request: cheap.
    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool;

    /// Changes the object. May be called twice for a request, and does the same again then.
    async fn mutate(&self, _attributes: &AdmissionAttributes<'_>, _object: &mut Value) -> Verdict {
        FINE
    }

    /// Judges the final object; `Null` on a delete.
    async fn validate(&self, _attributes: &AdmissionAttributes<'_>, _object: &Value) -> Verdict {
        FINE
    }
}
