//! Cases for `deployment`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use k8s_openapi::api::core::v1::Event;
use navarch_client::testing::{FakeServer, Fault};
use navarch_types::Verb;
use serde_json::{Value, json};

use super::*;
use crate::testbed::Testbed;

const BOTH: [&str; 2] = ["deployment-controller", "replicaset-controller"];

fn deployment(server: &FakeServer, replicas: i32, change: Value) -> Arc<Deployment> {
    let mut value = json!({"metadata": {"name": "web", "namespace": "d", "generation": 1}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 600,
        "revisionHistoryLimit": 10, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "a:1"}]}}}});
    for (key, new) in change.as_object().unwrap() {
        value["spec"][key] = new.clone();
    }
    server.put_json(value)
}

fn set_image(bed: &Testbed, image: &str) {
    bed.change::<Deployment>("d", "web", |d| d["spec"]["template"]["spec"]["containers"][0]["image"] = image.into());
}

/// Marks every pod of these images ready, as a kubelet would.
fn make_ready(server: &FakeServer, images: &[&str]) {
    for pod in server.list::<Pod>() {
        let image = pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap_or_default();
        if images.contains(&image.as_str()) && !crate::pods::is_ready(&pod) {
            let mut value = serde_json::to_value(&*pod).unwrap();
            value["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
            server.put_json::<Pod>(value);
        }
    }
}

fn images(server: &FakeServer) -> Vec<String> {
    let mut images: Vec<String> =
        server.list::<Pod>().iter().map(|p| p.spec.as_ref().unwrap().containers[0].image.clone().unwrap()).collect();
    images.sort();
    images
}

fn progress(server: &FakeServer) -> String {
    let status = server.get::<Deployment>("d", "web").and_then(|d| d.status.clone()).unwrap_or_default();
    let found = status.conditions.iter().flatten().find(|c| c.type_ == "Progressing").and_then(|c| c.reason.clone());
    found.unwrap_or_default()
}

fn is_done(server: &FakeServer, replicas: i32) -> bool {
    let deployment = server.get::<Deployment>("d", "web").unwrap();
    let status = deployment.status.clone().unwrap_or_default();
    status.available_replicas == Some(replicas)
        && status.updated_replicas == Some(replicas)
        && status.replicas == Some(replicas)
        && status.observed_generation == deployment.metadata.generation
}

#[actix::test]
async fn rolls_out_within_its_limits_and_back() {
    let bed = Testbed::new(&BOTH).await;
    deployment(&bed.server, 4, json!({}));
    bed.until("first", |s| {
        make_ready(s, &["a:1"]);
        is_done(s, 4)
    })
    .await;
    bed.until("progressed", |s| progress(s) == "NewReplicaSetAvailable").await;
    set_image(&bed, "a:2");
    let (mut most, mut fewest) = (0, usize::MAX);
    bed.until("second", |s| {
        let pods = s.list::<Pod>();
        most = most.max(pods.len());
        fewest = fewest.min(pods.iter().filter(|p| crate::pods::is_ready(p)).count());
        make_ready(s, &["a:2"]);
        is_done(s, 4) && images(s) == ["a:2"; 4]
    })
    .await;
    assert!(most <= 5 && fewest >= 3, "{most} {fewest}");
    let annotation =
        |s: &FakeServer| s.get::<Deployment>("d", "web").unwrap().metadata.annotations.clone().unwrap_or_default();
    assert_eq!(annotation(&bed.server)[history::REVISION], "2");
    assert_eq!(bed.server.list::<ReplicaSet>().len(), 2, "the old one is history");
    // A rollback is the old template again: its ReplicaSet comes back with a new revision.
    set_image(&bed, "a:1");
    bed.until("back", |s| {
        make_ready(s, &["a:1"]);
        is_done(s, 4) && images(s) == ["a:1"; 4]
    })
    .await;
    assert_eq!(bed.server.list::<ReplicaSet>().len(), 2);
    bed.until("third", |s| annotation(s)[history::REVISION] == "3").await;
    bed.until("words", |s| {
        let message =
            |text: &str| s.list::<Event>().iter().any(|e| e.message.as_deref().is_some_and(|m| m.contains(text)));
        message("Scaled up replica set web-") && message("from 0 to 4") && message("Scaled down replica set web-")
    })
    .await;
}

#[actix::test]
async fn a_bad_version_stalls_and_can_be_replaced() {
    let bed = Testbed::new(&BOTH).await;
    deployment(&bed.server, 3, json!({"progressDeadlineSeconds": 1}));
    bed.until("first", |s| {
        make_ready(s, &["a:1"]);
        is_done(s, 3)
    })
    .await;
    set_image(&bed, "bad");
    bed.until("stalled", |s| progress(s) == "ProgressDeadlineExceeded").await;
    let ready = bed.server.list::<Pod>().iter().filter(|p| crate::pods::is_ready(p)).count();
    assert_eq!(ready, 3, "nobody was taken away");
    set_image(&bed, "a:3");
    bed.until("replaced", |s| {
        make_ready(s, &["a:3"]);
        is_done(s, 3) && images(s) == ["a:3"; 3]
    })
    .await;
}

#[actix::test]
async fn pauses_scales_and_resumes() {
    let bed = Testbed::new(&BOTH).await;
    deployment(&bed.server, 2, json!({}));
    bed.until("first", |s| {
        make_ready(s, &["a:1"]);
        is_done(s, 2)
    })
    .await;
    bed.change::<Deployment>("d", "web", |d| {
        d["spec"]["paused"] = true.into();
        d["spec"]["replicas"] = 6.into();
        d["spec"]["template"]["spec"]["containers"][0]["image"] = "a:2".into();
    });
    bed.until("scaled", |s| {
        make_ready(s, &["a:1"]);
        images(s) == ["a:1"; 6]
    })
    .await;
    bed.until("paused", |s| progress(s) == "DeploymentPaused").await;
    bed.quiet().await;
    assert_eq!(bed.server.list::<ReplicaSet>().len(), 1, "no new revision while paused");
    bed.change::<Deployment>("d", "web", |d| d["spec"]["paused"] = false.into());
    bed.until("resumed", |s| {
        make_ready(s, &["a:2"]);
        is_done(s, 6) && images(s) == ["a:2"; 6]
    })
    .await;
    bed.change::<Deployment>("d", "web", |d| d["spec"]["replicas"] = 1.into());
    bed.until("one", |s| is_done(s, 1)).await;
}

#[actix::test]
async fn recreate_lets_the_old_go_first() {
    let bed = Testbed::new(&BOTH).await;
    deployment(&bed.server, 2, json!({"strategy": {"type": "Recreate"}}));
    bed.until("first", |s| {
        make_ready(s, &["a:1"]);
        is_done(s, 2)
    })
    .await;
    set_image(&bed, "a:2");
    bed.until("second", |s| {
        let images = images(s);
        assert!(!(images.contains(&"a:1".to_owned()) && images.contains(&"a:2".to_owned())), "never both");
        make_ready(s, &["a:2"]);
        is_done(s, 2) && images == ["a:2"; 2]
    })
    .await;
}

#[actix::test]
async fn survives_conflicts_lost_answers_and_collisions() {
    let server = FakeServer::new();
    let lost = Fault::lost_answer();
    server.inject(lost.clone().on(Verb::Create, "replicasets"));
    server.inject(Fault::conflict("deployments").times(2));
    server.inject(Fault::conflict("replicasets").times(2));
    server.inject(lost.on(Verb::Create, "pods"));
    let bed = Testbed::with(&BOTH, server, crate::registry::Config::default()).await;
    let made = deployment(&bed.server, 3, json!({"revisionHistoryLimit": 0}));
    let hash = history::template_hash(&made.spec.as_ref().unwrap().template, 0);
    bed.until("done", |s| {
        make_ready(s, &["a:1"]);
        s.break_watches();
        is_done(s, 3)
    })
    .await;
    assert!(bed.server.get::<ReplicaSet>("d", &format!("web-{hash}")).is_some());
    // Somebody else's ReplicaSet has the name that the next template would get.
    let mut template = made.spec.as_ref().unwrap().template.clone();
    template.spec.as_mut().unwrap().containers[0].image = Some("a:2".into());
    let taken = format!("web-{}", history::template_hash(&template, 0));
    bed.server.put_json::<ReplicaSet>(json!({"metadata": {"name": taken, "namespace": "d"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"x": "y"}}}}));
    set_image(&bed, "a:2");
    bed.until("second", |s| {
        make_ready(s, &["a:2"]);
        is_done(s, 3) && images(s) == ["a:2"; 3]
    })
    .await;
    let status = bed.server.get::<Deployment>("d", "web").unwrap().status.clone().unwrap();
    assert_eq!(status.collision_count, Some(1));
    bed.until("no history", |s| s.get::<ReplicaSet>("d", &format!("web-{hash}")).is_none()).await;
}

#[actix::test]
async fn few_writes() {
    let bed = Testbed::new(&BOTH).await;
    bed.quiet().await;
    deployment(&bed.server, 10, json!({}));
    bed.until("made", |s| s.list::<Pod>().len() == 10).await;
    make_ready(&bed.server, &["a:1"]);
    bed.until("done", |s| is_done(s, 10)).await;
    bed.quiet().await;
    let writes = bed.server.writes();
    assert!(writes.len() <= 20, "{} writes: {writes:#?}", writes.len());
    bed.server.forget_requests();
    bed.server.break_watches();
    bed.quiet().await;
    assert_eq!(bed.server.writes(), [], "a settled Deployment is left alone");
}
