//! NodeRestriction: an agent writes its own node, the status of its own pods, and tokens for its own pods.
//!
//! The node authorizer has let the request pass by kind and name; what is in the object is judged here.

use std::sync::Arc;

use async_trait::async_trait;
use navarch_auth::ObjectView;
use navarch_auth::node::node_name;
use navarch_auth::view::PODS;
use navarch_types::ApiError;
use serde_json::Value;

use super::json::{at, items, text};
use crate::attributes::{AdmissionAttributes, Operation};
use crate::plugin::{FINE, Plugin, Verdict};

mod labels;
mod tokens;

const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

pub(super) struct NodeRestriction {
    view: Arc<dyn ObjectView>,
}

impl NodeRestriction {
    pub(super) fn new(view: Arc<dyn ObjectView>) -> Self {
        Self { view }
    }

    fn check(&self, attributes: &AdmissionAttributes<'_>, object: &Value) -> Verdict {
        let Some(node) = node_name(attributes.user) else { return FINE };
        if node.is_empty() {
            return Err(attributes.forbidden(format!("could not determine node from user {:?}", attributes.user.name)));
        }
        let request = Request { attributes, node, view: &*self.view };
        let resource = (attributes.resource.group.as_ref(), attributes.resource.resource.as_ref());
        match (resource, attributes.subresource) {
            (("", "pods"), "") => request.pod(object),
            (("", "pods"), "status") => request.pod_status(object),
            (("", "pods"), "eviction") => request.eviction(),
            (("", "nodes"), _) => request.node(object),
            (("", "persistentvolumeclaims"), "status") => request.claim_status(object),
            (("", "serviceaccounts"), "token") => tokens::check(attributes, node, &*self.view, object),
            (("coordination.k8s.io", "leases"), _) | (("storage.k8s.io", "csinodes"), _) => request.own_name(object),
            _ => FINE,
        }
    }
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        node_name(attributes.user).is_some()
    }

    async fn mutate(&self, attributes: &AdmissionAttributes<'_>, object: &mut Value) -> Verdict {
        self.check(attributes, object)
    }

    async fn validate(&self, attributes: &AdmissionAttributes<'_>, object: &Value) -> Verdict {
        self.check(attributes, object)
    }
}

struct Request<'a> {
    attributes: &'a AdmissionAttributes<'a>,
    node: &'a str,
    view: &'a dyn ObjectView,
}

impl Request<'_> {
    fn no(&self, why: impl AsRef<str>) -> Verdict {
        Err(self.attributes.forbidden(why))
    }

    fn pod(&self, pod: &Value) -> Verdict {
        match self.attributes.operation {
            Operation::Create => self.mirror_pod(pod),
            Operation::Delete => {
                let old = self.attributes.old.unwrap_or(&Value::Null);
                if text(old, &["spec", "nodeName"]) == self.node {
                    return FINE;
                }
                self.no(format!("node {:?} can only delete pods with spec.nodeName set to itself", self.node))
            }
            _ => self.no(format!(
                "unexpected operation on pods, node {:?} can only create and delete mirror pods",
                self.node
            )),
        }
    }

    fn mirror_pod(&self, pod: &Value) -> Verdict {
        let node = self.node;
        let mirror = at(pod, &["metadata", "annotations"]).is_some_and(|a| a.get(MIRROR_ANNOTATION).is_some());
        if !mirror {
            return self.no(format!(
                "pod does not have {MIRROR_ANNOTATION:?} annotation, node {node:?} can only create \
                mirror pods"
            ));
        }
        if text(pod, &["spec", "nodeName"]) != node {
            return self.no(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
        }
        let owners: Vec<_> = items(pod, &["metadata", "ownerReferences"]).collect();
        let [owner] = owners.as_slice() else {
            return self.no(format!("node {node:?} can only create pods with a single owner reference set to itself"));
        };
        let own = text(owner, &["apiVersion"]) == "v1"
            && text(owner, &["kind"]) == "Node"
            && text(owner, &["name"]) == node
            && owner["controller"] == true
            && owner["blockOwnerDeletion"] != true;
        if !own {
            return self.no(format!("node {node:?} can only create pods with an owner reference set to itself"));
        }
        if !text(pod, &["spec", "serviceAccountName"]).is_empty() {
            return self.no(format!("node {node:?} can not create pods that reference a service account"));
        }
        let refers = ["secret", "configMap", "persistentVolumeClaim", "projected"];
        let volume = items(pod, &["spec", "volumes"]).any(|v| refers.iter().any(|r| at(v, &[r]).is_some()));
        if volume {
            return self.no(format!(
                "node {node:?} can not create pods that reference secrets, configmaps, projected \
                volumes or persistentvolumeclaims"
            ));
        }
        FINE
    }

    fn pod_status(&self, pod: &Value) -> Verdict {
        let old = self.attributes.old.unwrap_or(&Value::Null);
        if self.attributes.operation != Operation::Update {
            return self.no("unexpected operation on pod status");
        }
        if text(old, &["spec", "nodeName"]) != self.node {
            return self.no(format!(
                "node {:?} can only update pod status for pods with spec.nodeName set to itself",
                self.node
            ));
        }
        if at(old, &["metadata", "labels"]) != at(pod, &["metadata", "labels"]) {
            return self.no(format!("node {:?} cannot update labels through pod status", self.node));
        }
        FINE
    }

    fn eviction(&self) -> Verdict {
        let (namespace, name) = (self.attributes.namespace, self.attributes.name);
        let pod = self.view.get(&PODS, namespace, name).ok_or_else(|| ApiError::not_found(&PODS.resource, name))?;
        let pod = pod.to_value().map_err(ApiError::internal)?;
        if text(&pod, &["spec", "nodeName"]) == self.node {
            return FINE;
        }
        self.no(format!("node {:?} can only evict pods with spec.nodeName set to itself", self.node))
    }

    fn node(&self, object: &Value) -> Verdict {
        let node = self.node;
        let name =
            if self.attributes.name.is_empty() { text(object, &["metadata", "name"]) } else { self.attributes.name };
        if name != node {
            return self.no(format!("node {node:?} is not allowed to modify node {name:?}"));
        }
        if self.attributes.operation == Operation::Delete {
            return FINE;
        }
        let none = Value::Null;
        let old = match self.attributes.operation {
            Operation::Update => self.attributes.old.unwrap_or(&none),
            _ => &none,
        };
        if self.attributes.operation == Operation::Update {
            if at(object, &["spec", "taints"]) != at(old, &["spec", "taints"]) {
                return self.no(format!("node {node:?} is not allowed to modify taints"));
            }
            if at(object, &["metadata", "ownerReferences"]) != at(old, &["metadata", "ownerReferences"]) {
                return self.no(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
        }
        let refused = labels::refused(at(object, &["metadata", "labels"]), at(old, &["metadata", "labels"]));
        if refused.is_empty() {
            return FINE;
        }
        let verb = if self.attributes.operation == Operation::Create { "set" } else { "modify" };
        self.no(format!("is not allowed to {verb} the following labels: {}", refused.join(", ")))
    }

    fn claim_status(&self, object: &Value) -> Verdict {
        let old = self.attributes.old.unwrap_or(&Value::Null);
        if at(object, &["spec"]) == at(old, &["spec"]) {
            return FINE;
        }
        self.no(format!("node {:?} is not allowed to update fields other than status", self.node))
    }

    fn own_name(&self, object: &Value) -> Verdict {
        let name = match self.attributes.operation {
            Operation::Create => text(object, &["metadata", "name"]),
            _ => self.attributes.name,
        };
        if name == self.node {
            return FINE;
        }
        self.no(format!(
            "can only access {} with the same name as the requesting node",
            self.attributes.resource.resource
        ))
    }
}

#[cfg(test)]
mod tests;
