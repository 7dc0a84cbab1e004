//! Cases for `pod_security`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::json;

use super::super::testing::Case;
use super::*;

fn case(enforce: &str, warn: &str) -> Case {
    let case = Case::with_namespace();
    let labels = json!({"pod-security.kubernetes.io/enforce": enforce, "pod-security.kubernetes.io/warn": warn});
    case.view.put(&NAMESPACES, &json!({"metadata": {"name": "default", "labels": labels}})).unwrap();
    case
}

fn plain() -> Value {
    json!({"spec": {"serviceAccountName": "default", "containers": [{"name": "a"}]}})
}

fn hardened() -> Value {
    json!({"spec": {"serviceAccountName": "default", "securityContext": {"runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"}}, "containers": [{"name": "a", "securityContext": {
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}})
}

fn with(mut pod: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    pod.pointer_mut(parent).unwrap()[key] = value;
    pod
}

#[tokio::test]
async fn restricted_says_all_that_is_missing() {
    let error = case("restricted", "").create("", "pods", "default", "p").validate(&plain()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false \
         (container \"a\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \
         \"a\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"a\" must \
         set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"a\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
}

#[tokio::test]
async fn each_control_holds() {
    let context = "/spec/containers/0/securityContext";
    for (pod, level, reason) in [
        (hardened(), "restricted", ""),
        (plain(), "baseline", ""),
        (with(plain(), "/spec/hostNetwork", json!(true)), "baseline", "host namespaces (hostNetwork=true)"),
        (with(plain(), "/spec/hostNetwork", json!(true)), "privileged", ""),
        (with(plain(), context, json!({"privileged": true})), "baseline", "privileged (container \"a\""),
        (with(plain(), context, json!({"capabilities": {"add": ["NET_ADMIN"]}})), "baseline", "\"NET_ADMIN\""),
        (with(plain(), context, json!({"capabilities": {"add": ["CHOWN"]}})), "baseline", ""),
        (with(plain(), "/spec/containers/0/ports", json!([{"hostPort": 80}])), "baseline", "uses hostPort 80"),
        (with(plain(), "/spec/volumes", json!([{"name": "v", "hostPath": {}}])), "baseline", "volume \"v\""),
        (with(plain(), context, json!({"procMount": "Unmasked"})), "baseline", "procMount"),
        (with(plain(), context, json!({"seLinuxOptions": {"type": "x"}})), "baseline", "seLinuxOptions"),
        (with(plain(), "/spec/securityContext", json!({"sysctls": [{"name": "vm.x"}]})), "baseline", "vm.x"),
        (with(plain(), context, json!({"seccompProfile": {"type": "Unconfined"}})), "baseline", "seccompProfile"),
        (with(hardened(), "/spec/volumes", json!([{"name": "v", "nfs": {}}])), "restricted", "type \"nfs\""),
        (with(hardened(), "/spec/securityContext/runAsUser", json!(0)), "restricted", "pod must not set runAsUser=0"),
        (with(hardened(), "/spec/securityContext/runAsNonRoot", json!(false)), "restricted", "runAsNonRoot"),
        (plain(), "nonsense", "violates PodSecurity \"restricted"),
    ] {
        let result = case(level, "").create("", "pods", "default", "p").validate(&pod).await;
        match reason {
            "" => drop(result.unwrap()),
            reason => {
                let text = result.unwrap_err().to_string();
                assert!(text.contains(reason), "{level}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn workloads_are_warned_of_and_not_refused() {
    let case = case("restricted", "baseline");
    let deployment = json!({"spec": {"template": with(plain(), "/spec/hostPID", json!(true))}});
    let warnings = case.create("apps", "deployments", "default", "d").validate(&deployment).await.unwrap();
    assert_eq!(warnings, ["would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"]);
}

#[tokio::test]
async fn an_update_that_is_no_matter_of_security_passes() {
    let case = case("restricted", "");
    let mut update = case.create("", "pods", "default", "p");
    (update.operation, update.old) = (Operation::Update, Some(plain()));
    let labelled = with(plain(), "/metadata", json!({"labels": {"a": "b"}}));
    assert!(update.validate(&labelled).await.is_ok());
    assert!(update.validate(&with(plain(), "/spec/containers/0/image", json!("other"))).await.is_err());
}
