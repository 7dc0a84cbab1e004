//! Cases for `run`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use navarch_client::testing::{FakeServer, Fault};
use navarch_supervision::Tree;
use navarch_types::Verb;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::plugins::{Strategy, default_profile};
use crate::testing::{merge, node, pod, requests};

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

struct Running {
    server: FakeServer,
    stop: CancellationToken,
    tree: Tree,
}

async fn start() -> Running {
    let server = FakeServer::new();
    let informers = InformerFactory::new(server.client());
    let stop = CancellationToken::new();
    let context = SchedulerContext {
        client: server.client(),
        informers: informers.clone(),
        framework: Arc::new(default_profile(Strategy::LeastAllocated).unwrap()),
        figures: Arc::default(),
    };
    let (running, token) = (informers, stop.clone());
    let informers = ChildSpec::task("informers", move |_| {
        let (informers, token) = (running.clone(), token.clone());
        async move { informers.run(token).await }
    });
    let root = SupervisorSpec::new("test", RestartStrategy::OneForOne).child(informers).child(spec(context));
    Running { server, stop, tree: Tree::start(root).await.unwrap() }
}

impl Running {
    fn node_of(&self, name: &str) -> Option<String> {
        self.server.get::<Pod>("default", name)?.spec.as_ref()?.node_name.clone()
    }

    async fn end(self) {
        self.stop.cancel();
        self.tree.stop(Duration::from_secs(20)).await;
    }
}

#[actix::test]
async fn pods_get_nodes_and_users_hear_of_it() {
    let running = start().await;
    let server = &running.server;
    server.put::<Node>(&node("n", json!({})));
    server.put::<Pod>(&pod("a", requests("3", "1Gi")));
    let node_of_a = until("a has a node", || running.node_of("a")).await;
    assert_eq!(node_of_a, "n");
    server.put::<Pod>(&pod("b", requests("3", "1Gi")));
    let expected = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
                    1 No preemption victims found for incoming pod.";
    until("b says why", || {
        let b = server.get::<Pod>("default", "b")?;
        let conditions = b.status.as_ref()?.conditions.clone()?;
        conditions
            .iter()
            .find(|c| c.reason.as_deref() == Some("Unschedulable") && c.message.as_deref() == Some(expected))
            .cloned()
    })
    .await;
    until("events tell both", || {
        let events = server.list::<Event>();
        let told = |reason: &str, message: &str| {
            events.iter().any(|e| e.reason.as_deref() == Some(reason) && e.message.as_deref() == Some(message))
        };
        (told("Scheduled", "Successfully assigned default/a to n") && told("FailedScheduling", expected)).then_some(())
    })
    .await;
    // Room is made: b goes there by itself.
    server.remove::<Pod>("default", "a");
    until("b has a node", || running.node_of("b")).await;
    running.end().await;
}

#[actix::test]
async fn a_failed_binding_is_tried_again_and_panics_lose_no_pod() {
    let running = start().await;
    let server = &running.server;
    fault::enable();
    server.put::<Node>(&node("n", json!({})));
    server.inject(Fault::lost_connection().on(Verb::Create, "pods").times(1));
    server.put::<Pod>(&pod("a", json!({})));
    until("a has a node", || running.node_of("a")).await;
    for (at, point) in
        ["scheduler/cycle", "scheduler/loop", "scheduler/binder", "scheduler/queue"].into_iter().enumerate()
    {
        fault::arm(point, 1).unwrap();
        let name = format!("p{at}");
        let mut more = json!({"metadata": {"labels": {"at": name}}});
        merge(&mut more, json!({}));
        server.put::<Pod>(&pod(&name, more));
        until(&format!("{name} has a node after {point}"), || running.node_of(&name)).await;
    }
    running.end().await;
}
