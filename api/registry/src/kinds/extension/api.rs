//! APIs served elsewhere, definitions of custom resources, flow control.

use navarch_types::validate::names;
use serde_json::{Value, json};

use super::default_service_port;
use crate::kinds::at::At;
use crate::kinds::cells::{NONE, age_cell, condition, name, number, text};
use crate::kinds::fill::{down, fill, fill_zero, put, within};
use crate::kinds::kind::{AGE, Findings, Kind, NAME, column};
use crate::kinds::rules::{one_of, required};

/// APIServices.
pub(crate) static API_SERVICE: Kind = Kind {
    default: |object| {
        if let Some(service) = down(object, &["spec", "service"]) {
            default_service_port(service);
        }
    },
    create: |_, object, out| api_service(object, out),
    unconditional_update: false,
    name: names::path_segment,
    columns: &[
        NAME,
        column("Service", "string", "Where the API is served"),
        column("Available", "string", "Whether it is"),
        AGE,
    ],
    row: |object, now| {
        let service = &object["spec"]["service"];
        let shown = if service.is_null() {
            "Local".to_owned()
        } else {
            format!("{}/{}", text(service, &["namespace"]), text(service, &["name"]))
        };
        let available = match condition(object, "Available") {
            None => "Unknown".to_owned(),
            Some(c) if c["status"] == "True" => "True".to_owned(),
            Some(c) => format!("{} ({})", text(c, &["status"]), text(c, &["reason"])),
        };
        vec![name(object), shown.into(), available.into(), age_cell(object, now)]
    },
    ..Kind::WITH_STATUS
};

fn api_service(object: &Value, out: &mut Findings) {
    let (metadata, spec) = (At::root(object, "metadata"), At::root(object, "spec"));
    let (group, version) = (spec.child("group"), spec.child("version"));
    let wanted = format!("{}.{}", version.text(), group.text());
    let title = metadata.child("name");
    if title.text() != wanted {
        out.push(title.invalid(format!("must be `spec.version+\".\"+spec.group`: {wanted:?}")));
    }
    if !group.is_empty() {
        crate::kinds::rules::texts(&group, names::dns1123_subdomain(group.text()), out);
    }
    if required(&version, out) {
        crate::kinds::rules::texts(&version, names::dns1035_label(version.text()), out);
    }
    for (key, low, high) in [("groupPriorityMinimum", 1, 20_000), ("versionPriority", 1, 1000)] {
        let priority = spec.child(key);
        if !(low..=high).contains(&priority.int_or_zero()) {
            let why = format!("must be positive and less than {high}");
            out.push(navarch_types::field::FieldError::invalid(&priority.path, priority.int_or_zero(), why));
        }
    }
    let service = spec.child("service");
    let (bundle, insecure) = (spec.child("caBundle"), spec.child("insecureSkipTLSVerify"));
    if service.is_set() {
        required(&service.child("namespace"), out);
        required(&service.child("name"), out);
        if insecure.is_true() && !bundle.is_empty() {
            out.push(insecure.invalid("may not be true if caBundle is present"));
        }
    } else {
        if !bundle.is_empty() {
            out.push(bundle.invalid("local APIServices may not have a caBundle"));
        }
        if insecure.is_true() {
            out.push(insecure.invalid("local APIServices may not have insecureSkipTLSVerify"));
        }
    }
}

/// CustomResourceDefinitions. What a definition means is for whoever serves it.
pub(crate) static DEFINITION: Kind = Kind {
    default: |object| {
        let Some(spec) = within(object, "spec") else { return };
        if let Some(conversion) = crate::kinds::fill::ensure(spec, "conversion") {
            fill_zero(conversion, "strategy", "None");
            if let Some(service) = down(conversion, &["webhook", "clientConfig", "service"]) {
                default_service_port(service);
            }
        }
        if let Some(names) = within(spec, "names") {
            let kind = names["kind"].as_str().unwrap_or("").to_owned();
            if !kind.is_empty() {
                fill_zero(names, "singular", kind.to_lowercase());
                fill_zero(names, "listKind", format!("{kind}List"));
            }
        }
    },
    prepare_create: |_, object| {
        let stored = object["spec"]["versions"].as_array().into_iter().flatten().find(|v| v["storage"] == true);
        let stored: Vec<Value> = stored.map(|v| v["name"].clone()).into_iter().collect();
        put(object, "status", json!({"storedVersions": stored}));
    },
    create: |_, object, out| definition(object, out),
    unconditional_update: false,
    columns: &[NAME, column("Created At", "date", "Time of creation")],
    row: |object, _| vec![name(object), object["metadata"]["creationTimestamp"].clone()],
    ..Kind::FULL
};

fn definition(object: &Value, out: &mut Findings) {
    let (metadata, spec) = (At::root(object, "metadata"), At::root(object, "spec"));
    let (group, plural) = (spec.child("group"), spec.child("names"));
    let wanted = format!("{}.{}", text(plural.value, &["plural"]), group.text());
    let title = metadata.child("name");
    if title.text() != wanted {
        out.push(title.invalid("must be spec.names.plural+\".\"+spec.group"));
    }
    if required(&group, out) {
        crate::kinds::rules::texts(&group, names::dns1123_subdomain(group.text()), out);
        if !group.text().contains('.') {
            out.push(group.invalid("should be a domain with at least one dot"));
        }
    }
    one_of(&spec.child("scope"), &["Cluster", "Namespaced"], out);
    let versions = spec.child("versions");
    let storing = versions.items().filter(|v| v.child("storage").is_true()).count();
    if storing != 1 {
        out.push(versions.invalid("must have exactly one version marked as storage version"));
    }
    for key in ["plural", "singular", "kind", "listKind"] {
        required(&plural.child(key), out);
    }
}

/// FlowSchemas.
pub(crate) static FLOW_SCHEMA: Kind = Kind {
    default: |object| {
        if let Some(spec) = within(object, "spec") {
            fill_zero(spec, "matchingPrecedence", 1000);
        }
    },
    create: |_, object, out| {
        let spec = At::root(object, "spec");
        let precedence = spec.child("matchingPrecedence");
        if precedence.int_or_zero() <= 0 {
            out.push(precedence.invalid("must be a positive value"));
        } else if precedence.int_or_zero() > 10_000 {
            out.push(precedence.invalid("must not be greater than 10000"));
        }
        let level = spec.child("priorityLevelConfiguration");
        required(&level.child("name"), out);
    },
    columns: &[
        NAME,
        column("PriorityLevel", "string", "Level that requests go to"),
        column("MatchingPrecedence", "integer", "Which schema is asked first"),
        column("DistinguisherMethod", "string", "How flows are told apart"),
        AGE,
        column("MissingPL", "string", "Whether that level is missing"),
    ],
    row: |object, now| {
        let method = text(object, &["spec", "distinguisherMethod", "type"]);
        let missing = condition(object, "Dangling").map_or("?", |c| text(c, &["status"]));
        vec![
            name(object),
            text(object, &["spec", "priorityLevelConfiguration", "name"]).into(),
            number(object, &["spec", "matchingPrecedence"]).into(),
            if method.is_empty() { NONE } else { method }.into(),
            age_cell(object, now),
            missing.into(),
        ]
    },
    ..Kind::FULL
};

/// PriorityLevelConfigurations.
pub(crate) static PRIORITY_LEVEL: Kind = Kind {
    default: |object| {
        if let Some(limited) = down(object, &["spec", "limited"]) {
            fill(limited, "nominalConcurrencyShares", 30);
            fill(limited, "lendablePercent", 0);
            if let Some(queuing) = down(limited, &["limitResponse", "queuing"]) {
                fill_zero(queuing, "handSize", 8);
                fill_zero(queuing, "queues", 64);
                fill_zero(queuing, "queueLengthLimit", 50);
            }
        }
        if let Some(exempt) = down(object, &["spec", "exempt"]) {
            fill(exempt, "nominalConcurrencyShares", 0);
            fill(exempt, "lendablePercent", 0);
        }
    },
    create: |_, object, out| level(object, out),
    columns: &[
        NAME,
        column("Type", "string", "Whether it is limited"),
        column("NominalConcurrencyShares", "string", "Its share"),
        column("Queues", "string", "How many queues"),
        column("HandSize", "string", "How many of them a flow is dealt"),
        column("QueueLengthLimit", "string", "How long they may grow"),
        AGE,
    ],
    row: |object, now| {
        let spec = &object["spec"];
        let shares = &spec["limited"]["nominalConcurrencyShares"];
        let queuing = &spec["limited"]["limitResponse"]["queuing"];
        let shown = |v: &Value| Value::from(v.as_i64().map_or(NONE.to_owned(), |n| n.to_string()));
        vec![
            name(object),
            text(object, &["spec", "type"]).into(),
            shown(shares),
            shown(&queuing["queues"]),
            shown(&queuing["handSize"]),
            shown(&queuing["queueLengthLimit"]),
            age_cell(object, now),
        ]
    },
    ..Kind::FULL
};

fn level(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    let (kind, limited, exempt) = (spec.child("type"), spec.child("limited"), spec.child("exempt"));
    one_of(&kind, &["Exempt", "Limited"], out);
    match kind.text() {
        "Exempt" if limited.is_set() => {
            out.push(limited.forbidden("must be nil if the type is not Limited"));
        }
        "Limited" if !limited.is_set() => out.push(limited.required("must not be empty when type is Limited")),
        "Limited" if exempt.is_set() => out.push(exempt.forbidden("must be nil if the type is Limited")),
        _ => {}
    }
}
