//! Webhooks of admission.

use std::collections::HashSet;

use navarch_types::field::FieldError;
use navarch_types::validate::names;
use serde_json::Value;

use super::{default_matching, default_service_port, match_conditions, matching, rule};
use crate::kinds::at::{At, same};
use crate::kinds::cells::{age_cell, list, name};
use crate::kinds::fill::{down, each, fill};
use crate::kinds::kind::{AGE, Findings, Kind, NAME, column};
use crate::kinds::rules::{one_of, required, supported_if_set};

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// What both kinds share.
const WEBHOOKS: Kind = Kind {
    unconditional_update: false,
    generation_changes: |object, old| !same(&object["webhooks"], &old["webhooks"]),
    columns: &[NAME, column("Webhooks", "integer", "How many webhooks"), AGE],
    row: |object, now| vec![name(object), list(object, &["webhooks"]).len().into(), age_cell(object, now)],
    ..Kind::WITH_GENERATION
};

/// ValidatingWebhookConfigurations.
pub(crate) static VALIDATING: Kind = Kind {
    default: |object| each(object, "webhooks", default),
    create: |_, object, out| webhooks(object, out),
    ..WEBHOOKS
};

/// MutatingWebhookConfigurations.
pub(crate) static MUTATING: Kind = Kind {
    default: |object| {
        each(object, "webhooks", |webhook| {
            default(webhook);
            fill(webhook, "reinvocationPolicy", "Never");
        });
    },
    create: |_, object, out| webhooks(object, out),
    ..WEBHOOKS
};

fn default(webhook: &mut Value) {
    fill(webhook, "failurePolicy", "Fail");
    default_matching(webhook, "rules");
    fill(webhook, "timeoutSeconds", 10);
    if let Some(service) = down(webhook, &["clientConfig", "service"]) {
        default_service_port(service);
    }
}

fn webhooks(object: &Value, out: &mut Findings) {
    let mut seen = HashSet::new();
    for webhook in At::root(object, "webhooks").items() {
        self::webhook(&webhook, out);
        let title = webhook.child("name");
        if !seen.insert(title.text()) {
            out.push(title.duplicate());
        }
    }
}

fn webhook(at: &At<'_, '_>, out: &mut Findings) {
    fully_qualified(&at.child("name"), out);
    for rule in at.child("rules").items() {
        self::rule(&rule, out);
    }
    supported_if_set(&at.child("failurePolicy"), &["Fail", "Ignore"], out);
    matching(at, out);
    let effects = at.child("sideEffects");
    one_of(&effects, &["None", "NoneOnDryRun"], out);
    let timeout = at.child("timeoutSeconds");
    if timeout.int().is_some_and(|n| !(1..=30).contains(&n)) {
        out.push(timeout.invalid("the timeout value must be between 1 and 30 seconds"));
    }
    client_config(&at.child("clientConfig"), out);
    supported_if_set(&at.child("reinvocationPolicy"), &["IfNeeded", "Never"], out);
    let versions = at.child("admissionReviewVersions");
    if versions.is_empty() {
        out.push(versions.required("must specify one of v1, v1beta1"));
    } else if !versions.items().any(|v| REVIEW_VERSIONS.contains(&v.text())) {
        out.push(versions.invalid("must include at least one of v1, v1beta1"));
    }
    match_conditions(&at.child("matchConditions"), out);
}

/// `a.b.c`: a name that is somebody's.
fn fully_qualified(at: &At<'_, '_>, out: &mut Findings) {
    if !required(at, out) {
        return;
    }
    let wrong = names::dns1123_subdomain(at.text());
    if !wrong.is_empty() {
        out.push(at.invalid(wrong.join(",")));
    } else if at.text().split('.').count() < 3 {
        out.push(at.invalid("should be a domain with at least three segments separated by dots"));
    }
}

fn client_config(at: &At<'_, '_>, out: &mut Findings) {
    let (url, service) = (at.child("url"), at.child("service"));
    match (url.is_set(), service.is_set()) {
        (true, false) => self::url(&url, out),
        (false, true) => {
            for key in ["name", "namespace"] {
                required(&service.child(key), out);
            }
            let path = service.child("path");
            if path.is_set() && !path.text().starts_with('/') {
                out.push(path.invalid("must start with a '/'"));
            }
            let port = service.child("port");
            if port.int().is_some_and(|n| !(1..=65_535).contains(&n)) {
                out.push(port.invalid("port is not valid: must be between 1 and 65535, inclusive"));
            }
        }
        _ => out.push(at.required("exactly one of url or service is required")),
    }
}

fn url(at: &At<'_, '_>, out: &mut Findings) {
    const FORM: &str = "; desired format: https://host[/path]";
    let mut refuse = |why: String| out.push(FieldError::invalid(&at.path, at.text(), format!("{why}{FORM}")));
    let Some((scheme, rest)) = at.text().split_once("://") else {
        refuse("url must be a valid URL".to_owned());
        return;
    };
    if scheme != "https" {
        refuse(format!("'https' is the only allowed URL scheme; got {scheme:?}"));
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    if host.is_empty() {
        refuse("host must be specified".to_owned());
    }
    if host.contains('@') {
        refuse("user information is not permitted in the URL".to_owned());
    }
    if rest.contains('?') {
        refuse("query parameters are not permitted in the URL".to_owned());
    }
    if rest.contains('#') {
        refuse("fragments are not permitted in the URL".to_owned());
    }
}
