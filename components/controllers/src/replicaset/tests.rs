//! Cases for `replicaset`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use k8s_openapi::api::core::v1::Event;
use navarch_client::testing::{FakeServer, Fault};
use navarch_types::Verb;
use serde_json::{Value, json};

use super::*;
use crate::testbed::Testbed;

const NAME: &str = "replicaset-controller";

fn set(server: &FakeServer, replicas: i32) -> Arc<ReplicaSet> {
    server.put_json(json!({"metadata": {"name": "r", "namespace": "d", "generation": 1}, "spec": {"replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}}}}))
}

fn status(server: &FakeServer) -> (i32, i32) {
    let status = server.get::<ReplicaSet>("d", "r").and_then(|r| r.status.clone()).unwrap_or_default();
    (status.replicas, status.ready_replicas.unwrap_or(0))
}

fn make_ready(bed: &Testbed) {
    for pod in bed.server.list::<Pod>() {
        bed.change::<Pod>("d", pod.metadata.name.as_deref().unwrap(), |p: &mut Value| {
            p["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        });
    }
}

#[actix::test]
async fn makes_pods_once_and_says_so() {
    let bed = Testbed::new(&[NAME]).await;
    set(&bed.server, 5);
    bed.until("five", |s| s.list::<Pod>().len() == 5 && status(s) == (5, 0)).await;
    bed.server.break_watches();
    make_ready(&bed);
    bed.until("ready", |s| status(s) == (5, 5)).await;
    bed.quiet().await;
    assert_eq!(bed.server.list::<Pod>().len(), 5);
    let creates = bed.server.writes().iter().filter(|w| w.verb == Verb::Create).count();
    assert_eq!(creates, 5, "never one too many");
    assert!(bed.server.writes().iter().all(|w| w.fence_term == Some(7)), "every write carries the term");
    let pod = &bed.server.list::<Pod>()[0];
    assert_eq!(owners::controller_of(&pod.metadata).unwrap().name, "r");
    bed.until("events", |s| s.list::<Event>().iter().any(|e| e.reason.as_deref() == Some("SuccessfulCreate"))).await;
}

#[actix::test]
async fn replaces_what_is_lost_and_removes_what_is_too_much() {
    let bed = Testbed::new(&[NAME]).await;
    set(&bed.server, 3);
    bed.until("three", |s| s.list::<Pod>().len() == 3).await;
    let name = bed.server.list::<Pod>()[0].metadata.name.clone().unwrap();
    bed.server.remove::<Pod>("d", &name);
    bed.until("three again", |s| s.list::<Pod>().len() == 3 && s.get::<Pod>("d", &name).is_none()).await;
    let failed = bed.server.list::<Pod>()[0].metadata.name.clone().unwrap();
    bed.change::<Pod>("d", &failed, |p| p["status"] = json!({"phase": "Failed"}));
    bed.until("a fourth for the failed one", |s| s.list::<Pod>().len() == 4 && status(s) == (3, 0)).await;
    bed.server.inject(Fault::lost_connection().on(Verb::Delete, "pods"));
    bed.change::<ReplicaSet>("d", "r", |r| r["spec"]["replicas"] = 1.into());
    bed.until("one", |s| status(s) == (1, 0)).await;
    bed.quiet().await;
    assert_eq!(bed.server.list::<Pod>().len(), 2, "the failed one stays");
}

#[actix::test]
async fn failing_creations_are_told_and_tried_slowly() {
    let server = FakeServer::new();
    let error = ApiError::new(Reason::Forbidden, "exceeded quota");
    server.inject(Fault::new(error).on(Verb::Create, "pods").times(3));
    let bed = Testbed::with(&[NAME], server, crate::registry::Config::default()).await;
    set(&bed.server, 10);
    bed.until("told", |s| {
        let set = s.get::<ReplicaSet>("d", "r").unwrap();
        let conditions = set.status.iter().flat_map(|s| s.conditions.iter().flatten());
        conditions.into_iter().any(|c| c.reason.as_deref() == Some("FailedCreate"))
    })
    .await;
    bed.until("all made in the end", |s| s.list::<Pod>().len() == 10 && status(s) == (10, 0)).await;
    let set = bed.server.get::<ReplicaSet>("d", "r").unwrap();
    assert!(set.status.as_ref().unwrap().conditions.is_none(), "taken back");
    let creates = bed.server.writes().iter().filter(|w| w.verb == Verb::Create).count();
    assert_eq!(creates, 13, "a failing batch is one request, not ten");
}

#[actix::test]
async fn adopts_and_releases() {
    let bed = Testbed::new(&[NAME]).await;
    for name in ["orphan", "stranger"] {
        let app = if name == "orphan" { "web" } else { "other" };
        bed.server.put_json::<Pod>(
            json!({"metadata": {"name": name, "namespace": "d", "labels": {"app": app}}, "spec": {"containers": []}}),
        );
    }
    set(&bed.server, 2);
    bed.until("two", |s| status(s) == (2, 0)).await;
    assert_eq!(bed.server.list::<Pod>().len(), 3, "the orphan counts");
    assert!(owners::controller_of(&bed.server.get::<Pod>("d", "stranger").unwrap().metadata).is_none());
    bed.change::<Pod>("d", "orphan", |p| p["metadata"]["labels"] = json!({"app": "debug"}));
    bed.until("released", |s| owners::controller_of(&s.get::<Pod>("d", "orphan").unwrap().metadata).is_none()).await;
    bed.until("replaced", |s| s.list::<Pod>().len() == 4 && status(s) == (2, 0)).await;
}

#[actix::test]
async fn a_panic_restarts_just_this_controller() {
    navarch_supervision::fault::enable();
    let bed = Testbed::new(&[NAME]).await;
    navarch_supervision::fault::arm("controllers/replicaset", 2).unwrap();
    set(&bed.server, 2);
    bed.until("made all the same", |s| s.list::<Pod>().len() == 2).await;
    let snapshot = bed.tree.snapshot();
    let node = snapshot.find(&[NAME]).unwrap();
    assert_eq!(node.restarts, 2);
    assert!(node.last_failure.as_ref().unwrap().contains("fault point controllers/replicaset"));
    assert_eq!(snapshot.find(&["informers"]).unwrap().restarts, 0);
}
