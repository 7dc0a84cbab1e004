//! One served resource, and the table of all of them.
//!
//! The table is made once from facts and from the kinds' strategies. It knows no objects and does no I/O.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use navarch_types::{GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};

use crate::strategy::Strategy;

/// A resource in one of its served versions.
#[derive(Clone)]
pub struct Resource {
    /// As it stands in paths.
    pub served: GroupVersionResource,
    /// The kind of its objects in this version.
    pub kind: GroupVersionKind,
    /// Under what its objects are stored: the same for all versions, and for groups that share storage.
    pub storage: GroupResource,
    /// The kind that is stored.
    pub storage_kind: GroupVersionKind,
    /// The singular name.
    pub singular: &'static str,
    /// Short names, as `po`.
    pub short_names: &'static [&'static str],
    /// Categories, as `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// What can be done with objects.
    pub verbs: &'static [&'static str],
    /// Subresources by name.
    pub subresources: BTreeMap<&'static str, Subresource>,
    /// What is peculiar to the kind.
    pub strategy: &'static dyn Strategy,
}

/// A subresource.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// The kind that is read and written.
    pub kind: GroupVersionKind,
    /// What can be done with it.
    pub verbs: &'static [&'static str],
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

    /// Whether objects of this resource are stored at all; reviews are only answered.
    pub fn is_stored(&self) -> bool {
        self.verbs.contains(&"get")
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
#[derive(Default)]
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

    /// A served resource of this kind.
    pub fn by_kind(&self, group_version: &GroupVersion, kind: &str) -> Option<&Arc<Resource>> {
        self.ordered.iter().find(|r| {
            r.kind.kind == kind && r.kind.group == group_version.group && r.kind.version == group_version.version
        })
    }
}
