//! Config maps and secrets that pods of this node refer to: one watch each, shared by all who ask, kept while somebody
//! does. Nothing else of their kinds is read: the node is not allowed to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use navarch_client::Client;
use navarch_client::client::Resource;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::reflect::{Change, reflect};

/// What is known of one object.
#[derive(Clone, Debug)]
pub enum Known<K> {
    /// No answer yet.
    Nothing,
    /// It does not exist.
    Missing,
    /// It does.
    Found(Arc<K>),
    /// The server refused, or was not reached.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    namespace: String,
    name: String,
}

type Entries<K> = Mutex<HashMap<Key, watch::Sender<Known<K>>>>;

enum Request {
    ConfigMap(Key),
    Secret(Key),
}

/// The objects that pods refer to. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    config_maps: Arc<Entries<ConfigMap>>,
    secrets: Arc<Entries<Secret>>,
    requests: mpsc::UnboundedSender<Request>,
    inbox: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Request>>>,
    client: Client,
}

/// What one pod follows: dropped with the pod's worker.
#[derive(Default)]
pub struct Followed {
    config_maps: BTreeMap<String, watch::Receiver<Known<ConfigMap>>>,
    secrets: BTreeMap<String, watch::Receiver<Known<Secret>>>,
}

/// How long the first answer may take before a pod's start is given up for this time.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

impl Sources {
    /// Nothing followed yet. [`Sources::run`] must run for anything to be.
    pub fn new(client: Client) -> Self {
        // Requests are bounded by the distinct names that the node's pods refer to: one for each entry of the maps.
        let (requests, inbox) = mpsc::unbounded_channel();
        Self {
            config_maps: Arc::default(),
            secrets: Arc::default(),
            requests,
            inbox: Arc::new(tokio::sync::Mutex::new(inbox)),
            client,
        }
    }

    /// Runs the watches. After a restart of it, everything still wanted is watched anew.
    pub async fn run(&self) {
        let mut inbox = self.inbox.lock().await;
        let mut watches: FuturesUnordered<LocalBoxFuture<'_, ()>> = FuturesUnordered::new();
        for key in self.config_maps.lock().keys() {
            watches.push(Box::pin(self.follow(&self.config_maps, key.clone())));
        }
        for key in self.secrets.lock().keys() {
            watches.push(Box::pin(self.follow(&self.secrets, key.clone())));
        }
        loop {
            tokio::select! {
                request = inbox.recv() => match request {
                    Some(Request::ConfigMap(key)) => watches.push(Box::pin(self.follow(&self.config_maps, key))),
                    Some(Request::Secret(key)) => watches.push(Box::pin(self.follow(&self.secrets, key))),
                    None => return,
                },
                Some(()) = watches.next() => {}
            }
        }
    }

    /// Watches one object until nobody wants it.
    async fn follow<K: Resource + Clone>(&self, entries: &Entries<K>, key: Key) {
        let api = self.client.namespaced::<K>(&key.namespace);
        let set = |known: Known<K>| {
            if let Some(sender) = entries.lock().get(&key) {
                sender.send_replace(known);
            }
        };
        let selector = Some(format!("metadata.name={}", key.name));
        let following = reflect(&api, selector, |change| match change {
            Change::Listed(found) => set(found.into_iter().next().map_or(Known::Missing, Known::Found)),
            Change::Set(found) => set(Known::Found(found)),
            Change::Gone(_) => set(Known::Missing),
            Change::Failed(error) => {
                if let Some(sender) = entries.lock().get(&key) {
                    // What was found before stays good while the server is away.
                    sender.send_if_modified(|known| {
                        let replace = !matches!(known, Known::Found(_) | Known::Missing);
                        if replace {
                            *known = Known::Failed(error.to_string());
                        }
                        replace
                    });
                }
            }
        });
        let sender = entries.lock().get(&key).cloned();
        let Some(sender) = sender else { return };
        let unwanted = async {
            loop {
                sender.closed().await;
                // A new subscriber takes the lock of the map, so the last look is under it too.
                let mut entries = entries.lock();
                if sender.receiver_count() == 0 {
                    entries.remove(&key);
                    return;
                }
            }
        };
        tokio::select! {
            () = following => {}
            () = unwanted => {}
        }
    }

    fn subscribe<K>(entries: &Entries<K>, key: &Key) -> (watch::Receiver<Known<K>>, bool) {
        let mut entries = entries.lock();
        if let Some(sender) = entries.get(key) {
            return (sender.subscribe(), false);
        }
        let (sender, receiver) = watch::channel(Known::Nothing);
        entries.insert(key.clone(), sender);
        (receiver, true)
    }

    /// Makes `followed` follow exactly these names of a namespace.
    pub fn follow_names(&self, followed: &mut Followed, namespace: &str, config_maps: &[String], secrets: &[String]) {
        followed.config_maps.retain(|name, _| config_maps.contains(name));
        followed.secrets.retain(|name, _| secrets.contains(name));
        for name in config_maps.iter().filter(|name| !name.is_empty()) {
            if !followed.config_maps.contains_key(name) {
                let key = Key { namespace: namespace.to_owned(), name: name.clone() };
                let (receiver, fresh) = Self::subscribe(&self.config_maps, &key);
                followed.config_maps.insert(name.clone(), receiver);
                if fresh {
                    let _ = self.requests.send(Request::ConfigMap(key));
                }
            }
        }
        for name in secrets.iter().filter(|name| !name.is_empty()) {
            if !followed.secrets.contains_key(name) {
                let key = Key { namespace: namespace.to_owned(), name: name.clone() };
                let (receiver, fresh) = Self::subscribe(&self.secrets, &key);
                followed.secrets.insert(name.clone(), receiver);
                if fresh {
                    let _ = self.requests.send(Request::Secret(key));
                }
            }
        }
    }
}

async fn settled<K>(receiver: &mut watch::Receiver<Known<K>>) -> Known<K>
where
    Known<K>: Clone,
{
    let answer = receiver.wait_for(|known| !matches!(known, Known::Nothing | Known::Failed(_)));
    let in_time = tokio::time::timeout(ANSWER_DEADLINE, answer).await.is_ok();
    let known = receiver.borrow_and_update().clone();
    match known {
        Known::Nothing if !in_time => Known::Failed("timed out waiting for the condition".to_owned()),
        other => other,
    }
}

/// The next change; never, once the sender is gone.
async fn change<K>(mut receiver: watch::Receiver<Known<K>>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Followed {
    /// The config maps and secrets that exist, once there is an answer for each.
    ///
    /// # Errors
    /// What the server said, if it did not answer for one of them.
    pub async fn objects(
        &mut self,
    ) -> Result<(BTreeMap<String, Arc<ConfigMap>>, BTreeMap<String, Arc<Secret>>), String> {
        let (mut config_maps, mut secrets) = (BTreeMap::new(), BTreeMap::new());
        for (name, receiver) in &mut self.config_maps {
            match settled(receiver).await {
                Known::Found(object) => drop(config_maps.insert(name.clone(), object)),
                Known::Failed(error) => return Err(format!("failed to sync configmap cache: {error}")),
                _ => {}
            }
        }
        for (name, receiver) in &mut self.secrets {
            match settled(receiver).await {
                Known::Found(object) => drop(secrets.insert(name.clone(), object)),
                Known::Failed(error) => return Err(format!("failed to sync secret cache: {error}")),
                _ => {}
            }
        }
        Ok((config_maps, secrets))
    }

    /// Takes all that is known now as read.
    pub fn mark_read(&mut self) {
        for receiver in self.config_maps.values_mut() {
            receiver.mark_unchanged();
        }
        for receiver in self.secrets.values_mut() {
            receiver.mark_unchanged();
        }
    }

    /// Resolves when one of them has changed since it was last read. Never, if nothing is followed.
    pub fn changed(&self) -> impl Future<Output = ()> + 'static {
        let mut waits: FuturesUnordered<LocalBoxFuture<'static, ()>> = FuturesUnordered::new();
        for receiver in self.config_maps.values() {
            waits.push(Box::pin(change(receiver.clone())));
        }
        for receiver in self.secrets.values() {
            waits.push(Box::pin(change(receiver.clone())));
        }
        async move {
            if waits.next().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
    }
}
