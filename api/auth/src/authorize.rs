//! What a user may do: the chain of authorizers.
//!
//! In order: health for everybody, everything for `system:masters`, the node authorizer, RBAC. The first that allows or
//! denies decides; if none does, it is not allowed.

use std::sync::Arc;

use crate::attributes::{Attributes, Decision};
use crate::node::NodeAuthorizer;
use crate::rbac::Rbac;
use crate::view::ObjectView;

/// Decides what users may do. Cheap to ask, never waits.
pub struct Authorizer {
    rbac: Arc<Rbac>,
    node: NodeAuthorizer,
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorizer").finish_non_exhaustive()
    }
}

impl Authorizer {
    /// Over the objects of a view.
    pub fn new(view: Arc<dyn ObjectView>) -> Self {
        Self { rbac: Arc::new(Rbac::new(Arc::clone(&view))), node: NodeAuthorizer::new(view) }
    }

    /// RBAC alone.
    pub fn rbac(&self) -> &Arc<Rbac> {
        &self.rbac
    }

    /// Whether a request is allowed.
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        self.authorize_with_reason(attributes).0
    }

    /// [`Authorizer::authorize`], with the reason of an allowance too, as access reviews tell it.
    pub fn authorize_with_reason(&self, attributes: &Attributes<'_>) -> (Decision, String) {
        let allow = |why: String| (Decision::Allow, why);
        if !attributes.is_resource_request && always_allowed(attributes.path) {
            return allow(String::new());
        }
        if attributes.user.groups.iter().any(|g| g == crate::PRIVILEGED_GROUP) {
            return allow(String::new());
        }
        let node = match self.node.authorize(attributes) {
            Decision::NoOpinion(why) => why,
            decided => return (decided, String::new()),
        };
        match self.rbac.explain(attributes) {
            Ok(why) => allow(why),
            Err(why) => {
                let reasons: Vec<_> = [node, why].into_iter().filter(|r| !r.is_empty()).collect();
                (Decision::NoOpinion(reasons.join(", ")), String::new())
            }
        }
    }
}

fn always_allowed(path: &str) -> bool {
    matches!(path, "/healthz" | "/livez" | "/readyz")
}
