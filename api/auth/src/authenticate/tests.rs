//! Cases for `authenticate`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::str::FromStr;

use serde_json::{Value, json};

use super::*;
use crate::pki::{Pki, Subject};
use crate::token::request::issue;
use crate::view::{FixedView, NODES, PODS, SERVICE_ACCOUNTS};

struct Setting {
    view: Arc<FixedView>,
    authenticator: Authenticator,
    pki: Pki,
    _directory: tempfile::TempDir,
}

fn now() -> Timestamp {
    Timestamp::now()
}

fn setting() -> Setting {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(directory.path()).unwrap();
    let view = Arc::new(FixedView::default());
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "web", "namespace": "a", "uid": "sa1"}});
    view.put(&SERVICE_ACCOUNTS, &account).unwrap();
    view.put(&PODS, &pod("p1")).unwrap();
    view.put(&NODES, &json!({"metadata": {"name": "n1", "uid": "n1u"}})).unwrap();
    let tokens = Tokens::new(pki.service_account_key().clone(), "https://issuer");
    let authenticator = Authenticator::new(tokens, pki.client_verifier().unwrap(), view.clone());
    Setting { view, authenticator, pki, _directory: directory }
}

fn pod(uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a", "uid": uid},
           "spec": {"serviceAccountName": "web", "nodeName": "n1", "containers": []}})
}

impl Setting {
    fn request(&self, body: Value) -> Result<Value, ApiError> {
        issue(self.authenticator.tokens(), &*self.view, "a", "web", body, now())
    }

    fn bearer(&self, token: &str) -> Result<Option<UserInfo>, ApiError> {
        self.authenticator.authenticate(&Credentials { bearer: Some(token), client_cert_der: None })
    }

    fn certificate(&self, der: &[u8]) -> Result<Option<UserInfo>, ApiError> {
        self.authenticator.authenticate(&Credentials { bearer: None, client_cert_der: Some(der) })
    }
}

fn to_pod() -> Value {
    json!({"spec": {"expirationSeconds": 3607, "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p",
                                                                   "uid": "p1"}}})
}

#[test]
fn a_pod_s_token_is_good_while_the_pod_lives() {
    let setting = setting();
    let answer = setting.request(to_pod()).unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    let expires = Timestamp::from_str(answer["status"]["expirationTimestamp"].as_str().unwrap()).unwrap();
    assert!((3600..=3607).contains(&(expires.as_second() - now().as_second())));
    let user = setting.bearer(token).unwrap().unwrap();
    assert_eq!(user.name, "system:serviceaccount:a:web");
    assert_eq!(user.uid, "sa1");
    assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]);
    assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert_eq!(user.extra["authentication.kubernetes.io/node-uid"], ["n1u"]);
    assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("JTI="));
    // Another pod of that name is not the one.
    setting.view.put(&PODS, &pod("p2")).unwrap();
    assert_eq!(setting.bearer(token).unwrap_err().code(), 401);
    let mut going = pod("p1");
    going["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
    setting.view.put(&PODS, &going).unwrap();
    assert_eq!(setting.bearer(token).unwrap_err().code(), 401);
    setting.view.put(&PODS, &pod("p1")).unwrap();
    assert!(setting.bearer(token).is_ok());
    setting.view.remove(&SERVICE_ACCOUNTS, "a", "web");
    assert_eq!(setting.bearer(token).unwrap_err().code(), 401);
}

#[test]
fn a_token_is_for_its_audience() {
    let setting = setting();
    let answer = setting.request(json!({"spec": {"audiences": ["vault"], "expirationSeconds": 600}})).unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    assert_eq!(setting.bearer(token).unwrap_err().code(), 401);
    let (_, matching) = setting.authenticator.token(token, &["vault".to_owned(), "x".to_owned()]).unwrap();
    assert_eq!(matching, ["vault"]);
}

#[test]
fn bad_requests_for_tokens_are_refused() {
    let setting = setting();
    let mut wrong_uid = to_pod();
    wrong_uid["spec"]["boundObjectRef"]["uid"] = json!("other");
    let bound =
        |kind: &str, name: &str| json!({"spec": {"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name}}});
    for (body, code) in [
        (json!({"spec": {"expirationSeconds": 599}}), 422),
        (json!({"spec": {"expirationSeconds": 1_i64 << 33}}), 422),
        (json!({"spec": 7}), 400),
        (wrong_uid, 409),
        (bound("Pod", "none"), 404),
        (bound("Secret", "none"), 404),
        (bound("ConfigMap", "x"), 400),
    ] {
        assert_eq!(setting.request(body.clone()).unwrap_err().code(), code, "{body}");
    }
    let mut other = pod("p1");
    other["spec"]["serviceAccountName"] = json!("another");
    setting.view.put(&PODS, &other).unwrap();
    assert_eq!(setting.request(to_pod()).unwrap_err().code(), 400);
}

#[test]
fn a_certificate_of_the_authority_names_the_user() {
    let setting = setting();
    let node = setting.pki.node_client("n1").unwrap();
    let user = setting.certificate(&node.chain().unwrap()[0]).unwrap().unwrap();
    assert_eq!(user.name, "system:node:n1");
    assert_eq!(user.groups, ["system:nodes", "system:authenticated"]);
    assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256="));
}

#[test]
fn other_certificates_are_refused() {
    let setting = setting();
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = Pki::open(elsewhere.path()).unwrap().admin().unwrap();
    assert_eq!(setting.certificate(&foreign.chain().unwrap()[0]).unwrap_err().code(), 401);
    let serving = setting.pki.issue(&Subject::server("system:masters")).unwrap();
    assert_eq!(setting.certificate(&serving.chain().unwrap()[0]).unwrap_err().code(), 401, "a server is no client");
    let nameless = setting.pki.issue(&Subject::client("", &["system:masters"])).unwrap();
    assert_eq!(setting.certificate(&nameless.chain().unwrap()[0]).unwrap_err().code(), 401);
    assert_eq!(setting.certificate(b"nonsense").unwrap_err().code(), 401);
    // Two years on, and also one that is remembered.
    let admin = setting.pki.admin().unwrap();
    assert!(setting.certificate(&admin.chain().unwrap()[0]).is_ok());
    let later = setting.authenticator.with_clock(|| Timestamp::now() + jiff::SignedDuration::from_hours(24 * 730));
    let credentials = |der| Credentials { bearer: None, client_cert_der: Some(der) };
    assert_eq!(later.authenticate(&credentials(&admin.chain().unwrap()[0])).unwrap_err().code(), 401);
}

#[test]
fn nobody_is_anonymous_but_for_health() {
    let setting = setting();
    assert_eq!(setting.authenticator.authenticate(&Credentials::default()).unwrap(), None);
    for (path, open) in
        [("/livez", true), ("/readyz/ping", true), ("/version", true), ("/livezz", false), ("/api", false)]
    {
        assert_eq!(Authenticator::anonymous(path).is_some(), open, "{path}");
    }
}

#[test]
fn a_bootstrap_token_is_for_the_api_server_while_its_secret_is_there() {
    let setting = setting();
    let token = crate::BootstrapToken::generate().unwrap();
    assert_eq!(setting.bearer(&token.bearer()).unwrap_err().code(), 401);
    let expires = now() + jiff::SignedDuration::from_hours(1);
    let secret = crate::bootstrap_token::secret_value(&token, crate::JoinRole::Node, expires, "");
    setting.view.put(&crate::view::SECRETS, &secret).unwrap();
    let user = setting.bearer(&token.bearer()).unwrap().unwrap();
    assert_eq!(user.name, format!("system:bootstrap:{}", token.id()));
    let other = crate::BootstrapToken::generate().unwrap();
    let wrong = format!("{}.{}", token.id(), other.bearer().split_once('.').unwrap().1);
    assert_eq!(setting.bearer(&wrong).unwrap_err().code(), 401);
    assert_eq!(setting.authenticator.token(&token.bearer(), &["vault".to_owned()]).unwrap_err().code(), 401);
    setting.view.remove(&crate::view::SECRETS, "kube-system", &crate::bootstrap_token::name_of(token.id()));
    assert_eq!(setting.bearer(&token.bearer()).unwrap_err().code(), 401);
    // Nor is it remembered beyond its end.
    setting.view.put(&crate::view::SECRETS, &secret).unwrap();
    let later = setting.authenticator.with_clock(|| Timestamp::now() + jiff::SignedDuration::from_hours(2));
    let bearer = token.bearer();
    let credentials = Credentials { bearer: Some(&bearer), client_cert_der: None };
    assert_eq!(later.authenticate(&credentials).unwrap_err().code(), 401);
}
