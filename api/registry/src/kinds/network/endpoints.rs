//! Endpoints and EndpointSlices.

use std::collections::HashSet;

use jiff::Timestamp;
use navarch_types::field::FieldError;
use navarch_types::validate::{names, ranges};
use serde_json::Value;

use crate::kinds::at::{At, same};
use crate::kinds::cells::{NONE, UNSET, age_cell, list, name, number, text};
use crate::kinds::fill::{each, fill, fill_zero};
use crate::kinds::kind::{AGE, Findings, Kind, NAME, column};
use crate::kinds::rules::{immutable, ip, labels, non_special_ip, one_of, parse_ip, required, shape, texts};

/// How many addresses or ports a cell shows.
const SHOWN_MAX: usize = 3;
/// Limits of a slice.
const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;

/// Endpoints.
pub(crate) static ENDPOINTS: Kind = Kind {
    default: |object| {
        each(object, "subsets", |subset| each(subset, "ports", |port| fill_zero(port, "protocol", "TCP")))
    },
    create: |_, object, out| {
        for subset in At::root(object, "subsets").items() {
            self::subset(&subset, out);
        }
    },
    create_on_update: true,
    columns: &[NAME, column("Endpoints", "string", "Addresses and ports"), AGE],
    row: endpoints_row,
    ..Kind::PLAIN
};

fn subset(at: &At<'_, '_>, out: &mut Findings) {
    let (ready, waiting) = (at.child("addresses"), at.child("notReadyAddresses"));
    if ready.is_empty() && waiting.is_empty() {
        out.push(at.required("must specify `addresses` or `notReadyAddresses`"));
    }
    for list in [&ready, &waiting] {
        for address in list.items() {
            let text = address.child("ip");
            let before = out.len();
            ip(&text, out);
            shape(&address.child("hostname"), names::dns1123_label, out);
            shape(&address.child("nodeName"), names::dns1123_subdomain, out);
            if out.len() == before {
                non_special_ip(&text, out);
            }
        }
    }
    let list = at.child("ports");
    for port in list.items() {
        let title = port.child("name");
        if list.len() > 1 && title.is_empty() {
            out.push(title.required(""));
        }
        shape(&title, names::dns1123_label, out);
        let number = port.child("port");
        let wrong = ranges::port_number(number.int_or_zero());
        out.extend(wrong.into_iter().map(|t| FieldError::invalid(&number.path, number.int_or_zero(), t)));
        one_of(&port.child("protocol"), &["SCTP", "TCP", "UDP"], out);
        shape(&port.child("appProtocol"), names::qualified_name, out);
    }
}

/// The first few, and how many more.
fn shown(all: &[String], none: &str) -> String {
    match all.len() {
        0 => none.to_owned(),
        n if n <= SHOWN_MAX => all.join(","),
        n => format!("{} + {} more...", all[..SHOWN_MAX].join(","), n - SHOWN_MAX),
    }
}

fn endpoints_row(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in list(object, &["subsets"]) {
        let addresses = list(subset, &["addresses"]).iter().map(|a| text(a, &["ip"]));
        let ports = list(subset, &["ports"]);
        if ports.is_empty() {
            all.extend(addresses.map(str::to_owned));
        } else {
            for port in ports {
                for address in addresses.clone() {
                    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
                    all.push(format!("{host}:{}", number(port, &["port"])));
                }
            }
        }
    }
    vec![name(object), shown(&all, NONE).into(), age_cell(object, now)]
}

/// EndpointSlices.
pub(crate) static ENDPOINT_SLICE: Kind = Kind {
    default: |object| {
        each(object, "ports", |port| {
            fill(port, "name", "");
            fill(port, "protocol", "TCP");
        });
    },
    create: |_, object, out| slice(object, out),
    update: Some(|_, object, old, out| {
        slice(object, out);
        immutable(&At::root(object, "addressType"), &old["addressType"], out);
    }),
    generation_changes: |object, old| {
        ["addressType", "endpoints", "ports"].iter().any(|key| !same(&object[key], &old[key]))
    },
    columns: &[
        NAME,
        column("AddressType", "string", "What kind of addresses it holds"),
        column("Ports", "string", "Ports of the endpoints"),
        column("Endpoints", "string", "Addresses of the endpoints"),
        AGE,
    ],
    row: slice_row,
    ..Kind::WITH_GENERATION
};

fn slice(object: &Value, out: &mut Findings) {
    let kind = At::root(object, "addressType");
    one_of(&kind, &["FQDN", "IPv4", "IPv6"], out);
    let endpoints = At::root(object, "endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        out.push(FieldError::too_many(&endpoints.path, endpoints.len(), ENDPOINTS_MAX));
        return;
    }
    for endpoint in endpoints.items() {
        slice_endpoint(&endpoint, kind.text(), out);
    }
    let ports = At::root(object, "ports");
    if ports.len() > PORTS_MAX {
        out.push(FieldError::too_many(&ports.path, ports.len(), PORTS_MAX));
        return;
    }
    let mut seen = HashSet::new();
    for port in ports.items() {
        let title = port.child("name");
        shape(&title, names::dns1123_label, out);
        if !seen.insert(title.text()) {
            out.push(title.duplicate());
        }
        one_of(&port.child("protocol"), &["SCTP", "TCP", "UDP"], out);
        shape(&port.child("appProtocol"), names::qualified_name, out);
    }
}

fn slice_endpoint(at: &At<'_, '_>, kind: &str, out: &mut Findings) {
    let addresses = at.child("addresses");
    if addresses.is_empty() {
        out.push(addresses.required("must contain at least 1 address"));
    } else if addresses.len() > ADDRESSES_MAX {
        out.push(FieldError::too_many(&addresses.path, addresses.len(), ADDRESSES_MAX));
    }
    for address in addresses.items() {
        let parsed = parse_ip(address.text());
        match kind {
            "IPv4" if parsed.is_none_or(|a| !a.is_ipv4()) => out.push(address.invalid("must be an IPv4 address")),
            "IPv6" if parsed.is_none_or(|a| !a.is_ipv6()) => out.push(address.invalid("must be an IPv6 address")),
            "IPv4" | "IPv6" => non_special_ip(&address, out),
            "FQDN" => texts(&address, names::dns1123_subdomain(address.text()), out),
            _ => {}
        }
    }
    shape(&at.child("hostname"), names::dns1123_label, out);
    shape(&at.child("nodeName"), names::dns1123_subdomain, out);
    labels(&at.child("deprecatedTopology"), out);
    let hints = at.child("hints");
    let zones = hints.child("forZones");
    let mut seen = HashSet::new();
    for zone in zones.items() {
        let title = zone.child("name");
        if required(&title, out) && !seen.insert(title.text()) {
            out.push(title.duplicate());
        }
    }
}

fn slice_row(object: &Value, now: Timestamp) -> Vec<Value> {
    let port = |p: &Value| match p["port"].as_i64() {
        Some(number) => number.to_string(),
        None if text(p, &["name"]).is_empty() => "*".to_owned(),
        None => text(p, &["name"]).to_owned(),
    };
    let ports: Vec<String> = list(object, &["ports"]).iter().map(port).collect();
    let addresses: Vec<String> = list(object, &["endpoints"])
        .iter()
        .flat_map(|e| list(e, &["addresses"]))
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    vec![
        name(object),
        text(object, &["addressType"]).into(),
        shown(&ports, UNSET).into(),
        shown(&addresses, UNSET).into(),
        age_cell(object, now),
    ]
}
