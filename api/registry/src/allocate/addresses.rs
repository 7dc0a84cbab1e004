//! Which cluster addresses a Service is to have. Pure but for the choice among free ones, which is random.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use navarch_types::field::{FieldError, Path};
use serde_json::{Value, json};

use crate::meta;

/// The addresses that a Service holds; none if it is headless or has none.
pub(super) fn of(service: &Value) -> Vec<IpAddr> {
    let spec = &service["spec"];
    let list = spec["clusterIPs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut texts: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    if texts.is_empty() {
        texts.extend(spec["clusterIP"].as_str());
    }
    texts.into_iter().filter_map(|t| t.parse().ok()).collect()
}

/// The object that holds an address.
pub(super) fn object(address: IpAddr, service: &Value) -> Value {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": address.to_string(),
            "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": meta::time_text(jiff::Timestamp::now()),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": family,
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": {
            "group": "",
            "resource": "services",
            "namespace": meta::text(service, "namespace"),
            "name": meta::text(service, "name"),
        }},
    })
}

fn family(net: &IpNet) -> &'static str {
    if matches!(net, IpNet::V4(_)) { "IPv4" } else { "IPv6" }
}

/// Fills `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` into a Service.
pub(super) fn fill(
    new: &mut Value,
    old: Option<&Value>,
    cidrs: &[IpNet],
    free: &dyn Fn(&IpAddr) -> bool,
    findings: &mut Vec<FieldError>,
) {
    if !new["spec"].is_object() {
        return;
    }
    if new["spec"]["type"] == "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let held = old.is_some_and(|o| o["spec"][field] == new["spec"][field]);
            if held || new["spec"][field] == "" {
                remove(new, field);
            }
        }
        return;
    }
    keep_old(new, old);
    let families = families(new, cidrs, findings);
    if !findings.is_empty() {
        return;
    }
    let given = given(new);
    let spec_path = Path::root("spec");
    if given.first().is_some_and(|g| g == "None") {
        set(new, "clusterIP", "None".into());
        set(new, "clusterIPs", json!(["None"]));
        set(new, "ipFamilies", json!(families));
        return;
    }
    let mut chosen = Vec::new();
    for (index, wanted) in families.iter().enumerate() {
        let Some(cidr) = cidrs.iter().find(|c| family(c) == wanted) else { continue };
        match given.get(index).map(|g| g.parse::<IpAddr>()) {
            Some(Ok(address)) if cidr.contains(&address) => chosen.push(address),
            Some(_) => {
                let detail = format!(
                    "failed to allocate IP {}: the provided IP ({}) is not in the valid range. The range of valid IPs is {cidr}",
                    given[index], given[index]
                );
                findings.push(FieldError::invalid(&spec_path.child("clusterIPs"), json!(given), detail));
                return;
            }
            None => match pick(cidr, &|address| free(address) && !chosen.contains(address)) {
                Some(address) => chosen.push(address),
                None => {
                    let detail = "failed to allocate a serviceIP: range is full";
                    findings.push(FieldError::invalid(&spec_path.child("clusterIPs"), json!([]), detail));
                    return;
                }
            },
        }
    }
    let texts: Vec<String> = chosen.iter().map(ToString::to_string).collect();
    set(new, "clusterIP", texts.first().cloned().unwrap_or_default().into());
    set(new, "clusterIPs", json!(texts));
    set(new, "ipFamilies", json!(families));
}

/// An update that leaves the addresses out keeps them.
fn keep_old(new: &mut Value, old: Option<&Value>) {
    let Some(old) = old else { return };
    if old["spec"]["type"] == "ExternalName" {
        return;
    }
    let absent = |v: &Value| v.is_null() || *v == "" || v.as_array().is_some_and(Vec::is_empty);
    if absent(&new["spec"]["clusterIP"]) && absent(&new["spec"]["clusterIPs"]) {
        for field in ["clusterIP", "clusterIPs"] {
            set(new, field, old["spec"][field].clone());
        }
    } else if absent(&new["spec"]["clusterIPs"]) && new["spec"]["clusterIP"] == old["spec"]["clusterIP"] {
        set(new, "clusterIPs", old["spec"]["clusterIPs"].clone());
    }
    for field in ["ipFamilies", "ipFamilyPolicy"] {
        if absent(&new["spec"][field]) && !old["spec"][field].is_null() {
            set(new, field, old["spec"][field].clone());
        }
    }
}

fn given(new: &Value) -> Vec<String> {
    let list = new["spec"]["clusterIPs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut texts: Vec<String> =
        list.iter().filter_map(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned).collect();
    if texts.is_empty() {
        texts.extend(new["spec"]["clusterIP"].as_str().filter(|t| !t.is_empty()).map(str::to_owned));
    }
    texts
}

/// The families that the Service is to have, in order; the policy is set if it is absent.
fn families(new: &mut Value, cidrs: &[IpNet], findings: &mut Vec<FieldError>) -> Vec<String> {
    let asked: Vec<String> = new["spec"]["ipFamilies"]
        .as_array()
        .map(|l| l.iter().filter_map(|f| f.as_str().map(str::to_owned)).collect())
        .unwrap_or_default();
    let by_address: Vec<String> = given(new)
        .iter()
        .filter_map(|g| g.parse::<IpAddr>().ok())
        .map(|a| if a.is_ipv4() { "IPv4".to_owned() } else { "IPv6".to_owned() })
        .collect();
    let mut families = if !asked.is_empty() { asked } else { by_address };
    if families.is_empty() {
        families.extend(cidrs.first().map(|c| family(c).to_owned()));
    }
    let spec = Path::root("spec");
    let list = spec.child("ipFamilies");
    for (index, asked) in families.iter().enumerate() {
        if !cidrs.iter().any(|c| family(c) == asked) {
            let path = list.index(index);
            findings.push(FieldError::invalid(&path, asked.as_str(), "not configured on this cluster"));
        }
    }
    let policy = new["spec"]["ipFamilyPolicy"].as_str().unwrap_or_default().to_owned();
    match policy.as_str() {
        "" => {
            let policy = if families.len() > 1 { "RequireDualStack" } else { "SingleStack" };
            set(new, "ipFamilyPolicy", policy.into());
        }
        "RequireDualStack" | "PreferDualStack" => {
            for cidr in cidrs {
                if !families.iter().any(|f| f == family(cidr)) {
                    families.push(family(cidr).to_owned());
                }
            }
            if policy == "RequireDualStack" && families.len() < 2 {
                let path = spec.child("ipFamilyPolicy");
                let detail = "this cluster is not configured for dual-stack services";
                findings.push(FieldError::invalid(&path, policy, detail));
            }
        }
        _ => families.truncate(1),
    }
    families
}

/// A free address of a range: random in the upper part, the lower (for addresses that people choose) only when that is
/// full. The first address names the network and, in IPv4, the last one everybody in it.
fn pick(cidr: &IpNet, free: &dyn Fn(&IpAddr) -> bool) -> Option<IpAddr> {
    /// Of a large IPv6 range only this many addresses are given out.
    const SIZE_MAX: u128 = 1 << 16;
    let (base, host_bits) = match cidr {
        IpNet::V4(net) => (u128::from(u32::from(net.network())), 32 - u32::from(net.prefix_len())),
        IpNet::V6(net) => (u128::from(net.network()), 128 - u32::from(net.prefix_len())),
    };
    let total = if host_bits >= 16 { SIZE_MAX } else { 1u128 << host_bits };
    let whole = host_bits <= 16;
    let last = if matches!(cidr, IpNet::V4(_)) && whole { total.saturating_sub(2) } else { total - 1 };
    if last < 1 {
        return None;
    }
    let size = last;
    let band = if size < 32 { 0 } else { (size / 16).clamp(16, 256) };
    let start = rand::random_range(0..u64::try_from(size - band).ok()?.max(1));
    let upper = (0..size - band).map(|i| band + 1 + (i + u128::from(start)) % (size - band));
    let lower = 1..=band;
    upper.chain(lower).map(|offset| address(cidr, base + offset)).find(|a| free(a))
}

fn address(cidr: &IpNet, value: u128) -> IpAddr {
    match cidr {
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(value).unwrap_or_default())),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(value)),
    }
}

fn set(new: &mut Value, field: &str, value: Value) {
    if let Some(spec) = new["spec"].as_object_mut() {
        if value.is_null() {
            spec.remove(field);
        } else {
            spec.insert(field.to_owned(), value);
        }
    }
}

fn remove(new: &mut Value, field: &str) {
    set(new, field, Value::Null);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn filled(spec: Value, old: Option<Value>) -> Result<Value, String> {
        let cidrs = ["10.96.0.0/16".parse().unwrap()];
        let mut new = json!({"spec": spec});
        let mut findings = Vec::new();
        let taken: IpAddr = "10.96.0.1".parse().unwrap();
        let old = old.map(|o| json!({"spec": o}));
        fill(&mut new, old.as_ref(), &cidrs, &|a| *a != taken, &mut findings);
        match findings.first() {
            None => Ok(new["spec"].clone()),
            Some(finding) => Err(finding.to_string()),
        }
    }

    #[test]
    fn a_service_gets_an_address_of_the_dynamic_band() {
        let spec = filled(json!({"type": "ClusterIP"}), None).unwrap();
        let address: IpAddr = spec["clusterIP"].as_str().unwrap().parse().unwrap();
        let IpAddr::V4(v4) = address else { panic!("family") };
        assert!(u32::from(v4) > u32::from(Ipv4Addr::new(10, 96, 1, 0)));
        assert_eq!(spec["clusterIPs"], json!([spec["clusterIP"]]));
        assert_eq!(spec["ipFamilies"], json!(["IPv4"]));
        assert_eq!(spec["ipFamilyPolicy"], "SingleStack");
    }

    #[test]
    fn a_given_address_is_taken_if_it_is_in_the_range() {
        assert_eq!(filled(json!({"clusterIP": "10.96.0.10"}), None).unwrap()["clusterIPs"], json!(["10.96.0.10"]));
        let error = filled(json!({"clusterIP": "10.97.0.10"}), None).unwrap_err();
        assert!(error.contains("not in the valid range. The range of valid IPs is 10.96.0.0/16"), "{error}");
    }

    #[test]
    fn headless_and_external_names_hold_none() {
        assert_eq!(filled(json!({"clusterIP": "None"}), None).unwrap()["clusterIPs"], json!(["None"]));
        assert!(filled(json!({"type": "ExternalName"}), None).unwrap().get("clusterIP").is_none());
        let old = json!({"type": "ClusterIP", "clusterIP": "10.96.5.5", "clusterIPs": ["10.96.5.5"]});
        let mut new = old.clone();
        new["type"] = "ExternalName".into();
        assert!(filled(new, Some(old)).unwrap().get("clusterIP").is_none());
    }

    #[test]
    fn an_update_keeps_the_address() {
        let old = filled(json!({"type": "ClusterIP"}), None).unwrap();
        assert_eq!(filled(json!({"type": "ClusterIP"}), Some(old.clone())).unwrap(), json!(old).clone());
    }

    #[test]
    fn a_full_range_gives_nothing() {
        let cidr: IpNet = "10.0.0.0/29".parse().unwrap();
        assert_eq!(pick(&cidr, &|_| false), None);
        let mut seen = std::collections::BTreeSet::new();
        while let Some(address) = pick(&cidr, &|a| !seen.contains(a)) {
            seen.insert(address);
        }
        assert_eq!(seen.len(), 6);
    }

    #[test]
    fn dual_stack_must_be_configured() {
        let error = filled(json!({"ipFamilyPolicy": "RequireDualStack"}), None).unwrap_err();
        assert!(error.contains("not configured for dual-stack"), "{error}");
        assert_eq!(filled(json!({"ipFamilyPolicy": "PreferDualStack"}), None).unwrap()["ipFamilies"], json!(["IPv4"]));
    }
}
