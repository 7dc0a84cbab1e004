//! Role-based access control: roles and bindings from the store, kept as an index that is built anew and swapped when one
//! of them changes. Deciding takes a few look-ups by subject and allocates only for the reason it gives.

use std::sync::Arc;

use arc_swap::ArcSwap;
use k8s_openapi::api::rbac::v1::PolicyRule;
use navarch_types::UserInfo;

use crate::attributes::Attributes;
use crate::view::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ObjectView, ROLE_BINDINGS, ROLES, Viewed};

pub mod aggregate;
pub mod bootstrap;
pub mod escalation;
mod index;
pub mod rule;

use index::Index;

/// The resources whose change calls for [`Rbac::rebuild`].
pub static SOURCES: [&Viewed; 4] = [&ROLES, &CLUSTER_ROLES, &ROLE_BINDINGS, &CLUSTER_ROLE_BINDINGS];

/// The group of RBAC's resources.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// The RBAC authorizer.
pub struct Rbac {
    view: Arc<dyn ObjectView>,
    index: ArcSwap<Index>,
}

impl std::fmt::Debug for Rbac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rbac").finish_non_exhaustive()
    }
}

impl Rbac {
    /// Over the objects of a view, with its index built.
    pub fn new(view: Arc<dyn ObjectView>) -> Self {
        let index = ArcSwap::from_pointee(Index::build(&*view));
        Self { view, index }
    }

    /// Builds the index anew. To be called after every change of one of the [`SOURCES`]; several changes may share a call.
    pub fn rebuild(&self) {
        self.index.store(Arc::new(Index::build(&*self.view)));
    }

    /// Why a request is allowed, or why not, as upstream words both.
    ///
    /// # Errors
    /// If it is not allowed. The text is empty when there is nothing to say but that.
    pub fn explain(&self, attributes: &Attributes<'_>) -> Result<String, String> {
        let index = self.index.load();
        let mut missing = Vec::new();
        for grant in index.grants(attributes.user, attributes.namespace) {
            match &grant.rules {
                Some(rules) if rules.iter().any(|r| rule::allows(r, attributes)) => {
                    return Ok(format!("RBAC: allowed by {grant}"));
                }
                Some(_) => {}
                None => missing.push(grant.role_not_found()),
            }
        }
        if missing.is_empty() {
            return Err(String::new());
        }
        missing.sort_unstable();
        missing.dedup();
        let list = if missing.len() == 1 { missing.remove(0) } else { format!("[{}]", missing.join(", ")) };
        Err(format!("RBAC: {list}"))
    }

    /// All rules that hold for a user in a namespace (and in the whole cluster), and what went wrong in finding them.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<PolicyRule>, Vec<String>) {
        let index = self.index.load();
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        for grant in index.grants(user, namespace) {
            match &grant.rules {
                Some(own) => rules.extend(own.iter().cloned()),
                None => errors.push(grant.role_not_found()),
            }
        }
        (rules, errors)
    }

    /// The rules of a role that a binding in `namespace` refers to; `None` if there is no such role.
    pub fn role_rules(&self, namespace: &str, kind: &str, name: &str) -> Option<Vec<PolicyRule>> {
        index::role_rules(&*self.view, namespace, kind, name)
    }
}

#[cfg(test)]
mod tests;
