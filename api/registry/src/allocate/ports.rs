//! Which node ports a Service is to have. Pure but for the choice among free ones, which is random.

use std::collections::BTreeSet;

use navarch_types::field::{FieldError, Path};
use serde_json::Value;

/// The node ports that a Service holds, the health check's included.
pub(super) fn of(service: &Value) -> BTreeSet<u16> {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let all = ports.iter().map(|p| &p["nodePort"]).chain([&spec["healthCheckNodePort"]]);
    all.filter_map(Value::as_u64).filter_map(|p| u16::try_from(p).ok()).filter(|p| *p > 0).collect()
}

fn needs_ports(spec: &Value) -> bool {
    match spec["type"].as_str() {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec["allocateLoadBalancerNodePorts"].as_bool() != Some(false),
        _ => false,
    }
}

fn needs_health_check(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}

/// Fills node ports into a Service, keeping those it had; takes away what its type has no use for.
pub(super) fn fill(
    new: &mut Value,
    old: Option<&Value>,
    range: (u16, u16),
    free: &dyn Fn(u16) -> bool,
    findings: &mut Vec<FieldError>,
) {
    let (ports_needed, health_needed) = (needs_ports(&new["spec"]), needs_health_check(&new["spec"]));
    let held = old.map(of).unwrap_or_default();
    let mut taken: BTreeSet<u16> = of(new);
    let health = new["spec"]["healthCheckNodePort"].as_u64().unwrap_or_default();
    let mut by_number: Vec<(u64, u16, String)> = Vec::new();
    let spec_path = Path::root("spec");
    let list_path = spec_path.child("ports");
    if let Some(ports) = new["spec"]["ports"].as_array_mut() {
        for (index, port) in ports.iter_mut().enumerate() {
            let item = list_path.index(index);
            let path = item.child("nodePort");
            let number = port["port"].as_u64().unwrap_or_default();
            let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
            match port["nodePort"].as_u64().unwrap_or_default() {
                0 if ports_needed => {
                    let kept = kept_port(old, number, &protocol).filter(|p| !taken.contains(p));
                    // The same port of another protocol shares the node port.
                    let shared =
                        by_number.iter().find(|(n, _, p)| *n == number && *p != protocol).map(|(_, at, _)| *at);
                    match kept.or(shared).or_else(|| pick(range, &|p| free(p) && !taken.contains(&p))) {
                        Some(chosen) => {
                            port["nodePort"] = chosen.into();
                            taken.insert(chosen);
                            by_number.push((number, chosen, protocol));
                        }
                        None => {
                            findings.push(FieldError::invalid(&path, 0, "failed to allocate a nodePort: range is full"))
                        }
                    }
                }
                0 => {}
                given => {
                    if !ports_needed
                        && old.is_some_and(|o| needs_ports(&o["spec"]))
                        && held.contains(&u16::try_from(given).unwrap_or(0))
                    {
                        // A change of type gives the ports back unless the client insists on others.
                        if let Some(map) = port.as_object_mut() {
                            map.remove("nodePort");
                        }
                        continue;
                    }
                    check_given(given, range, free, &held, &path, findings);
                    by_number.push((number, u16::try_from(given).unwrap_or(0), protocol));
                }
            }
        }
    }
    if health_needed && health == 0 {
        let kept = old.and_then(|o| o["spec"]["healthCheckNodePort"].as_u64()).and_then(|p| u16::try_from(p).ok());
        match kept.or_else(|| pick(range, &|p| free(p) && !taken.contains(&p))) {
            Some(chosen) => new["spec"]["healthCheckNodePort"] = chosen.into(),
            None => findings.push(FieldError::invalid(
                &spec_path.child("healthCheckNodePort"),
                0,
                "failed to allocate requested HealthCheck NodePort 0: range is full",
            )),
        }
    } else if health_needed {
        check_given(health, range, free, &held, &spec_path.child("healthCheckNodePort"), findings);
    } else if health != 0
        && held.contains(&u16::try_from(health).unwrap_or(0))
        && let Some(spec) = new["spec"].as_object_mut()
    {
        spec.remove("healthCheckNodePort");
    }
}

/// The node port that the Service had for this port.
fn kept_port(old: Option<&Value>, number: u64, protocol: &str) -> Option<u16> {
    let ports = old?["spec"]["ports"].as_array()?;
    let same = ports
        .iter()
        .find(|p| p["port"].as_u64() == Some(number) && p["protocol"].as_str().unwrap_or("TCP") == protocol)?;
    same["nodePort"].as_u64().and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0)
}

fn check_given(
    given: u64,
    range: (u16, u16),
    free: &dyn Fn(u16) -> bool,
    held: &BTreeSet<u16>,
    path: &Path<'_>,
    findings: &mut Vec<FieldError>,
) {
    match u16::try_from(given) {
        Ok(port) if held.contains(&port) => {}
        Ok(port) if (range.0..=range.1).contains(&port) => {
            if !free(port) {
                findings.push(FieldError::invalid(path, port, "provided port is already allocated"));
            }
        }
        _ => {
            let detail =
                format!("provided port is not in the valid range. The range of valid ports is {}-{}", range.0, range.1);
            findings.push(FieldError::invalid(path, given, detail));
        }
    }
}

/// A free port: random in the upper part, the lower (for ports that people choose) only when that is full.
fn pick(range: (u16, u16), free: &dyn Fn(u16) -> bool) -> Option<u16> {
    let size = u32::from(range.1.checked_sub(range.0)?) + 1;
    let band = if size < 32 { 0 } else { (size / 32).clamp(16, 128) };
    let start = rand::random_range(0..size - band);
    let upper = (0..size - band).map(|i| band + (i + start) % (size - band));
    upper.chain(0..band).filter_map(|offset| u16::try_from(u32::from(range.0) + offset).ok()).find(|p| free(*p))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use serde_json::json;

    use super::*;

    fn filled(spec: Value, old: Option<Value>) -> Result<Value, String> {
        let mut new = json!({"spec": spec});
        let old = old.map(|o| json!({"spec": o}));
        let mut findings = Vec::new();
        fill(&mut new, old.as_ref(), (30000, 32767), &|p| p != 31000, &mut findings);
        findings.first().map_or(Ok(new["spec"].clone()), |f| Err(f.to_string()))
    }

    #[test]
    fn node_ports_are_given_kept_and_taken_back() {
        let first = filled(json!({"type": "NodePort", "ports": [{"port": 80}, {"port": 443}]}), None).unwrap();
        let ports = of(&json!({"spec": first}));
        assert_eq!(ports.len(), 2);
        assert!(ports.iter().all(|p| (30086..=32767).contains(p)), "{ports:?}");
        let again =
            filled(json!({"type": "NodePort", "ports": [{"port": 443}, {"port": 80}]}), Some(first.clone())).unwrap();
        assert_eq!(of(&json!({"spec": again})), ports);
        let mut plain = first.clone();
        plain["type"] = "ClusterIP".into();
        assert!(of(&json!({"spec": filled(plain, Some(first)).unwrap()})).is_empty());
    }

    #[test]
    fn one_port_of_two_protocols_shares_its_node_port() {
        let ports = json!([{"port": 53, "protocol": "TCP", "name": "a"}, {"port": 53, "protocol": "UDP", "name": "b"}]);
        let spec = filled(json!({"type": "NodePort", "ports": ports}), None).unwrap();
        assert_eq!(spec["ports"][0]["nodePort"], spec["ports"][1]["nodePort"]);
    }

    #[test]
    fn given_ports_must_be_free_and_in_the_range() {
        let with = |port: u64| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
        assert_eq!(filled(with(30080), None).unwrap()["ports"][0]["nodePort"], 30080);
        assert!(filled(with(31000), None).unwrap_err().contains("provided port is already allocated"));
        assert!(filled(with(80), None).unwrap_err().contains("The range of valid ports is 30000-32767"));
    }
}
