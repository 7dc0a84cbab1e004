//! Roles and bindings.

use jiff::Timestamp;
use navarch_types::validate::names;
use serde_json::Value;

use crate::kinds::at::{At, same};
use crate::kinds::cells::{age_cell, list, name, text};
use crate::kinds::fill::{each, fill_zero, within};
use crate::kinds::kind::{AGE, Findings, Kind, NAME, column, wide};
use crate::kinds::rules::{label_selector, required, texts};
use crate::strategy::Column;

const GROUP: &str = "rbac.authorization.k8s.io";
const ROLE_COLUMNS: &[Column] = &[NAME, column("Created At", "date", "Time of creation")];
const BINDING_COLUMNS: &[Column] = &[
    NAME,
    column("Role", "string", "Role that is given"),
    AGE,
    wide("Users", "string", "Users that it is given to"),
    wide("Groups", "string", "Groups that it is given to"),
    wide("ServiceAccounts", "string", "Service accounts that it is given to"),
];

/// What all four kinds share.
const RBAC: Kind = Kind { name: names::path_segment, create_on_update: true, ..Kind::PLAIN };

fn role_row(object: &Value, _: Timestamp) -> Vec<Value> {
    vec![name(object), object["metadata"]["creationTimestamp"].clone()]
}

/// Roles.
pub(crate) static ROLE: Kind = Kind {
    create: |_, object, out| {
        for rule in At::root(object, "rules").items() {
            policy_rule(&rule, true, out);
        }
    },
    columns: ROLE_COLUMNS,
    row: role_row,
    ..RBAC
};

/// ClusterRoles.
pub(crate) static CLUSTER_ROLE: Kind = Kind {
    create: |_, object, out| {
        for rule in At::root(object, "rules").items() {
            policy_rule(&rule, false, out);
        }
        let aggregation = At::root(object, "aggregationRule");
        if aggregation.is_set() {
            let selectors = aggregation.child("clusterRoleSelectors");
            if selectors.is_empty() {
                out.push(selectors.required("at least one clusterRoleSelector required if aggregationRule is non-nil"));
            }
            for selector in selectors.items() {
                label_selector(&selector, out);
            }
        }
    },
    columns: ROLE_COLUMNS,
    row: role_row,
    ..RBAC
};

fn policy_rule(at: &At<'_, '_>, namespaced: bool, out: &mut Findings) {
    let (verbs, urls) = (at.child("verbs"), at.child("nonResourceURLs"));
    let (groups, resources) = (at.child("apiGroups"), at.child("resources"));
    if verbs.is_empty() {
        out.push(verbs.required("verbs must contain at least one value"));
    }
    if !urls.is_empty() {
        if namespaced {
            out.push(urls.invalid("namespaced rules cannot apply to non-resource URLs"));
        }
        if !groups.is_empty() || !resources.is_empty() || !at.child("resourceNames").is_empty() {
            out.push(urls.invalid("rules cannot apply to both regular resources and non-resource URLs"));
        }
        return;
    }
    if groups.is_empty() {
        out.push(groups.required("resource rules must supply at least one api group"));
    }
    if resources.is_empty() {
        out.push(resources.required("resource rules must supply at least one resource"));
    }
}

/// RoleBindings.
pub(crate) static ROLE_BINDING: Kind = Kind {
    default: default_binding,
    create: |_, object, out| binding(object, true, out),
    update: Some(|_, object, old, out| {
        binding(object, true, out);
        same_role(object, old, out);
    }),
    columns: BINDING_COLUMNS,
    row: binding_row,
    ..RBAC
};

/// ClusterRoleBindings.
pub(crate) static CLUSTER_ROLE_BINDING: Kind = Kind {
    default: default_binding,
    create: |_, object, out| binding(object, false, out),
    update: Some(|_, object, old, out| {
        binding(object, false, out);
        same_role(object, old, out);
    }),
    columns: BINDING_COLUMNS,
    row: binding_row,
    ..RBAC
};

fn default_binding(object: &mut Value) {
    if let Some(role) = within(object, "roleRef") {
        fill_zero(role, "apiGroup", GROUP);
    }
    each(object, "subjects", |subject| {
        if matches!(subject["kind"].as_str(), Some("User" | "Group")) {
            fill_zero(subject, "apiGroup", GROUP);
        }
    });
}

fn binding(object: &Value, namespaced: bool, out: &mut Findings) {
    let role = At::root(object, "roleRef");
    let (group, kind, title) = (role.child("apiGroup"), role.child("kind"), role.child("name"));
    if group.text() != GROUP {
        out.push(group.not_supported(&[GROUP]));
    }
    match kind.text() {
        "ClusterRole" => {}
        "Role" if namespaced => {}
        _ if namespaced => out.push(kind.not_supported(&["Role", "ClusterRole"])),
        _ => out.push(kind.not_supported(&["ClusterRole"])),
    }
    if required(&title, out) {
        texts(&title, names::path_segment(title.text(), false), out);
    }
    for subject in At::root(object, "subjects").items() {
        self::subject(&subject, namespaced, out);
    }
}

fn subject(at: &At<'_, '_>, namespaced: bool, out: &mut Findings) {
    let (kind, title, group) = (at.child("kind"), at.child("name"), at.child("apiGroup"));
    required(&title, out);
    match kind.text() {
        "ServiceAccount" => {
            if !title.is_empty() {
                texts(&title, names::dns1123_subdomain(title.text()), out);
            }
            if !group.is_empty() {
                out.push(group.not_supported(&[""]));
            }
            let namespace = at.child("namespace");
            if !namespaced && namespace.is_empty() {
                out.push(namespace.required(""));
            }
        }
        "User" | "Group" => {
            if group.text() != GROUP {
                out.push(group.not_supported(&[GROUP]));
            }
        }
        _ => out.push(kind.not_supported(&["ServiceAccount", "User", "Group"])),
    }
}

/// A binding gives the same role for life: who may bind it was checked at creation.
fn same_role(object: &Value, old: &Value, out: &mut Findings) {
    if !same(&object["roleRef"], &old["roleRef"]) {
        out.push(At::root(object, "roleRef").invalid("cannot change roleRef"));
    }
}

fn binding_row(object: &Value, now: Timestamp) -> Vec<Value> {
    let subjects = |kind: &str| {
        let of_kind = list(object, &["subjects"]).iter().filter(|s| s["kind"] == kind);
        let texts: Vec<String> = of_kind
            .map(|s| match kind {
                "ServiceAccount" => format!("{}/{}", text(s, &["namespace"]), text(s, &["name"])),
                _ => text(s, &["name"]).to_owned(),
            })
            .collect();
        Value::from(texts.join(", "))
    };
    let role = &object["roleRef"];
    vec![
        name(object),
        format!("{}/{}", text(role, &["kind"]), text(role, &["name"])).into(),
        age_cell(object, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}
