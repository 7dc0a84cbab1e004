//! Runs the plugins in order; the first refusal ends the request.

use std::sync::Arc;

use navarch_auth::{Authorizer, ObjectView};
use serde_json::Value;

use crate::attributes::AdmissionAttributes;
use crate::plugin::{Environment, Plugin, Verdict};
use crate::plugins;

/// All plugins.
pub struct AdmissionChain {
    plugins: Vec<Box<dyn Plugin>>,
}

impl std::fmt::Debug for AdmissionChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.plugins.iter().map(|p| p.name())).finish()
    }
}

impl AdmissionChain {
    /// The plugins of [`plugins::all`].
    pub fn new(view: Arc<dyn ObjectView>, authorizer: Arc<Authorizer>) -> Self {
        Self { plugins: plugins::all(&Environment { view, authorizer }) }
    }

    /// Lets every plugin change the object.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn mutate(&self, attributes: &AdmissionAttributes<'_>, object: &mut Value) -> Verdict {
        let mut warnings = Vec::new();
        for plugin in self.plugins.iter().filter(|p| p.handles(attributes)) {
            warnings.extend(plugin.mutate(attributes, object).await?);
        }
        Ok(warnings)
    }

    /// Lets every plugin judge the final object.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(&self, attributes: &AdmissionAttributes<'_>, object: &Value) -> Verdict {
        let mut warnings = Vec::new();
        for plugin in self.plugins.iter().filter(|p| p.handles(attributes)) {
            warnings.extend(plugin.validate(attributes, object).await?);
        }
        Ok(warnings)
    }
}
