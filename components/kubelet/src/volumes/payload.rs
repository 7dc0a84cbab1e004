//! What the files of configMap, secret, downwardAPI and projected volumes hold. Pure: objects and tokens are given.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Secret, Volume,
};

use super::atomic_writer::{FileData, Payload};
use crate::env::{NodeFacts, field_value, resource_value};
use crate::resources::milli;

/// Objects that volumes refer to, by name.
#[derive(Clone, Default)]
pub struct Objects {
    /// Config maps that exist.
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    /// Secrets that exist.
    pub secrets: BTreeMap<String, Arc<Secret>>,
    /// Service account tokens by volume, then by path in it.
    pub tokens: BTreeMap<(String, String), String>,
}

/// A volume's files.
///
/// # Errors
/// In upstream's words, if something that is not optional is missing.
pub fn payload(pod: &Pod, volume: &Volume, objects: &Objects, facts: &NodeFacts) -> Result<Payload, String> {
    let mut files = Payload::new();
    if let Some(source) = &volume.config_map {
        let optional = source.optional == Some(true);
        let mode = mode(source.default_mode);
        config_map(&source.name, source.items.as_deref(), optional, mode, objects, &mut files)?;
    } else if let Some(source) = &volume.secret {
        let optional = source.optional == Some(true);
        let name = source.secret_name.as_deref().unwrap_or_default();
        secret(name, source.items.as_deref(), optional, mode(source.default_mode), objects, &mut files)?;
    } else if let Some(source) = &volume.downward_api {
        downward(pod, source.items.as_deref(), mode(source.default_mode), facts, &mut files)?;
    } else if let Some(source) = &volume.projected {
        projected(pod, &volume.name, source, objects, facts, &mut files)?;
    }
    Ok(files)
}

fn mode(mode: Option<i32>) -> u32 {
    mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644)
}

fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

fn config_map(
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: bool,
    mode: u32,
    objects: &Objects,
    files: &mut Payload,
) -> Result<(), String> {
    let Some(map) = objects.config_maps.get(name) else {
        return if optional { Ok(()) } else { Err(format!("configmap {name:?} not found")) };
    };
    let mut data: BTreeMap<&str, &[u8]> = BTreeMap::new();
    data.extend(map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes())));
    data.extend(map.binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice())));
    select(&data, items, optional, mode, files)
        .map_err(|_| format!("configmap references non-existent config key: {}", missing(&data, items)))
}

fn secret(
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: bool,
    mode: u32,
    objects: &Objects,
    files: &mut Payload,
) -> Result<(), String> {
    let Some(secret) = objects.secrets.get(name) else {
        return if optional { Ok(()) } else { Err(format!("secret {name:?} not found")) };
    };
    let data: BTreeMap<&str, &[u8]> =
        secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice())).collect();
    select(&data, items, optional, mode, files)
        .map_err(|_| format!("references non-existent secret key: {}", missing(&data, items)))
}

fn missing<'a>(data: &BTreeMap<&str, &[u8]>, items: Option<&'a [KeyToPath]>) -> &'a str {
    let found = items.into_iter().flatten().find(|item| !data.contains_key(item.key.as_str()));
    found.map_or("", |item| item.key.as_str())
}

/// All keys, or the listed ones under the listed paths. Fails on a missing key.
fn select(
    data: &BTreeMap<&str, &[u8]>,
    items: Option<&[KeyToPath]>,
    optional: bool,
    mode: u32,
    files: &mut Payload,
) -> Result<(), ()> {
    let items = items.unwrap_or_default();
    if items.is_empty() {
        for (key, value) in data {
            files.insert((*key).to_owned(), FileData { data: value.to_vec(), mode });
        }
        return Ok(());
    }
    for item in items {
        let Some(value) = data.get(item.key.as_str()) else {
            if optional {
                continue;
            }
            return Err(());
        };
        let mode = item.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(mode);
        files.insert(item.path.clone(), FileData { data: value.to_vec(), mode });
    }
    Ok(())
}

fn downward(
    pod: &Pod,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: u32,
    facts: &NodeFacts,
    files: &mut Payload,
) -> Result<(), String> {
    for item in items.unwrap_or_default() {
        let text = if let Some(field) = &item.field_ref {
            field_value(pod, &field.field_path, facts).map_err(|error| error.0)?
        } else if let Some(resource) = &item.resource_field_ref {
            let name = resource.container_name.as_deref().unwrap_or_default();
            let own = k8s_openapi::api::core::v1::Container::default();
            let divisor = resource.divisor.as_ref().and_then(milli);
            resource_value(pod, &own, name, &resource.resource, divisor, &facts.allocatable).map_err(|error| error.0)?
        } else {
            return Err(format!("downwardAPI file {} has no source", item.path));
        };
        let mode = item.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(mode);
        files.insert(item.path.clone(), FileData { data: text.into_bytes(), mode });
    }
    Ok(())
}

fn projected(
    pod: &Pod,
    volume: &str,
    source: &ProjectedVolumeSource,
    objects: &Objects,
    facts: &NodeFacts,
    files: &mut Payload,
) -> Result<(), String> {
    let mode = mode(source.default_mode);
    for part in source.sources.iter().flatten() {
        if let Some(from) = &part.config_map {
            let optional = from.optional == Some(true);
            config_map(&from.name, from.items.as_deref(), optional, mode, objects, files)?;
        } else if let Some(from) = &part.secret {
            let optional = from.optional == Some(true);
            secret(&from.name, from.items.as_deref(), optional, mode, objects, files)?;
        } else if let Some(from) = &part.downward_api {
            downward(pod, from.items.as_deref(), mode, facts, files)?;
        } else if let Some(from) = &part.service_account_token {
            let token = objects
                .tokens
                .get(&(volume.to_owned(), from.path.clone()))
                .ok_or_else(|| format!("no token for volume {volume} in namespace {}", namespace(pod)))?;
            // Others than root read it through the group, or not at all.
            let mode = if has_other_user(pod) { mode } else { 0o600 | (mode & 0o044) };
            files.insert(from.path.clone(), FileData { data: token.clone().into_bytes(), mode });
        } else {
            return Err(format!("projected volume {volume} has a source that is not supported"));
        }
    }
    Ok(())
}

fn has_other_user(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()).is_some_and(|context| context.fs_group.is_some())
}

/// Names of config maps and secrets that a pod's volumes refer to.
pub fn references(pod: &Pod) -> (Vec<String>, Vec<String>) {
    let (mut config_maps, mut secrets) = (Vec::new(), Vec::new());
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        config_maps.extend(volume.config_map.iter().map(|source| source.name.clone()));
        secrets.extend(volume.secret.iter().filter_map(|source| source.secret_name.clone()));
        for part in volume.projected.iter().flat_map(|source| source.sources.iter().flatten()) {
            config_maps.extend(part.config_map.iter().map(|source| source.name.clone()));
            secrets.extend(part.secret.iter().map(|source| source.name.clone()));
        }
    }
    (config_maps, secrets)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use serde_json::{Value, json};

    fn run(volume: Value) -> Result<BTreeMap<String, (String, u32)>, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]}}))
        .unwrap();
        let map = json!({"data": {"k": "v"}, "binaryData": {"bin": "AAE="}});
        let objects = Objects {
            config_maps: [("cm".to_owned(), Arc::new(serde_json::from_value(map).unwrap()))].into(),
            secrets: [("s".to_owned(), Arc::new(serde_json::from_value(json!({"data": {"pw": "aHVzaA=="}})).unwrap()))]
                .into(),
            tokens: [(("v".to_owned(), "token".to_owned()), "jwt".to_owned())].into(),
        };
        let facts = NodeFacts { node_ip: "1.1.1.1".into(), pod_ips: vec![], allocatable: BTreeMap::new() };
        let mut volume = volume;
        volume["name"] = "v".into();
        let files = payload(&pod, &serde_json::from_value(volume).unwrap(), &objects, &facts)?;
        Ok(files.into_iter().map(|(k, v)| (k, (String::from_utf8(v.data).unwrap(), v.mode))).collect())
    }

    #[test]
    fn sources() {
        let files = run(json!({"configMap": {"name": "cm", "defaultMode": 0o400}})).unwrap();
        assert_eq!(files["k"], ("v".to_owned(), 0o400));
        assert!(files.contains_key("bin"));
        let items = json!([{"key": "k", "path": "x/y", "mode": 0o777}]);
        let files = run(json!({"configMap": {"name": "cm", "items": items}})).unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!(files["x/y"], ("v".to_owned(), 0o777));
        assert_eq!(run(json!({"secret": {"secretName": "s"}})).unwrap()["pw"], ("hush".to_owned(), 0o644));
        let files = run(json!({"projected": {"sources": [
            {"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "cm"}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}}]}}]}}))
        .unwrap();
        assert_eq!(files["token"].0, "jwt");
        assert_eq!(files["labels"].0, "a=\"b\"");
        assert_eq!(files["cpu"].0, "2");
        assert_eq!(files["k"].0, "v");
    }

    #[test]
    fn missing_ones() {
        assert_eq!(run(json!({"configMap": {"name": "no"}})).unwrap_err(), "configmap \"no\" not found");
        assert_eq!(run(json!({"secret": {"secretName": "no"}})).unwrap_err(), "secret \"no\" not found");
        assert!(run(json!({"secret": {"secretName": "no", "optional": true}})).unwrap().is_empty());
        let bad = run(json!({"configMap": {"name": "cm", "items": [{"key": "zz", "path": "p"}]}})).unwrap_err();
        assert_eq!(bad, "configmap references non-existent config key: zz");
    }
}
