//! Who may join as what, and what they get.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use navarch_auth::bootstrap_token::{NODES_GROUP, SERVERS_GROUP};
use navarch_auth::pki::KeyRequest;
use navarch_auth::view::FixedView;
use parking_lot::Mutex;
use serde_json::json;

use super::*;

#[derive(Default)]
struct Members(Mutex<Vec<AdmitRequest>>);

#[async_trait]
impl Membership for Members {
    fn servers(&self) -> Vec<String> {
        vec!["https://10.0.0.1:6443".to_owned(), "https://[fd00::1]:6443".to_owned()]
    }

    async fn admit(&self, request: &AdmitRequest) -> Result<Admission, ApiError> {
        if request.name == "refused" {
            return Err(not_implemented("this member cannot take others yet"));
        }
        self.0.lock().push(request.clone());
        let peer_address = request.peer_address.to_string();
        let peers = vec![Peer { id: 7, name: request.name.clone(), peer_address }];
        Ok(Admission { member_id: 7, peers, first_voters: vec![1], group: "c1".to_owned() })
    }
}

struct Setting {
    join: Join,
    view: Arc<FixedView>,
    members: Arc<Members>,
    _directory: tempfile::TempDir,
}

fn setting() -> Setting {
    let directory = tempfile::tempdir().unwrap();
    let (view, members) = (Arc::new(FixedView::default()), Arc::new(Members::default()));
    let join = Join {
        pki: Arc::new(Pki::open(directory.path()).unwrap()),
        view: view.clone(),
        membership: members.clone(),
        cluster_name: "c".to_owned(),
        cluster_id: "id".to_owned(),
        settings: json!({"domain": "cluster.local"}),
        reserved: vec!["10.96.0.1".to_owned(), "first".to_owned()],
    };
    Setting { join, view, members, _directory: directory }
}

fn by_token(group: &str) -> UserInfo {
    UserInfo::new("system:bootstrap:abcdef", &["system:bootstrappers", group, "system:authenticated"])
}

fn node() -> Value {
    let request = KeyRequest::new().unwrap().request_pem;
    json!({"role": "node", "name": "n2", "addresses": ["10.0.0.2"], "certificateRequest": request})
}

fn server() -> Value {
    json!({"role": "server", "name": "s2", "addresses": ["10.0.0.2"], "peerAddress": "10.0.0.2:6444",
           "server": "https://10.0.0.2:6443"})
}

impl Setting {
    async fn ask_from(&self, source: &str, user: &UserInfo, body: &Value) -> Result<Value, ApiError> {
        let body = Bytes::from(body.to_string());
        self.join.answer(PathRequest { user: user.clone(), source: source.parse().ok(), body }).await
    }

    async fn ask(&self, user: &UserInfo, body: &Value) -> Result<Value, ApiError> {
        self.ask_from("10.0.0.2", user, body).await
    }
}

#[tokio::test]
async fn a_node_gets_certificates_and_settings_and_no_secrets() {
    let setting = setting();
    let answer = setting.ask(&by_token(NODES_GROUP), &node()).await.unwrap();
    assert!(!answer.to_string().contains("PRIVATE KEY"));
    let answer: NodeAnswer = serde_json::from_value(answer).unwrap();
    assert_eq!((answer.cluster_name.as_str(), answer.cluster_id.as_str()), ("c", "id"));
    assert_eq!(answer.ca_pem, setting.join.pki.ca_pem());
    assert_eq!(answer.settings["domain"], "cluster.local");
    assert_eq!(answer.servers.len(), 2);
    for pem in [&answer.certificate_pem, &answer.network_certificate_pem] {
        let identity = navarch_auth::Identity { certificate_pem: pem.clone(), key_pem: String::new() };
        let verifier = setting.join.pki.client_verifier().unwrap();
        let now = rustls_pki_types::UnixTime::now();
        verifier.verify_client_cert(&identity.chain().unwrap()[0], &[], now).unwrap();
    }
    // The token is good again until it ends.
    assert!(setting.ask(&by_token(NODES_GROUP), &node()).await.is_ok());
}

#[tokio::test]
async fn a_member_gets_the_secrets_once_it_is_let_in() {
    let setting = setting();
    let answer = setting.ask(&by_token(SERVERS_GROUP), &server()).await.unwrap();
    let answer: ServerAnswer = serde_json::from_value(answer).unwrap();
    assert_eq!(answer.secrets, setting.join.pki.member_secrets().unwrap());
    assert_eq!((answer.member_id, answer.peers.len()), (7, 1));
    assert_eq!(setting.members.0.lock()[0].peer_address.to_string(), "10.0.0.2:6444");
    let mut refused = server();
    refused["name"] = json!("refused");
    let error = setting.ask(&by_token(SERVERS_GROUP), &refused).await.unwrap_err();
    assert_eq!((error.code(), error.status().reason.as_str()), (501, "NotImplemented"));
    assert_eq!(error.to_string(), "this member cannot take others yet");
}

#[tokio::test]
async fn a_token_is_for_its_role_and_nothing_else_is_good() {
    let setting = setting();
    let said = setting.ask(&by_token(NODES_GROUP), &server()).await.unwrap_err();
    assert_eq!(said.code(), 403);
    assert!(said.to_string().contains("the token is for joining as a node"), "{said}");
    assert_eq!(setting.ask(&by_token(SERVERS_GROUP), &node()).await.unwrap_err().code(), 403);
    assert_eq!(setting.ask(&by_token("system:bootstrappers:others"), &node()).await.unwrap_err().code(), 403);
    // The group alone, by a certificate or by impersonation, is not enough; nor is being an administrator.
    for user in [UserInfo::new("mallory", &[SERVERS_GROUP]), UserInfo::new("admin", &["system:masters"])] {
        assert_eq!(setting.ask(&user, &server()).await.unwrap_err().code(), 403, "{}", user.name);
    }
    assert!(setting.members.0.lock().is_empty());
}

#[tokio::test]
async fn what_makes_no_sense_is_named() {
    let setting = setting();
    for (role, base, key, value, field) in [
        (NODES_GROUP, node(), "role", json!("master"), "role"),
        (NODES_GROUP, node(), "role", json!(""), "role"),
        (NODES_GROUP, node(), "name", json!("N 2"), "name"),
        (NODES_GROUP, node(), "name", json!(""), "name"),
        (NODES_GROUP, node(), "name", json!("kubernetes.default.svc"), "name"),
        (NODES_GROUP, node(), "addresses", json!([]), "addresses"),
        (NODES_GROUP, node(), "addresses", json!(["10.0.0.2", "here"]), "addresses[1]"),
        (NODES_GROUP, node(), "addresses", json!(["0.0.0.0"]), "addresses[0]"),
        (NODES_GROUP, node(), "addresses", json!(vec!["10.0.0.2"; 17]), "addresses"),
        (NODES_GROUP, node(), "certificateRequest", json!("x"), "certificateRequest"),
        (NODES_GROUP, node(), "certificateRequest", Value::Null, "certificateRequest"),
        (SERVERS_GROUP, server(), "peerAddress", json!("10.0.0.2"), "peerAddress"),
        (SERVERS_GROUP, server(), "peerAddress", Value::Null, "peerAddress"),
        (SERVERS_GROUP, server(), "server", json!("http://10.0.0.2:6443"), "server"),
        (SERVERS_GROUP, server(), "server", json!("https://10.0.0.2:6443/x"), "server"),
    ] {
        let mut body = base;
        body[key] = value;
        let error = setting.ask(&by_token(role), &body).await.unwrap_err();
        assert_eq!(error.code(), 422, "{body}: {error}");
        let causes = &error.status().details.as_ref().unwrap().causes;
        assert!(causes.iter().any(|c| c.field.as_deref() == Some(field)), "{body}: {causes:?}");
    }
    let error = setting.ask(&by_token(NODES_GROUP), &json!({"role": 1})).await.unwrap_err();
    assert_eq!(error.code(), 400);
}

#[tokio::test]
async fn no_node_gets_a_certificate_that_an_api_server_could_show() {
    let setting = setting();
    let user = by_token(NODES_GROUP);
    for (key, value) in [
        ("addresses", json!(["10.0.0.2", "10.0.0.1"])),
        ("addresses", json!(["fd00::1"])),
        ("addresses", json!(["10.96.0.1"])),
        ("addresses", json!(["127.0.0.1"])),
        ("name", json!("first")),
    ] {
        let mut body = node();
        body[key] = value;
        assert_eq!(setting.ask(&user, &body).await.unwrap_err().code(), 422, "{body}");
        // From the server's own machine it may: that is a node too.
        assert!(setting.ask_from("10.0.0.1", &user, &body).await.is_ok(), "{body}");
        assert!(setting.ask_from("127.0.0.1", &user, &body).await.is_ok(), "{body}");
    }
}

#[tokio::test]
async fn a_node_that_works_is_not_taken_over() {
    let setting = setting();
    let put = |ready: &str| {
        let node = json!({"metadata": {"name": "n2"}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        setting.view.put(&NODES, &node).unwrap();
    };
    put("True");
    let error = setting.ask(&by_token(NODES_GROUP), &node()).await.unwrap_err();
    assert_eq!(error.code(), 409, "{error}");
    put("Unknown");
    assert!(setting.ask(&by_token(NODES_GROUP), &node()).await.is_ok());
}
