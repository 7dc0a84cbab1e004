//! Clients over HTTP whose servers are killed, stopped, replaced, or somebody else's. Times are printed, not judged.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod server;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use navarch_client::http::{Credentials, HttpConfig, HttpTransport, Servers};
use navarch_client::{Api, Client, Step, follow};
use navarch_types::{ApiError, ListOptions, Reason, Verb};
use parking_lot::Mutex;
use serde_json::json;
use server::{Authority, Cluster, Mood, Server};
use tokio::task::JoinHandle;

/// Only what hangs takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Tells how long something took.
async fn timed<T>(what: &str, future: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let result = tokio::time::timeout(PATIENCE, future).await.expect(what);
    println!("{what}: {} ms", started.elapsed().as_millis());
    result
}

fn config(cluster: &Cluster) -> HttpConfig {
    HttpConfig {
        servers: Vec::new(),
        ca_pem: cluster.authority.pem.clone(),
        credentials: Credentials::Anonymous,
        user_agent: "test".to_owned(),
    }
}

fn transport(cluster: &Cluster, told: &[String], name: &str, file: Option<PathBuf>) -> Arc<HttpTransport> {
    let servers = Servers::new(told, name, file).unwrap();
    Arc::new(HttpTransport::sharing(config(cluster), servers).unwrap())
}

/// A transport that begins at the first of the servers.
fn beginning_at_first(cluster: &Cluster, servers: &[&Server]) -> Arc<HttpTransport> {
    let told: Vec<_> = servers.iter().map(|server| server.url()).collect();
    let named = (0..).map(|number| transport(cluster, &told, &number.to_string(), None));
    named.into_iter().find(|transport| *transport.servers().current() == *told[0]).unwrap()
}

fn api(transport: &Arc<HttpTransport>) -> Api<ConfigMap> {
    Client::new(Arc::<HttpTransport>::clone(transport)).namespaced("d")
}

fn named(name: &str) -> ConfigMap {
    ConfigMap { metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, ..ConfigMap::default() }
}

fn put(cluster: &Cluster, name: &str) {
    cluster.state.put_json::<ConfigMap>(json!({"metadata": {"name": name, "namespace": "d"}}));
}

/// What one who follows config maps has seen, `[` and `]` around a list.
struct Followed {
    seen: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Followed {
    fn new(transport: &Arc<HttpTransport>) -> Self {
        let (api, seen) = (api(transport), Arc::<Mutex<String>>::default());
        let log = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let list = api.request(Verb::List, None);
            follow(api.client(), &list, |step| {
                let name = |object: &Arc<navarch_types::Object>| object.metadata().unwrap().name.clone().unwrap();
                match step {
                    Step::Listed { items, .. } => {
                        let mut names: Vec<_> = items.iter().map(name).collect();
                        names.sort();
                        log.lock().push_str(&format!("[{}]", names.concat()));
                    }
                    Step::Event(event) if event.event_type.as_str() != "BOOKMARK" => {
                        log.lock().push_str(&name(&event.object));
                    }
                    _ => {}
                }
                Ok(())
            })
            .await;
        });
        Self { seen, task }
    }

    async fn sees(&self, expected: &str) {
        until(&format!("{expected} is seen, but {}", self.seen.lock()), || *self.seen.lock() == expected).await;
    }
}

fn tending(transport: &Arc<HttpTransport>) -> JoinHandle<()> {
    let transport = Arc::clone(transport);
    tokio::spawn(async move { transport.tend().await })
}

#[tokio::test]
async fn a_server_that_is_down_costs_nothing() {
    let cluster = Cluster::new();
    let (first, second) = (Server::start(&cluster).await, Server::start(&cluster).await);
    let transport = beginning_at_first(&cluster, &[&first, &second]);
    first.kill();
    timed("a write after connection refused", api(&transport).create(&named("a"))).await.unwrap();
    assert_eq!((first.writes(), second.writes()), (0, 1));
    api(&transport).get("a").await.unwrap();
    assert_eq!(*transport.servers().current(), *second.url());
    second.kill();
    let error = api(&transport).get("a").await.unwrap_err();
    assert!(error.is(Reason::ServiceUnavailable), "{error}");
}

#[tokio::test]
async fn a_server_that_dies_in_a_request() {
    let cluster = Cluster::new();
    put(&cluster, "a");
    let (first, second) = (Server::start(&cluster).await, Server::start(&cluster).await);
    let transport = beginning_at_first(&cluster, &[&first, &second]);
    first.set(Mood::Holds);
    let ask = |write: bool| {
        let api = api(&transport);
        tokio::spawn(async move { if write { api.create(&named("b")).await } else { api.get("a").await } })
    };
    let (read, write) = (ask(false), ask(true));
    until("both are there", || first.seen(Verb::Get) + first.writes() == 2).await;
    first.kill();
    timed("a read after its server died", read).await.unwrap().unwrap();
    let error = write.await.unwrap().unwrap_err();
    assert!(error.is(Reason::Timeout) && error.to_string().contains("unknown"), "{error}");
    assert_eq!((first.writes(), second.writes()), (1, 0), "a write is not sent twice");
    api(&transport).create(&named("c")).await.unwrap();
    assert_eq!(second.writes(), 1);
}

#[tokio::test]
async fn a_server_that_falls_silent() {
    let cluster = Cluster::new();
    put(&cluster, "a");
    let (first, second) = (Server::start(&cluster).await, Server::start(&cluster).await);
    let transport = beginning_at_first(&cluster, &[&first, &second]);
    let followed = Followed::new(&transport);
    followed.sees("[a]").await;
    until("the watch is open", || first.watches() == 1).await;
    first.silence();
    put(&cluster, "b");
    let write = api(&transport);
    let write = tokio::spawn(async move { write.create(&named("x")).await });
    let reader = api(&transport);
    let read = timed("a read from a silent server", reader.get("a"));
    let (read, ()) = tokio::join!(read, timed("a watch of a silent server", followed.sees("[a]b")));
    read.unwrap();
    let error = write.await.unwrap().unwrap_err();
    assert!(error.is(Reason::Timeout), "{error}");
    assert_eq!(second.writes(), 0, "a write is not sent twice");
    assert_eq!(second.seen(Verb::List), 0, "the watch went on");
    assert_eq!(*transport.servers().current(), *second.url());
}

#[tokio::test]
async fn a_silent_server_is_found_without_pings() {
    let cluster = Cluster::new();
    put(&cluster, "a");
    let first = Server::start_with(&cluster, &cluster.authority, false).await;
    let second = Server::start_with(&cluster, &cluster.authority, false).await;
    cluster.list(&[&first, &second]);
    let transport = beginning_at_first(&cluster, &[&first, &second]);
    let (tending, followed) = (tending(&transport), Followed::new(&transport));
    until("the watch is open", || first.watches() == 1).await;
    first.silence();
    put(&cluster, "b");
    timed("a watch of a silent server, HTTP/1.1", followed.sees("[a]b")).await;
    tending.abort();
}

#[tokio::test]
async fn a_watch_goes_on_elsewhere_and_lists_only_when_history_is_gone() {
    let cluster = Cluster::new();
    put(&cluster, "a");
    let (first, second) = (Server::start(&cluster).await, Server::start(&cluster).await);
    let transport = beginning_at_first(&cluster, &[&first, &second]);
    let followed = Followed::new(&transport);
    followed.sees("[a]").await;
    until("the watch is open", || first.watches() == 1).await;
    first.kill();
    put(&cluster, "b");
    timed("a watch after its server died", followed.sees("[a]b")).await;
    assert_eq!((second.seen(Verb::List), second.seen(Verb::Watch)), (0, 1));
    put(&cluster, "c");
    followed.sees("[a]bc").await;
    put(&cluster, "d");
    cluster.state.compact();
    followed.sees("[a]bc[abcd]").await;
}

#[tokio::test]
async fn somebody_else_is_not_asked_again_and_again() {
    let cluster = Cluster::new();
    put(&cluster, "a");
    let stranger = Server::start_with(&cluster, &Authority::new(), true).await;
    let server = Server::start(&cluster).await;
    let transport = beginning_at_first(&cluster, &[&stranger, &server]);
    for _ in 0..50 {
        api(&transport).get("a").await.unwrap();
    }
    assert_eq!(stranger.connections(), 1);
    assert_eq!(*transport.servers().current(), *server.url());
    let alone = beginning_at_first(&cluster, &[&stranger]);
    let error = api(&alone).create(&named("b")).await.unwrap_err();
    assert!(error.is(Reason::ServiceUnavailable) && error.to_string().contains("certificate"), "{error}");
    for _ in 0..50 {
        let error = api(&alone).get("a").await.unwrap_err();
        assert!(error.to_string().contains("TLS failed"), "{error}");
    }
    assert_eq!((stranger.connections(), stranger.writes()), (2, 0));
}

#[tokio::test]
async fn servers_that_cannot_serve() {
    let cluster = Cluster::new();
    put(&cluster, "a");
    let (first, second) = (Server::start(&cluster).await, Server::start(&cluster).await);
    let transport = beginning_at_first(&cluster, &[&first, &second]);
    first.set(Mood::NotReady);
    // An answer is an answer, for what would change something.
    let error = api(&transport).create(&named("b")).await.unwrap_err();
    assert_eq!((error.code(), first.writes(), second.writes()), (503, 1, 0), "{error}");
    api(&transport).get("a").await.unwrap();
    api(&transport).create(&named("b")).await.unwrap();
    second.set(Mood::NotReady);
    let error: ApiError = api(&transport).list(ListOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("no leader"), "{error}");
}

#[tokio::test]
async fn a_member_cut_off_from_the_others_is_left() {
    let cluster = Cluster::new();
    put(&cluster, "a");
    let (first, second) = (Server::start(&cluster).await, Server::start(&cluster).await);
    cluster.list(&[&first, &second]);
    let transport = beginning_at_first(&cluster, &[&first, &second]);
    let (tending, followed) = (tending(&transport), Followed::new(&transport));
    until("the watch is open", || first.watches() == 1).await;
    // Its watches stay open, and nothing comes any more.
    first.set(Mood::NotReady);
    timed("a watch of a member that is cut off", until("it moves", || second.watches() == 1)).await;
    until("the other one is left", || first.watches() == 0).await;
    assert_eq!(second.seen(Verb::List), 0);
    assert_eq!(*followed.seen.lock(), "[a]");
    tending.abort();
}

#[tokio::test]
async fn servers_come_and_go_and_are_remembered() {
    let cluster = Cluster::new();
    put(&cluster, "a");
    let (first, second) = (Server::start(&cluster).await, Server::start(&cluster).await);
    let third = Server::start(&cluster).await;
    cluster.list(&[&first, &second]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("servers.json");
    // It is told of one only.
    let one = transport(&cluster, &[first.url()], "n", Some(file.clone()));
    let (tending, followed) = (tending(&one), Followed::new(&one));
    followed.sees("[a]").await;
    until("the second is learnt", || one.servers().known().len() == 2).await;
    until("a watch is open", || first.watches() + second.watches() == 1).await;
    cluster.list(&[&second, &third]);
    timed("a server that was removed is left", until("a move", || second.watches() + third.watches() == 1)).await;
    until("the removed one is left", || first.watches() == 0).await;
    put(&cluster, "b");
    followed.sees("[a]b").await;
    until("it is written", || std::fs::read_to_string(&file).is_ok_and(|text| text.contains(&third.url()))).await;
    tending.abort();
    drop(followed);
    // The one that it was told of is gone when it starts again.
    first.kill();
    second.kill();
    let again = transport(&cluster, &[first.url()], "n", Some(file));
    api(&again).get("b").await.unwrap();
    assert_eq!(*again.servers().current(), *third.url());
}

#[tokio::test]
async fn many_clients_spread_and_stay() {
    let cluster = Cluster::new();
    put(&cluster, "a");
    let servers = [Server::start(&cluster).await, Server::start(&cluster).await, Server::start(&cluster).await];
    let told: Vec<_> = servers.iter().map(Server::url).collect();
    for client in 0..30 {
        let transport = transport(&cluster, &told, &format!("node-{client}"), None);
        let before = servers.iter().map(|server| server.seen(Verb::Get)).collect::<Vec<_>>();
        for _ in 0..4 {
            api(&transport).get("a").await.unwrap();
        }
        let each = servers.iter().zip(before).map(|(server, before)| server.seen(Verb::Get) - before);
        assert!(each.into_iter().all(|requests| matches!(requests, 0 | 4)), "a client stays");
    }
    let all: Vec<_> = servers.iter().map(|server| server.seen(Verb::Get)).collect();
    println!("120 reads of 30 clients: {all:?}");
    assert!(all.iter().all(|requests| *requests > 0), "{all:?}");
}
