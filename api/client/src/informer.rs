//! Informers: a list, then a watch, kept in a [`Store`] and told to subscribers.
//!
//! One informer a type serves everybody in the process. It follows its type as [`crate::follow`] does. Subscribers are called on the informer's task and must only note keys.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use navarch_types::{GroupVersionResource, Object, ResourceRequest, Verb, WatchEvent, WatchEventType};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Resource, resource_of};
use crate::follow::{Step, follow};
use crate::store::{Change, IndexFn, Item, Store};

type Handler<T> = Arc<dyn Fn(&Change<T>) + Send + Sync>;

struct Shared<T> {
    resource: GroupVersionResource,
    store: Store<T>,
    handlers: Mutex<Vec<(u64, Handler<T>)>>,
    next_handler: AtomicU64,
    /// The revision up to which the store is complete; 0 before the first list.
    progress: watch::Sender<u64>,
    relists: AtomicU64,
    undecodable: AtomicU64,
}

/// A shared informer. Clones are the same one.
pub struct Informer<T: Item> {
    shared: Arc<Shared<T>>,
}

impl<T: Item> Clone for Informer<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// Ends a subscription when dropped.
#[must_use]
pub struct Subscription {
    end: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }
}

impl<T: Item> Informer<T> {
    /// For a resource; runs when [`Informer::run`] is polled.
    pub fn new(resource: GroupVersionResource) -> Self {
        Self {
            shared: Arc::new(Shared {
                resource,
                store: Store::default(),
                handlers: Mutex::default(),
                next_handler: AtomicU64::new(0),
                progress: watch::Sender::new(0),
                relists: AtomicU64::new(0),
                undecodable: AtomicU64::new(0),
            }),
        }
    }

    /// The resource.
    pub fn resource(&self) -> &GroupVersionResource {
        &self.shared.resource
    }

    /// What it knows.
    pub fn store(&self) -> &Store<T> {
        &self.shared.store
    }

    /// Adds an index to the store; a second one of the same name is ignored.
    pub fn with_index(self, name: &'static str, values: IndexFn<T>) -> Self {
        self.shared.store.add_index(name, values);
        self
    }

    /// Whether the first list is in.
    pub fn is_synced(&self) -> bool {
        *self.shared.progress.borrow() > 0
    }

    /// Waits for the first list.
    pub async fn synced(&self) {
        self.reached(1).await;
    }

    /// Waits until every change up to a revision is in the store. Revisions of other types' changes are reached with the
    /// next bookmark or change of this type.
    pub async fn reached(&self, revision: u64) {
        let mut progress = self.shared.progress.subscribe();
        // The sender lives in `self`.
        let _ = progress.wait_for(|at| *at >= revision).await;
    }

    /// The revision up to which the store is complete.
    pub fn revision(&self) -> u64 {
        *self.shared.progress.borrow()
    }

    /// How often it had to list, and how many objects it could not decode.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.relists.load(Ordering::Relaxed), self.shared.undecodable.load(Ordering::Relaxed))
    }

    /// Calls `handler` for every object there is, then for every change, in order, until the subscription is dropped. The
    /// handler must be quick and must not call back into the informer.
    pub fn subscribe(&self, handler: impl Fn(&Change<T>) + Send + Sync + 'static) -> Subscription {
        let id = self.shared.next_handler.fetch_add(1, Ordering::Relaxed);
        let handler: Handler<T> = Arc::new(handler);
        // Under the lock that `tell` holds: no change is missed or seen out of order.
        let mut handlers = self.shared.handlers.lock();
        for object in self.shared.store.all() {
            handler(&Change::Applied { old: None, new: object });
        }
        handlers.push((id, handler));
        drop(handlers);
        let shared = Arc::downgrade(&self.shared);
        Subscription {
            end: Some(Box::new(move || {
                if let Some(shared) = shared.upgrade() {
                    shared.handlers.lock().retain(|(other, _)| *other != id);
                }
            })),
        }
    }

    /// Lists and watches until told to stop. What was in the store before stays until the new list replaces it.
    pub async fn run(&self, client: Client, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.list_and_watch(&client) => {}
        }
    }

    async fn list_and_watch(&self, client: &Client) {
        let list = ResourceRequest::new(Verb::List, self.shared.resource.clone());
        follow(client, &list, |step| {
            match step {
                Step::Listed { items, revision } => self.replace(&items, revision),
                Step::Event(event) => self.see(&event),
                // What it knows stays good; requests tell their callers of their own failures.
                Step::Failed(_) => {}
            }
            Ok(())
        })
        .await;
    }

    fn replace(&self, items: &[Arc<Object>], revision: u64) {
        let decoded = items.iter().filter_map(|object| self.decode(object)).collect();
        self.shared.relists.fetch_add(1, Ordering::Relaxed);
        let handlers = self.shared.handlers.lock();
        for change in self.shared.store.replace(decoded, revision) {
            handlers.iter().for_each(|(_, handler)| handler(&change));
        }
        drop(handlers);
        self.shared.progress.send_replace(revision.max(1));
    }

    fn see(&self, event: &WatchEvent) {
        let revision = event.object.revision();
        if event.event_type == WatchEventType::Bookmark {
            self.shared.store.bookmark(revision);
        } else if let Some(object) = self.decode(&event.object) {
            let handlers = self.shared.handlers.lock();
            let change = match event.event_type {
                WatchEventType::Deleted => self.shared.store.delete(&object, revision),
                _ => Some(self.shared.store.apply(object, revision)),
            };
            if let Some(change) = change {
                handlers.iter().for_each(|(_, handler)| handler(&change));
            }
        }
        self.shared.progress.send_if_modified(|at| {
            let later = revision > *at;
            *at = revision.max(*at);
            later
        });
    }

    fn decode(&self, object: &Arc<Object>) -> Option<Arc<T>> {
        match T::decode(object) {
            Ok(item) => Some(item),
            Err(error) => {
                self.shared.undecodable.fetch_add(1, Ordering::Relaxed);
                let resource = &*self.shared.resource.resource;
                tracing::error!(resource, revision = object.revision(), error, "cannot decode an object");
                None
            }
        }
    }
}

type Runner = Box<dyn FnOnce(Client, CancellationToken) -> futures::future::BoxFuture<'static, ()> + Send>;
type MakeRunner = Arc<dyn Fn() -> Runner + Send + Sync>;

#[derive(Default)]
struct Registered {
    typed: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    partial: HashMap<GroupVersionResource, Informer<Partial>>,
    runners: Vec<MakeRunner>,
    running: Option<mpsc::Sender<MakeRunner>>,
}

use crate::store::Partial;

/// At most this many types; there are about eighty.
const TYPES_MAX: usize = 1024;

/// One shared informer a type, all over one client.
#[derive(Clone)]
pub struct InformerFactory {
    client: Client,
    registered: Arc<Mutex<Registered>>,
}

impl InformerFactory {
    /// Over a client that may list and watch everything it will be asked for.
    pub fn new(client: Client) -> Self {
        Self { client, registered: Arc::default() }
    }

    /// The informer of a type, made at the first call. It runs while [`InformerFactory::run`] does.
    pub fn informer<K: Resource>(&self) -> Informer<K> {
        let mut registered = self.registered.lock();
        if let Some(found) = registered.typed.get(&TypeId::of::<K>()).and_then(|any| any.downcast_ref::<Informer<K>>())
        {
            return found.clone();
        }
        let informer = Informer::<K>::new(resource_of::<K>());
        registered.typed.insert(TypeId::of::<K>(), Box::new(informer.clone()));
        registered.add(&informer);
        informer
    }

    /// The informer of the metadata of a resource.
    pub fn partial(&self, resource: &GroupVersionResource) -> Informer<Partial> {
        let mut registered = self.registered.lock();
        if let Some(found) = registered.partial.get(resource) {
            return found.clone();
        }
        let informer = Informer::<Partial>::new(resource.clone());
        registered.partial.insert(resource.clone(), informer.clone());
        registered.add(&informer);
        informer
    }

    /// Runs every informer, those made later too, until told to stop.
    ///
    /// # Errors
    /// If an informer panicked: then all are stopped, to be run again by whoever supervises this.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), String> {
        let (sender, mut added) = mpsc::channel(TYPES_MAX);
        let mut tasks = JoinSet::new();
        let start = |tasks: &mut JoinSet<()>, runner: &MakeRunner| {
            tasks.spawn(runner()(self.client.clone(), stop.clone()));
        };
        {
            let mut registered = self.registered.lock();
            registered.running = Some(sender);
            for runner in &registered.runners {
                start(&mut tasks, runner);
            }
        }
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(runner) = added.recv() => start(&mut tasks, &runner),
                Some(ended) = tasks.join_next() => if let Err(error) = ended {
                    return Err(format!("an informer ended: {error}"));
                },
            }
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    }
}

impl Registered {
    fn add<T: Item>(&mut self, informer: &Informer<T>) {
        let informer = informer.clone();
        let runner: MakeRunner = Arc::new(move || {
            let informer = informer.clone();
            Box::new(move |client, stop| Box::pin(async move { informer.run(client, stop).await }))
        });
        if let Some(running) = &self.running
            && running.try_send(Arc::clone(&runner)).is_err()
        {
            // Not running at present: `run` starts everything that is registered.
            self.running = None;
        }
        self.runners.push(runner);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::time::Duration;

    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;
    use crate::testing::{FakeServer, Fault};

    fn put(server: &FakeServer, name: &str, value: &str) -> Arc<ConfigMap> {
        server.put_json(json!({"metadata": {"name": name, "namespace": "d"}, "data": {"v": value}}))
    }

    async fn until(what: &str, mut done: impl FnMut() -> bool) {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(std::time::Instant::now() < end, "never: {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn follows_through_lost_connections_and_expiry() {
        let server = FakeServer::new();
        put(&server, "a", "1");
        server.inject(Fault::lost_connection().on(Verb::List, "configmaps").times(2));
        let factory = InformerFactory::new(server.client());
        let informer = factory.informer::<ConfigMap>();
        let partial = factory.partial(informer.resource());
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&seen);
        let subscription = informer.subscribe(move |change| {
            let sign = if matches!(change, Change::Deleted(_)) { '-' } else { '+' };
            log.lock().push(format!("{sign}{}", change.key()));
        });
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let (factory, stop) = (factory.clone(), stop.clone());
            async move { factory.run(stop).await }
        });
        informer.synced().await;
        put(&server, "b", "1");
        informer.reached(server.revision()).await;
        server.break_watches();
        server.remove::<ConfigMap>("d", "a");
        informer.reached(server.revision()).await;
        assert_eq!(informer.counts().0, 1, "a lost watch resumes without a list");
        server.compact();
        put(&server, "c", "1");
        until("c", || informer.store().find("d", "c").is_some()).await;
        assert_eq!(informer.counts().0, 2, "expiry lists anew");
        assert_eq!(seen.lock().concat(), "+d/a+d/b-d/a+d/c");
        drop(subscription);
        put(&server, "e", "1");
        informer.reached(server.revision()).await;
        assert_eq!(seen.lock().len(), 4);
        until("partial", || partial.store().len() == 3).await;
        stop.cancel();
        running.await.unwrap().unwrap();
    }
}
