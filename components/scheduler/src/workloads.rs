//! The selectors of Services and workloads: default spreading keeps the pods of one apart.

use std::collections::HashMap;

use crate::pod::PodInfo;
use crate::selector::{Labels, Selector};

/// The kinds of owner whose selector counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OwnerKind {
    /// `ReplicaSet` of `apps`.
    ReplicaSet,
    /// `StatefulSet` of `apps`.
    StatefulSet,
    /// `ReplicationController`.
    ReplicationController,
}

impl OwnerKind {
    fn of(api_version: &str, kind: &str) -> Option<Self> {
        match (api_version.split_once('/').map_or("", |(group, _)| group), kind) {
            ("apps", "ReplicaSet") => Some(Self::ReplicaSet),
            ("apps", "StatefulSet") => Some(Self::StatefulSet),
            ("", "ReplicationController") => Some(Self::ReplicationController),
            _ => None,
        }
    }
}

/// Selectors by namespace and name.
#[derive(Debug, Default)]
pub struct Workloads {
    services: HashMap<String, HashMap<String, Labels>>,
    owners: HashMap<(OwnerKind, String, String), Selector>,
}

impl Workloads {
    /// A Service came or changed. One without a selector keeps nothing apart.
    pub fn set_service(&mut self, namespace: &str, name: &str, selector: Option<&Labels>) {
        match selector.filter(|s| !s.is_empty()) {
            Some(selector) => {
                let services = self.services.entry(namespace.to_owned()).or_default();
                services.insert(name.to_owned(), selector.clone());
            }
            None => self.remove_service(namespace, name),
        }
    }

    /// A Service went.
    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        if let Some(services) = self.services.get_mut(namespace) {
            services.remove(name);
            if services.is_empty() {
                self.services.remove(namespace);
            }
        }
    }

    /// A workload came or changed.
    pub fn set_owner(&mut self, kind: OwnerKind, namespace: &str, name: &str, selector: Selector) {
        self.owners.insert((kind, namespace.to_owned(), name.to_owned()), selector);
    }

    /// A workload went.
    pub fn remove_owner(&mut self, kind: OwnerKind, namespace: &str, name: &str) {
        self.owners.remove(&(kind, namespace.to_owned(), name.to_owned()));
    }

    /// What selects the pods that belong together with this one; `None` if it belongs to nothing.
    pub fn default_selector(&self, pod: &PodInfo) -> Option<Selector> {
        let mut merged = Labels::new();
        for selector in self.services.get(pod.namespace()).into_iter().flat_map(HashMap::values) {
            if selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value)) {
                merged.extend(selector.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
        }
        let mut selector = Selector::from_map(&merged);
        let owner = pod.pod.metadata.owner_references.iter().flatten().find(|o| o.controller == Some(true));
        if let Some(owner) = owner
            && let Some(kind) = OwnerKind::of(&owner.api_version, &owner.kind)
        {
            let key = (kind, pod.namespace().to_owned(), owner.name.clone());
            if let Some(owned) = self.owners.get(&key) {
                selector = selector.and(owned.clone());
            }
        }
        (!selector.is_everything()).then_some(selector)
    }
}
