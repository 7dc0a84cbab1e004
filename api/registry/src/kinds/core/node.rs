//! Nodes.

use jiff::Timestamp;
use navarch_types::field::FieldError;
use serde_json::{Value, json};

use crate::kinds::at::{At, same};
use crate::kinds::cells::{NONE, UNKNOWN, age_cell, condition, list, name, text, text_or};
use crate::kinds::fill::{fill, put, restore, within};
use crate::kinds::kind::{AGE, Findings, Kind, NAME, column, wide};
use crate::kinds::pod::resources::{amount, resource_name};
use crate::kinds::pod::scheduling::taints;
use crate::strategy::{Column, SelectableField};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

/// The strategy.
pub(crate) static NODE: Kind = Kind {
    created_with_status: true,
    default,
    prepare_update: |context, object, old| {
        if context.subresource.is_none() {
            restore(object, old, "status");
        }
    },
    create: |_, object, out| node(object, out),
    update: Some(|_, object, old, out| {
        node(object, out);
        for_life(object, old, out);
    }),
    status_update: |_, object, _, out| status(object, out),
    selectable: &[SelectableField { name: "spec.unschedulable", path: &["spec", "unschedulable"], absent: "false" }],
    columns: COLUMNS,
    row,
    ..Kind::WITH_STATUS
};

fn default(object: &mut Value) {
    if let Some(spec) = within(object, "spec") {
        // The old field and the list are one.
        let first = spec["podCIDRs"][0].clone();
        let single = spec["podCIDR"].clone();
        if single.as_str().is_some_and(|c| !c.is_empty()) && first.is_null() {
            put(spec, "podCIDRs", json!([single]));
        } else if !first.is_null() && single.as_str().is_none_or(str::is_empty) {
            put(spec, "podCIDR", first);
        }
    }
    if let Some(status) = within(object, "status") {
        let capacity = status["capacity"].clone();
        if !capacity.is_null() {
            fill(status, "allocatable", capacity);
        }
    }
}

fn node(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    taints(&spec.child("taints"), out);
    let ranges = spec.child("podCIDRs");
    for range in ranges.items() {
        if range.text().parse::<ipnet::IpNet>().is_err() {
            out.push(range.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"));
        }
    }
    if ranges.len() > 2 {
        out.push(ranges.invalid("may specify no more than one CIDR for each IP family"));
    }
    status(object, out);
}

fn status(object: &Value, out: &mut Findings) {
    let status = At::root(object, "status");
    for key in ["capacity", "allocatable"] {
        let amounts = status.child(key);
        for (resource, value) in amounts.entries() {
            resource_name(&value, resource, out);
            amount(&value, resource, out);
        }
    }
}

fn for_life(object: &Value, old: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    let before = &old["spec"];
    let ranges = spec.child("podCIDRs");
    if before["podCIDRs"].as_array().is_some_and(|r| !r.is_empty()) && !same(ranges.value, &before["podCIDRs"]) {
        out.push(ranges.forbidden("node updates may not change podCIDR except from \"\" to valid"));
    }
    let provider = spec.child("providerID");
    if before["providerID"].as_str().is_some_and(|p| !p.is_empty()) && !same(provider.value, &before["providerID"]) {
        out.push(provider.forbidden("node updates may not change providerID except from \"\" to valid"));
    }
    let mut allowed = object["spec"].clone();
    for key in ["podCIDR", "podCIDRs", "providerID", "unschedulable", "taints", "configSource"] {
        restore(&mut allowed, before, key);
    }
    if !same(&allowed, before) {
        const WHY: &str = "node updates may only change labels, taints, or capacity (or configSource, if the \
            DynamicKubeletConfig feature gate is enabled)";
        let finding = spec.forbidden(WHY);
        out.push(FieldError { field: String::new(), ..finding });
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", "Whether the node is ready, and takes pods"),
    column("Roles", "string", "What the node is for"),
    AGE,
    column("Version", "string", "Version of the node's agent"),
    wide("Internal-IP", "string", "Address inside"),
    wide("External-IP", "string", "Address outside"),
    wide("OS-Image", "string", "Operating system"),
    wide("Kernel-Version", "string", "Kernel"),
    wide("Container-Runtime", "string", "Container runtime"),
];

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut state = match condition(object, "Ready") {
        Some(ready) if ready["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object["spec"]["unschedulable"] == true {
        state.push_str(",SchedulingDisabled");
    }
    let address = |kind: &str| {
        let found = list(object, &["status", "addresses"]).iter().find(|a| a["type"] == kind);
        Value::from(found.map_or(NONE, |a| text(a, &["address"])))
    };
    let info = |key: &str| Value::from(text_or(object, &["status", "nodeInfo", key], UNKNOWN));
    vec![
        name(object),
        state.into(),
        roles(object).into(),
        age_cell(object, now),
        text(object, &["status", "nodeInfo", "kubeletVersion"]).into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn roles(object: &Value) -> String {
    let labels = object["metadata"]["labels"].as_object();
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == ROLE_LABEL => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { NONE.to_owned() } else { roles.join(",") }
}
