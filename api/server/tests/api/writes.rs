//! Cases for `writes`: each rule with what it takes and what it refuses.

use navarch_types::{Body, PatchType, Reason, ResourceResponse, Verb};
use serde_json::json;

use crate::requests::{CONFIG_MAPS, DEPLOYMENTS, NAMESPACES, config_map, deployment, names, request, start};

#[tokio::test]
async fn create_fills_in_what_the_server_gives() {
    let (_dir, _world, client) = start().await;
    let made = client.create(&CONFIG_MAPS, Some("default"), config_map("a")).await.unwrap();
    for field in ["uid", "creationTimestamp", "resourceVersion"] {
        assert!(made["metadata"][field].is_string(), "{field}");
    }
    assert_eq!((&made["kind"], &made["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    assert_eq!(made["metadata"]["namespace"], "default");
    let error = client.create(&CONFIG_MAPS, Some("default"), config_map("a")).await.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (409, "configmaps \"a\" already exists"));
    let generated = json!({"metadata": {"generateName": "x-"}});
    let one = client.create(&CONFIG_MAPS, Some("default"), generated.clone()).await.unwrap();
    let two = client.create(&CONFIG_MAPS, Some("default"), generated).await.unwrap();
    assert_ne!(one["metadata"]["name"], two["metadata"]["name"]);
    assert!(one["metadata"]["name"].as_str().unwrap().starts_with("x-"));
}

#[tokio::test]
async fn create_refuses_what_makes_no_sense() {
    let (_dir, _world, client) = start().await;
    for (object, code, text) in [
        (json!({"metadata": {}}), 422, "metadata.name: Required value: name or generateName is required"),
        (json!({"metadata": {"name": "A"}}), 422, "a lowercase RFC 1123 subdomain must consist of"),
        (json!({"metadata": {"name": "a".repeat(300)}}), 422, "must be no more than 253"),
        (
            json!({"metadata": {"name": "a", "namespace": "other"}}),
            400,
            "does not match the namespace sent on the request",
        ),
        (json!({"metadata": {"name": "a", "resourceVersion": "5"}}), 500, "resourceVersion should not be set"),
        (json!({"metadata": {"name": "a"}, "kind": "Secret"}), 400, "cannot be handled as a ConfigMap"),
        (json!({"metadata": {"name": "a"}, "data": {"x": 5}}), 400, "cannot unmarshal number"),
        (json!([]), 400, "unrecognized"),
    ] {
        let error = client.create(&CONFIG_MAPS, Some("default"), object.clone()).await.unwrap_err();
        assert_eq!(error.code(), code, "{object}: {error}");
        assert!(error.to_string().contains(text), "{object}: {error}");
    }
    let error = client.create(&CONFIG_MAPS, Some("missing"), config_map("a")).await.unwrap_err();
    assert_eq!(error.to_string(), "namespaces \"missing\" not found");
    let error = client.create(&CONFIG_MAPS, None, config_map("a")).await.unwrap_err();
    assert_eq!(error.code(), 404);
}

/// What was perhaps carried out is neither tried again nor told as something that certainly did not happen.
#[tokio::test]
async fn a_change_whose_answer_was_lost_is_told_as_such() {
    let (_dir, world, client) = start().await;
    let lose = |lossy| world.lossy.store(lossy, std::sync::atomic::Ordering::Release);
    let first = client.create(&CONFIG_MAPS, Some("default"), config_map("a")).await.unwrap();
    let mut second = first.clone();
    second["data"]["a"] = "2".into();
    lose(true);
    let error = client.update(&CONFIG_MAPS, "a", second.clone()).await.unwrap_err();
    assert!(error.is(Reason::Timeout) && error.code() == 504, "{error}");
    lose(false);
    let now = client.get(&CONFIG_MAPS, "a").await.unwrap();
    assert_eq!(now["data"]["a"], "2");
    // Without a resourceVersion it is not made twice either.
    lose(true);
    let error = client.update(&CONFIG_MAPS, "a", json!({"metadata": {"name": "a"}, "data": {"a": "3"}})).await;
    assert!(error.as_ref().unwrap_err().is(Reason::Timeout), "{error:?}");
    let error = client.create(&CONFIG_MAPS, Some("default"), config_map("b")).await.unwrap_err();
    assert!(error.is(Reason::Timeout), "{error}");
    let error = client.delete(&CONFIG_MAPS, "a", json!({})).await.unwrap_err();
    assert!(error.is(Reason::Timeout), "{error}");
    lose(false);
    assert_eq!(client.get(&CONFIG_MAPS, "a").await.unwrap_err().code(), 404);
    assert_eq!(client.get(&CONFIG_MAPS, "b").await.unwrap()["metadata"]["name"], "b");
}

#[tokio::test]
async fn updates_are_checked_against_what_the_client_saw() {
    let (_dir, _world, client) = start().await;
    let first = client.create(&CONFIG_MAPS, Some("default"), config_map("a")).await.unwrap();
    let mut second = first.clone();
    second["data"]["a"] = "2".into();
    let second = client.update(&CONFIG_MAPS, "a", second).await.unwrap();
    assert_ne!(first["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
    assert_eq!(first["metadata"]["uid"], second["metadata"]["uid"]);
    let error = client.update(&CONFIG_MAPS, "a", first.clone()).await.unwrap_err();
    assert!(error.is(Reason::Conflict) && error.to_string().contains("the object has been modified"), "{error}");
    // Without a resourceVersion the update overwrites; one that changes nothing writes nothing.
    let same = client.update(&CONFIG_MAPS, "a", json!({"metadata": {"name": "a"}, "data": {"a": "2"}})).await.unwrap();
    assert_eq!(same["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
    for (object, code) in [
        (json!({"metadata": {"name": "b"}}), 400),
        (json!({"metadata": {"name": "a", "uid": "other"}}), 409),
        (json!({"metadata": {"name": "a", "resourceVersion": "x"}}), 400),
    ] {
        assert_eq!(client.update(&CONFIG_MAPS, "a", object.clone()).await.unwrap_err().code(), code, "{object}");
    }
    let error = client.update(&CONFIG_MAPS, "missing", config_map("missing")).await.unwrap_err();
    assert_eq!(error.to_string(), "configmaps \"missing\" not found");
}

#[tokio::test]
async fn patches_of_every_type_apply() {
    let (_dir, _world, client) = start().await;
    client.create(&DEPLOYMENTS, Some("default"), deployment("web")).await.unwrap();
    let patched =
        client.patch(&DEPLOYMENTS, "web", PatchType::Merge, json!({"metadata": {"labels": {"x": "y"}}})).await.unwrap();
    assert_eq!(patched["metadata"]["labels"], json!({"app": "web", "x": "y"}));
    let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "d", "image": "e"}]}}}});
    let patched = client.patch(&DEPLOYMENTS, "web", PatchType::Strategic, strategic).await.unwrap();
    assert_eq!(patched["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 2);
    let json_patch = json!([{"op": "replace", "path": "/spec/replicas", "value": 5}]);
    let patched = client.patch(&DEPLOYMENTS, "web", PatchType::Json, json_patch).await.unwrap();
    assert_eq!(patched["spec"]["replicas"], 5);
    assert_eq!(patched["metadata"]["generation"], 3);
    for (patch_type, patch, code) in [
        (PatchType::Apply, json!({}), 415),
        (PatchType::Json, json!([{"op": "test", "path": "/spec/replicas", "value": 9}]), 422),
        (PatchType::Json, json!({}), 400),
        (PatchType::Merge, json!({"spec": {"replicas": "x"}}), 422),
        (PatchType::Merge, json!({"spec": {"replicas": -1}}), 422),
        (PatchType::Merge, json!({"metadata": {"resourceVersion": "1"}}), 409),
        (PatchType::Merge, json!({"metadata": {"name": "x"}}), 400),
    ] {
        let error = client.patch(&DEPLOYMENTS, "web", patch_type, patch.clone()).await.unwrap_err();
        assert_eq!(error.code(), code, "{patch}: {error}");
    }
}

#[tokio::test]
async fn concurrent_patches_all_land() {
    let (_dir, _world, client) = start().await;
    client.create(&CONFIG_MAPS, Some("default"), config_map("a")).await.unwrap();
    let patches = (0..20).map(|i| {
        let client = client.clone();
        async move {
            client.patch(&CONFIG_MAPS, "a", PatchType::Merge, json!({"data": {format!("k{i}"): "v"}})).await.unwrap();
        }
    });
    futures::future::join_all(patches).await;
    assert_eq!(client.get(&CONFIG_MAPS, "a").await.unwrap()["data"].as_object().unwrap().len(), 21);
}

#[tokio::test]
async fn spec_and_status_are_written_apart() {
    let (_dir, _world, client) = start().await;
    let made = client.create(&DEPLOYMENTS, Some("default"), deployment("web")).await.unwrap();
    assert_eq!(made["metadata"]["generation"], 1);
    let mut with_status = made.clone();
    with_status["status"] = json!({"replicas": 7});
    let updated = client.update(&DEPLOYMENTS, "web", with_status.clone()).await.unwrap();
    assert_ne!(updated["status"]["replicas"], 7);
    with_status["spec"]["replicas"] = 9.into();
    with_status["metadata"]["resourceVersion"] = updated["metadata"]["resourceVersion"].clone();
    let mut status = request(Verb::Update, &DEPLOYMENTS, Some("default"), Some("web"));
    status.subresource = Some("status".into());
    status.body = Body::Value(with_status);
    let updated = client.object(status).await.unwrap();
    assert_eq!((&updated["status"]["replicas"], &updated["spec"]["replicas"]), (&json!(7), &json!(2)));
    assert_eq!(updated["metadata"]["generation"], 1);
}

#[tokio::test]
async fn scale_is_a_view() {
    let (_dir, _world, client) = start().await;
    client.create(&DEPLOYMENTS, Some("default"), deployment("web")).await.unwrap();
    let scale = |verb| {
        let mut request = request(verb, &DEPLOYMENTS, Some("default"), Some("web"));
        request.subresource = Some("scale".into());
        request
    };
    let read = client.object(scale(Verb::Get)).await.unwrap();
    assert_eq!((&read["kind"], &read["spec"]["replicas"]), (&json!("Scale"), &json!(2)));
    assert_eq!(read["status"]["selector"], "app=web");
    let mut patch = scale(Verb::Patch);
    patch.patch = Some(PatchType::Merge);
    patch.body = Body::Value(json!({"spec": {"replicas": 4}}));
    assert_eq!(client.object(patch).await.unwrap()["spec"]["replicas"], 4);
    let deployment = client.get(&DEPLOYMENTS, "web").await.unwrap();
    assert_eq!((&deployment["spec"]["replicas"], &deployment["metadata"]["generation"]), (&json!(4), &json!(2)));
    let mut negative = scale(Verb::Update);
    negative.body = Body::Value(json!({"metadata": {"name": "web"}, "spec": {"replicas": -1}}));
    assert_eq!(client.object(negative).await.unwrap_err().code(), 422);
}

#[tokio::test]
async fn dry_runs_change_nothing() {
    let (_dir, _world, client) = start().await;
    let mut create = request(Verb::Create, &CONFIG_MAPS, Some("default"), None);
    create.write.dry_run = true;
    create.body = Body::Value(config_map("a"));
    let made = client.object(create.clone()).await.unwrap();
    assert!(made["metadata"]["uid"].is_string() && made["metadata"]["resourceVersion"].is_null());
    assert_eq!(client.get(&CONFIG_MAPS, "a").await.unwrap_err().code(), 404);
    client.create(&CONFIG_MAPS, Some("default"), config_map("a")).await.unwrap();
    assert_eq!(client.object(create).await.unwrap_err().code(), 409);
    let mut patch = request(Verb::Patch, &CONFIG_MAPS, Some("default"), Some("a"));
    patch.write.dry_run = true;
    patch.patch = Some(PatchType::Merge);
    patch.body = Body::Value(json!({"data": {"a": "2"}}));
    assert_eq!(client.object(patch).await.unwrap()["data"]["a"], "2");
    assert_eq!(client.get(&CONFIG_MAPS, "a").await.unwrap()["data"]["a"], "1");
    let mut delete = request(Verb::Delete, &CONFIG_MAPS, Some("default"), Some("a"));
    delete.body = Body::Value(json!({"dryRun": ["All"]}));
    client.object(delete).await.unwrap();
    client.get(&CONFIG_MAPS, "a").await.unwrap();
}

#[tokio::test]
async fn deletes_wait_for_finalizers() {
    let (_dir, _world, client) = start().await;
    let object = json!({"metadata": {"name": "a", "finalizers": ["example.com/x"]}});
    let made = client.create(&CONFIG_MAPS, Some("default"), object).await.unwrap();
    let deleted = client.delete(&CONFIG_MAPS, "a", json!({})).await.unwrap();
    assert!(deleted["metadata"]["deletionTimestamp"].is_string());
    let again = client.delete(&CONFIG_MAPS, "a", json!({})).await.unwrap();
    assert_eq!(again["metadata"]["resourceVersion"], deleted["metadata"]["resourceVersion"]);
    let more = json!({"metadata": {"finalizers": ["example.com/x", "example.com/y"]}});
    let error = client.patch(&CONFIG_MAPS, "a", PatchType::Merge, more).await.unwrap_err();
    assert!(error.to_string().contains("no new finalizers can be added if the object is being deleted"), "{error}");
    let none = json!({"metadata": {"finalizers": null}});
    client.patch(&CONFIG_MAPS, "a", PatchType::Merge, none).await.unwrap();
    assert_eq!(client.get(&CONFIG_MAPS, "a").await.unwrap_err().code(), 404);
    let again = client.create(&CONFIG_MAPS, Some("default"), config_map("a")).await.unwrap();
    assert_ne!(made["metadata"]["uid"], again["metadata"]["uid"]);
}

#[tokio::test]
async fn deletes_respect_preconditions_and_policies() {
    let (_dir, _world, client) = start().await;
    let made = client.create(&CONFIG_MAPS, Some("default"), config_map("a")).await.unwrap();
    let wrong = json!({"preconditions": {"uid": "other"}});
    let error = client.delete(&CONFIG_MAPS, "a", wrong).await.unwrap_err();
    assert!(error.is(Reason::Conflict) && error.to_string().contains("UID in precondition: other"), "{error}");
    let wrong = json!({"preconditions": {"resourceVersion": "1"}});
    assert!(client.delete(&CONFIG_MAPS, "a", wrong).await.unwrap_err().is(Reason::Conflict));
    let error = client.delete(&CONFIG_MAPS, "a", json!({"propagationPolicy": "Never"})).await.unwrap_err();
    assert_eq!(error.code(), 422);
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        let deleted = client.delete(&CONFIG_MAPS, "a", json!({"propagationPolicy": policy})).await.unwrap();
        assert_eq!(deleted["metadata"]["finalizers"], json!([finalizer]));
    }
    let right = json!({"preconditions": {"uid": made["metadata"]["uid"]}, "propagationPolicy": "Background"});
    let status = client.delete(&CONFIG_MAPS, "a", right).await.unwrap();
    assert_eq!((&status["status"], &status["details"]["uid"]), (&json!("Success"), &made["metadata"]["uid"]));
    let error = client.delete(&CONFIG_MAPS, "a", json!({})).await.unwrap_err();
    assert_eq!(error.to_string(), "configmaps \"a\" not found");
}

#[tokio::test]
async fn collections_are_deleted_by_selection() {
    let (_dir, _world, client) = start().await;
    for (name, tier) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let object = json!({"metadata": {"name": name, "labels": {"tier": tier}}});
        client.create(&CONFIG_MAPS, Some("default"), object).await.unwrap();
    }
    let mut delete = request(Verb::DeleteCollection, &CONFIG_MAPS, Some("default"), None);
    delete.list.label_selector = Some("tier=x".to_owned());
    let ResourceResponse::List(deleted) = client.send(delete).await.unwrap() else { panic!("no list") };
    assert_eq!(names(&deleted), ["a", "b"]);
    let left = client.list(&CONFIG_MAPS, Some("default"), navarch_types::ListOptions::default()).await.unwrap();
    assert_eq!(names(&left), ["c"]);
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_finalized() {
    let (_dir, _world, client) = start().await;
    let made = client.create(&NAMESPACES, None, json!({"metadata": {"name": "gone"}})).await.unwrap();
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(made["status"]["phase"], "Active");
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "gone");
    let deleted = client.object(request(Verb::Delete, &NAMESPACES, None, Some("gone"))).await.unwrap();
    assert_eq!(deleted["status"]["phase"], "Terminating");
    let error = client.create(&CONFIG_MAPS, Some("gone"), config_map("a")).await.unwrap_err();
    assert!(error.is(Reason::Forbidden) && error.to_string().contains("being terminated"), "{error}");
    let mut finalize = request(Verb::Update, &NAMESPACES, None, Some("gone"));
    finalize.subresource = Some("finalize".into());
    let mut body = deleted.clone();
    body["spec"]["finalizers"] = json!([]);
    finalize.body = Body::Value(body);
    client.object(finalize).await.unwrap();
    let error = client.object(request(Verb::Get, &NAMESPACES, None, Some("gone"))).await.unwrap_err();
    assert_eq!(error.code(), 404);
}

#[tokio::test]
async fn unknown_fields_warn_or_fail() {
    let (_dir, world, client) = start().await;
    let body = br#"{"metadata":{"name":"a"},"data":{"a":"1","a":"2"},"nope":1}"#;
    let mut create = request(Verb::Create, &CONFIG_MAPS, Some("default"), None);
    create.body = Body::Bytes { media_type: "application/json".into(), content: bytes::Bytes::from_static(body) };
    create.write.field_validation = Some("Strict".to_owned());
    let error = client.object(create.clone()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field \"data.a\", \
         unknown field \"nope\""
    );
    create.write.field_validation = None;
    let answer = world.pipeline.request(&crate::world::admin(), create).await.unwrap();
    assert_eq!(answer.warnings, ["duplicate field \"data.a\"", "unknown field \"nope\""]);
    assert_eq!(client.get(&CONFIG_MAPS, "a").await.unwrap()["data"], json!({"a": "2"}));
}
