//! Role-based access control: roles and bindings from the store, kept as an index that is built anew and swapped at the
//! first question after one of them has changed: a binding that was written counts for every request after it. Deciding takes a few look-ups by subject and allocates only for the reason it gives.

use std::sync::Arc;

use arc_swap::ArcSwap;
use k8s_openapi::api::rbac::v1::PolicyRule;
use navarch_types::UserInfo;
use parking_lot::Mutex;

use crate::attributes::Attributes;
use crate::view::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ObjectView, ROLE_BINDINGS, ROLES, Viewed};

pub mod aggregate;
pub mod bootstrap;
pub mod escalation;
mod index;
pub mod rule;

use index::Index;

/// The resources that the index is made from.
static SOURCES: [&Viewed; 4] = [&ROLES, &CLUSTER_ROLES, &ROLE_BINDINGS, &CLUSTER_ROLE_BINDINGS];

/// The group of RBAC's resources.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// The RBAC authorizer.
pub struct Rbac {
    view: Arc<dyn ObjectView>,
    index: ArcSwap<Index>,
    /// One builds, others wait for it instead of building the same.
    building: Mutex<()>,
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
        Self { view, index, building: Mutex::new(()) }
    }

    fn is_current(&self, index: &Index) -> bool {
        SOURCES.iter().all(|source| self.view.unchanged_since(source, index.revision))
    }

    fn index(&self) -> Arc<Index> {
        let index = self.index.load_full();
        if self.is_current(&index) {
            return index;
        }
        let _one = self.building.lock();
        let index = self.index.load_full();
        if self.is_current(&index) {
            return index;
        }
        let index = Arc::new(Index::build(&*self.view));
        self.index.store(Arc::clone(&index));
        index
    }

    /// Why a request is allowed, or why not, as upstream words both.
    ///
    /// # Errors
    /// If it is not allowed. The text is empty when there is nothing to say but that.
    pub fn explain(&self, attributes: &Attributes<'_>) -> Result<String, String> {
        let index = self.index();
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
        let index = self.index();
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
