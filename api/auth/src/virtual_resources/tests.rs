//! Cases for `virtual_resources`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::borrow::Cow;

use super::*;
use crate::pki::Pki;
use crate::token::Tokens;
use crate::view::{FixedView, SERVICE_ACCOUNTS};

fn resources() -> (VirtualResources, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(directory.path()).unwrap();
    let view = FixedView::default();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web", "namespace": "a"}});
    view.put(&SERVICE_ACCOUNTS, &account).unwrap();
    let view: Arc<dyn ObjectView> = Arc::new(view);
    let tokens = Tokens::new(pki.service_account_key().clone(), "https://issuer");
    let verifier = pki.client_verifier().unwrap();
    let authenticator = Arc::new(Authenticator::new(tokens, verifier, Arc::clone(&view)));
    let authorizer = Arc::new(Authorizer::new(Arc::clone(&view)));
    (VirtualResources::new(authenticator, authorizer, view), directory)
}

fn ask(
    resources: &VirtualResources,
    user: &UserInfo,
    (group, resource, subresource): (&'static str, &'static str, &'static str),
    namespace: &str,
    object: Value,
) -> Result<Value, ApiError> {
    let resource =
        GroupVersionResource { group: Cow::Borrowed(group), version: "v1".into(), resource: resource.into() };
    let name = if subresource.is_empty() { "" } else { "web" };
    resources.handle(VirtualRequest { user, resource: &resource, subresource, namespace, name, object })
}

#[test]
fn access_reviews_answer_for_others_and_oneself() {
    let (resources, _directory) = resources();
    let jane = UserInfo::new("jane", &[]);
    let spec =
        json!({"spec": {"groups": ["system:masters"], "resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let subject = ("authorization.k8s.io", "subjectaccessreviews", "");
    let myself = ("authorization.k8s.io", "selfsubjectaccessreviews", "");
    let local = ("authorization.k8s.io", "localsubjectaccessreviews", "");
    assert_eq!(ask(&resources, &jane, subject, "", spec.clone()).unwrap()["status"]["allowed"], true);
    let answer = ask(&resources, &jane, myself, "", spec.clone()).unwrap();
    assert_eq!(answer["status"], json!({"allowed": false}));
    assert_eq!(answer["spec"], spec["spec"]);
    for (kind, bad) in [
        (subject, json!({"spec": {"user": "x"}})),
        (subject, json!({"spec": {"resourceAttributes": {}}})),
        (subject, json!({"spec": {"user": "x", "resourceAttributes": {}, "nonResourceAttributes": {}}})),
        (subject, json!({})),
        (local, json!({"spec": {"user": "x", "resourceAttributes": {"namespace": "b"}}})),
        (local, json!({"spec": {"user": "x", "nonResourceAttributes": {}}})),
    ] {
        assert_eq!(ask(&resources, &jane, kind, "a", bad.clone()).unwrap_err().code(), 422, "{bad}");
    }
}

#[test]
fn tokens_are_issued_and_reviewed() {
    let (resources, _directory) = resources();
    let root = UserInfo::new("root", &["system:masters"]);
    let issued = ask(&resources, &root, ("", "serviceaccounts", "token"), "a", json!({"spec": {}})).unwrap();
    let review = ("authentication.k8s.io", "tokenreviews", "");
    let with = |token: &Value| json!({"spec": {"token": token}});
    let answer = ask(&resources, &root, review, "", with(&issued["status"]["token"])).unwrap();
    assert_eq!(answer["status"]["authenticated"], true);
    assert_eq!(answer["status"]["user"]["username"], "system:serviceaccount:a:web");
    assert_eq!(answer["status"]["audiences"], json!(["https://issuer"]));
    let bad = ask(&resources, &root, review, "", with(&json!("nonsense"))).unwrap();
    assert!(bad["status"].get("authenticated").is_none());
    assert_eq!(bad["status"]["error"], "invalid bearer token");
    assert_eq!(ask(&resources, &root, review, "", json!({"spec": {}})).unwrap_err().code(), 400);
}

#[test]
fn one_learns_about_oneself() {
    let (resources, _directory) = resources();
    let root = UserInfo::new("root", &["system:masters"]);
    let who = ask(&resources, &root, ("authentication.k8s.io", "selfsubjectreviews", ""), "", json!({})).unwrap();
    assert_eq!(who["status"]["userInfo"], json!({"username": "root", "groups": ["system:masters"]}));
    let rules = ("authorization.k8s.io", "selfsubjectrulesreviews", "");
    let answer = ask(&resources, &root, rules, "", json!({"spec": {"namespace": "a"}})).unwrap();
    assert_eq!(answer["status"]["resourceRules"][0]["verbs"], json!(["*"]));
    assert_eq!(ask(&resources, &root, rules, "", json!({"spec": {}})).unwrap_err().code(), 400);
    assert_eq!(ask(&resources, &root, ("", "pods", ""), "", json!({})).unwrap_err().code(), 404);
}
