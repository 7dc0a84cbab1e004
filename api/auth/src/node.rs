//! The node authorizer: an agent reaches what belongs to its node, and nothing of others.
//!
//! A node is one whose user is `system:node:<name>` in the group `system:nodes`. It may read secrets, config maps, claims
//! and volumes that a pod on it uses, ask for tokens of those pods' service accounts, and keep its own Node, Lease and
//! CSINode; what pods and statuses it may write is judged by admission (NodeRestriction). All other rules are those of the
//! role `system:node`.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::PolicyRule;
use navarch_types::UserInfo;

use crate::attributes::{Attributes, Decision};
use crate::rbac::{bootstrap, rule};
use crate::view::ObjectView;

mod graph;

/// The authorizer.
pub struct NodeAuthorizer {
    view: Arc<dyn ObjectView>,
    rules: Vec<PolicyRule>,
}

/// The name of the node that a user is; `None` for others.
pub fn node_name(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix(crate::NODE_USER_PREFIX)?;
    user.groups.iter().any(|g| g == crate::NODES_GROUP).then_some(name)
}

fn no(why: impl Into<String>) -> Decision {
    Decision::NoOpinion(why.into())
}

impl NodeAuthorizer {
    /// Over the objects of a view.
    pub fn new(view: Arc<dyn ObjectView>) -> Self {
        Self { view, rules: bootstrap::node_rules() }
    }

    /// What it has to say about a request.
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let Some(node) = node_name(attributes.user) else { return no("") };
        if node.is_empty() {
            return no("unknown node for user \"system:node:\"");
        }
        if !attributes.is_resource_request {
            return no("");
        }
        match (attributes.group, attributes.resource) {
            ("", "secrets" | "configmaps") => self.related_read(node, attributes, true),
            ("", "persistentvolumeclaims") if attributes.subresource == "status" => {
                self.related(node, attributes, &["get", "update", "patch"], "status")
            }
            ("", "persistentvolumeclaims" | "persistentvolumes") | ("resource.k8s.io", "resourceclaims") => {
                self.related_read(node, attributes, false)
            }
            ("storage.k8s.io", "volumeattachments") => self.related_read(node, attributes, false),
            ("", "serviceaccounts") if attributes.subresource == "token" => {
                self.related(node, attributes, &["create"], "token")
            }
            ("", "serviceaccounts") => self.related_read(node, attributes, false),
            ("coordination.k8s.io", "leases") => own_lease(node, attributes),
            ("storage.k8s.io", "csinodes") => own(node, attributes, &["get", "create", "update", "patch", "delete"]),
            ("", "nodes") => self.nodes(node, attributes),
            ("", "pods") => self.pods(node, attributes),
            _ => self.by_rules(attributes),
        }
    }

    fn by_rules(&self, attributes: &Attributes<'_>) -> Decision {
        if self.rules.iter().any(|r| rule::allows(r, attributes)) { Decision::Allow } else { no("") }
    }

    /// Reading an object that something on the node refers to. Lists and watches of one name count as reading it.
    fn related_read(&self, node: &str, attributes: &Attributes<'_>, watchable: bool) -> Decision {
        let verbs: &[&str] = if watchable { &["get", "list", "watch"] } else { &["get"] };
        self.related(node, attributes, verbs, "")
    }

    fn related(&self, node: &str, attributes: &Attributes<'_>, verbs: &[&str], subresource: &str) -> Decision {
        if !verbs.contains(&attributes.verb) {
            return no(format!("can only {} resources of this type", verbs.join("/")));
        }
        if attributes.subresource != subresource {
            return no("cannot read subresource");
        }
        let selected = attributes.field_selector.strip_prefix("metadata.name=").unwrap_or_default();
        let name = if attributes.name.is_empty() { selected.trim_start_matches('=') } else { attributes.name };
        if name.is_empty() || name.contains(',') {
            return no("No Object name found");
        }
        if graph::related(&*self.view, node, attributes.resource, attributes.namespace, name) {
            return Decision::Allow;
        }
        no(format!("no relationship found between node '{node}' and this object"))
    }

    fn nodes(&self, node: &str, attributes: &Attributes<'_>) -> Decision {
        let selects_itself = attributes.field_selector == format!("metadata.name={node}");
        match (attributes.verb, attributes.subresource) {
            ("create", "") => self.by_rules(attributes),
            ("get" | "update" | "patch", "" | "status") if attributes.name == node => Decision::Allow,
            ("list" | "watch", "") if attributes.name == node || selects_itself => Decision::Allow,
            ("get" | "list" | "watch" | "update" | "patch", "" | "status") => {
                no(format!("node '{node}' cannot read all nodes, only its own Node object"))
            }
            _ => no(""),
        }
    }

    fn pods(&self, node: &str, attributes: &Attributes<'_>) -> Decision {
        match (attributes.verb, attributes.subresource) {
            // What it may write to which pod is judged by admission, which sees the pod.
            ("create" | "delete", "") | ("update" | "patch", "status") | ("create", "eviction") => {
                self.by_rules(attributes)
            }
            ("get", "") if attributes.name.is_empty() => no("No Object name found"),
            ("get", "") => {
                if graph::pod_on_node(&*self.view, node, attributes.namespace, attributes.name) {
                    return Decision::Allow;
                }
                no(format!("no relationship found between node '{node}' and this object"))
            }
            ("list" | "watch", "") => {
                let mine = format!("spec.nodeName={node}");
                if attributes.field_selector.split(',').any(|term| term.replacen("==", "=", 1) == mine) {
                    return Decision::Allow;
                }
                no("can only list/watch pods with spec.nodeName field selector")
            }
            _ => no(""),
        }
    }
}

/// The Lease of the node's heartbeat: only of its own name, in its own namespace.
fn own_lease(node: &str, attributes: &Attributes<'_>) -> Decision {
    if attributes.namespace != "kube-node-lease" {
        return no(format!("can only access leases in the {:?} system namespace", "kube-node-lease"));
    }
    own(node, attributes, &["get", "create", "update", "patch", "delete"])
}

/// An object of the node's own name. On create the name may only be in the body, where admission looks at it.
fn own(node: &str, attributes: &Attributes<'_>, verbs: &[&str]) -> Decision {
    if !verbs.contains(&attributes.verb) {
        return no(format!("can only {} resources of this type", verbs.join("/")));
    }
    if !attributes.subresource.is_empty() {
        return no("cannot authorize subresources of this type");
    }
    if attributes.name != node && attributes.verb != "create" {
        return no(format!("can only access object with the name of the node: {node}"));
    }
    Decision::Allow
}

#[cfg(test)]
mod tests;
