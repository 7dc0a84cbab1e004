//! Every resource of the table: a good object is taken, stored, read, listed, patched and deleted; unknown and mistyped
//! fields are refused.

use std::path::PathBuf;

use bytes::Bytes;
use navarch_registry::{Resource, Table};
use navarch_types::schema::{Schema, Type};
use navarch_types::{Body, ListOptions, PatchType, ResourceRequest, Verb};
use serde_json::{Value, json};

use crate::requests::{Client, request, start};

/// What is peculiar about a good object of a kind, beside a name: in the served version.
fn good(resource: &Resource) -> Value {
    let pod = json!({"containers": [{"name": "c", "image": "i"}]});
    let labels = json!({"app": "x"});
    let template = json!({"metadata": {"labels": labels}, "spec": pod});
    let selector = json!({"matchLabels": labels});
    let job_pod = json!({"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"});
    let rules = json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]});
    match resource.kind.kind.as_ref() {
        "Pod" => json!({"spec": pod}),
        "PodTemplate" => json!({"template": template}),
        "ReplicationController" => json!({"spec": {"selector": labels, "template": template}}),
        "Deployment" | "ReplicaSet" | "DaemonSet" => json!({"spec": {"selector": selector, "template": template}}),
        "StatefulSet" => json!({"spec": {"serviceName": "s", "selector": selector, "template": template}}),
        "ControllerRevision" => json!({"revision": 1, "data": {"a": 1}}),
        "Job" => json!({"spec": {"template": {"spec": job_pod}}}),
        "CronJob" => {
            json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": job_pod}}}}})
        }
        "Service" => json!({"spec": {"ports": [{"port": 80}]}}),
        "Endpoints" => json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
        "EndpointSlice" => json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}),
        "Event" if resource.served.group.is_empty() => {
            json!({"involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"}, "reason": "R", "type": "Normal"})
        }
        "Event" => json!({"regarding": {"kind": "Pod", "name": "a", "namespace": "default"}, "reason": "R",
            "type": "Normal", "eventTime": "2026-01-01T00:00:00.000000Z", "action": "A",
            "reportingController": "example.com/c", "reportingInstance": "i"}),
        "LimitRange" => json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "8"}}]}}),
        "ResourceQuota" => json!({"spec": {"hard": {"count/widgets.example.com": "5"}}}),
        "PersistentVolume" => json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/tmp/x"}}}),
        "PersistentVolumeClaim" => json!({"spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}),
        "HorizontalPodAutoscaler" => {
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "a", "apiVersion": "apps/v1"}}})
        }
        "CertificateSigningRequest" => json!({"spec": {"request": CSR, "signerName": "example.com/s",
            "usages": ["digital signature", "client auth"]}}),
        "ClusterTrustBundle" => json!({"spec": {"trustBundle": CERTIFICATE}}),
        "Lease" => json!({"spec": {"holderIdentity": "a", "leaseDurationSeconds": 5}}),
        "LeaseCandidate" => json!({"spec": {"leaseName": "a", "binaryVersion": "1.36.0", "emulationVersion": "1.36.0",
            "strategy": "OldestEmulationVersion"}}),
        "FlowSchema" => json!({"spec": {"priorityLevelConfiguration": {"name": "p"}, "matchingPrecedence": 500}}),
        "PriorityLevelConfiguration" => json!({"spec": {"type": "Limited",
            "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}}}}),
        "Ingress" => json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}}),
        "IngressClass" => json!({"spec": {"controller": "example.com/c"}}),
        "NetworkPolicy" => json!({"spec": {"podSelector": {}}}),
        "IPAddress" => {
            json!({"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "s"}}})
        }
        "ServiceCIDR" => json!({"spec": {"cidrs": ["10.97.0.0/16"]}}),
        "RuntimeClass" => json!({"handler": "runc"}),
        "PodDisruptionBudget" => json!({"spec": {"minAvailable": 1, "selector": selector}}),
        "RoleBinding" | "ClusterRoleBinding" => json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "u",
            "apiGroup": "rbac.authorization.k8s.io"}]}),
        "Role" | "ClusterRole" => json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
        "PriorityClass" => json!({"value": 5}),
        "CSIDriver" => json!({"spec": {}}),
        "CSINode" => json!({"spec": {"drivers": [{"name": "d.example.com", "nodeID": "n"}]}}),
        "CSIStorageCapacity" => json!({"storageClassName": "s"}),
        "StorageClass" => json!({"provisioner": "example.com/p"}),
        "VolumeAttachment" => json!({"spec": {"attacher": "a.example.com", "nodeName": "n",
            "source": {"persistentVolumeName": "v"}}}),
        "VolumeAttributesClass" => json!({"driverName": "d.example.com", "parameters": {"a": "b"}}),
        "CustomResourceDefinition" => json!({"spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "walks", "singular": "walk", "kind": "Walk", "listKind": "WalkList"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}}),
        "APIService" => json!({"spec": {"group": "example.com", "version": "v1", "groupPriorityMinimum": 100,
            "versionPriority": 10}}),
        "StorageVersionMigration" => json!({"spec": {"resource": {"group": "", "resource": "pods"}}}),
        "DeviceClass" => json!({"spec": {}}),
        "ResourceClaim" => {
            json!({"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "d"}}]}}})
        }
        "ResourceClaimTemplate" => json!({"spec": {"spec": {"devices": {"requests": [
            {"name": "r", "exactly": {"deviceClassName": "d"}}]}}}}),
        "ResourceSlice" => json!({"spec": {"driver": "d.example.com", "nodeName": "n",
            "pool": {"name": "p", "resourceSliceCount": 1, "generation": 1}}}),
        "DeviceTaintRule" => json!({"spec": {"taint": {"key": "k.example.com/a", "effect": "NoSchedule"}}}),
        "ResourcePoolStatusRequest" => json!({"spec": {"driver": "d.example.com"}}),
        "StorageVersion" => json!({"spec": {}}),
        "PodGroup" => json!({"spec": {"schedulingPolicy": {"basic": {}}}}),
        "Workload" => json!({"spec": {"podGroupTemplates": [{"name": "g", "schedulingPolicy": {"basic": {}}}]}}),
        "PodCertificateRequest" => Value::Null,
        "ValidatingAdmissionPolicy" => {
            json!({"spec": {"matchConstraints": rules, "validations": [{"expression": "true"}]}})
        }
        "MutatingAdmissionPolicy" => {
            json!({"spec": {"matchConstraints": rules, "reinvocationPolicy": "Never", "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}]}})
        }
        "ValidatingAdmissionPolicyBinding" => json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}}),
        "MutatingAdmissionPolicyBinding" => json!({"spec": {"policyName": "p"}}),
        "SubjectAccessReview" | "LocalSubjectAccessReview" => json!({"spec": {"user": "u",
            "resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}}}),
        "SelfSubjectAccessReview" => {
            json!({"spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}}})
        }
        "SelfSubjectRulesReview" => json!({"spec": {"namespace": "default"}}),
        "TokenReview" => json!({"spec": {"token": "x"}}),
        _ => json!({}),
    }
}

const CSR: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIeE1JR1hBZ0VBTURVeEV6QVJCZ05WQkFNTUNtUmxiVzh0WTJ4cFpXNTBNUjR3SEFZRFZRUUtEQlZ1YjI1bApMV0YwTFdGc2JDQm5jbTkxY0NCaE1Ga3dFd1lIS29aSXpqMENBUVlJS29aSXpqMERBUWNEUWdBRQ==";
const CERTIFICATE: &str = "";

/// Kinds of which the server is told that it refuses them for now, or of which a good object cannot be made by hand.
fn skipped(resource: &Resource) -> bool {
    matches!(
        resource.kind.kind.as_ref(),
        // Need keys and signatures.
        "CertificateSigningRequest" | "ClusterTrustBundle" | "PodCertificateRequest"
        // Admission refuses what it would not enforce.
        | "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" | "ValidatingAdmissionPolicy"
        | "MutatingAdmissionPolicy" | "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding"
        // Is posted, not stored.
        | "Binding"
    )
}

fn name(resource: &Resource) -> String {
    match resource.kind.kind.as_ref() {
        "IPAddress" => "10.97.0.5".to_owned(),
        "CustomResourceDefinition" => "walks.example.com".to_owned(),
        "APIService" => "v1.example.com".to_owned(),
        "StorageVersion" => "example.com.walks".to_owned(),
        _ => format!("walk-{}", resource.served.version),
    }
}

fn object(resource: &Resource) -> Value {
    let mut object = json!({"apiVersion": resource.kind.api_version(), "kind": resource.kind.kind,
        "metadata": {"name": name(resource), "labels": {"walk": "yes"}}});
    for (key, value) in good(resource).as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

fn namespace(resource: &Resource) -> Option<&'static str> {
    resource.namespaced.then_some("default")
}

fn at(resource: &Resource, verb: Verb, name: Option<&str>) -> ResourceRequest {
    request(verb, &resource.served, namespace(resource), name)
}

fn post(resource: &Resource, object: &Value, validation: &str) -> ResourceRequest {
    let mut create = at(resource, Verb::Create, None);
    create.body = Body::Bytes { media_type: "application/json".into(), content: Bytes::from(object.to_string()) };
    create.write.field_validation = Some(validation.to_owned());
    create
}

async fn walk(client: &Client, resource: &Resource) -> Result<(), String> {
    let what = format!("{} {}", resource.kind.api_version(), resource.kind.kind);
    let failed = |step: &str, error: &dyn std::fmt::Display| format!("{what}: {step}: {error}");
    let made = client.object(post(resource, &object(resource), "Strict")).await.map_err(|e| failed("create", &e))?;
    if made["kind"] != *resource.kind.kind || made["apiVersion"] != resource.kind.api_version() {
        return Err(failed("create", &made));
    }
    if !resource.verbs.contains(&Verb::Get) {
        return if made["status"].is_object() { Ok(()) } else { Err(failed("no status", &made)) };
    }
    let name = name(resource);
    let got = client.object(at(resource, Verb::Get, Some(&name))).await.map_err(|e| failed("get", &e))?;
    if got != made {
        return Err(failed("get differs", &format!("{got} {made}")));
    }
    let selection = ListOptions { label_selector: Some("walk=yes".to_owned()), ..ListOptions::default() };
    let list = client.list(&resource.served, None, selection).await.map_err(|e| failed("list", &e))?;
    if list.items.is_empty() {
        return Err(failed("list", &"nothing found"));
    }
    let mut patch = at(resource, Verb::Patch, Some(&name));
    patch.patch = Some(PatchType::Merge);
    patch.body = Body::Value(json!({"metadata": {"labels": {"more": "yes"}}}));
    let patched = client.object(patch).await.map_err(|e| failed("patch", &e))?;
    if patched["metadata"]["labels"]["more"] != "yes" {
        return Err(failed("patch", &patched));
    }
    let mut update = at(resource, Verb::Update, Some(&name));
    update.body = Body::Value(patched);
    client.object(update).await.map_err(|e| failed("update", &e))?;
    let rows = resource.strategy.row(&made, jiff::Timestamp::now());
    if rows.len() != resource.strategy.columns().len() {
        return Err(failed("row", &format!("{} cells, {} columns", rows.len(), resource.strategy.columns().len())));
    }
    let mut delete = at(resource, Verb::Delete, Some(&name));
    delete.body = Body::Value(json!({"gracePeriodSeconds": 0}));
    client.object(delete).await.map_err(|e| failed("delete", &e)).map(drop)
}

#[tokio::test]
async fn a_good_object_of_each_kind_is_taken() {
    let (_dir, _world, client) = start().await;
    let table = Table::builtin();
    let mut failures = Vec::new();
    for resource in table.iter().filter(|r| r.verbs.contains(&Verb::Create) && !skipped(r)) {
        if let Err(failure) = walk(&client, resource).await {
            failures.push(failure);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn bad_objects_of_each_kind_are_refused() {
    let (_dir, _world, client) = start().await;
    let table = Table::builtin();
    let schema = Schema::builtin();
    let mut failures = Vec::new();
    for resource in table.iter().filter(|r| r.verbs.contains(&Verb::Create)) {
        let what = format!("{} {}", resource.kind.api_version(), resource.kind.kind);
        let plain = json!({"metadata": {"name": name(resource)}});
        let mut cases = vec![("unknown field \"noSuchField\"", "noSuchField".to_owned(), json!(1))];
        cases.push(("cannot unmarshal number into Go struct field", "metadata".to_owned(), json!(5)));
        for field in schema.definition(resource.definition).fields() {
            let wrong = match field.field_type {
                Type::Struct(_) | Type::List(_) | Type::Map(_) | Type::Object => json!(5),
                Type::String | Type::Time | Type::MicroTime | Type::Int32 | Type::Int64 | Type::Bool => json!([]),
                _ => continue,
            };
            if !matches!(field.name.as_ref(), "apiVersion" | "kind" | "metadata") {
                cases.push(("cannot unmarshal", field.name.to_string(), wrong));
            }
        }
        for (text, field, wrong) in cases {
            let mut object = plain.clone();
            object[field.as_str()] = wrong;
            match client.object(post(resource, &object, "Strict")).await {
                Err(error) if error.code() == 400 && error.to_string().contains(text) => {}
                Err(error) => failures.push(format!("{what}.{field}: {} {error}", error.code())),
                Ok(_) => failures.push(format!("{what}.{field} was taken")),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Upstream's own examples have every field set, to values that make no sense: their structure is right, so whatever is said
/// about them is said by rules and not by decoding.
#[tokio::test]
async fn upstream_examples_of_each_kind_are_decoded() {
    let Some(folder) = std::env::var_os("NAVARCH_K8S_DATA").map(PathBuf::from) else { return };
    let (_dir, _world, client) = start().await;
    let table = Table::builtin();
    let mut failures = Vec::new();
    let mut seen = 0;
    for resource in table.iter().filter(|r| r.verbs.contains(&Verb::Create)) {
        let group = if resource.kind.group.is_empty() { "core" } else { &resource.kind.group };
        let file = format!("{group}.{}.{}.json", resource.kind.version, resource.kind.kind);
        let Ok(text) = std::fs::read_to_string(folder.join("api-golden-v1.36").join(&file)) else { continue };
        seen += 1;
        let mut object: Value = serde_json::from_str(&text).unwrap();
        object["metadata"] = json!({"name": name(resource)});
        let mut create = post(resource, &object, "Strict");
        create.write.dry_run = true;
        if let Err(error) = client.object(create).await
            && !matches!(error.code(), 422 | 403 | 404 | 405)
        {
            failures.push(format!("{file}: {} {error}", error.code()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(seen > 50, "only {seen} examples found");
}
