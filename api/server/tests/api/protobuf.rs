//! Bodies in protobuf: the same as in JSON.

use std::path::PathBuf;

use bytes::Bytes;
use navarch_registry::Table;
use navarch_types::protobuf::{self, MEDIA_TYPE};
use navarch_types::schema::Schema;
use navarch_types::{Body, GroupVersionKind, GroupVersionResource, Verb};
use serde_json::{Value, json};

use crate::requests::{CONFIG_MAPS, DEPLOYMENTS, NAMESPACES, PODS, SERVICES, config_map, deployment, request, start};

const DEPLOYMENT: GroupVersionKind = GroupVersionKind::new("apps", "v1", "Deployment");

fn sent(content: Vec<u8>) -> Body {
    Body::Bytes { media_type: MEDIA_TYPE.into(), content: Bytes::from(content) }
}

fn encoded(kind: &GroupVersionKind, object: &Value) -> Vec<u8> {
    let mut object = object.clone();
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.as_ref().into();
    protobuf::body(Schema::builtin(), &object).unwrap()
}

fn body(kind: &GroupVersionKind, object: &Value) -> Body {
    sent(encoded(kind, object))
}

#[tokio::test]
async fn objects_are_created_and_updated() {
    let (_dir, _world, client) = start().await;
    let bindings = GroupVersionResource::new("rbac.authorization.k8s.io", "v1", "clusterrolebindings");
    let binding = GroupVersionKind::new("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding");
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
    let pod = json!({"containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 0});
    for (resource, namespace, kind, object) in [
        (NAMESPACES, None, GroupVersionKind::new("", "v1", "Namespace"), json!({})),
        (
            CONFIG_MAPS,
            Some("default"),
            GroupVersionKind::new("", "v1", "ConfigMap"),
            json!({"binaryData": {"x": "AAEC"}}),
        ),
        (bindings, None, binding, json!({"roleRef": role})),
        (PODS, Some("default"), GroupVersionKind::new("", "v1", "Pod"), json!({"spec": pod})),
    ] {
        let mut answers = Vec::new();
        for name in ["a", "b"] {
            let mut object = object.clone();
            object["metadata"] = json!({"name": name});
            let mut create = request(Verb::Create, &resource, namespace, None);
            create.body = if name == "a" { body(&kind, &object) } else { Body::Value(object) };
            let mut made = client.object(create).await.unwrap();
            assert_eq!(made["metadata"]["name"], name);
            made["metadata"].take();
            // The token's volume is named at random.
            if resource == PODS {
                made["spec"]["volumes"].take();
                made["spec"]["containers"][0]["volumeMounts"].take();
            }
            answers.push(made);
        }
        assert_eq!(answers[0], answers[1]);
    }
    let made = client.create(&DEPLOYMENTS, Some("default"), deployment("web")).await.unwrap();
    let mut changed = made.clone();
    changed["spec"]["replicas"] = 0.into();
    let mut update = request(Verb::Update, &DEPLOYMENTS, Some("default"), Some("web"));
    update.body = body(&DEPLOYMENT, &changed);
    let updated = client.object(update).await.unwrap();
    assert_eq!(updated["spec"], changed["spec"]);
    // Nothing that was not sent was changed with it, so the same again writes nothing.
    let mut update = request(Verb::Update, &DEPLOYMENTS, Some("default"), Some("web"));
    update.body = body(&DEPLOYMENT, &updated);
    assert_eq!(client.object(update).await.unwrap(), updated);
}

/// `kubectl expose` sends a target port of zero if it has none.
#[tokio::test]
async fn zeros_that_are_always_sent_are_no_choice() {
    let (_dir, _world, client) = start().await;
    let service = json!({"metadata": {"name": "s"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}});
    let mut create = request(Verb::Create, &SERVICES, Some("default"), None);
    create.body = body(&GroupVersionKind::new("", "v1", "Service"), &service);
    let mut made = client.object(create).await.unwrap();
    let mut plain = client.create(&SERVICES, Some("other"), service).await.unwrap();
    for (object, other) in [(&mut made, "default"), (&mut plain, "other")] {
        assert_eq!(object["metadata"]["namespace"], other);
        object["spec"]["clusterIP"].take();
        object["spec"]["clusterIPs"].take();
    }
    assert_eq!(made["spec"], plain["spec"]);
}

#[tokio::test]
async fn subresources_and_options_take_it_too() {
    let (_dir, _world, client) = start().await;
    client.create(&DEPLOYMENTS, Some("default"), deployment("web")).await.unwrap();
    let scale = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": 7}});
    let mut update = request(Verb::Update, &DEPLOYMENTS, Some("default"), Some("web"));
    update.subresource = Some("scale".into());
    update.body = body(&GroupVersionKind::new("autoscaling", "v1", "Scale"), &scale);
    assert_eq!(client.object(update).await.unwrap()["spec"]["replicas"], 7);

    let accounts = GroupVersionResource::new("", "v1", "serviceaccounts");
    let mut create = request(Verb::Create, &accounts, Some("default"), Some("default"));
    create.subresource = Some("token".into());
    let token = json!({"spec": {"audiences": ["a"], "expirationSeconds": 700}});
    create.body = body(&GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest"), &token);
    assert!(client.object(create).await.unwrap()["status"]["token"].is_string());

    let reviews = GroupVersionResource::new("authorization.k8s.io", "v1", "subjectaccessreviews");
    let mut create = request(Verb::Create, &reviews, None, None);
    let review = json!({"spec": {"user": "u", "groups": ["system:masters"], "extra": {"a": ["b"]},
        "resourceAttributes": {"verb": "get", "resource": "pods"}}});
    create.body = body(&GroupVersionKind::new("authorization.k8s.io", "v1", "SubjectAccessReview"), &review);
    assert_eq!(client.object(create).await.unwrap()["status"]["allowed"], true);

    // Clients send their options in the group of what they delete.
    let schema = Schema::builtin();
    let options = schema.by_kind("", "v1", "DeleteOptions").unwrap();
    let mut config = config_map("kept");
    config["metadata"]["finalizers"] = json!(["example.com/wait"]);
    client.create(&CONFIG_MAPS, Some("default"), config).await.unwrap();
    for (precondition, code) in [("other", 409), ("", 200)] {
        let mut object = json!({"propagationPolicy": "Background", "gracePeriodSeconds": 0});
        if !precondition.is_empty() {
            object["preconditions"] = json!({"uid": precondition});
        }
        let raw = protobuf::encode(schema, options, &object).unwrap();
        let mut delete = request(Verb::Delete, &CONFIG_MAPS, Some("default"), Some("kept"));
        delete.body = sent(protobuf::enclose("apps/v1", "DeleteOptions", &raw));
        assert_eq!(client.object(delete).await.map_or_else(|e| e.code(), |_| 200), code);
    }
    let left = client.get(&CONFIG_MAPS, "kept").await.unwrap();
    assert!(left["metadata"]["deletionTimestamp"].is_string());
}

#[tokio::test]
async fn damaged_and_foreign_bodies_are_refused() {
    let (_dir, _world, client) = start().await;
    let good = encoded(&DEPLOYMENT, &deployment("web"));
    let mut foreign = good.clone();
    foreign.truncate(good.len() - 9);
    for (content, code, why) in [
        (b"{}".to_vec(), 400, "the object provided is unrecognized (must be of type Deployment): provided data"),
        (foreign, 400, "the object provided is unrecognized (must be of type Deployment): unexpected EOF"),
        (protobuf::enclose("v1", "Pod", b""), 400, "it is not a Deployment"),
        (protobuf::enclose("apps/v1", "Deployment", b"\x0a\x01\x08"), 400, "cannot be handled as a Deployment: unexp"),
    ] {
        let mut create = request(Verb::Create, &DEPLOYMENTS, Some("default"), None);
        create.body = sent(content);
        let error = client.object(create).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// Upstream's examples of every kind get the same answer in protobuf as in JSON.
#[tokio::test]
async fn every_kind_gets_the_answer_that_json_gets() {
    let Some(folder) = std::env::var_os("NAVARCH_K8S_DATA").map(PathBuf::from) else { return };
    let (_dir, _world, client) = start().await;
    let (mut failures, mut seen) = (Vec::new(), 0);
    for resource in Table::builtin().iter().filter(|r| r.verbs.contains(&Verb::Create)) {
        let group = if resource.kind.group.is_empty() { "core" } else { &resource.kind.group };
        let file = format!("{group}.{}.{}.json", resource.kind.version, resource.kind.kind);
        let Ok(text) = std::fs::read_to_string(folder.join("api-golden-v1.36").join(&file)) else { continue };
        seen += 1;
        let mut object: Value = serde_json::from_str(&text).unwrap();
        object["metadata"] = json!({"name": "example"});
        let mut answers = Vec::new();
        for content in [Body::Value(object.clone()), body(&resource.kind, &object)] {
            let mut create = request(Verb::Create, &resource.served, resource.namespaced.then_some("default"), None);
            create.write.dry_run = true;
            create.body = content;
            let answer = client.object(create).await.map(|mut value| {
                value["metadata"].take();
                value
            });
            answers.push(answer.map_err(|e| (e.code(), e.to_string())));
        }
        if answers[0] != answers[1] {
            failures.push(format!("{file}: {:?}\nin protobuf: {:?}", answers[0], answers[1]));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(seen > 50, "only {seen} examples found");
}
