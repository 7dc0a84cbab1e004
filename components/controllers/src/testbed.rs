//! What tests of controllers share: a fake server with informers and the controllers' actors on it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use navarch_client::testing::FakeServer;
use navarch_client::{InformerFactory, Resource};
use navarch_supervision::{ChildSpec, Strategy, SupervisorSpec, TaskContext, Tree};
use serde_json::Value;

use crate::registry::{Config, ControllersContext, ServedResource, specs};

pub(crate) struct Testbed {
    pub server: FakeServer,
    pub tree: Tree,
}

impl Testbed {
    /// Runs the controllers of these names.
    pub async fn new(names: &[&str]) -> Self {
        Self::with(names, FakeServer::new(), Config::default()).await
    }

    pub async fn with(names: &[&str], server: FakeServer, config: Config) -> Self {
        let informers = InformerFactory::new(server.client());
        let clients = server.clone();
        let context = ControllersContext {
            client: Arc::new(move |_| clients.client().fenced(7)),
            informers: informers.clone(),
            discover: Arc::new(|| Ok(served())),
            config,
        };
        let children = specs(&context).into_iter().filter(|spec| names.contains(&spec.name()));
        let spec = SupervisorSpec::new("controllers", Strategy::OneForOne)
            .child(ChildSpec::task("informers", move |task: TaskContext| {
                let informers = informers.clone();
                async move { informers.run(task.stop_token().clone()).await }
            }))
            .children(children);
        Self { server, tree: Tree::start(spec).await.unwrap() }
    }

    /// Waits until a check holds.
    pub async fn until(&self, what: &str, mut check: impl FnMut(&FakeServer) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !check(&self.server) {
            assert!(Instant::now() < end, "never: {what}\n{:#?}", self.tree.snapshot());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until nothing was asked of the server for a while.
    pub async fn quiet(&self) {
        let mut seen = 0;
        let mut calm = 0;
        while calm < 30 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = self.server.requests().len();
            calm = if now == seen { calm + 1 } else { 0 };
            seen = now;
        }
    }

    /// Changes an object as another client would.
    pub fn change<K: Resource>(&self, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) -> Arc<K> {
        let object = self.server.get::<K>(namespace, name).unwrap();
        let mut value = serde_json::to_value(&*object).unwrap();
        let before = value["spec"].clone();
        change(&mut value);
        if value["spec"] != before {
            value["metadata"]["generation"] = (value["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
        }
        self.server.put_json::<K>(value)
    }
}

fn served() -> Vec<ServedResource> {
    let verbs: Vec<String> =
        ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"].map(str::to_owned).to_vec();
    let served = |group: &'static str, resource: &'static str, kind: &str, namespaced| ServedResource {
        resource: navarch_types::GroupVersionResource::new(group, "v1", resource),
        kind: kind.to_owned(),
        namespaced,
        verbs: verbs.clone(),
    };
    vec![
        served("", "pods", "Pod", true),
        served("", "configmaps", "ConfigMap", true),
        served("", "secrets", "Secret", true),
        served("", "services", "Service", true),
        served("", "namespaces", "Namespace", false),
        served("", "nodes", "Node", false),
        served("apps", "deployments", "Deployment", true),
        served("apps", "replicasets", "ReplicaSet", true),
    ]
}
