//! Cases for `node_restriction`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::json;

use super::super::testing::Case;
use super::*;

fn bound(node: &str) -> Value {
    json!({"metadata": {"name": "web", "namespace": "default", "uid": "u1"}, "spec": {"nodeName": node,
        "volumes": [{"projected": {"sources": [{"serviceAccountToken": {"audience": "vault"}}]}}]}})
}

async fn ask(
    case: &Case,
    resource: &'static str,
    subresource: &'static str,
    operation: Operation,
    name: &str,
    old: Option<Value>,
    object: Value,
) -> Result<(), String> {
    let mut request = case.create("", resource, "default", name);
    request.user = navarch_auth::node_identity("n1");
    (request.subresource, request.operation, request.old) = (subresource, operation, old);
    request.validate(&object).await.map(drop).map_err(|e| e.to_string())
}

#[tokio::test]
async fn a_node_writes_the_status_of_its_own_pods() {
    let case = Case::with_namespace();
    let status = |old: Value, new: Value| ask(&case, "pods", "status", Operation::Update, "web", Some(old), new);
    assert!(status(bound("n1"), bound("n1")).await.is_ok());
    assert!(status(bound("n2"), bound("n2")).await.is_err());
    let mut labelled = bound("n1");
    labelled["metadata"]["labels"] = json!({"a": "b"});
    assert!(status(bound("n1"), labelled).await.unwrap_err().contains("cannot update labels"));
}

#[tokio::test]
async fn a_node_deletes_its_own_pods_and_makes_none_but_mirrors() {
    let case = Case::with_namespace();
    for (node, fine) in [("n1", true), ("n2", false)] {
        let deleted = ask(&case, "pods", "", Operation::Delete, "web", Some(bound(node)), Value::Null).await;
        assert_eq!(deleted.is_ok(), fine, "{node}");
    }
    assert!(ask(&case, "pods", "", Operation::Create, "web", None, bound("n1")).await.is_err());
    let mirror = json!({"metadata": {"annotations": {MIRROR_ANNOTATION: "x"}, "ownerReferences": [
        {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u", "controller": true}]},
        "spec": {"nodeName": "n1", "containers": []}});
    let mut request = case.create("", "pods", "default", "web");
    request.user = navarch_auth::node_identity("n1");
    let plugin = NodeRestriction::new(case.view.clone());
    let verdict = |object: &Value| {
        let request = Request { attributes: &request.attributes(), node: "n1", view: &*plugin.view };
        request.mirror_pod(object).is_ok()
    };
    assert!(verdict(&mirror));
    let mut with_account = mirror.clone();
    with_account["spec"]["serviceAccountName"] = json!("default");
    assert!(!verdict(&with_account));
}

#[tokio::test]
async fn a_node_keeps_its_own_object() {
    let case = Case::with_namespace();
    let node = |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}, "spec": {}});
    let update =
        |name: &'static str, old: Value, new: Value| ask(&case, "nodes", "", Operation::Update, name, Some(old), new);
    let plain = || node("n1", json!({}));
    assert!(update("n1", plain(), plain()).await.is_ok());
    assert!(update("n2", plain(), plain()).await.is_err());
    let role = node("n1", json!({"node-role.kubernetes.io/control-plane": ""}));
    assert!(update("n1", plain(), role).await.unwrap_err().contains("node-role.kubernetes.io/control-plane"));
    let mut tainted = plain();
    tainted["spec"]["taints"] = json!([{"key": "a"}]);
    assert!(update("n1", tainted, plain()).await.unwrap_err().contains("taints"));
}

#[tokio::test]
async fn a_node_asks_for_tokens_of_its_own_pods() {
    let case = Case::with_namespace();
    let request = |uid: &str, audience: &str| {
        json!({"spec": {"audiences": [audience], "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "web",
            "uid": uid}}})
    };
    for (node, uid, audience, fine) in [
        ("n1", "u1", "vault", true),
        ("n1", "u2", "vault", false),
        ("n2", "u1", "vault", false),
        ("n1", "u1", "x", false),
    ] {
        case.view.put(&PODS, &bound(node)).unwrap();
        let body = request(uid, audience);
        let asked = ask(&case, "serviceaccounts", "token", Operation::Create, "default", None, body).await;
        assert_eq!(asked.is_ok(), fine, "{node} {uid} {audience}: {asked:?}");
    }
    let unbound = json!({"spec": {}});
    assert!(ask(&case, "serviceaccounts", "token", Operation::Create, "default", None, unbound).await.is_err());
}
