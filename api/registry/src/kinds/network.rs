//! Endpoints, slices of them, ingress, network policies, address objects.

mod endpoints;
mod ingress;
mod policy;

pub(crate) use endpoints::{ENDPOINT_SLICE, ENDPOINTS};
pub(crate) use ingress::{INGRESS, INGRESS_CLASS};
pub(crate) use policy::NETWORK_POLICY;

use navarch_types::field::FieldError;

use super::at::At;
use super::cells::{age_cell, list, name, text};
use super::kind::{AGE, Kind, NAME, column};
use super::rules::{immutable, parse_ip, required};

/// IPAddresses, which are named as the address is written canonically.
pub(crate) static IP_ADDRESS: Kind = Kind {
    create: |_, object, out| {
        let spec = At::root(object, "spec");
        let parent = spec.child("parentRef");
        if !parent.is_set() {
            out.push(parent.required(""));
            return;
        }
        required(&parent.child("resource"), out);
        required(&parent.child("name"), out);
    },
    update: Some(|_, object, old, out| {
        let spec = At::root(object, "spec");
        immutable(&spec.child("parentRef"), &old["spec"]["parentRef"], out);
    }),
    name: |name, _| match parse_ip(name) {
        Some(address) if address.to_string() == name => Vec::new(),
        Some(address) => vec![format!("must be in canonical form ({:?})", address.to_string())],
        None => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    },
    columns: &[NAME, column("ParentRef", "string", "What holds the address"), AGE],
    row: |object, now| {
        let parent = &object["spec"]["parentRef"];
        let part = |key| Some(text(parent, &[key])).filter(|t| !t.is_empty());
        let parts: Vec<&str> = ["group", "resource", "namespace", "name"].into_iter().filter_map(part).collect();
        vec![name(object), parts.join("/").into(), age_cell(object, now)]
    },
    ..Kind::PLAIN
};

/// ServiceCIDRs.
pub(crate) static SERVICE_CIDR: Kind = Kind {
    create: |_, object, out| {
        let spec = At::root(object, "spec");
        let ranges = spec.child("cidrs");
        if ranges.is_empty() {
            out.push(ranges.required("at least one CIDR required"));
        } else if ranges.len() > 2 {
            out.push(ranges.invalid("may only hold up to 2 values"));
        }
        for range in ranges.items() {
            if range.text().parse::<ipnet::IpNet>().is_err() {
                out.push(range.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"));
            }
        }
        if let [a, b] = ranges.items().filter_map(|r| r.text().parse::<ipnet::IpNet>().ok()).collect::<Vec<_>>()[..]
            && a.addr().is_ipv4() == b.addr().is_ipv4()
        {
            out.push(FieldError::invalid(
                &ranges.path,
                ranges.value.clone(),
                "may specify no more than one IP for each IP family",
            ));
        }
    },
    columns: &[NAME, column("CIDRs", "string", "Ranges that addresses are taken from"), AGE],
    row: |object, now| {
        let ranges: Vec<&str> = list(object, &["spec", "cidrs"]).iter().filter_map(|c| c.as_str()).collect();
        vec![name(object), ranges.join(",").into(), age_cell(object, now)]
    },
    ..Kind::WITH_STATUS
};

#[cfg(test)]
mod tests;
