//! The roles and bindings that every cluster has from its start, as upstream ships them, and what has to be written so
//! that they are there and whole.
//!
//! Missing objects are made. In present ones missing rules and subjects are added and nothing is taken away, unless the
//! annotation `rbac.authorization.kubernetes.io/autoupdate: "false"` asks to leave them alone.

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::{Value, json};

use super::{GROUP, aggregate, escalation};
use crate::view::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ObjectView, ROLE_BINDINGS, ROLES, Viewed};

mod bindings;
mod controllers;
mod roles;

/// Turns repairs off for an object when it is `false`.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// The role and the binding by which join tokens reach [`crate::JOIN_PATH`].
const JOIN_ROLE: &str = "navarch:join";

/// The role and the binding by which clients learn where the servers are.
const SERVERS_ROLE: &str = "navarch:servers";

/// How an object is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// It is not there.
    Create,
    /// It is there; the object carries the resourceVersion that was seen. A binding whose role has changed is to be
    /// deleted and created, since `roleRef` cannot change.
    Update,
    /// Delete the one that is there, then create this.
    Replace,
}

/// A write that has to be done.
#[derive(Clone, Debug)]
pub struct Write {
    /// Of which resource.
    pub resource: &'static Viewed,
    /// The whole object.
    pub object: Value,
    /// How.
    pub kind: WriteKind,
}

/// A rule in short: lists are separated by blanks, `-` stands for the core group.
#[derive(Clone, Copy)]
struct Rule {
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
    urls: &'static str,
}

const fn on(verbs: &'static str, groups: &'static str, resources: &'static str) -> Rule {
    Rule { verbs, groups, resources, names: "", urls: "" }
}

const fn named(verbs: &'static str, groups: &'static str, resources: &'static str, names: &'static str) -> Rule {
    Rule { verbs, groups, resources, names, urls: "" }
}

const fn paths(verbs: &'static str, urls: &'static str) -> Rule {
    Rule { verbs, groups: "", resources: "", names: "", urls }
}

/// Creating and counting up events.
const EVENTS: Rule = on("create update patch", "- events.k8s.io", "events");

const READ: &str = "get list watch";
const WRITE: &str = "create update patch delete deletecollection";
const READ_WRITE: &str = "get list watch create update patch delete deletecollection";

impl Rule {
    fn to_policy(self) -> PolicyRule {
        let list = |text: &str| {
            let entries: Vec<_> =
                text.split_whitespace().map(|e| if e == "-" { String::new() } else { e.to_owned() }).collect();
            Some(entries).filter(|e| !e.is_empty())
        };
        PolicyRule {
            verbs: list(self.verbs).unwrap_or_default(),
            api_groups: list(self.groups),
            resources: list(self.resources),
            resource_names: list(self.names),
            non_resource_urls: list(self.urls),
        }
    }
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {AUTO_UPDATE: "true"},
    })
}

fn role(kind: &str, namespace: &str, name: &str, rules: &[Rule]) -> Value {
    let rules: Vec<_> = rules.iter().map(|r| r.to_policy()).collect();
    let mut role = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata(name), "rules": rules,
    });
    if !namespace.is_empty() {
        role["metadata"]["namespace"] = json!(namespace);
    }
    role
}

/// The rules of the role `system:node`, which the node authorizer applies itself.
pub(crate) fn node_rules() -> Vec<PolicyRule> {
    roles::NODE.iter().map(|r| r.to_policy()).collect()
}

/// All default objects, in the order in which they are to be made.
pub fn defaults() -> Vec<(&'static Viewed, Value)> {
    let mut all = Vec::new();
    all.extend(roles::cluster_roles().into_iter().map(|r| (&CLUSTER_ROLES, r)));
    all.extend(controllers::cluster_roles().into_iter().map(|r| (&CLUSTER_ROLES, r)));
    all.extend(roles::roles().into_iter().map(|r| (&ROLES, r)));
    all.extend(bindings::cluster_role_bindings().into_iter().map(|b| (&CLUSTER_ROLE_BINDINGS, b)));
    all.extend(controllers::cluster_role_bindings().into_iter().map(|b| (&CLUSTER_ROLE_BINDINGS, b)));
    all.extend(bindings::role_bindings().into_iter().map(|b| (&ROLE_BINDINGS, b)));
    all
}

/// What has to be written so that all defaults are there and aggregated roles hold what they should. Idempotent: do it at
/// start, and do it again until it is empty; later, on changes of cluster roles, [`aggregate::plan`] is enough. Objects in
/// a namespace are left out while their namespace is not there.
pub fn plan(view: &dyn ObjectView) -> Vec<Write> {
    let mut writes = Vec::new();
    for (resource, wanted) in defaults() {
        let text = |field: &str| wanted["metadata"][field].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        if !namespace.is_empty() && view.get(&crate::view::NAMESPACES, "", namespace).is_none() {
            continue;
        }
        let Some(present) = view.get(resource, namespace, name) else {
            writes.push(Write { resource, object: wanted, kind: WriteKind::Create });
            continue;
        };
        let Ok(present) = present.to_value() else { continue };
        if present["metadata"]["annotations"][AUTO_UPDATE] == "false" {
            continue;
        }
        writes.extend(repair(resource, present, &wanted));
    }
    if writes.is_empty() { aggregate::plan(view) } else { writes }
}

fn repair(resource: &'static Viewed, present: Value, wanted: &Value) -> Option<Write> {
    if wanted.get("roleRef").is_some() && present["roleRef"] != wanted["roleRef"] {
        return Some(Write { resource, object: wanted.clone(), kind: WriteKind::Replace });
    }
    let mut object = present.clone();
    for field in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][field].as_object().into_iter().flatten() {
            if object["metadata"][field].get(key).is_none() {
                object["metadata"][field][key] = value.clone();
            }
        }
    }
    if wanted.get("aggregationRule").is_some() {
        object["aggregationRule"] = wanted["aggregationRule"].clone();
    } else if let Some(rules) = wanted.get("rules") {
        let read = |rules: &Value| serde_json::from_value::<Vec<PolicyRule>>(rules.clone()).unwrap_or_default();
        let (mut held, wanted) = (read(&present["rules"]), read(rules));
        let missing = escalation::not_covered(&held, &wanted);
        if !missing.is_empty() {
            held.extend(missing);
            object["rules"] = json!(held);
        }
    }
    for subject in wanted.get("subjects").and_then(Value::as_array).into_iter().flatten() {
        if !object["subjects"].is_array() {
            object["subjects"] = json!([]);
        }
        if let Some(subjects) = object["subjects"].as_array_mut()
            && !subjects.contains(subject)
        {
            subjects.push(subject.clone());
        }
    }
    (object != present).then_some(Write { resource, object, kind: WriteKind::Update })
}
