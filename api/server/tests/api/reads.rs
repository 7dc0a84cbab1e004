//! Cases for `reads`: each rule with what it takes and what it refuses.

use navarch_types::{ListOptions, Reason, Verb};
use serde_json::json;

use crate::requests::{CONFIG_MAPS, NAMESPACES, PODS, config_map, names, request, start};

fn paged(limit: u64, token: Option<String>) -> ListOptions {
    ListOptions { limit, continue_token: token, ..ListOptions::default() }
}

#[tokio::test]
async fn pages_of_a_list_are_of_one_moment() {
    let (_dir, _world, client) = start().await;
    for i in 0..10 {
        client.create(&CONFIG_MAPS, Some("default"), config_map(&format!("c{i}"))).await.unwrap();
    }
    client.create(&CONFIG_MAPS, Some("other"), config_map("x")).await.unwrap();
    let first = client.list(&CONFIG_MAPS, Some("default"), paged(4, None)).await.unwrap();
    assert_eq!((first.items.len(), first.remaining), (4, Some(6)));
    // What happens now is not part of this list.
    client.create(&CONFIG_MAPS, Some("default"), config_map("c55")).await.unwrap();
    client.delete(&CONFIG_MAPS, "c7", json!({})).await.unwrap();
    let second = client.list(&CONFIG_MAPS, Some("default"), paged(4, first.continue_token)).await.unwrap();
    assert_eq!(second.revision, first.revision);
    let third = client.list(&CONFIG_MAPS, Some("default"), paged(4, second.continue_token.clone())).await.unwrap();
    assert_eq!(third.continue_token, None);
    let all: Vec<String> = [&first.items, &second.items, &third.items]
        .iter()
        .flat_map(|items| items.iter().map(|o| o.metadata().unwrap().name.clone().unwrap()))
        .collect();
    assert_eq!(all, (0..10).map(|i| format!("c{i}")).collect::<Vec<_>>());
    let error = client.list(&CONFIG_MAPS, Some("default"), paged(4, Some("x".to_owned()))).await.unwrap_err();
    assert!(error.to_string().contains("continue key is not valid"), "{error}");
}

#[tokio::test]
async fn selectors_select() {
    let (_dir, _world, client) = start().await;
    for (name, tier) in [("a", "x"), ("b", "y"), ("c", "z")] {
        let object = json!({"metadata": {"name": name, "labels": {"tier": tier}}});
        client.create(&CONFIG_MAPS, Some("default"), object).await.unwrap();
    }
    for (labels, fields, expected) in [
        ("tier=x", "", vec!["a"]),
        ("tier in (x,y)", "", vec!["a", "b"]),
        ("tier!=x", "", vec!["b", "c"]),
        ("!tier", "", vec![]),
        ("tier", "metadata.name=b", vec!["b"]),
        ("", "metadata.name!=b", vec!["a", "c"]),
        ("", "metadata.namespace=other", vec![]),
    ] {
        let options = ListOptions {
            label_selector: Some(labels.to_owned()),
            field_selector: Some(fields.to_owned()),
            ..ListOptions::default()
        };
        let list = client.list(&CONFIG_MAPS, Some("default"), options).await.unwrap();
        assert_eq!(names(&list), expected, "{labels} {fields}");
    }
    let options = ListOptions { field_selector: Some("spec.x=1".to_owned()), ..ListOptions::default() };
    assert_eq!(client.list(&CONFIG_MAPS, None, options.clone()).await.unwrap_err().code(), 400);
    let error = client.list(&PODS, None, options).await.unwrap_err();
    assert_eq!(error.to_string(), "field label not supported: spec.x");
    let options = ListOptions { label_selector: Some("a b".to_owned()), ..ListOptions::default() };
    assert_eq!(client.list(&CONFIG_MAPS, None, options).await.unwrap_err().code(), 400);
}

#[tokio::test]
async fn pods_are_selected_by_their_node() {
    let (_dir, _world, client) = start().await;
    for (name, node) in [("a", Some("n1")), ("b", None)] {
        let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        if let Some(node) = node {
            pod["spec"]["nodeName"] = node.into();
        }
        client.create(&PODS, Some("default"), pod).await.unwrap();
    }
    for (selector, expected) in [("spec.nodeName=n1", ["a"]), ("spec.nodeName=", ["b"]), ("spec.nodeName!=", ["a"])] {
        let options = ListOptions { field_selector: Some(selector.to_owned()), ..ListOptions::default() };
        assert_eq!(names(&client.list(&PODS, None, options).await.unwrap()), expected, "{selector}");
    }
}

#[tokio::test]
async fn lists_at_a_revision() {
    let (_dir, _world, client) = start().await;
    let made = client.create(&CONFIG_MAPS, Some("default"), config_map("a")).await.unwrap();
    let then: u64 = made["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    client.create(&CONFIG_MAPS, Some("default"), config_map("b")).await.unwrap();
    let at = |version: String, rule: &str| ListOptions {
        resource_version: Some(version),
        resource_version_match: Some(rule.to_owned()),
        ..ListOptions::default()
    };
    let old = client.list(&CONFIG_MAPS, Some("default"), at(then.to_string(), "Exact")).await.unwrap();
    assert_eq!((names(&old), old.revision), (vec!["a".to_owned()], then));
    let newer = client.list(&CONFIG_MAPS, Some("default"), at(then.to_string(), "NotOlderThan")).await.unwrap();
    assert_eq!(names(&newer), ["a", "b"]);
    let future = client.list(&CONFIG_MAPS, Some("default"), at((then + 1000).to_string(), "NotOlderThan")).await;
    let error = future.unwrap_err();
    assert_eq!(error.code(), 504);
    let causes = &error.status().details.as_ref().unwrap().causes;
    assert_eq!(causes[0].reason.as_deref(), Some("ResourceVersionTooLarge"));
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let (_dir, _world, client) = start().await;
    let error = client.get(&CONFIG_MAPS, "x").await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.is(Reason::NotFound)), ("configmaps \"x\" not found", true));
    let unknown = navarch_types::GroupVersionResource::new("example.com", "v1", "things");
    let error = client.get(&unknown, "x").await.unwrap_err();
    assert_eq!(error.to_string(), "the server could not find the requested resource");
    let error = client.object(request(Verb::DeleteCollection, &NAMESPACES, None, None)).await.unwrap_err();
    assert_eq!(error.code(), 405);
    let error = client.object(request(Verb::Get, &NAMESPACES, Some("default"), Some("x"))).await.unwrap_err();
    assert_eq!(error.code(), 404);
}

#[tokio::test]
async fn who_may_not_is_refused() {
    let (_dir, world, _client) = start().await;
    let user = navarch_types::UserInfo::new("jane", &["system:authenticated"]);
    let get = request(Verb::Get, &CONFIG_MAPS, Some("default"), Some("a"));
    let error = world.client().request(&user, get).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "configmaps \"a\" is forbidden: User \"jane\" cannot get resource \"configmaps\" in API group \"\" in the namespace \
         \"default\""
    );
}
