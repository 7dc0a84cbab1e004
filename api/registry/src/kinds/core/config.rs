//! ConfigMaps and Secrets. A Secret's values never get into a finding.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use navarch_types::field::{ErrorType, FieldError};
use navarch_types::validate::names;
use serde_json::Value;

use crate::kinds::at::{At, same};
use crate::kinds::cells::{age_cell, name, text};
use crate::kinds::fill::{drop_field, ensure, fill_zero, put};
use crate::kinds::kind::{AGE, Findings, Kind, NAME, column};
use crate::kinds::rules::immutable;
use crate::strategy::SelectableField;

/// All values of one object together: what fits an etcd request, and so what users rely on.
const BYTES_MAX: usize = 1024 * 1024;
const FROZEN: &str = "field is immutable when `immutable` is set";

/// ConfigMaps.
pub(crate) static CONFIG_MAP: Kind = Kind {
    create: |_, object, out| config_map(object, out),
    update: Some(|_, object, old, out| {
        frozen(object, old, &["data", "binaryData"], out);
        config_map(object, out);
    }),
    columns: &[NAME, column("Data", "string", "How many entries"), AGE],
    row: |object, now| {
        vec![name(object), (entries(object, "data") + entries(object, "binaryData")).into(), age_cell(object, now)]
    },
    ..Kind::PLAIN
};

fn entries(object: &Value, key: &str) -> usize {
    object[key].as_object().map_or(0, serde_json::Map::len)
}

fn config_map(object: &Value, out: &mut Findings) {
    let (data, binary) = (At::root(object, "data"), At::root(object, "binaryData"));
    let mut bytes = 0;
    for (key, value) in data.entries() {
        keys(&value, key, out);
        if binary.child(key).is_set() {
            out.push(FieldError::invalid(&value.path, key, "duplicate of key present in binaryData"));
        }
        bytes += value.text().len();
    }
    for (key, value) in binary.entries() {
        keys(&value, key, out);
        bytes += decoded_len(value.text());
    }
    if bytes > BYTES_MAX {
        // About the object as a whole.
        out.push(FieldError {
            error_type: ErrorType::TooLong,
            field: "[]".to_owned(),
            bad_value: Value::Null,
            detail: format!("may not be more than {BYTES_MAX} bytes"),
        });
    }
}

fn keys(at: &At<'_, '_>, key: &str, out: &mut Findings) {
    let wrong = names::config_map_key(key);
    out.extend(wrong.into_iter().map(|t| FieldError::invalid(&at.path, key, t)));
}

fn decoded_len(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|b| *b == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

fn frozen(object: &Value, old: &Value, fields: &[&str], out: &mut Findings) {
    if old["immutable"] != true {
        return;
    }
    if object["immutable"] != true {
        out.push(At::root(object, "immutable").forbidden(FROZEN));
    }
    for key in fields {
        if !same(&object[key], &old[key]) {
            out.push(At::root(object, key).forbidden(FROZEN));
        }
    }
}

/// Secrets.
pub(crate) static SECRET: Kind = Kind {
    default: secret_default,
    prepare_update: |_, object, old| {
        // A type left out is the old one, not the default.
        if object["type"].as_str().is_none_or(str::is_empty) {
            crate::kinds::fill::restore(object, old, "type");
        }
    },
    create: |_, object, out| secret(object, out),
    update: Some(|_, object, old, out| {
        immutable(&At::root(object, "type"), &old["type"], out);
        frozen(object, old, &["data"], out);
        secret(object, out);
    }),
    selectable: &[SelectableField { name: "type", path: &["type"], absent: "" }],
    columns: &[
        NAME,
        column("Type", "string", "What the secret is for"),
        column("Data", "string", "How many entries"),
        AGE,
    ],
    row: |object, now| {
        vec![name(object), text(object, &["type"]).into(), entries(object, "data").into(), age_cell(object, now)]
    },
    ..Kind::PLAIN
};

/// `stringData` is only for writing: it goes into `data`.
fn secret_default(object: &mut Value) {
    fill_zero(object, "type", "Opaque");
    let plain = object["stringData"].as_object().cloned();
    if let Some(plain) = plain {
        if let Some(data) = ensure(object, "data").filter(|_| !plain.is_empty()) {
            for (key, value) in plain {
                put(data, &key, STANDARD.encode(value.as_str().unwrap_or("")));
            }
        }
        drop_field(object, "stringData");
    }
}

fn secret(object: &Value, out: &mut Findings) {
    let data = At::root(object, "data");
    let mut bytes = 0;
    for (key, value) in data.entries() {
        keys(&value, key, out);
        bytes += decoded_len(value.text());
    }
    if bytes > BYTES_MAX {
        out.push(FieldError::too_long(&data.path, BYTES_MAX));
    }
    let mut needs = |key: &str| {
        let path = data.path.key(key);
        if !data.child(key).is_set() {
            out.push(FieldError::required(&path, ""));
        }
    };
    match text(object, &["type"]) {
        "kubernetes.io/service-account-token" => {
            const ACCOUNT: &str = "kubernetes.io/service-account.name";
            let metadata = At::root(object, "metadata");
            let annotations = metadata.child("annotations");
            if annotations.child(ACCOUNT).is_empty() {
                out.push(FieldError::required(&annotations.path.key(ACCOUNT), ""));
            }
        }
        "kubernetes.io/dockercfg" => json_entry(&data, ".dockercfg", out),
        "kubernetes.io/dockerconfigjson" => json_entry(&data, ".dockerconfigjson", out),
        "kubernetes.io/basic-auth" if !data.child("username").is_set() && !data.child("password").is_set() => {
            needs("username");
            needs("password");
        }
        "kubernetes.io/ssh-auth" => needs("ssh-privatekey"),
        "kubernetes.io/tls" => {
            needs("tls.crt");
            needs("tls.key");
        }
        _ => {}
    }
}

/// An entry that holds a JSON object; the finding does not show it.
fn json_entry(data: &At<'_, '_>, key: &str, out: &mut Findings) {
    let path = data.path.key(key);
    let entry = data.child(key);
    if !entry.is_set() {
        out.push(FieldError::required(&path, ""));
        return;
    }
    let good = STANDARD
        .decode(entry.text())
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
        .is_some_and(|value| value.is_object());
    if !good {
        out.push(FieldError::invalid(&path, "<secret contents redacted>", "must be a JSON object"));
    }
}
