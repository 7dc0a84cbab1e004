//! An API server in memory, for tests of whatever talks to the API. It keeps Kubernetes' rules of versions, finalizers,
//! deletion and watches; it knows no validation, defaults or access rules. Tests make it fail on purpose.
//!
//! Never used by the program itself.

mod faults;
mod state;
mod watch;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use navarch_types::{ApiError, GroupResource, Object, ObjectList, Reason, ResourceRequest, ResourceResponse, Verb};
use parking_lot::Mutex;
use serde_json::Value;

pub use faults::{Fault, Seen};
use state::State;

use crate::client::{Client, Resource, resource_of};
use crate::transport::{Transport, WatchStream};

/// The fake. Clones share one state.
///
/// ```
/// # use navarch_client::testing::FakeServer;
/// let server = FakeServer::new();
/// let client = server.client();
/// ```
#[derive(Clone, Default)]
pub struct FakeServer {
    state: Arc<Mutex<State>>,
}

impl FakeServer {
    /// Empty, at revision 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(Arc::new(self.clone()))
    }

    /// Stores an object whole, as a test's starting point or as another component's doing: made or replaced, status
    /// included, no check of its version. Gives it a uid and a creation time if it has none.
    ///
    /// # Panics
    /// If it does not encode.
    pub fn put<K: Resource>(&self, object: &K) -> Arc<K> {
        let mut value = serde_json::to_value(object).unwrap_or_default();
        value["apiVersion"] = K::API_VERSION.into();
        value["kind"] = K::KIND.into();
        let stored = self.state.lock().put(&resource_of::<K>().group_resource(), value);
        match stored.typed() {
            Ok(typed) => typed,
            Err(error) => panic!("cannot decode what was put: {error}"),
        }
    }

    /// [`FakeServer::put`] from JSON.
    ///
    /// # Panics
    /// If the value is no object of this kind.
    pub fn put_json<K: Resource>(&self, value: Value) -> Arc<K> {
        match serde_json::from_value::<K>(value) {
            Ok(object) => self.put(&object),
            Err(error) => panic!("no {}: {error}", K::KIND),
        }
    }

    /// Reads without a request. The namespace is empty for cluster-scoped objects.
    pub fn get<K: Resource>(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.state.lock().get(&resource_of::<K>().group_resource(), namespace, name)?.typed().ok()
    }

    /// Reads all without a request, in order of namespace and name.
    pub fn list<K: Resource>(&self) -> Vec<Arc<K>> {
        let objects = self.state.lock().list(&resource_of::<K>().group_resource(), None);
        objects.iter().filter_map(|o| o.typed().ok()).collect()
    }

    /// Removes an object at once, whatever its finalizers. True if there was one.
    pub fn remove<K: Resource>(&self, namespace: &str, name: &str) -> bool {
        self.state.lock().remove(&resource_of::<K>().group_resource(), namespace, name).is_some()
    }

    /// Makes requests fail. Faults are tried in the order given.
    pub fn inject(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Ends every open watch with a lost connection.
    pub fn break_watches(&self) {
        self.state.lock().break_watches();
    }

    /// Forgets the history: watches from before now get [`Reason::Expired`], those open too.
    pub fn compact(&self) {
        self.state.lock().compact();
    }

    /// The latest revision.
    pub fn revision(&self) -> u64 {
        self.state.lock().revision
    }

    /// Every request since the last [`FakeServer::forget_requests`], failed ones too.
    pub fn requests(&self) -> Vec<Seen> {
        self.state.lock().seen.clone()
    }

    /// The requests that write, without those for events.
    pub fn writes(&self) -> Vec<Seen> {
        let reads = [Verb::Get, Verb::List, Verb::Watch];
        self.requests().into_iter().filter(|s| !reads.contains(&s.verb) && s.resource != "events").collect()
    }

    /// Empties [`FakeServer::requests`].
    pub fn forget_requests(&self) {
        self.state.lock().seen.clear();
    }
}

fn group_resource(request: &ResourceRequest) -> GroupResource {
    request.resource.group_resource()
}

#[async_trait]
impl Transport for FakeServer {
    async fn request(&self, request: ResourceRequest) -> Result<ResourceResponse, ApiError> {
        // Real transports never answer in the same poll; tests must see the same interleavings.
        tokio::task::yield_now().await;
        let mut state = self.state.lock();
        let after = state.admit(&request)?;
        let result = match request.verb {
            Verb::Get => state.read(&request),
            Verb::List => state.read_list(&request).map(ResourceResponse::List),
            Verb::Watch => Err(ApiError::bad_request("watches go another way")),
            Verb::Create => state.create(&request),
            Verb::Update | Verb::Patch => state.change(&request),
            Verb::Delete => state.delete(&request),
            Verb::DeleteCollection => state.delete_collection(&request),
        };
        match after {
            Some(error) => Err(error),
            None => result,
        }
    }

    async fn watch(&self, request: ResourceRequest) -> Result<WatchStream, ApiError> {
        tokio::task::yield_now().await;
        self.state.lock().admit(&request)?;
        watch::open(&self.state, &request)
    }
}

impl State {
    fn read(&self, request: &ResourceRequest) -> Result<ResourceResponse, ApiError> {
        let object = self.require(request)?;
        match request.subresource.as_deref() {
            None | Some("status") => Ok(ResourceResponse::Object(object)),
            Some("scale") => Ok(ResourceResponse::Value(200, write::scale_of(&object)?)),
            Some(other) => Err(ApiError::new(Reason::MethodNotAllowed, format!("the fake serves no {other}"))),
        }
    }

    fn read_list(&self, request: &ResourceRequest) -> Result<ObjectList, ApiError> {
        let selection = state::Selection::of(request)?;
        let items = self
            .list(&group_resource(request), request.namespace.as_deref())
            .into_iter()
            .filter(|object| selection.selects(object))
            .collect();
        Ok(ObjectList { revision: self.revision, continue_token: None, remaining: None, items })
    }

    fn require(&self, request: &ResourceRequest) -> Result<Arc<Object>, ApiError> {
        let (namespace, name) = (request.namespace.as_deref().unwrap_or(""), request.name.as_deref().unwrap_or(""));
        let resource = group_resource(request);
        self.get(&resource, namespace, name).ok_or_else(|| ApiError::not_found(&resource, name))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use futures::StreamExt;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use navarch_types::{ListOptions, PatchType, Propagation, WatchEventType};
    use serde_json::json;

    use super::*;
    use crate::client::DeleteOptions;

    fn config_map(name: &str) -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"app": name}}})).unwrap()
    }

    #[tokio::test]
    async fn versions_conflict_and_unchanged_writes_make_no_revision() {
        let server = FakeServer::new();
        let api = server.client().namespaced::<ConfigMap>("d");
        let made = api.create(&config_map("a")).await.unwrap();
        assert!(api.create(&config_map("a")).await.unwrap_err().is(Reason::AlreadyExists));
        let before = server.revision();
        let same = api.update(&made).await.unwrap();
        assert_eq!((server.revision(), &same.metadata.resource_version), (before, &made.metadata.resource_version));
        api.patch("a", None, PatchType::Merge, json!({"data": {"x": "1"}})).await.unwrap();
        assert!(api.update(&made).await.unwrap_err().is(Reason::Conflict));
        server.inject(Fault::lost_answer().on(Verb::Create, "configmaps"));
        assert!(api.create(&config_map("b")).await.unwrap_err().is(Reason::ServiceUnavailable));
        assert!(server.get::<ConfigMap>("d", "b").is_some(), "it had its effect");
        server.inject(Fault::lost_connection().on(Verb::Create, "configmaps").after(1));
        assert!(api.create(&config_map("c")).await.is_ok());
        assert!(api.create(&config_map("e")).await.is_err());
        assert!(server.get::<ConfigMap>("d", "e").is_none());
    }

    #[tokio::test]
    async fn deletion_waits_for_finalizers_and_for_the_kubelet() {
        let server = FakeServer::new();
        let api = server.client().namespaced::<ConfigMap>("d");
        api.create(&config_map("a")).await.unwrap();
        let foreground = DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
        api.delete("a", &foreground).await.unwrap();
        assert!(server.get::<ConfigMap>("d", "a").unwrap().metadata.deletion_timestamp.is_some());
        api.patch("a", None, PatchType::Merge, json!({"metadata": {"finalizers": null}})).await.unwrap();
        assert!(server.get::<ConfigMap>("d", "a").is_none());
        server.put_json::<Pod>(
            json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"nodeName": "n", "containers": []}}),
        );
        let pods = server.client().namespaced::<Pod>("d");
        pods.delete("p", &DeleteOptions::default()).await.unwrap();
        assert_eq!(server.get::<Pod>("d", "p").unwrap().metadata.deletion_grace_period_seconds, Some(30));
        let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
        pods.delete("p", &now).await.unwrap();
        assert!(server.get::<Pod>("d", "p").is_none());
    }

    #[tokio::test]
    async fn a_watch_sees_its_selection_and_can_be_lost() {
        let server = FakeServer::new();
        let api = server.client().namespaced::<ConfigMap>("d");
        let start = server.revision();
        let options = ListOptions {
            label_selector: Some("app=a".into()),
            resource_version: Some(start.to_string()),
            ..ListOptions::default()
        };
        let mut watch = api.watch(options.clone()).await.unwrap();
        api.create(&config_map("a")).await.unwrap();
        api.create(&config_map("b")).await.unwrap();
        api.patch("a", None, PatchType::Merge, json!({"metadata": {"labels": {"app": "z"}}})).await.unwrap();
        let types = [watch.next().await.unwrap().unwrap().event_type, watch.next().await.unwrap().unwrap().event_type];
        assert_eq!(types, [WatchEventType::Added, WatchEventType::Deleted]);
        server.break_watches();
        assert!(watch.next().await.unwrap().unwrap_err().is(Reason::ServiceUnavailable));
        assert!(watch.next().await.is_none());
        server.compact();
        assert!(api.watch(options).await.err().unwrap().is(Reason::Expired));
    }
}
