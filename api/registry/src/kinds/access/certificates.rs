//! Certificate signing requests and trust bundles.

use jiff::Timestamp;
use navarch_types::field::FieldError;
use navarch_types::validate::names;
use serde_json::{Value, json};

use crate::kinds::at::{At, same};
use crate::kinds::cells::{NONE, age_cell, list, name, text, text_or};
use crate::kinds::fill::{drop_field, ensure, put, restore};
use crate::kinds::kind::{AGE, Findings, Kind, NAME, column};
use crate::kinds::rules::required;
use crate::strategy::{Column, Context, SelectableField, human_duration};

const SECONDS_MIN: i64 = 600;
const USAGES: [&str; 23] = [
    "signing",
    "digital signature",
    "content commitment",
    "key encipherment",
    "key agreement",
    "data encipherment",
    "cert sign",
    "crl sign",
    "encipher only",
    "decipher only",
    "any",
    "server auth",
    "client auth",
    "code signing",
    "email protection",
    "s/mime",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "timestamping",
    "ocsp signing",
    "microsoft sgc",
    "netscape sgc",
];

/// CertificateSigningRequests.
pub(crate) static REQUEST: Kind = Kind {
    prepare_create,
    prepare_update,
    create: |_, object, out| request(object, out),
    update: Some(|_, object, _, out| request(object, out)),
    status_update,
    selectable: &[SelectableField { name: "spec.signerName", path: &["spec", "signerName"], absent: "" }],
    columns: COLUMNS,
    row,
    ..Kind::WITH_STATUS
};

/// Who asks is whoever is authenticated, whatever the object says.
fn prepare_create(context: &Context<'_>, object: &mut Value) {
    let Some(spec) = ensure(object, "spec") else { return };
    for key in ["username", "uid", "groups", "extra"] {
        drop_field(spec, key);
    }
    let user = context.user;
    put(spec, "username", user.name.clone());
    if !user.uid.is_empty() {
        put(spec, "uid", user.uid.clone());
    }
    if !user.groups.is_empty() {
        put(spec, "groups", user.groups.clone());
    }
    if !user.extra.is_empty() {
        put(spec, "extra", json!(user.extra));
    }
}

/// The spec is for life; conditions change by `approval`, the certificate by `status`.
fn prepare_update(context: &Context<'_>, object: &mut Value, old: &Value) {
    restore(object, old, "spec");
    match context.subresource {
        None => restore(object, old, "status"),
        Some("approval") => {
            if let Some(status) = ensure(object, "status") {
                restore(status, &old["status"], "certificate");
            }
            stamp_conditions(context, object, old);
        }
        Some("status") => {
            let approved = approval(old);
            if let Some(conditions) =
                object.get_mut("status").and_then(|s| s.get_mut("conditions")).and_then(Value::as_array_mut)
            {
                conditions.retain(|c| !matches!(c["type"].as_str(), Some("Approved" | "Denied")));
                conditions.extend(approved);
            } else if !approved.is_empty()
                && let Some(status) = ensure(object, "status")
            {
                put(status, "conditions", approved);
            }
            stamp_conditions(context, object, old);
        }
        Some(_) => {}
    }
}

fn approval(object: &Value) -> Vec<Value> {
    let conditions = list(object, &["status", "conditions"]).iter();
    conditions.filter(|c| matches!(c["type"].as_str(), Some("Approved" | "Denied"))).cloned().collect()
}

/// A condition that does not say since when is since now, or since it last changed.
fn stamp_conditions(context: &Context<'_>, object: &mut Value, old: &Value) {
    let now = format!("{:.0}", context.now);
    let before: Vec<Value> = list(old, &["status", "conditions"]).to_vec();
    let conditions = object.get_mut("status").and_then(|s| s.get_mut("conditions")).and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        let was = before.iter().find(|c| c["type"] == condition["type"]);
        for (key, kept) in [("lastUpdateTime", None), ("lastTransitionTime", was)] {
            if condition[key].is_null() {
                let value = kept.map(|c| c[key].clone()).filter(|v| !v.is_null()).unwrap_or_else(|| now.clone().into());
                put(condition, key, value);
            }
        }
    }
}

fn request(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    let pem = spec.child("request");
    if pem.is_empty() {
        out.push(pem.required(""));
    } else if !is_request(pem.text()) {
        let mut finding = pem.invalid("PEM block type must be CERTIFICATE REQUEST");
        finding.bad_value = pem.value.clone();
        out.push(finding);
    }
    let usages = spec.child("usages");
    if usages.is_empty() {
        out.push(usages.required("usages must contain at least one value"));
    }
    let mut seen = std::collections::HashSet::new();
    for usage in usages.items() {
        if !USAGES.contains(&usage.text()) {
            let mut sorted = USAGES;
            sorted.sort_unstable();
            out.push(FieldError::not_supported(&usages.path, usage.text(), &sorted));
        }
        if !seen.insert(usage.text()) {
            out.push(usage.duplicate());
        }
    }
    signer_name(&spec.child("signerName"), out);
    let seconds = spec.child("expirationSeconds");
    if seconds.int().is_some_and(|s| s < SECONDS_MIN) {
        out.push(seconds.invalid("may not specify a duration less than 600 seconds (10 minutes)"));
    }
}

fn is_request(base64: &str) -> bool {
    use base64::Engine;
    let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(base64) else { return false };
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(&bytes) else { return false };
    use x509_parser::prelude::FromDer;
    matches!(pem.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST")
        && x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents).is_ok()
}

/// `domain/path`, as signers are named.
fn signer_name(at: &At<'_, '_>, out: &mut Findings) {
    const BYTES_MAX: usize = 571;
    if !required(at, out) {
        return;
    }
    let Some((domain, path)) = at.text().split_once('/').filter(|(_, path)| !path.contains('/')) else {
        out.push(at.invalid("must be a fully qualified domain and path of the form 'example.com/signer-name'"));
        return;
    };
    for wrong in names::dns1123_subdomain(domain) {
        out.push(at.invalid(format!("validating label {domain:?}: {wrong}")));
    }
    if !domain.contains('.') {
        out.push(at.invalid("should be a domain with at least two segments separated by dots"));
    }
    for wrong in names::dns1123_subdomain(path) {
        out.push(at.invalid(format!("validating label {path:?}: {wrong}")));
    }
    if at.text().len() > BYTES_MAX {
        out.push(FieldError::too_long(&at.path, BYTES_MAX));
    }
}

fn status_update(context: &Context<'_>, object: &Value, old: &Value, out: &mut Findings) {
    let status = At::root(object, "status");
    let conditions = status.child("conditions");
    let (mut seen, mut decided) = (std::collections::HashSet::new(), Vec::new());
    for condition in conditions.items() {
        let (kind, state) = (condition.child("type"), condition.child("status"));
        required(&kind, out);
        if !matches!(state.text(), "True" | "False" | "Unknown") {
            let finding =
                if state.is_empty() { state.required("") } else { state.not_supported(&["False", "True", "Unknown"]) };
            out.push(finding);
        }
        if matches!(kind.text(), "Approved" | "Denied" | "Failed") && !state.is_empty() && state.text() != "True" {
            out.push(state.not_supported(&["True"]));
        }
        if !seen.insert(kind.text()) {
            out.push(condition.duplicate());
        }
        if matches!(kind.text(), "Approved" | "Denied") {
            decided.push(kind.text());
        }
    }
    if decided.len() > 1 {
        out.push(conditions.invalid("Approved and Denied conditions are mutually exclusive"));
    }
    // A decision is not taken back.
    for before in approval(old) {
        if !conditions.items().any(|c| c.value["type"] == before["type"]) {
            let why = format!("updates may not remove a condition of type {}", before["type"]);
            out.push(conditions.forbidden(why));
        }
    }
    let certificate = status.child("certificate");
    let was = &old["status"]["certificate"];
    if context.subresource == Some("status") && !same(was, &Value::Null) && !same(certificate.value, was) {
        out.push(certificate.forbidden("updates may not change this field once set"));
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    AGE,
    column("SignerName", "string", "Who is asked to sign"),
    column("Requestor", "string", "Who asks"),
    column("RequestedDuration", "string", "For how long"),
    column("Condition", "string", "What became of it"),
];

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let (mut approved, mut denied, mut failed) = (false, false, false);
    for condition in list(object, &["status", "conditions"]) {
        match text(condition, &["type"]) {
            "Approved" => approved = true,
            "Denied" => denied = true,
            "Failed" => failed = true,
            _ => {}
        }
    }
    let mut state = if denied {
        "Denied"
    } else if approved {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if failed {
        state.push_str(",Failed");
    }
    if !text(object, &["status", "certificate"]).is_empty() {
        state.push_str(",Issued");
    }
    let duration = object["spec"]["expirationSeconds"].as_i64().map_or(NONE.to_owned(), human_duration);
    vec![
        name(object),
        age_cell(object, now),
        text_or(object, &["spec", "signerName"], NONE).into(),
        text(object, &["spec", "username"]).into(),
        duration.into(),
        state.into(),
    ]
}

/// ClusterTrustBundles.
pub(crate) static TRUST_BUNDLE: Kind = Kind {
    name: |name, prefix| names::name_is_dns_subdomain(&name.replace(':', "."), prefix),
    columns: &[NAME, column("SignerName", "string", "Whose certificates it holds")],
    row: |object, _| vec![name(object), text_or(object, &["spec", "signerName"], NONE).into()],
    ..Kind::PLAIN
};
