//! Cases for `node`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::json;

use super::*;
use crate::view::{FixedView, PERSISTENT_VOLUME_CLAIMS, PODS};

fn authorizer() -> NodeAuthorizer {
    let view = FixedView::default();
    let pod = |name: &str, node: &str, secret: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a"}, "spec": {
            "nodeName": node, "serviceAccountName": "web", "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "settings"}}],
                            "env": [{"name": "x", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}]}],
            "volumes": [{"name": "s", "secret": {"secretName": secret}},
                        {"name": "p", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
                        {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]}})
    };
    view.put(&PODS, &pod("one", "n1", "mine")).unwrap();
    view.put(&PODS, &pod("two", "n2", "theirs")).unwrap();
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "a"}, "spec": {"volumeName": "pv1"}});
    view.put(&PERSISTENT_VOLUME_CLAIMS, &claim).unwrap();
    NodeAuthorizer::new(Arc::new(view))
}

#[test]
fn a_node_reaches_what_its_pods_refer_to() {
    let authorizer = authorizer();
    let user = crate::node_identity("n1");
    for (verb, group, resource, subresource, namespace, name, selector, allowed) in [
        ("get", "", "secrets", "", "a", "mine", "", true),
        ("get", "", "secrets", "", "a", "env", "", true),
        ("get", "", "secrets", "", "a", "pull", "", true),
        ("get", "", "secrets", "", "a", "theirs", "", false),
        ("get", "", "secrets", "", "b", "mine", "", false),
        ("list", "", "secrets", "", "a", "", "", false),
        ("watch", "", "secrets", "", "a", "", "metadata.name=mine", true),
        ("update", "", "secrets", "", "a", "mine", "", false),
        ("get", "", "configmaps", "", "a", "settings", "", true),
        ("get", "", "configmaps", "", "a", "kube-root-ca.crt", "", true),
        ("get", "", "configmaps", "", "a", "other", "", false),
        ("get", "", "persistentvolumeclaims", "", "a", "data", "", true),
        ("get", "", "persistentvolumes", "", "", "pv1", "", true),
        ("get", "", "persistentvolumes", "", "", "pv2", "", false),
        ("create", "", "serviceaccounts", "token", "a", "web", "", true),
        ("create", "", "serviceaccounts", "token", "a", "other", "", false),
        ("get", "", "nodes", "", "", "n1", "", true),
        ("get", "", "nodes", "", "", "n2", "", false),
        ("watch", "", "nodes", "", "", "", "metadata.name=n1", true),
        ("list", "", "nodes", "", "", "", "", false),
        ("patch", "", "nodes", "status", "", "n1", "", true),
        ("patch", "", "nodes", "status", "", "n2", "", false),
        ("delete", "", "nodes", "", "", "n1", "", false),
        ("list", "", "pods", "", "", "", "spec.nodeName=n1", true),
        ("watch", "", "pods", "", "", "", "spec.nodeName=n2", false),
        ("list", "", "pods", "", "", "", "", false),
        ("get", "", "pods", "", "a", "one", "", true),
        ("get", "", "pods", "", "a", "two", "", false),
        ("patch", "", "pods", "status", "a", "one", "", true),
        ("update", "", "pods", "", "a", "one", "", false),
        ("get", "coordination.k8s.io", "leases", "", "kube-node-lease", "n1", "", true),
        ("update", "coordination.k8s.io", "leases", "", "kube-node-lease", "n2", "", false),
        ("get", "coordination.k8s.io", "leases", "", "a", "n1", "", false),
        ("list", "", "services", "", "", "", "", true),
        ("delete", "", "services", "", "a", "x", "", false),
        ("create", "", "events", "", "a", "", "", true),
    ] {
        let mut attributes = Attributes::resource(&user, verb, group, "v1", resource);
        (attributes.subresource, attributes.namespace) = (subresource, namespace);
        (attributes.name, attributes.field_selector) = (name, selector);
        assert_eq!(authorizer.authorize(&attributes).allowed(), allowed, "{attributes:?}");
    }
}

#[test]
fn only_nodes_are_nodes() {
    let authorizer = authorizer();
    let mut user = crate::node_identity("n1");
    user.groups.retain(|g| g != crate::NODES_GROUP);
    for user in [user, UserInfo::new("system:node:", &[crate::NODES_GROUP]), UserInfo::new("n1", &[crate::NODES_GROUP])]
    {
        let mut attributes = Attributes::resource(&user, "get", "", "v1", "secrets");
        (attributes.namespace, attributes.name) = ("a", "mine");
        assert!(!authorizer.authorize(&attributes).allowed(), "{user:?}");
    }
}
