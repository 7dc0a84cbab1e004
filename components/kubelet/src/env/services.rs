//! Variables that tell of Services: `NAME_SERVICE_HOST` and its kin.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;

/// The variables for a pod in `namespace`. The API's own Service is always told of; the namespace's only with `links`.
pub fn variables(services: &[Arc<Service>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut result = BTreeMap::new();
    let api = |service: &Service| {
        service.metadata.namespace.as_deref() == Some("default")
            && service.metadata.name.as_deref() == Some("kubernetes")
    };
    // The namespace's own Services win over the API's of the same name.
    for service in services.iter().filter(|service| api(service)) {
        add(service, &mut result);
    }
    if links {
        for service in services.iter().filter(|s| s.metadata.namespace.as_deref() == Some(namespace)) {
            add(service, &mut result);
        }
    }
    result
}

fn variable(name: &str) -> String {
    name.to_ascii_uppercase().replace(['-', '.'], "_")
}

fn add(service: &Service, result: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ip.is_empty() || ip == "None" || ports.is_empty() {
        return;
    }
    let name = variable(service.metadata.name.as_deref().unwrap_or_default());
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    result.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
    for (at, port) in ports.iter().enumerate() {
        if at == 0 {
            result.insert(format!("{name}_SERVICE_PORT"), port.port.to_string());
        }
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            result.insert(format!("{name}_SERVICE_PORT_{}", variable(port_name)), port.port.to_string());
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_ascii_lowercase(), port.port);
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_ascii_uppercase());
        if at == 0 {
            result.insert(format!("{name}_PORT"), url.clone());
        }
        result.insert(format!("{prefix}_PROTO"), protocol.to_ascii_lowercase());
        result.insert(format!("{prefix}_PORT"), port.port.to_string());
        result.insert(format!("{prefix}_ADDR"), ip.to_owned());
        result.insert(prefix, url);
    }
}
