//! The informers that controllers share, each with the indexes that any of them needs.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use navarch_client::store::by_controller;
use navarch_client::{Informer, InformerFactory, Item};

use crate::{owners, pods as pod};

/// By the uid of the controlling owner.
pub(crate) const CONTROLLER: &str = "controller";
/// Those that nobody controls, by namespace.
pub(crate) const ORPHANS: &str = "orphans";
/// Pods by the name of their node; empty for none.
pub(crate) const NODE: &str = "node";

fn orphans<T: Item>(object: &T) -> Vec<String> {
    match owners::controller_of(object.metadata()) {
        Some(_) => Vec::new(),
        None => object.metadata().namespace.clone().into_iter().collect(),
    }
}

fn node(pod: &Pod) -> Vec<String> {
    vec![pod::node_name(pod).unwrap_or("").to_owned()]
}

pub(crate) fn pods(informers: &InformerFactory) -> Informer<Pod> {
    let informer = informers.informer::<Pod>();
    informer.with_index(CONTROLLER, by_controller).with_index(ORPHANS, orphans).with_index(NODE, node)
}

pub(crate) fn replica_sets(informers: &InformerFactory) -> Informer<ReplicaSet> {
    informers.informer::<ReplicaSet>().with_index(CONTROLLER, by_controller).with_index(ORPHANS, orphans)
}
