//! One served resource, and the table of all of them.
//!
//! The table is made once, from facts and from the kinds' strategies. It knows no objects and does no I/O.

use std::collections::HashMap;
use std::sync::Arc;

use navarch_types::schema::{DefinitionId, SubresourceFacts};
use navarch_types::{GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource, Verb};

use crate::strategy::Strategy;

mod builtin;

pub use builtin::maturity;

/// A resource in one of its served versions.
#[derive(Clone)]
pub struct Resource {
    /// As it stands in paths.
    pub served: GroupVersionResource,
    /// The kind of its objects in this version.
    pub kind: GroupVersionKind,
    /// The structure of its objects in this version.
    pub definition: DefinitionId,
    /// Under what its objects are stored: the same for all versions, and for groups that share storage.
    pub storage: GroupResource,
    /// The kind that is stored.
    pub storage_kind: GroupVersionKind,
    /// The singular name.
    pub singular: String,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// What can be done with objects, in order of name.
    pub verbs: Vec<Verb>,
    /// Subresources, in order of name.
    pub subresources: Vec<SubresourceFacts>,
    /// What is peculiar to the kind.
    pub strategy: &'static dyn Strategy,
}

impl Resource {
    /// The resource as errors and authorization name it.
    pub fn group_resource(&self) -> GroupResource {
        self.served.group_resource()
    }

    /// Whether objects are served as they are stored.
    pub fn serves_stored(&self) -> bool {
        self.kind == self.storage_kind
    }

    /// Whether this is a resource of the core group with this name, by its storage.
    pub fn is_core(&self, resource: &str) -> bool {
        self.storage.group.is_empty() && self.storage.resource == resource
    }

    /// A subresource by name.
    pub fn subresource(&self, name: &str) -> Option<&SubresourceFacts> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// The `kind` of collections.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind.kind)
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resource").field("served", &self.served).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Every served resource.
#[derive(Debug, Default)]
pub struct Table {
    resources: HashMap<GroupVersionResource, Arc<Resource>>,
    ordered: Vec<Arc<Resource>>,
}

impl Table {
    /// From the resources, in the order in which discovery lists them.
    pub fn new(resources: Vec<Resource>) -> Self {
        let ordered: Vec<Arc<Resource>> = resources.into_iter().map(Arc::new).collect();
        let resources = ordered.iter().map(|r| (r.served.clone(), Arc::clone(r))).collect();
        Self { resources, ordered }
    }

    /// The built-in resources.
    pub fn builtin() -> Self {
        Self::new(builtin::resources())
    }

    /// Versions of built-in resources that are not served, because their structure differs from the stored one and nobody
    /// wrote a conversion.
    pub fn not_served() -> Vec<GroupVersionResource> {
        builtin::not_served()
    }

    /// The resource at this place.
    pub fn get(&self, served: &GroupVersionResource) -> Option<&Arc<Resource>> {
        self.resources.get(served)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.ordered.iter()
    }

    /// Whether any resource is served there.
    pub fn has_group_version(&self, group_version: &GroupVersion) -> bool {
        self.ordered.iter().any(|r| r.served.group == group_version.group && r.served.version == group_version.version)
    }
}
