//! NetworkPolicies.

use navarch_types::field::FieldError;
use serde_json::Value;

use crate::kinds::at::At;
use crate::kinds::cells::{age_cell, list, name, selector};
use crate::kinds::fill::{each, fill_zero, put, within};
use crate::kinds::kind::{AGE, Findings, Kind, NAME, column};
use crate::kinds::rules::{label_selector, one_of, port_number_or_name};

/// The strategy.
pub(crate) static NETWORK_POLICY: Kind = Kind {
    default,
    create: |_, object, out| policy(object, out),
    columns: &[NAME, column("Pod-Selector", "string", "Pods that the policy is for"), AGE],
    row: |object, now| vec![name(object), selector(&object["spec"]["podSelector"]).into(), age_cell(object, now)],
    ..Kind::WITH_GENERATION
};

fn default(object: &mut Value) {
    let Some(spec) = within(object, "spec") else { return };
    for key in ["ingress", "egress"] {
        each(spec, key, |rule| each(rule, "ports", |port| fill_zero(port, "protocol", "TCP")));
    }
    if list(spec, &["policyTypes"]).is_empty() {
        let mut types = vec!["Ingress"];
        if !list(spec, &["egress"]).is_empty() {
            types.push("Egress");
        }
        put(spec, "policyTypes", types);
    }
}

fn policy(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    label_selector(&spec.child("podSelector"), out);
    for (key, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.child(key).items() {
            for port in rule.child("ports").items() {
                self::port(&port, out);
            }
            for peer in rule.child(peers).items() {
                self::peer(&peer, out);
            }
        }
    }
    let types = spec.child("policyTypes");
    if types.len() > 2 {
        out.push(FieldError::invalid(&types.path, types.value.clone(), "may not specify more than two policyTypes"));
        return;
    }
    for kind in types.items() {
        if !matches!(kind.text(), "Ingress" | "Egress") {
            out.push(FieldError::not_supported(&kind.path, kind.text(), &["Egress", "Ingress"]));
        }
    }
}

fn port(at: &At<'_, '_>, out: &mut Findings) {
    let protocol = at.child("protocol");
    if protocol.is_set() {
        one_of(&protocol, &["SCTP", "TCP", "UDP"], out);
    }
    let (port, end) = (at.child("port"), at.child("endPort"));
    if port.is_set() {
        port_number_or_name(&port, out);
        if let Some(last) = end.int() {
            match port.int() {
                None => out.push(end.invalid("may not be specified when `port` is non-numeric")),
                Some(first) if last < first => out.push(end.invalid("must be greater than or equal to `port`")),
                Some(_) => {}
            }
            if !(1..=65_535).contains(&last) {
                out.push(end.invalid("must be between 1 and 65535, inclusive"));
            }
        }
    } else if end.is_set() {
        out.push(end.invalid("may not be specified when `port` is not specified"));
    }
}

fn peer(at: &At<'_, '_>, out: &mut Findings) {
    let (pods, namespaces, block) = (at.child("podSelector"), at.child("namespaceSelector"), at.child("ipBlock"));
    label_selector(&pods, out);
    label_selector(&namespaces, out);
    if block.is_set() {
        self::block(&block, out);
        if pods.is_set() || namespaces.is_set() {
            out.push(at.forbidden("may not specify both ipBlock and another peer"));
        }
    } else if !pods.is_set() && !namespaces.is_set() {
        out.push(at.required("must specify a peer"));
    }
}

fn block(at: &At<'_, '_>, out: &mut Findings) {
    const WHY: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let range = at.child("cidr");
    if range.is_empty() {
        out.push(range.required(""));
        return;
    }
    let Ok(whole) = range.text().parse::<ipnet::IpNet>() else {
        out.push(range.invalid(WHY));
        return;
    };
    for except in at.child("except").items() {
        match except.text().parse::<ipnet::IpNet>() {
            Err(_) => out.push(except.invalid(WHY)),
            Ok(part) if !whole.contains(&part) || part.prefix_len() <= whole.prefix_len() => {
                out.push(except.invalid("must be a strict subset of `cidr`"));
            }
            Ok(_) => {}
        }
    }
}
