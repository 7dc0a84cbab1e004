//! What `kubectl get services` shows.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::cells::{NONE, UNKNOWN, age_cell, list, map, name, number, text};
use crate::kinds::kind::{AGE, NAME, column, wide};
use crate::strategy::Column;

/// The headings.
pub(super) const COLUMNS: &[Column] = &[
    NAME,
    column("Type", "string", "How the service can be reached"),
    column("Cluster-IP", "string", "Address inside the cluster"),
    column("External-IP", "string", "Addresses outside"),
    column("Port(s)", "string", "Ports, with the nodes' ones"),
    AGE,
    wide("Selector", "string", "Labels of the pods"),
];

/// The cells.
pub(super) fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let address = list(object, &["spec", "clusterIPs"]).first().and_then(Value::as_str).unwrap_or(NONE);
    vec![
        name(object),
        text(object, &["spec", "type"]).into(),
        address.into(),
        external(object).into(),
        ports(object).into(),
        age_cell(object, now),
        map(&object["spec"]["selector"]).into(),
    ]
}

fn external(object: &Value) -> String {
    let given: Vec<&str> = list(object, &["spec", "externalIPs"]).iter().filter_map(Value::as_str).collect();
    match text(object, &["spec", "type"]) {
        "ClusterIP" | "NodePort" => {
            if given.is_empty() {
                NONE.to_owned()
            } else {
                given.join(",")
            }
        }
        "LoadBalancer" => {
            let point = |p| match text(p, &["ip"]) {
                "" => text(p, &["hostname"]),
                ip => ip,
            };
            let mut points: Vec<&str> = list(object, &["status", "loadBalancer", "ingress"])
                .iter()
                .map(point)
                .filter(|p| !p.is_empty())
                .collect();
            points.sort_unstable();
            points.dedup();
            points.extend(given);
            if points.is_empty() { "<pending>".to_owned() } else { points.join(",") }
        }
        "ExternalName" => text(object, &["spec", "externalName"]).to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}

fn ports(object: &Value) -> String {
    let ports: Vec<String> = list(object, &["spec", "ports"])
        .iter()
        .map(|port| {
            let (port_number, protocol) = (number(port, &["port"]), text(port, &["protocol"]));
            match number(port, &["nodePort"]) {
                0 => format!("{port_number}/{protocol}"),
                node_port => format!("{port_number}:{node_port}/{protocol}"),
            }
        })
        .collect();
    if ports.is_empty() { NONE.to_owned() } else { ports.join(",") }
}
