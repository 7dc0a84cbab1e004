//! Pods in real containers, from their creation to their end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Node, can_run, phase, ready, script};
use serde_json::json;

#[actix::test]
async fn a_pod_runs_and_ends_and_leaves_nothing() {
    if !can_run() {
        return;
    }
    let node = Node::start(1, |_| {}).await;
    node.pod("web", json!({"containers": [script("main", "echo hello; exec sleep 1000")]}));
    let pod = node.until("web", "ready", ready).await;
    let status = pod.status.as_ref().unwrap();
    let main = &status.container_statuses.as_ref().unwrap()[0];
    assert!(main.ready && main.started == Some(true) && main.restart_count == 0, "{main:?}");
    assert!(main.container_id.as_ref().unwrap().starts_with("containerd://"));
    assert!(status.pod_ip.as_ref().unwrap().starts_with("10.123.1."), "{:?}", status.pod_ip);
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    node.wait("log", || node.log(&pod, "main", 0) == "hello\n").await;
    node.wait("events", || node.events("web").len() >= 3).await;
    let reasons: Vec<String> = node.events("web").into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(reasons, ["Pulled", "Created", "Started"]);
    node.delete("web").await;
    node.wait("web is gone", || node.get("web").is_none()).await;
    assert!(!node.config.pod_dir(pod.metadata.uid.as_ref().unwrap()).exists());

    node.pod(
        "job",
        json!({"restartPolicy": "Never", "containers": [script("main", "echo done > /dev/termination-log; exit 3")]}),
    );
    let pod = node.until("job", "failed", |pod| phase(pod) == "Failed").await;
    let main = &pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0];
    let terminated = main.state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((terminated.exit_code, terminated.reason.as_deref()), (3, Some("Error")));
    assert_eq!(terminated.message.as_deref(), Some("done\n"));
    node.end().await;
}
