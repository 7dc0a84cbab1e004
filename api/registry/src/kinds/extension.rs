//! What extends the API: webhooks and policies of admission, APIs served elsewhere, definitions of custom resources; and
//! the settings of flow control and of devices.

mod api;
mod devices;
mod policy;
mod webhook;

pub(crate) use api::{API_SERVICE, DEFINITION, FLOW_SCHEMA, PRIORITY_LEVEL};
pub(crate) use devices::{CLAIM, DEVICE_CLASS, SLICE, STORAGE_VERSION};
pub(crate) use policy::{MUTATING_BINDING, MUTATING_POLICY, VALIDATING_BINDING, VALIDATING_POLICY};
pub(crate) use webhook::{MUTATING, VALIDATING};

use navarch_types::field::FieldError;
use serde_json::Value;

use super::at::At;
use super::fill::{each, ensure, fill, fill_zero};
use super::kind::Findings;
use super::rules::{label_selector, one_of, required, supported_if_set};

/// What rules of admission match by, when they do not say.
fn default_matching(object: &mut Value, rules: &str) {
    fill(object, "matchPolicy", "Equivalent");
    ensure(object, "namespaceSelector");
    ensure(object, "objectSelector");
    each(object, rules, |rule| fill(rule, "scope", "*"));
}

/// Which operations on which resources.
fn rule(at: &At<'_, '_>, out: &mut Findings) {
    const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    let operations = at.child("operations");
    if operations.is_empty() {
        out.push(operations.required(""));
    }
    for operation in operations.items() {
        if !OPERATIONS.contains(&operation.text()) {
            out.push(operation.not_supported(OPERATIONS));
        } else if operation.text() == "*" && operations.len() > 1 {
            let why = "if '*' is present, must not specify other operations";
            out.push(FieldError::invalid(&operations.path, operations.value.clone(), why));
        }
    }
    for (key, what) in [("apiGroups", "API groups"), ("apiVersions", "API versions"), ("resources", "resources")] {
        let list = at.child(key);
        if list.is_empty() {
            out.push(list.required(""));
        }
        for item in list.items() {
            if item.text() == "*" && list.len() > 1 && key != "resources" {
                let why = format!("if '*' is present, must not specify other {what}");
                out.push(FieldError::invalid(&list.path, list.value.clone(), why));
            }
            if item.is_empty() && key != "apiGroups" {
                out.push(item.required(""));
            }
        }
    }
    supported_if_set(&at.child("scope"), &["*", "Cluster", "Namespaced"], out);
}

fn match_conditions(at: &At<'_, '_>, out: &mut Findings) {
    const CONDITIONS_MAX: usize = 64;
    if at.len() > CONDITIONS_MAX {
        out.push(FieldError::too_many(&at.path, at.len(), CONDITIONS_MAX));
    }
    let mut seen = std::collections::HashSet::new();
    for condition in at.items() {
        let (name, expression) = (condition.child("name"), condition.child("expression"));
        required(&expression, out);
        if required(&name, out) {
            super::rules::texts(&name, navarch_types::validate::names::qualified_name(name.text()), out);
            if !seen.insert(name.text()) {
                out.push(name.duplicate());
            }
        }
    }
}

fn matching(at: &At<'_, '_>, out: &mut Findings) {
    one_of(&at.child("matchPolicy"), &["Equivalent", "Exact"], out);
    label_selector(&at.child("namespaceSelector"), out);
    label_selector(&at.child("objectSelector"), out);
}

/// The port of a service, when a reference does not say.
fn default_service_port(reference: &mut Value) {
    fill_zero(reference, "port", 443);
}

#[cfg(test)]
mod tests;
