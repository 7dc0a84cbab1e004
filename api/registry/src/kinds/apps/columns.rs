//! What `kubectl get` shows of workloads.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::cells::{age_cell, containers, map, name, number, selector};
use crate::kinds::kind::{AGE, NAME, column, wide};
use crate::strategy::Column;

const CONTAINERS: Column = wide("Containers", "string", "Names of the template's containers");
const IMAGES: Column = wide("Images", "string", "Images of the template's containers");
const SELECTOR: Column = wide("Selector", "string", "Labels of the pods");

/// Deployments.
pub(super) const DEPLOYMENT: &[Column] = &[
    NAME,
    column("Ready", "string", "How many pods are ready, of how many wanted"),
    column("Up-to-date", "string", "How many pods are of the newest template"),
    column("Available", "string", "How many pods have been ready for long enough"),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

/// Deployments.
pub(super) fn deployment(object: &Value, now: Timestamp) -> Vec<Value> {
    let ready = number(object, &["status", "readyReplicas"]);
    let (names, images) = containers(&object["spec"]["template"]["spec"]);
    vec![
        name(object),
        format!("{ready}/{}", number(object, &["spec", "replicas"])).into(),
        number(object, &["status", "updatedReplicas"]).into(),
        number(object, &["status", "availableReplicas"]).into(),
        age_cell(object, now),
        names,
        images,
        selector(&object["spec"]["selector"]).into(),
    ]
}

/// ReplicaSets and ReplicationControllers.
pub(super) const REPLICAS: &[Column] = &[
    NAME,
    column("Desired", "integer", "How many pods are wanted"),
    column("Current", "integer", "How many pods there are"),
    column("Ready", "integer", "How many pods are ready"),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn replicas(object: &Value, now: Timestamp, selector: String) -> Vec<Value> {
    let (names, images) = containers(&object["spec"]["template"]["spec"]);
    vec![
        name(object),
        number(object, &["spec", "replicas"]).into(),
        number(object, &["status", "replicas"]).into(),
        number(object, &["status", "readyReplicas"]).into(),
        age_cell(object, now),
        names,
        images,
        selector.into(),
    ]
}

/// ReplicaSets.
pub(super) fn replica_set(object: &Value, now: Timestamp) -> Vec<Value> {
    replicas(object, now, selector(&object["spec"]["selector"]))
}

/// ReplicationControllers.
pub(super) fn replication_controller(object: &Value, now: Timestamp) -> Vec<Value> {
    replicas(object, now, map(&object["spec"]["selector"]))
}

/// StatefulSets.
pub(super) const STATEFUL_SET: &[Column] =
    &[NAME, column("Ready", "string", "How many pods are ready, of how many wanted"), AGE, CONTAINERS, IMAGES];

/// StatefulSets.
pub(super) fn stateful_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let ready = number(object, &["status", "readyReplicas"]);
    let (names, images) = containers(&object["spec"]["template"]["spec"]);
    vec![
        name(object),
        format!("{ready}/{}", number(object, &["spec", "replicas"])).into(),
        age_cell(object, now),
        names,
        images,
    ]
}

/// DaemonSets.
pub(super) const DAEMON_SET: &[Column] = &[
    NAME,
    column("Desired", "integer", "On how many nodes a pod should run"),
    column("Current", "integer", "On how many nodes one runs"),
    column("Ready", "integer", "On how many nodes one is ready"),
    column("Up-to-date", "integer", "On how many nodes one is of the newest template"),
    column("Available", "integer", "On how many nodes one has been ready for long enough"),
    column("Node Selector", "string", "Labels of the nodes"),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

/// DaemonSets.
pub(super) fn daemon_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"]["template"]["spec"];
    let (names, images) = containers(spec);
    let status = |key: &str| Value::from(number(object, &["status", key]));
    vec![
        name(object),
        status("desiredNumberScheduled"),
        status("currentNumberScheduled"),
        status("numberReady"),
        status("updatedNumberScheduled"),
        status("numberAvailable"),
        map(&spec["nodeSelector"]).into(),
        age_cell(object, now),
        names,
        images,
        selector(&object["spec"]["selector"]).into(),
    ]
}
