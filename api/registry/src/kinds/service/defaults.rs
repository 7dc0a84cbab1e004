//! What a Service gets filled in. Addresses and node ports are allotted elsewhere.

use serde_json::{Value, json};

use crate::kinds::fill::{drop_field, each, ensure, fill, fill_zero, within};

/// How long an affinity lasts: three hours.
const AFFINITY_SECONDS: i64 = 10_800;

/// Fills in a Service.
pub(crate) fn service(object: &mut Value) {
    let Some(spec) = within(object, "spec") else { return };
    fill_zero(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "None" {
        drop_field(spec, "sessionAffinityConfig");
    }
    if spec["sessionAffinity"] == "ClientIP" && spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].is_null() {
        drop_field(spec, "sessionAffinityConfig");
        fill(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}));
    }
    fill_zero(spec, "type", "ClusterIP");
    each(spec, "ports", |port| {
        fill_zero(port, "protocol", "TCP");
        let number = port["port"].clone();
        if !number.is_null() {
            fill_zero(port, "targetPort", number);
        }
    });
    let kind = spec["type"].as_str().unwrap_or("").to_owned();
    let external = matches!(kind.as_str(), "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP" && spec["externalIPs"].as_array().is_some_and(|a| !a.is_empty()));
    if external {
        fill_zero(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        fill(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
        if let Some(balancer) = ensure(object, "status").and_then(|status| ensure(status, "loadBalancer")) {
            each(balancer, "ingress", |ingress| {
                if ingress["ip"].as_str().is_some_and(|ip| !ip.is_empty()) {
                    fill(ingress, "ipMode", "VIP");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_filled_in() {
        for (given, want) in [
            (
                json!({"ports": [{"port": 80}, {"port": 53, "protocol": "UDP", "targetPort": "dns"}]}),
                json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                    "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 53, "protocol": "UDP", "targetPort": "dns"}]}),
            ),
            (
                json!({"type": "NodePort", "sessionAffinity": "ClientIP"}),
                json!({"type": "NodePort", "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Cluster",
                    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}, "externalTrafficPolicy": "Cluster"}),
            ),
            (
                json!({"type": "ExternalName", "externalName": "a.b"}),
                json!({"type": "ExternalName", "externalName": "a.b", "sessionAffinity": "None"}),
            ),
        ] {
            let mut object = json!({"spec": given});
            service(&mut object);
            assert_eq!(object["spec"], want);
            let once = object.clone();
            service(&mut object);
            assert_eq!(object, once);
        }
    }
}
