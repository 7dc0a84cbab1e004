//! What an autoscaler measures: rules, and how `kubectl` shows measure and aim.

use navarch_types::field::FieldError;
use navarch_types::quantity::Quantity;
use serde_json::Value;

use crate::kinds::at::At;
use crate::kinds::cells::{NONE, UNKNOWN, list, text};
use crate::kinds::kind::Findings;
use crate::kinds::rules::{label_selector, quantity, required};

/// How many metrics a cell shows.
const SHOWN_MAX: usize = 2;
/// Where each type of metric is described, and whether it has a name of its own there.
const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

/// Rules for a metric.
pub(super) fn metric(at: &At<'_, '_>, out: &mut Findings) {
    let kind = at.child("type");
    if kind.is_empty() {
        out.push(kind.required("must specify a metric source type"));
    }
    let Some((_, field)) = SOURCES.iter().find(|(name, _)| *name == kind.text()) else {
        if !kind.is_empty() {
            out.push(kind.not_supported(&SOURCES.map(|(name, _)| name)));
        }
        return;
    };
    for (_, other) in SOURCES.iter().filter(|(_, other)| other != field) {
        let source = at.child(other);
        if source.is_set() {
            out.push(source.forbidden("must populate the given metric source only"));
        }
    }
    let source = at.child(field);
    if !source.is_set() {
        out.push(source.required("must populate information for the given metric source"));
        return;
    }
    match *field {
        "resource" => {
            if source.child("name").is_empty() {
                out.push(source.child("name").required("must specify a resource name"));
            }
        }
        "containerResource" => {
            required(&source.child("name"), out);
            required(&source.child("container"), out);
        }
        _ => {
            let identity = source.child("metric");
            required(&identity.child("name"), out);
            label_selector(&identity.child("selector"), out);
        }
    }
    target(&source.child("target"), out);
}

fn target(at: &At<'_, '_>, out: &mut Findings) {
    let kind = at.child("type");
    if kind.is_empty() {
        out.push(kind.required("must specify a metric target type"));
    } else if !matches!(kind.text(), "Utilization" | "Value" | "AverageValue") {
        out.push(FieldError::invalid(&kind.path, kind.text(), "must be either Utilization, Value, or AverageValue"));
    }
    for key in ["value", "averageValue"] {
        let field = at.child(key);
        if quantity(field.value).is_some_and(|q| q <= Quantity::ZERO) {
            out.push(field.invalid("must be positive"));
        }
    }
    let utilization = at.child("averageUtilization");
    if utilization.int().is_some_and(|n| n < 1) {
        out.push(utilization.invalid("must be greater than 0"));
    }
}

/// `cpu: 10%/80%, 3/5 + 1 more...`.
pub(super) fn targets(object: &Value) -> String {
    let metrics = list(object, &["spec", "metrics"]);
    let statuses = list(object, &["status", "currentMetrics"]);
    if metrics.is_empty() {
        return NONE.to_owned();
    }
    let mut parts: Vec<String> =
        metrics.iter().enumerate().filter_map(|(i, metric)| one(metric, statuses.get(i))).collect();
    let count = parts.len();
    if count > SHOWN_MAX {
        parts.truncate(SHOWN_MAX);
        return format!("{} + {} more...", parts.join(", "), count - SHOWN_MAX);
    }
    parts.join(", ")
}

fn one(metric: &Value, status: Option<&Value>) -> Option<String> {
    let kind = text(metric, &["type"]);
    let Some((_, field)) = SOURCES.iter().find(|(name, _)| *name == kind) else {
        return Some("<unknown type>".to_owned());
    };
    let aim = &metric[field]["target"];
    let current = status.map(|s| &s[field]["current"]);
    let amount = |v: Option<&Value>, key: &str| v.map_or("", |v| text(v, &[key])).to_owned();
    let or_unknown = |text: String| if text.is_empty() { UNKNOWN.to_owned() } else { text };
    let average = !aim["averageValue"].is_null();
    Some(match *field {
        "resource" | "containerResource" => {
            let title = text(metric, &[field, "name"]);
            if average {
                format!("{title}: {}/{}", or_unknown(amount(current, "averageValue")), text(aim, &["averageValue"]))
            } else {
                let now = current.and_then(|c| c["averageUtilization"].as_i64());
                let now = now.map_or(UNKNOWN.to_owned(), |n| format!("{n}%"));
                let wanted = aim["averageUtilization"].as_i64().map_or("<auto>".to_owned(), |n| format!("{n}%"));
                format!("{title}: {now}/{wanted}")
            }
        }
        "pods" => {
            format!("{}/{}", or_unknown(amount(current, "averageValue")), text(aim, &["averageValue"]))
        }
        _ if average => {
            format!("{}/{} (avg)", or_unknown(amount(current, "averageValue")), text(aim, &["averageValue"]))
        }
        _ => format!("{}/{}", or_unknown(amount(current, "value")), text(aim, &["value"])),
    })
}
