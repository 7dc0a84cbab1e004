//! Services: the strategy and what goes when the type changes.

mod columns;
pub(crate) mod defaults;
mod rules;

use serde_json::{Value, json};

use super::at::same;
use super::fill::{drop_field, each, put};
use super::kind::Kind;
use crate::strategy::SelectableField;

/// The strategy.
pub(crate) static SERVICE: Kind = Kind {
    default: defaults::service,
    prepare_create: |_, object| put(object, "status", json!({"loadBalancer": {}})),
    prepare_update: |context, object, old| {
        if context.subresource.is_none() {
            drop_what_the_old_type_needed(object, old);
        }
    },
    create: |_, object, out| rules::service(object, out),
    update: Some(|_, object, old, out| rules::update(object, old, out)),
    status_update: |_, object, _, out| rules::status(object, out),
    name: navarch_types::validate::names::name_is_dns1035_label,
    create_on_update: true,
    selectable: &[
        SelectableField { name: "spec.clusterIP", path: &["spec", "clusterIP"], absent: "" },
        SelectableField { name: "spec.type", path: &["spec", "type"], absent: "" },
    ],
    columns: columns::COLUMNS,
    row: columns::row,
    ..Kind::WITH_STATUS
};

fn kind_of(object: &Value) -> &str {
    object["spec"]["type"].as_str().unwrap_or("")
}

/// Whether the type opens ports on nodes.
fn takes_node_ports(object: &Value) -> bool {
    match kind_of(object) {
        "NodePort" => true,
        "LoadBalancer" => object["spec"]["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

/// Whether there is a port for health checks of nodes.
fn takes_health_check_port(object: &Value) -> bool {
    kind_of(object) == "LoadBalancer" && object["spec"]["externalTrafficPolicy"] == "Local"
}

/// Whether it can be reached from outside.
fn is_external(object: &Value) -> bool {
    matches!(kind_of(object), "NodePort" | "LoadBalancer")
        || (kind_of(object) == "ClusterIP" && object["spec"]["externalIPs"].as_array().is_some_and(|a| !a.is_empty()))
}

/// What only the old type needed goes, if the user left it as it was; what the user changed is for the rules to refuse.
fn drop_what_the_old_type_needed(object: &mut Value, old: &Value) {
    let unchanged = |object: &Value, key: &str| same(&object["spec"][key], &old["spec"][key]);
    let mut gone: Vec<&str> = Vec::new();
    if kind_of(old) != "ExternalName" && kind_of(object) == "ExternalName" && unchanged(object, "clusterIP") {
        gone.extend(["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]);
    }
    if takes_health_check_port(old) && !takes_health_check_port(object) && unchanged(object, "healthCheckNodePort") {
        gone.push("healthCheckNodePort");
    }
    for (key, of_old, of_new) in [
        ("externalTrafficPolicy", is_external(old), is_external(object)),
        ("allocateLoadBalancerNodePorts", kind_of(old) == "LoadBalancer", kind_of(object) == "LoadBalancer"),
        ("loadBalancerClass", kind_of(old) == "LoadBalancer", kind_of(object) == "LoadBalancer"),
    ] {
        if of_old && !of_new && unchanged(object, key) {
            gone.push(key);
        }
    }
    let close_ports = takes_node_ports(old) && !takes_node_ports(object) && same_node_ports(object, old);
    if let Some(spec) = object.get_mut("spec") {
        gone.into_iter().for_each(|key| drop_field(spec, key));
        if close_ports {
            each(spec, "ports", |port| drop_field(port, "nodePort"));
        }
    }
}

fn same_node_ports(object: &Value, old: &Value) -> bool {
    let ports = |object: &Value| -> Vec<i64> {
        let list = object["spec"]["ports"].as_array();
        let mut ports: Vec<i64> = list.into_iter().flatten().filter_map(|p| p["nodePort"].as_i64()).collect();
        ports.sort_unstable();
        ports
    };
    ports(object) == ports(old) || ports(object).is_empty()
}

#[cfg(test)]
mod tests;
