//! Pods in real containers, from their creation to their end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/support.rs"]
mod common;

use common::{Node, can_run, phase, ready, script};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
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

#[actix::test]
async fn volumes_environment_and_init_containers() {
    if !can_run() {
        return;
    }
    let node = Node::start(2, |config| {
        config.cluster_dns = vec![[10, 96, 0, 10].into()];
    })
    .await;
    node.api.put_json::<ConfigMap>(
        json!({"metadata": {"name": "cfg", "namespace": "default"}, "data": {"page": "one", "MODE": "fast"}}),
    );
    node.api
        .put_json::<Secret>(json!({"metadata": {"name": "sec", "namespace": "default"}, "data": {"pw": "aHVzaA=="}}));
    node.api.put_json::<ServiceAccount>(json!({"metadata": {"name": "default", "namespace": "default"}}));
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path});
    let mut init = script("init", "echo made > /shared/file");
    init["volumeMounts"] = json!([mount("empty", "/shared")]);
    // The pod's own cgroup has a limit only when each of its containers has one, the init containers included.
    init["resources"] = json!({"limits": {"memory": "32Mi"}});
    let text = "cat /shared/file /cfg/page /sec/pw /down/labels /tok/token; echo; echo $MODE-$PW-$NAME-$KUBERNETES_SERVICE_HOST; \
        cat /etc/resolv.conf /sub; hostname; echo dead > /dev/termination-log; exec sleep 1000";
    let mut main = script("main", text);
    main["volumeMounts"] = json!([mount("empty", "/shared"), mount("cfg", "/cfg"), mount("sec", "/sec"), mount("down", "/down"),
        mount("tok", "/tok"), {"name": "cfg", "mountPath": "/sub", "subPath": "page"}]);
    main["envFrom"] = json!([{"configMapRef": {"name": "cfg"}}]);
    main["env"] = json!([{"name": "PW", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pw"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    main["resources"] = json!({"limits": {"memory": "64Mi", "cpu": "500m"}});
    node.pod("full", json!({"initContainers": [init], "containers": [main], "hostname": "named", "volumes": [
        {"name": "empty", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "cfg", "configMap": {"name": "cfg"}}, {"name": "sec", "secret": {"secretName": "sec", "defaultMode": 0o400}},
        {"name": "down", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"name": "tok", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]}));
    let pod = node.until("full", "ready", ready).await;
    node.wait("log", || node.log(&pod, "main", 0).contains("named")).await;
    let log = node.log(&pod, "main", 0);
    for expected in [
        "made\none",
        "hush",
        "full",
        "token-of-default",
        "fast-hush-full-10.96.0.1",
        "nameserver 10.96.0.10",
        "search default.svc.cluster.local",
    ] {
        assert!(log.contains(expected), "no {expected:?} in {log}");
    }
    let uid = pod.metadata.uid.clone().unwrap();
    let cgroup = std::path::Path::new("/sys/fs/cgroup/memory")
        .join(node.config.cgroup_root.trim_matches('/'))
        .join(format!("burstable/pod{uid}"));
    if std::path::Path::new("/sys/fs/cgroup/memory").exists() {
        let limit = std::fs::read_to_string(cgroup.join("memory.limit_in_bytes")).unwrap();
        assert_eq!(limit.trim(), (64 << 20).to_string());
    }
    node.api
        .put_json::<ConfigMap>(json!({"metadata": {"name": "cfg", "namespace": "default"}, "data": {"page": "two"}}));
    let file = node.config.pod_dir(&uid).join("volumes/kubernetes.io~configmap/cfg/page");
    node.wait("live update", || std::fs::read_to_string(&file).is_ok_and(|text| text == "two")).await;
    node.delete("full").await;
    node.wait("full is gone", || node.get("full").is_none()).await;
    assert!(!node.config.pod_dir(&uid).exists() && !cgroup.exists());
    node.end().await;
}

#[actix::test]
async fn failures_have_upstreams_reasons() {
    if !can_run() {
        return;
    }
    let node = Node::start(3, |_| {}).await;
    let waiting = |pod: &Pod| {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.clone()).unwrap_or_default();
        let waiting = statuses.first().and_then(|status| status.state.clone()?.waiting?.reason);
        waiting.unwrap_or_default()
    };
    let image = |image: &str, policy: &str| json!({"containers": [{"name": "main", "image": image, "imagePullPolicy": policy}]});
    node.pod("bad-name", image("UPPER", "Always"));
    node.pod("never", image("docker.io/library/none:1", "Never"));
    node.pod("pull", image("127.0.0.1:1/none:1", "Always"));
    let mut config = script("main", "sleep 1000");
    config["envFrom"] = json!([{"configMapRef": {"name": "late"}}]);
    node.pod("config", json!({"containers": [config]}));
    node.pod("crash", json!({"containers": [script("main", "exit 1")]}));
    node.pod(
        "big",
        json!({"containers": [{"name": "main", "image": "x", "resources": {"requests": {"cpu": "1000"}}}]}),
    );
    node.until("bad-name", "InvalidImageName", |pod| waiting(pod) == "InvalidImageName").await;
    node.until("never", "ErrImageNeverPull", |pod| waiting(pod) == "ErrImageNeverPull").await;
    node.until("pull", "ImagePullBackOff", |pod| waiting(pod) == "ImagePullBackOff").await;
    node.until("config", "CreateContainerConfigError", |pod| waiting(pod) == "CreateContainerConfigError").await;
    node.until("crash", "CrashLoopBackOff", |pod| waiting(pod) == "CrashLoopBackOff").await;
    let big = node.until("big", "refused", |pod| phase(pod) == "Failed").await;
    assert_eq!(big.status.as_ref().unwrap().reason.as_deref(), Some("OutOfcpu"));
    node.api.put_json::<ConfigMap>(json!({"metadata": {"name": "late", "namespace": "default"}, "data": {}}));
    node.until("config", "ready", ready).await;
    for name in ["bad-name", "never", "pull", "config", "crash", "big"] {
        node.delete(name).await;
    }
    for name in ["bad-name", "never", "pull", "config", "crash", "big"] {
        node.wait(name, || node.get(name).is_none()).await;
    }
    node.end().await;
}

#[actix::test]
async fn probes_restart_and_hooks_run() {
    if !can_run() {
        return;
    }
    let node = Node::start(4, |_| {}).await;
    let mut main = script("main", "touch /live; trap 'exit 0' TERM; while true; do sleep 0.1; done");
    main["livenessProbe"] = json!({"exec": {"command": ["cat", "/live"]}, "periodSeconds": 1, "failureThreshold": 1});
    main["readinessProbe"] = json!({"exec": {"command": ["cat", "/ready"]}, "periodSeconds": 1, "failureThreshold": 1});
    main["lifecycle"] = json!({"postStart": {"exec": {"command": ["touch", "/host/post"]}}, "preStop": {"exec": {"command": ["touch", "/host/pre"]}}});
    main["volumeMounts"] = json!([{"name": "host", "mountPath": "/host"}]);
    let folder = std::env::temp_dir().join(format!("nvk-hooks-{}", std::process::id()));
    node.pod("probed", json!({"containers": [main], "volumes": [{"name": "host", "hostPath": {"path": folder, "type": "DirectoryOrCreate"}}]}));
    let pod = node.until("probed", "running", |pod| phase(pod) == "Running").await;
    assert_eq!(common::condition(&pod, "Ready").as_deref(), Some("False"));
    node.wait("postStart", || folder.join("post").exists()).await;
    let exec = |command: Vec<&str>| {
        let cri = navarch_kubelet::cri::Cri::new(&node.config.cri_socket);
        let command: Vec<String> = command.into_iter().map(str::to_owned).collect();
        let pod = node.get("probed").unwrap();
        let id = pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].container_id.clone().unwrap();
        async move {
            cri.exec_sync(id.trim_start_matches("containerd://"), command, std::time::Duration::from_secs(5)).await
        }
    };
    exec(vec!["touch", "/ready"]).await.unwrap();
    node.until("probed", "ready", ready).await;
    exec(vec!["busybox", "rm", "/live"]).await.unwrap();
    let restarted = |pod: &Pod| {
        pod.status.as_ref().unwrap().container_statuses.as_ref().is_some_and(|all| all[0].restart_count == 1)
    };
    node.until("probed", "restarted", restarted).await;
    node.wait("preStop", || folder.join("pre").exists()).await;
    node.wait("event", || node.events("probed").iter().any(|(reason, _)| reason == "Unhealthy")).await;
    node.delete("probed").await;
    node.wait("probed is gone", || node.get("probed").is_none()).await;
    let _ = std::fs::remove_dir_all(folder);
    node.end().await;
}

#[actix::test]
async fn containers_outlive_the_agent_and_containerd() {
    if !can_run() {
        return;
    }
    let mut node = Node::start(5, |_| {}).await;
    node.pod("kept", json!({"containers": [script("main", "exec sleep 1000")]}));
    let before = node.until("kept", "ready", ready).await;
    let id = |pod: &Pod| pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].container_id.clone();
    node.halt().await;
    node.api.forget_requests();
    node.run().await;
    // It must see the pod again without changing it: a new one proves that it works.
    node.pod("other", json!({"containers": [script("main", "exec sleep 1000")]}));
    node.until("other", "ready", ready).await;
    let after = node.until("kept", "ready", ready).await;
    assert_eq!(id(&before), id(&after));
    let pid_file = node.config.containerd.as_ref().unwrap().run_dir.join("containerd.pid");
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert!(std::process::Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
    node.wait("containerd is back", || std::fs::read_to_string(&pid_file).is_ok_and(|now| now != pid)).await;
    node.pod("third", json!({"containers": [script("main", "exec sleep 1000")]}));
    node.until("third", "ready", ready).await;
    assert_eq!(id(&before), id(&node.get("kept").unwrap()));
    // What the API forgot while the agent was away is removed.
    node.halt().await;
    node.api.remove::<Pod>("default", "kept");
    let folder = node.config.pod_dir(before.metadata.uid.as_ref().unwrap());
    node.run().await;
    node.wait("kept is removed", || !folder.exists()).await;
    assert!(ready(&node.get("other").unwrap()));
    node.end().await;
}
