//! Ingresses and their classes.

use jiff::Timestamp;
use navarch_types::field::FieldError;
use navarch_types::validate::{names, ranges};
use serde_json::Value;

use crate::kinds::at::At;
use crate::kinds::cells::{NONE, age_cell, list, name, text, text_or};
use crate::kinds::kind::{AGE, Findings, Kind, NAME, column};
use crate::kinds::rules::{immutable, ip, one_of, parse_ip, required, required_shape, shape, texts};
use crate::strategy::Column;

/// Ingresses.
pub(crate) static INGRESS: Kind = Kind {
    create: |_, object, out| ingress(object, out),
    status_update: |_, object, _, out| {
        let status = At::root(object, "status");
        let balancer = status.child("loadBalancer");
        for point in balancer.child("ingress").items() {
            let address = point.child("ip");
            if !address.is_empty() {
                ip(&address, out);
            }
            shape(&point.child("hostname"), names::dns1123_subdomain, out);
        }
    },
    columns: COLUMNS,
    row,
    ..Kind::FULL
};

fn ingress(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    let (rules, backend) = (spec.child("rules"), spec.child("defaultBackend"));
    if rules.is_empty() && !backend.is_set() {
        out.push(FieldError::invalid(
            &spec.path,
            spec.value.clone(),
            "either `defaultBackend` or `rules` must be specified",
        ));
    }
    if backend.is_set() {
        self::backend(&backend, out);
    }
    for rule in rules.items() {
        let host = rule.child("host");
        if !host.is_empty() {
            hostname(&host, out);
            if parse_ip(host.text()).is_some() {
                out.push(host.invalid("must be a DNS name, not an IP address"));
            }
        }
        let http = rule.child("http");
        if http.is_set() {
            paths(&http.child("paths"), out);
        }
    }
    for tls in spec.child("tls").items() {
        for host in tls.child("hosts").items() {
            hostname(&host, out);
        }
        shape(&tls.child("secretName"), names::dns1123_subdomain, out);
    }
    shape(&spec.child("ingressClassName"), names::dns1123_subdomain, out);
}

fn hostname(at: &At<'_, '_>, out: &mut Findings) {
    let wrong = if at.text().contains('*') {
        names::wildcard_dns1123_subdomain(at.text())
    } else {
        names::dns1123_subdomain(at.text())
    };
    texts(at, wrong, out);
}

fn paths(at: &At<'_, '_>, out: &mut Findings) {
    if at.is_empty() {
        out.push(at.required(""));
    }
    for path in at.items() {
        let (kind, text) = (path.child("pathType"), path.child("path"));
        if !kind.is_set() {
            out.push(kind.required("pathType must be specified"));
        } else {
            match kind.text() {
                "Exact" | "Prefix" => {
                    if !text.text().starts_with('/') {
                        out.push(text.invalid("must be an absolute path"));
                    }
                    for bad in ["//", "/./", "/../", "%2f", "%2F"].into_iter().filter(|b| text.text().contains(b)) {
                        out.push(text.invalid(format!("must not contain '{bad}'")));
                    }
                    for bad in ["/..", "/."].into_iter().filter(|b| text.text().ends_with(b)) {
                        out.push(text.invalid(format!("cannot end with '{bad}'")));
                    }
                }
                "ImplementationSpecific" => {
                    if !text.is_empty() && !text.text().starts_with('/') {
                        out.push(text.invalid("must be an absolute path"));
                    }
                }
                _ => out.push(kind.not_supported(&["Exact", "ImplementationSpecific", "Prefix"])),
            }
        }
        backend(&path.child("backend"), out);
    }
}

fn backend(at: &At<'_, '_>, out: &mut Findings) {
    let (service, resource) = (at.child("service"), at.child("resource"));
    if service.is_set() && resource.is_set() {
        out.push(FieldError::invalid(&at.path, "", "cannot set both resource and service backends"));
    } else if resource.is_set() {
        for key in ["name", "kind"] {
            required(&resource.child(key), out);
        }
    } else {
        let title = service.child("name");
        required_shape(&title, names::dns1035_label, out);
        let port = service.child("port");
        let (port_name, number) = (port.child("name"), port.child("number"));
        match (!port_name.is_empty(), number.int_or_zero() != 0) {
            (true, true) => out.push(FieldError::invalid(&port.path, "", "cannot set both port name & port number")),
            (true, false) => texts(&port_name, names::port_name(port_name.text()), out),
            (false, true) => texts(&number, ranges::port_number(number.int_or_zero()), out),
            (false, false) => out.push(port.required("port name or number is required")),
        }
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Class", "string", "Class that serves it"),
    column("Hosts", "string", "Hosts that are matched"),
    column("Address", "string", "Where it is served"),
    column("Ports", "string", "Ports that are open"),
    AGE,
];

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    const HOSTS_MAX: usize = 3;
    let rules = list(object, &["spec", "rules"]);
    let all: Vec<&str> = rules.iter().map(|r| text(r, &["host"])).filter(|h| !h.is_empty()).collect();
    let hosts = match all.len() {
        0 => "*".to_owned(),
        n if n <= HOSTS_MAX => all.join(","),
        n => format!("{} + {} more...", all[..HOSTS_MAX].join(","), n - HOSTS_MAX),
    };
    let points: Vec<&str> = list(object, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|p| match text(p, &["ip"]) {
            "" => text(p, &["hostname"]),
            address => address,
        })
        .filter(|p| !p.is_empty())
        .collect();
    let ports = if list(object, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" };
    let class = text_or(object, &["spec", "ingressClassName"], "");
    let class = if class.is_empty() {
        text_or(object, &["metadata", "annotations", "kubernetes.io/ingress.class"], NONE)
    } else {
        class
    };
    vec![name(object), class.into(), hosts.into(), points.join(",").into(), ports.into(), age_cell(object, now)]
}

/// IngressClasses.
pub(crate) static INGRESS_CLASS: Kind = Kind {
    default: |object| {
        if let Some(parameters) = crate::kinds::fill::down(object, &["spec", "parameters"]) {
            crate::kinds::fill::fill(parameters, "scope", "Cluster");
        }
    },
    create: |_, object, out| class(object, out),
    update: Some(|_, object, old, out| {
        class(object, out);
        let spec = At::root(object, "spec");
        immutable(&spec.child("controller"), &old["spec"]["controller"], out);
    }),
    columns: &[
        NAME,
        column("Controller", "string", "What serves ingresses of this class"),
        column("Parameters", "string", "Where its settings are"),
        AGE,
    ],
    row: |object, now| {
        let parameters = &object["spec"]["parameters"];
        let shown = if parameters.is_null() {
            NONE.to_owned()
        } else {
            let kind = text(parameters, &["kind"]);
            match text(parameters, &["apiGroup"]) {
                "" => format!("{kind}/{}", text(parameters, &["name"])),
                group => format!("{kind}.{group}/{}", text(parameters, &["name"])),
            }
        };
        vec![name(object), text(object, &["spec", "controller"]).into(), shown.into(), age_cell(object, now)]
    },
    ..Kind::WITH_GENERATION
};

fn class(object: &Value, out: &mut Findings) {
    const BYTES_MAX: usize = 250;
    let spec = At::root(object, "spec");
    let controller = spec.child("controller");
    if required(&controller, out) {
        if controller.text().len() > BYTES_MAX {
            out.push(FieldError::too_long(&controller.path, BYTES_MAX));
        }
        if !controller.text().contains('/') || controller.text().split('/').any(str::is_empty) {
            out.push(controller.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")"));
        }
    }
    let parameters = spec.child("parameters");
    if parameters.is_set() {
        for key in ["kind", "name"] {
            required(&parameters.child(key), out);
        }
        let (scope, namespace) = (parameters.child("scope"), parameters.child("namespace"));
        one_of(&scope, &["Cluster", "Namespace"], out);
        if scope.text() == "Namespace" && namespace.is_empty() {
            out.push(namespace.required("`parameters.scope` is set to 'Namespace'"));
        }
        if scope.text() == "Cluster" && namespace.is_set() {
            out.push(namespace.forbidden("`parameters.scope` is set to 'Cluster'"));
        }
    }
}
