//! What is served: resources, their verbs and subresources.

use crate::name::{GroupVersionKind, GroupVersionResource, Str};
use crate::request::Verb;

/// A resource of a group and version.
#[derive(Clone, Debug)]
pub struct ResourceFacts {
    /// The group; empty for core.
    pub group: Str,
    /// The version.
    pub version: Str,
    /// The plural: `pods`.
    pub resource: Str,
    /// The kind of its objects: `Pod`.
    pub kind: Str,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// In order of name, as discovery lists them. Review kinds have only create.
    pub verbs: Vec<Verb>,
    /// In order of name.
    pub subresources: Vec<SubresourceFacts>,
}

/// A subresource.
#[derive(Clone, Debug)]
pub struct SubresourceFacts {
    /// `status`, `scale`, `exec`, …
    pub name: Str,
    /// What it speaks: the object's own kind, or another such as `autoscaling/v1` `Scale`.
    pub kind: GroupVersionKind,
    /// In order of name.
    pub verbs: Vec<Verb>,
    /// Whether it is a connection (exec, attach, port-forward, proxy) and not an object.
    pub connect: bool,
}

impl ResourceFacts {
    /// The kind with group and version.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind { group: self.group.clone(), version: self.version.clone(), kind: self.kind.clone() }
    }

    /// The resource with group and version.
    pub fn gvr(&self) -> GroupVersionResource {
        GroupVersionResource {
            group: self.group.clone(),
            version: self.version.clone(),
            resource: self.resource.clone(),
        }
    }

    /// A subresource by name.
    pub fn subresource(&self, name: &str) -> Option<&SubresourceFacts> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether a verb is served.
    pub fn serves(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }
}

impl SubresourceFacts {
    /// Whether a verb is served.
    pub fn serves(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }
}
