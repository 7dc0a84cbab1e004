//! A container's environment, from every source that a specification can name. Pure: what it refers to is given.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, Pod, Secret, Service};

use crate::resources::{ResourceList, limits, milli, milli_of, requests};

pub mod expand;
pub mod services;

pub use expand::expand;

/// Why a container cannot be configured: `CreateContainerConfigError` with this message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EnvError(pub String);

/// What environments refer to, by name, in the pod's namespace.
#[derive(Clone, Default)]
pub struct Referred {
    /// Config maps; those that do not exist are missing.
    pub config_maps: BTreeMap<String, std::sync::Arc<ConfigMap>>,
    /// Secrets; those that do not exist are missing.
    pub secrets: BTreeMap<String, std::sync::Arc<Secret>>,
    /// Services of the pod's namespace, and the API's.
    pub services: Vec<std::sync::Arc<Service>>,
}

/// What else a value can come from.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// The node's address.
    pub node_ip: String,
    /// The pod's addresses.
    pub pod_ips: Vec<String>,
    /// What the node can give to pods: the limit of containers without one.
    pub allocatable: ResourceList,
}

/// The whole environment, in order, without duplicates.
///
/// # Errors
/// If something that is not optional is missing.
pub fn environment(
    pod: &Pod,
    container: &Container,
    referred: &Referred,
    facts: &NodeFacts,
) -> Result<Vec<(String, Vec<u8>)>, EnvError> {
    let mut result = Ordered::default();
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let service_env = services::variables(&referred.services, namespace, links);
    from_sources(container, referred, &mut result)?;
    for variable in container.env.iter().flatten() {
        let value = if variable.value_from.is_some() {
            let Some(value) = from_value(pod, container, variable, referred, facts)? else { continue };
            value
        } else {
            let text = variable.value.as_deref().unwrap_or_default();
            expand(text, |name| {
                let found = result.get(name).or_else(|| service_env.get(name).map(String::as_bytes));
                found.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            })
            .into_bytes()
        };
        result.set(&variable.name, value);
    }
    for (name, value) in service_env {
        if result.get(&name).is_none() {
            result.set(&name, value.into_bytes());
        }
    }
    Ok(result.entries)
}

/// A map that remembers the order of first settings.
#[derive(Default)]
struct Ordered {
    entries: Vec<(String, Vec<u8>)>,
}

impl Ordered {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.entries.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice())
    }

    fn set(&mut self, name: &str, value: Vec<u8>) {
        match self.entries.iter_mut().find(|(key, _)| key == name) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((name.to_owned(), value)),
        }
    }
}

fn from_sources(container: &Container, referred: &Referred, result: &mut Ordered) -> Result<(), EnvError> {
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(from) = &source.config_map_ref {
            match referred.config_maps.get(&from.name) {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        result.set(&format!("{prefix}{key}"), value.clone().into_bytes());
                    }
                }
                None if from.optional == Some(true) => {}
                None => return Err(missing("configmap", &from.name)),
            }
        }
        if let Some(from) = &source.secret_ref {
            match referred.secrets.get(&from.name) {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        result.set(&format!("{prefix}{key}"), value.0.clone());
                    }
                }
                None if from.optional == Some(true) => {}
                None => return Err(missing("secret", &from.name)),
            }
        }
    }
    Ok(())
}

fn missing(kind: &str, name: &str) -> EnvError {
    EnvError(format!("{kind} {name:?} not found"))
}

/// A value from somewhere else. `None` leaves the variable out.
fn from_value(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    referred: &Referred,
    facts: &NodeFacts,
) -> Result<Option<Vec<u8>>, EnvError> {
    let Some(from) = &variable.value_from else { return Ok(None) };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(field) = &from.field_ref {
        return field_value(pod, &field.field_path, facts).map(|value| Some(value.into_bytes()));
    }
    if let Some(resource) = &from.resource_field_ref {
        let named = resource.container_name.as_deref().unwrap_or(&container.name);
        let divisor = resource.divisor.as_ref().and_then(milli);
        let value = resource_value(pod, container, named, &resource.resource, divisor, &facts.allocatable)?;
        return Ok(Some(value.into_bytes()));
    }
    if let Some(selector) = &from.config_map_key_ref {
        let optional = selector.optional == Some(true);
        let Some(map) = referred.config_maps.get(&selector.name) else {
            return if optional { Ok(None) } else { Err(missing("configmap", &selector.name)) };
        };
        return match map.data.as_ref().and_then(|data| data.get(&selector.key)) {
            Some(value) => Ok(Some(value.clone().into_bytes())),
            None if optional => Ok(None),
            None => {
                Err(EnvError(format!("couldn't find key {} in ConfigMap {namespace}/{}", selector.key, selector.name)))
            }
        };
    }
    if let Some(selector) = &from.secret_key_ref {
        let optional = selector.optional == Some(true);
        let Some(secret) = referred.secrets.get(&selector.name) else {
            return if optional { Ok(None) } else { Err(missing("secret", &selector.name)) };
        };
        return match secret.data.as_ref().and_then(|data| data.get(&selector.key)) {
            Some(value) => Ok(Some(value.0.clone())),
            None if optional => Ok(None),
            None => {
                Err(EnvError(format!("couldn't find key {} in Secret {namespace}/{}", selector.key, selector.name)))
            }
        };
    }
    Err(EnvError(format!("environment variable {} has a source that is not supported", variable.name)))
}

/// A field of the pod as text.
///
/// # Errors
/// If the path is not one that can be referred to.
pub fn field_value(pod: &Pod, path: &str, facts: &NodeFacts) -> Result<String, EnvError> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    if let Some((base, key)) = subscript(path) {
        let map = match base {
            "metadata.labels" => metadata.labels.as_ref(),
            "metadata.annotations" => metadata.annotations.as_ref(),
            _ => return Err(EnvError(format!("fieldPath {path:?} does not support subscript"))),
        };
        return Ok(text(map.and_then(|map| map.get(key))));
    }
    Ok(match path {
        "metadata.name" => text(metadata.name.as_ref()),
        "metadata.namespace" => text(metadata.namespace.as_ref()),
        "metadata.uid" => text(metadata.uid.as_ref()),
        "metadata.labels" => format_map(metadata.labels.as_ref()),
        "metadata.annotations" => format_map(metadata.annotations.as_ref()),
        "spec.nodeName" => text(spec.and_then(|spec| spec.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|spec| spec.service_account_name.as_ref())),
        "status.hostIP" | "status.hostIPs" => facts.node_ip.clone(),
        "status.podIP" => text(facts.pod_ips.first()),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return Err(EnvError(format!("unsupported fieldPath: {path}"))),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (base, rest) = path.split_once("['")?;
    Some((base, rest.strip_suffix("']")?))
}

/// One `key="value"` a line, keys sorted, values with escapes: as the downward API's files show maps.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quote(value))).collect();
    lines.join("\n")
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A resource of a container of the pod, in units of the divisor, rounded up.
///
/// # Errors
/// If the container or the resource is none.
pub fn resource_value(
    pod: &Pod,
    own: &Container,
    container: &str,
    resource: &str,
    divisor: Option<i128>,
    allocatable: &ResourceList,
) -> Result<String, EnvError> {
    let spec = pod.spec.as_ref();
    let named = spec
        .into_iter()
        .flat_map(|spec| spec.containers.iter().chain(crate::lifecycle::init_containers(spec)))
        .find(|candidate| candidate.name == container)
        .unwrap_or(own);
    if named.name != container {
        return Err(EnvError(format!("container {container} not found")));
    }
    let (kind, name) = resource.split_once('.').unwrap_or((resource, ""));
    if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with("hugepages-") {
        return Err(EnvError(format!("unsupported container resource : {resource}")));
    }
    let limit = limits(named).filter(|list| list.contains_key(name)).unwrap_or(allocatable);
    let value = match kind {
        "limits" => milli_of(Some(limit), name),
        "requests" => milli_of(requests(named), name),
        _ => return Err(EnvError(format!("unsupported container resource : {resource}"))),
    };
    let divisor = divisor.filter(|divisor| *divisor > 0).unwrap_or(1000);
    let value = i128::from(value);
    Ok((value.div_euclid(divisor) + i128::from(value.rem_euclid(divisor) != 0)).to_string())
}

/// Names of the config maps and secrets that a pod's environments refer to.
pub fn references(pod: &Pod) -> (Vec<String>, Vec<String>) {
    let (mut config_maps, mut secrets) = (Vec::new(), Vec::new());
    let Some(spec) = &pod.spec else { return (config_maps, secrets) };
    for container in spec.containers.iter().chain(crate::lifecycle::init_containers(spec)) {
        for source in container.env_from.iter().flatten() {
            config_maps.extend(source.config_map_ref.iter().map(|from| from.name.clone()));
            secrets.extend(source.secret_ref.iter().map(|from| from.name.clone()));
        }
        for from in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            config_maps.extend(from.config_map_key_ref.iter().map(|from| from.name.clone()));
            secrets.extend(from.secret_key_ref.iter().map(|from| from.name.clone()));
        }
    }
    for list in [&mut config_maps, &mut secrets] {
        list.sort();
        list.dedup();
    }
    (config_maps, secrets)
}

#[cfg(test)]
#[path = "env/tests.rs"]
mod tests;
