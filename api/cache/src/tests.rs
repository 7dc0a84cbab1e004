//! Views and watches against a state kept in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use navarch_raft_contract::{
    AppliedBatch, ApplySink, Event, EventKind, Expiry, KeyRange, KeyValue, RangePage, ReadError, StateReader,
};
use navarch_store::key::object_key;
use navarch_types::GroupResource;
use parking_lot::Mutex;
use serde_json::json;

use crate::{CacheLimits, Caches, ResourceCache, Scope, WatchError, Watcher};

#[derive(Default)]
struct Memory {
    events: Vec<Event>,
    revision: u64,
    floor: u64,
}

#[derive(Default)]
struct MemoryState(Mutex<Memory>);

impl StateReader for MemoryState {
    fn revision(&self) -> u64 {
        self.0.lock().revision
    }
    fn applied_index(&self) -> u64 {
        self.revision()
    }
    fn compacted(&self) -> u64 {
        self.0.lock().floor
    }
    fn get(&self, key: &[u8], at: Option<u64>) -> Result<Option<KeyValue>, ReadError> {
        let range = KeyRange { start: Bytes::copy_from_slice(key), end: [key, &[0]].concat().into() };
        Ok(self.range(&range, at, 1)?.0.items.pop())
    }
    fn range(&self, range: &KeyRange, at: Option<u64>, limit: usize) -> Result<(RangePage, u64), ReadError> {
        let memory = self.0.lock();
        let at = at.unwrap_or(memory.revision);
        let mut latest = std::collections::BTreeMap::new();
        for event in memory.events.iter().filter(|e| e.revision <= at && e.key >= range.start && e.key < range.end) {
            match event.kind {
                EventKind::Put => latest.insert(event.key.clone(), event.clone()),
                EventKind::Delete => latest.remove(&event.key),
            };
        }
        let items: Vec<KeyValue> = latest
            .into_values()
            .map(|e| KeyValue {
                key: e.key,
                value: e.value,
                create_revision: e.create_revision,
                mod_revision: e.revision,
            })
            .collect();
        let more = items.len() > limit;
        Ok((RangePage { items: items.into_iter().take(limit).collect(), more }, at))
    }
    fn count(&self, range: &KeyRange) -> Result<u64, ReadError> {
        Ok(self.range(range, None, usize::MAX)?.0.items.len() as u64)
    }
    fn events(&self, range: &KeyRange, after: u64, max_bytes: usize) -> Result<(Vec<Event>, u64), ReadError> {
        let memory = self.0.lock();
        if after < memory.floor {
            return Err(ReadError::Compacted { asked: after, floor: memory.floor });
        }
        let mut out = Vec::new();
        let mut bytes = 0;
        for event in memory.events.iter().filter(|e| e.revision > after) {
            if bytes > max_bytes {
                return Ok((out, event.revision - 1));
            }
            bytes += event.value.len();
            if event.key >= range.start && event.key < range.end {
                out.push(event.clone());
            }
        }
        Ok((out, memory.revision))
    }
    fn expired(&self, _: u64, _: usize) -> Result<Vec<Expiry>, ReadError> {
        Ok(Vec::new())
    }
}

struct World {
    state: Arc<MemoryState>,
    caches: Arc<Caches>,
}

fn pods() -> GroupResource {
    GroupResource { group: "".into(), resource: "pods".into() }
}

impl World {
    fn new(limits: CacheLimits) -> Self {
        let state = Arc::new(MemoryState::default());
        state.0.lock().revision = 1;
        let caches = Caches::new(Arc::clone(&state) as Arc<dyn StateReader>, limits);
        Self { state, caches }
    }

    fn pods(&self) -> Arc<ResourceCache> {
        self.caches.resource(&pods(), true)
    }

    fn commit(&self, changes: &[(&str, &str, Option<&str>)]) -> u64 {
        let mut events = Vec::new();
        let batch = {
            let mut memory = self.state.0.lock();
            for (namespace, name, node) in changes {
                memory.revision += 1;
                let key = object_key(&pods(), namespace, name);
                let prev = memory.events.iter().rev().find(|e| e.key == key && e.kind == EventKind::Put).cloned();
                let value = match node {
                    Some(node) => navarch_types::object::encode(&json!({"apiVersion": "v1", "kind": "Pod",
                        "metadata": {"name": name, "namespace": namespace},
                        "spec": {"nodeName": node, "containers": []}}))
                    .unwrap(),
                    None => prev.as_ref().unwrap().value.clone(),
                };
                let revision = memory.revision;
                let event = Event {
                    revision,
                    key,
                    kind: if node.is_some() { EventKind::Put } else { EventKind::Delete },
                    value,
                    create_revision: prev.as_ref().map_or(revision, |p| p.create_revision),
                    prev_revision: prev.map_or(0, |p| p.revision),
                };
                memory.events.push(event.clone());
                events.push(event);
            }
            AppliedBatch { index: memory.revision, term: 1, revision: memory.revision, compacted: 0, events }
        };
        self.caches.applied(&batch);
        batch.revision
    }
}

async fn next(watcher: &mut Watcher) -> Result<(u64, String, bool), WatchError> {
    let event = tokio::time::timeout(Duration::from_secs(10), watcher.next()).await.expect("an event is due")?;
    Ok((event.revision, event.key.to_string(), event.deleted))
}

fn scope(namespace: Option<&str>, name: Option<&str>, node: Option<&str>) -> Scope {
    Scope {
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        field: node.map(|n| ("spec.nodeName", n.to_owned())),
    }
}

#[tokio::test]
async fn a_committed_write_is_visible_and_lists_are_ordered() {
    let world = World::new(CacheLimits::default());
    let cache = world.pods();
    let revision = world.commit(&[("b", "x", Some("")), ("a", "z", Some("")), ("a", "y", Some(""))]);
    assert_eq!(cache.get("a", "z").unwrap().revision(), 3);
    let (at, items) = cache.list(None);
    assert_eq!(at, revision);
    assert_eq!(items.iter().map(|o| o.revision()).collect::<Vec<_>>(), [4, 3, 2]);
    assert_eq!(cache.list(Some("b")).1.len(), 1);
    let page = cache.page(None, Some("a/y"), 1);
    assert_eq!((page.items[0].0.as_ref(), page.remaining), ("a/z", 1));
    world.commit(&[("a", "z", None)]);
    assert!(cache.get("a", "z").is_none());
}

#[tokio::test]
async fn a_cache_made_late_holds_what_was_there() {
    let world = World::new(CacheLimits::default());
    world.commit(&[("a", "x", Some(""))]);
    let cache = world.pods();
    assert_eq!(cache.list(None).1.len(), 1);
    assert!(cache.unchanged_since(2));
}

#[tokio::test]
async fn each_scope_gets_its_events_once_and_in_order() {
    let world = World::new(CacheLimits::default());
    let cache = world.pods();
    let mut all = cache.watch(scope(None, None, None), 1).unwrap();
    let mut of_a = cache.watch(scope(Some("a"), None, None), 1).unwrap();
    let mut one = cache.watch(scope(Some("a"), Some("x"), None), 1).unwrap();
    let mut node = cache.watch(scope(None, None, Some("n1")), 1).unwrap();
    world.commit(&[("a", "x", Some("")), ("b", "x", Some("n1"))]);
    world.commit(&[("a", "x", Some("n1")), ("a", "w", Some("n2"))]);
    world.commit(&[("b", "x", Some("n2")), ("a", "x", None)]);
    for (revision, key) in [(2, "a/x"), (3, "b/x"), (4, "a/x"), (5, "a/w"), (6, "b/x"), (7, "a/x")] {
        assert_eq!(next(&mut all).await.unwrap(), (revision, key.to_owned(), revision == 7));
    }
    for revision in [2, 4, 5, 7] {
        assert_eq!(next(&mut of_a).await.unwrap().0, revision);
    }
    for revision in [2, 4, 7] {
        assert_eq!(next(&mut one).await.unwrap().0, revision);
    }
    // 6 moves b/x away from n1: its watcher must see it leave.
    for revision in [3, 4, 6, 7] {
        assert_eq!(next(&mut node).await.unwrap().0, revision);
    }
    assert!(all.poll_ready().await.unwrap().is_none());
    assert_eq!(all.revision(), 7);
}

#[tokio::test]
async fn a_sleeping_watcher_is_woken() {
    let world = World::new(CacheLimits::default());
    let cache = world.pods();
    let mut watcher = cache.watch(scope(Some("a"), None, None), 1).unwrap();
    assert!(watcher.poll_ready().await.unwrap().is_none());
    let waiting = tokio::spawn(async move { next(&mut watcher).await.map(|e| e.0) });
    tokio::task::yield_now().await;
    world.commit(&[("b", "x", Some(""))]);
    let revision = world.commit(&[("a", "x", Some(""))]);
    assert_eq!(waiting.await.unwrap().unwrap(), revision);
}

#[tokio::test]
async fn behind_the_window_history_goes_on_without_gap() {
    let world = World::new(CacheLimits { window_events_max: 4, window_bytes_max: 1 << 20 });
    let cache = world.pods();
    let mut watcher = cache.watch(scope(Some("a"), None, None), 1).unwrap();
    let mut expected = Vec::new();
    for n in 0..50 {
        let namespace = if n % 3 == 0 { "a" } else { "b" };
        let revision = world.commit(&[(namespace, "x", Some(&format!("n{n}")))]);
        if namespace == "a" {
            expected.push(revision);
        }
        if n == 20 {
            assert_eq!(next(&mut watcher).await.unwrap().0, expected[0]);
        }
    }
    for revision in &expected[1..] {
        let event = watcher.next().await.unwrap();
        assert_eq!(event.revision, *revision);
        assert!(event.previous.is_some());
    }
    assert!(watcher.poll_ready().await.unwrap().is_none());
    let revision = world.commit(&[("a", "x", None)]);
    assert_eq!(next(&mut watcher).await.unwrap(), (revision, "a/x".to_owned(), true));
}

#[tokio::test]
async fn a_watcher_that_slept_through_others_events_needs_no_history() {
    let world = World::new(CacheLimits { window_events_max: 4, window_bytes_max: 1 << 20 });
    let cache = world.pods();
    let mut watcher = cache.watch(scope(Some("a"), None, None), 1).unwrap();
    assert!(watcher.poll_ready().await.unwrap().is_none());
    for _ in 0..20 {
        world.commit(&[("b", "x", Some(""))]);
    }
    // With history gone, only a watcher that needs it could fail.
    world.state.0.lock().floor = 21;
    let revision = world.commit(&[("a", "y", Some(""))]);
    assert_eq!(next(&mut watcher).await.unwrap().0, revision);
}

#[tokio::test]
async fn below_the_floor_a_watch_is_refused_and_a_slow_one_ends() {
    let world = World::new(CacheLimits { window_events_max: 2, window_bytes_max: 1 << 20 });
    let cache = world.pods();
    let mut slow = cache.watch(scope(None, None, None), 1).unwrap();
    for _ in 0..10 {
        world.commit(&[("a", "x", Some(""))]);
    }
    world.state.0.lock().floor = 8;
    assert!(matches!(slow.next().await, Err(WatchError::Expired(e)) if e.floor == 8));
    assert!(cache.watch(scope(None, None, None), 5).is_err());
    assert!(cache.watch(scope(None, None, None), 9).is_ok());
}

#[tokio::test]
async fn a_replaced_state_is_loaded_anew() {
    let world = World::new(CacheLimits::default());
    let cache = world.pods();
    world.commit(&[("a", "x", Some(""))]);
    {
        let mut memory = world.state.0.lock();
        memory.events.clear();
        memory.revision = 90;
        memory.floor = 90;
    }
    world.caches.replaced();
    assert!(cache.get("a", "x").is_none());
    assert_eq!(cache.revision(), 90);
}
