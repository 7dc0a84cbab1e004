//! What a Pod, and a template of one, gets filled in.
//!
//! A template is defaulted like a Pod but for what only makes sense on a running one (requests from limits, host ports of
//! the host network, service links), so that stored templates do not change when such rules are added.

use serde_json::{Value, json};

use crate::kinds::fill::{down, drop_field, each, ensure, fill, fill_zero, within};

/// Fills in a Pod.
pub(crate) fn pod(object: &mut Value) {
    let Some(spec) = within(object, "spec") else { return };
    pod_spec(spec);
    for list in ["initContainers", "containers"] {
        each(spec, list, requests_from_limits);
    }
    super::resources::default_pod_level(spec);
    fill(spec, "enableServiceLinks", true);
    if spec["hostNetwork"] == true {
        for list in ["initContainers", "containers"] {
            each(spec, list, |container| each(container, "ports", host_port));
        }
    }
}

/// Fills in a pod template (`{metadata, spec}`).
pub(crate) fn template(template: &mut Value) {
    if let Some(spec) = within(template, "spec") {
        pod_spec(spec);
    }
}

fn pod_spec(spec: &mut Value) {
    fill_zero(spec, "dnsPolicy", "ClusterFirst");
    fill_zero(spec, "restartPolicy", "Always");
    ensure(spec, "securityContext");
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill_zero(spec, "schedulerName", "default-scheduler");
    service_account(spec);
    each(spec, "volumes", volume);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, list, container);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are kept in step. `serviceAccountName` wins.
fn service_account(spec: &mut Value) {
    let name = |spec: &Value, key: &str| spec[key].as_str().filter(|s| !s.is_empty()).map(str::to_owned);
    if let Some(account) = name(spec, "serviceAccountName").or_else(|| name(spec, "serviceAccount")) {
        if let Some(map) = spec.as_object_mut() {
            map.insert("serviceAccountName".into(), account.clone().into());
            map.insert("serviceAccount".into(), account.into());
        }
    } else {
        drop_field(spec, "serviceAccount");
        drop_field(spec, "serviceAccountName");
    }
}

fn container(container: &mut Value) {
    let policy = pull_policy(container["image"].as_str().unwrap_or(""));
    fill_zero(container, "imagePullPolicy", policy);
    fill_zero(container, "terminationMessagePath", "/dev/termination-log");
    fill_zero(container, "terminationMessagePolicy", "File");
    ensure(container, "resources");
    each(container, "ports", |port| fill_zero(port, "protocol", "TCP"));
    each(container, "env", |env| {
        if let Some(reference) = down(env, &["valueFrom", "fieldRef"]) {
            fill_zero(reference, "apiVersion", "v1");
        }
        if let Some(reference) = down(env, &["valueFrom", "resourceFieldRef"]) {
            fill(reference, "divisor", "0");
        }
        if let Some(reference) = down(env, &["valueFrom", "fileKeyRef"]) {
            fill(reference, "optional", false);
        }
    });
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = within(container, name) {
            self::probe(probe);
        }
    }
    for name in ["postStart", "preStop"] {
        if let Some(http) = down(container, &["lifecycle", name, "httpGet"]) {
            http_get(http);
        }
    }
    if let Some(context) = within(container, "securityContext")
        && context.get("procMount").is_some_and(|p| p == "")
    {
        fill_zero(context, "procMount", "Default");
    }
}

fn probe(probe: &mut Value) {
    fill_zero(probe, "timeoutSeconds", 1);
    fill_zero(probe, "periodSeconds", 10);
    fill_zero(probe, "successThreshold", 1);
    fill_zero(probe, "failureThreshold", 3);
    if let Some(http) = within(probe, "httpGet") {
        http_get(http);
    }
    if let Some(grpc) = within(probe, "grpc") {
        fill(grpc, "service", "");
    }
}

fn http_get(http: &mut Value) {
    fill_zero(http, "path", "/");
    fill_zero(http, "scheme", "HTTP");
}

/// Always for `latest` (named, or implied by neither tag nor digest), else only when the image is missing.
pub(crate) fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
        None if digest => "IfNotPresent",
        None => "Always",
    }
}

const VOLUME_TYPES_MODE: [&str; 4] = ["secret", "configMap", "downwardAPI", "projected"];

fn volume(volume: &mut Value) {
    let typed = volume.as_object().is_some_and(|map| map.iter().any(|(key, value)| key != "name" && !value.is_null()));
    if !typed {
        ensure(volume, "emptyDir");
    }
    for name in VOLUME_TYPES_MODE {
        if let Some(source) = within(volume, name) {
            fill(source, "defaultMode", 0o644);
            downward_items(source);
        }
    }
    if let Some(projected) = within(volume, "projected") {
        each(projected, "sources", projected_source);
    }
    if let Some(host_path) = within(volume, "hostPath") {
        fill(host_path, "type", "");
    }
    if let Some(image) = within(volume, "image") {
        let policy = pull_policy(image["reference"].as_str().unwrap_or(""));
        fill_zero(image, "pullPolicy", policy);
    }
    if let Some(spec) = down(volume, &["ephemeral", "volumeClaimTemplate", "spec"]) {
        fill(spec, "volumeMode", "Filesystem");
    }
    remote_volume(volume);
}

fn projected_source(source: &mut Value) {
    if let Some(token) = within(source, "serviceAccountToken") {
        fill(token, "expirationSeconds", 3600);
    }
    if let Some(downward) = within(source, "downwardAPI") {
        downward_items(downward);
    }
    if let Some(certificate) = within(source, "podCertificate") {
        fill(certificate, "maxExpirationSeconds", 86_400);
    }
}

fn downward_items(source: &mut Value) {
    each(source, "items", |item| {
        if let Some(reference) = within(item, "fieldRef") {
            fill_zero(reference, "apiVersion", "v1");
        }
        if let Some(reference) = within(item, "resourceFieldRef") {
            fill(reference, "divisor", "0");
        }
    });
}

/// Defaults of volumes that live elsewhere, for Pods and PersistentVolumes alike.
pub(crate) fn remote_volume(volume: &mut Value) {
    if let Some(iscsi) = within(volume, "iscsi") {
        fill_zero(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = within(volume, "rbd") {
        fill_zero(rbd, "pool", "rbd");
        fill_zero(rbd, "user", "admin");
        fill_zero(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = within(volume, "azureDisk") {
        fill(disk, "cachingMode", "ReadWrite");
        fill(disk, "kind", "Shared");
        fill(disk, "fsType", "ext4");
        fill(disk, "readOnly", false);
    }
    if let Some(io) = within(volume, "scaleIO") {
        fill_zero(io, "storageMode", "ThinProvisioned");
        fill_zero(io, "fsType", "xfs");
    }
}

/// A limit without a request is a request too.
fn requests_from_limits(container: &mut Value) {
    let Some(resources) = within(container, "resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    let Some(requests) = ensure(resources, "requests") else { return };
    for (name, quantity) in limits {
        fill(requests, &name, quantity);
    }
    if requests == &json!({}) {
        drop_field(resources, "requests");
    }
}

fn host_port(port: &mut Value) {
    let number = port["containerPort"].clone();
    if !number.is_null() {
        fill_zero(port, "hostPort", number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policy_follows_the_tag() {
        for (image, want) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:abc", "IfNotPresent"),
            ("nginx:latest@sha256:abc", "Always"),
            ("", "Always"),
        ] {
            assert_eq!(pull_policy(image), want, "{image}");
        }
    }

    #[test]
    fn a_minimal_pod_becomes_a_whole_one() {
        let mut object = json!({"spec": {"containers": [{"name": "a", "image": "b:1"}]}});
        pod(&mut object);
        let want = json!({"spec": {
            "containers": [{"name": "a", "image": "b:1", "imagePullPolicy": "IfNotPresent", "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
            "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler", "enableServiceLinks": true}});
        assert_eq!(object, want);
        let mut again = object.clone();
        pod(&mut again);
        assert_eq!(again, object);
    }

    #[test]
    fn defaults_by_field() {
        for (given, want) in [
            (
                json!({"volumes": [{"name": "v"}, {"name": "c", "configMap": {"name": "x"}}, {"name": "h", "hostPath": {"path": "/"}}]}),
                json!({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "x", "defaultMode": 420}},
                    {"name": "h", "hostPath": {"path": "/", "type": ""}}]}),
            ),
            (json!({"serviceAccount": "x"}), json!({"serviceAccount": "x", "serviceAccountName": "x"})),
            (
                json!({"serviceAccountName": "y", "serviceAccount": "x"}),
                json!({"serviceAccount": "y", "serviceAccountName": "y"}),
            ),
            (
                json!({"volumes": [{"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}),
                json!({"volumes": [{"name": "p", "projected": {"defaultMode": 420,
                    "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}}]}),
            ),
        ] {
            let mut object = json!({"spec": given});
            pod(&mut object);
            for (key, value) in want.as_object().into_iter().flatten() {
                assert_eq!(&object["spec"][key], value, "{key}");
            }
        }
    }

    #[test]
    fn container_defaults_by_field() {
        for (given, want) in [
            (
                json!({"ports": [{"containerPort": 80}]}),
                json!({"ports": [{"containerPort": 80, "protocol": "TCP", "hostPort": 80}]}),
            ),
            (
                json!({"livenessProbe": {"httpGet": {"port": 80}}}),
                json!({"livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}}),
            ),
            (
                json!({"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}}),
                json!({"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "1Gi"}}}),
            ),
            (
                json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
                json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}}]}),
            ),
        ] {
            let mut object = json!({"spec": {"hostNetwork": true, "containers": [given]}});
            pod(&mut object);
            for (key, value) in want.as_object().into_iter().flatten() {
                assert_eq!(&object["spec"]["containers"][0][key], value, "{key}");
            }
        }
    }
}
