//! Cases for `watches`: each rule with what it takes and what it refuses.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use navarch_raft_contract::PrefixFloor;
use navarch_store::upkeep;
use navarch_types::{ApiError, ListOptions, PatchType, Reason, Verb, WatchEvent};
use serde_json::json;

use crate::requests::{CONFIG_MAPS, Client, PODS, config_map, request, start};
use crate::world::admin;

type Events = BoxStream<'static, Result<WatchEvent, ApiError>>;

async fn watch(client: &Client, options: ListOptions) -> Result<Events, ApiError> {
    let mut request = request(Verb::Watch, &CONFIG_MAPS, Some("default"), None);
    request.list = options;
    client.0.watch(&admin(), request).await
}

async fn next(events: &mut Events) -> String {
    let event = tokio::time::timeout(Duration::from_secs(10), events.next()).await.unwrap().unwrap().unwrap();
    let metadata = event.object.metadata().unwrap();
    let end = if event.initial_events_end { " end" } else { "" };
    format!("{} {}{end}", event.event_type.as_str(), metadata.name.clone().unwrap_or_default())
}

async fn label(client: &Client, name: &str, tier: &str) {
    let patch = json!({"metadata": {"labels": {"tier": tier}}});
    client.patch(&CONFIG_MAPS, name, PatchType::Merge, patch).await.unwrap();
}

#[tokio::test]
async fn a_watch_begins_with_the_state_or_after_a_revision() {
    let (_dir, _world, client) = start().await;
    let made = client.create(&CONFIG_MAPS, Some("default"), config_map("a")).await.unwrap();
    let version = made["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut state = watch(&client, ListOptions::default()).await.unwrap();
    let after = ListOptions { resource_version: Some(version), ..ListOptions::default() };
    client.create(&CONFIG_MAPS, Some("default"), config_map("b")).await.unwrap();
    client.create(&CONFIG_MAPS, Some("other"), config_map("x")).await.unwrap();
    client.delete(&CONFIG_MAPS, "a", json!({})).await.unwrap();
    let mut resumed = watch(&client, after).await.unwrap();
    for expected in ["ADDED a", "ADDED b", "DELETED a"] {
        assert_eq!(next(&mut state).await, expected);
    }
    for expected in ["ADDED b", "DELETED a"] {
        assert_eq!(next(&mut resumed).await, expected);
    }
}

#[tokio::test]
async fn what_leaves_the_selection_is_deleted_from_it() {
    let (_dir, _world, client) = start().await;
    let options = ListOptions { label_selector: Some("tier=x".to_owned()), ..ListOptions::default() };
    let mut events = watch(&client, options).await.unwrap();
    client.create(&CONFIG_MAPS, Some("default"), config_map("a")).await.unwrap();
    label(&client, "a", "x").await;
    client.patch(&CONFIG_MAPS, "a", PatchType::Merge, json!({"data": {"b": "1"}})).await.unwrap();
    label(&client, "a", "y").await;
    label(&client, "a", "x").await;
    client.delete(&CONFIG_MAPS, "a", json!({})).await.unwrap();
    for expected in ["ADDED a", "MODIFIED a", "DELETED a", "ADDED a", "DELETED a"] {
        assert_eq!(next(&mut events).await, expected);
    }
}

#[tokio::test]
async fn a_watch_list_ends_its_state_with_a_bookmark() {
    let (_dir, _world, client) = start().await;
    client.create(&CONFIG_MAPS, Some("default"), config_map("a")).await.unwrap();
    let options = ListOptions {
        send_initial_events: Some(true),
        resource_version_match: Some("NotOlderThan".to_owned()),
        allow_watch_bookmarks: true,
        ..ListOptions::default()
    };
    let mut events = watch(&client, options.clone()).await.unwrap();
    assert_eq!(next(&mut events).await, "ADDED a");
    assert_eq!(next(&mut events).await, "BOOKMARK  end");
    client.create(&CONFIG_MAPS, Some("default"), config_map("b")).await.unwrap();
    assert_eq!(next(&mut events).await, "ADDED b");
    let wrong = ListOptions { resource_version_match: None, ..options };
    assert_eq!(watch(&client, wrong).await.err().unwrap().code(), 422);
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_over() {
    let (_dir, _world, client) = start().await;
    let options = ListOptions { allow_watch_bookmarks: true, timeout_seconds: Some(1), ..ListOptions::default() };
    let mut events = watch(&client, options).await.unwrap();
    while let Some(event) = events.next().await {
        assert_eq!(event.unwrap().event_type.as_str(), "BOOKMARK");
    }
}

#[tokio::test]
async fn one_object_can_be_watched() {
    let (_dir, _world, client) = start().await;
    for name in ["a", "b"] {
        client.create(&CONFIG_MAPS, Some("default"), config_map(name)).await.unwrap();
    }
    let options = ListOptions { field_selector: Some("metadata.name=b".to_owned()), ..ListOptions::default() };
    let mut events = watch(&client, options).await.unwrap();
    assert_eq!(next(&mut events).await, "ADDED b");
    client.delete(&CONFIG_MAPS, "a", json!({})).await.unwrap();
    client.delete(&CONFIG_MAPS, "b", json!({})).await.unwrap();
    assert_eq!(next(&mut events).await, "DELETED b");
}

#[tokio::test]
async fn a_forgotten_revision_is_gone() {
    let (_dir, world, client) = start().await;
    client.create(&CONFIG_MAPS, Some("default"), config_map("a")).await.unwrap();
    let options = ListOptions { resource_version: Some("1".to_owned()), ..ListOptions::default() };
    assert_eq!(next(&mut watch(&client, options.clone()).await.unwrap()).await, "ADDED a");
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    let floors = |all| upkeep::Floors { all, prefixes: vec![] };
    let revision = world.store.revision();
    upkeep::compact(&world.store, floors(revision), deadline).await.unwrap();
    // Whether the answer is at hand or not: what is below the floor is gone, also of a resource that has not changed.
    let at = |revision: u64| ListOptions {
        resource_version: Some(revision.to_string()),
        resource_version_match: Some("Exact".to_owned()),
        ..ListOptions::default()
    };
    for resource in [&CONFIG_MAPS, &PODS] {
        let gone = client.list(resource, Some("default"), at(revision - 1)).await.unwrap_err();
        assert_eq!((gone.code(), gone.is(Reason::Expired)), (410, true), "{gone}");
        client.list(resource, Some("default"), at(revision)).await.unwrap();
        let future = client.list(resource, Some("default"), at(revision + 1000)).await.unwrap_err();
        assert_eq!(future.code(), 504, "{future}");
    }
    // And a shorter history of some keys does not shorten that of others.
    let made = client.create(&CONFIG_MAPS, Some("default"), config_map("b")).await.unwrap();
    let then: u64 = made["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    client.create(&CONFIG_MAPS, Some("default"), config_map("c")).await.unwrap();
    let prefix = navarch_store::key::resource_prefix(&navarch_types::GroupResource {
        group: "".into(),
        resource: "configmaps".into(),
    });
    let prefixes = vec![PrefixFloor { prefix: prefix.into(), floor: world.store.revision() }];
    upkeep::compact(&world.store, upkeep::Floors { all: 0, prefixes }, deadline).await.unwrap();
    assert_eq!(client.list(&CONFIG_MAPS, Some("default"), at(then)).await.unwrap_err().code(), 410);
    client.list(&PODS, Some("default"), at(then)).await.unwrap();
}
