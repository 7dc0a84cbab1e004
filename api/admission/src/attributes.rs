//! What plugins know of a request.

use jiff::Timestamp;
use navarch_types::{ApiError, GroupVersionResource, UserInfo};
use serde_json::Value;

/// What a request does, as admission has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object, or a post to a subresource.
    Create,
    /// An update or patch of an object or a subresource.
    Update,
    /// A delete, of one or of each of a collection.
    Delete,
    /// exec, attach, port-forward, proxy.
    Connect,
}

/// A request in admission.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionAttributes<'a> {
    /// What it does.
    pub operation: Operation,
    /// Who asks.
    pub user: &'a UserInfo,
    /// For what.
    pub resource: &'a GroupVersionResource,
    /// `status`, `binding`, …; empty for the object itself.
    pub subresource: &'a str,
    /// Empty for resources of the cluster.
    pub namespace: &'a str,
    /// Empty on a create with a generated name.
    pub name: &'a str,
    /// The object before an update or delete.
    pub old: Option<&'a Value>,
    /// Nothing will be stored.
    pub dry_run: bool,
    /// The time of the request.
    pub now: Timestamp,
}

impl AdmissionAttributes<'_> {
    /// Whether the request is for this resource, whatever its version.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.resource.group == group && self.resource.resource == resource
    }

    /// Whether it creates an object (and does not post to a subresource).
    pub fn creates(&self) -> bool {
        self.operation == Operation::Create && self.subresource.is_empty()
    }

    /// Whether it updates an object itself.
    pub fn updates(&self) -> bool {
        self.operation == Operation::Update && self.subresource.is_empty()
    }

    /// The 403 of a plugin.
    pub fn forbidden(&self, why: impl AsRef<str>) -> ApiError {
        ApiError::forbidden(&self.resource.group_resource(), self.name, why.as_ref())
    }
}
