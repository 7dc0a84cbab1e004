//! HorizontalPodAutoscalers and PodDisruptionBudgets.

mod targets;

use navarch_types::field::FieldError;
use navarch_types::validate::names;
use serde_json::{Value, json};

use super::at::At;
use super::cells::{UNSET, age_cell, name, number, text};
use super::fill::{fill, put, within};
use super::kind::{AGE, Findings, Kind, NAME, column};
use super::rules::{
    int_or_percent, label_selector, non_negative, not_above_100_percent, required_shape, supported_if_set,
};

/// HorizontalPodAutoscalers.
pub(crate) static AUTOSCALER: Kind = Kind {
    default,
    create: |_, object, out| autoscaler(object, out),
    status_update: |_, object, _, out| {
        let status = At::root(object, "status");
        for key in ["currentReplicas", "desiredReplicas"] {
            non_negative(&status.child(key), out);
        }
    },
    columns: &[
        NAME,
        column("Reference", "string", "What is scaled"),
        column("Targets", "string", "What is measured, of what is aimed at"),
        column("MinPods", "string", "Fewest pods"),
        column("MaxPods", "string", "Most pods"),
        column("Replicas", "integer", "Pods now"),
        AGE,
    ],
    row: |object, now| {
        let target = &object["spec"]["scaleTargetRef"];
        let fewest = object["spec"]["minReplicas"].as_i64().map_or(UNSET.to_owned(), |n| n.to_string());
        vec![
            name(object),
            format!("{}/{}", text(target, &["kind"]), text(target, &["name"])).into(),
            targets::targets(object).into(),
            fewest.into(),
            number(object, &["spec", "maxReplicas"]).into(),
            number(object, &["status", "currentReplicas"]).into(),
            age_cell(object, now),
        ]
    },
    ..Kind::WITH_STATUS
};

fn default(object: &mut Value) {
    let Some(spec) = within(object, "spec") else { return };
    fill(spec, "minReplicas", 1);
    if spec["metrics"].as_array().is_none_or(Vec::is_empty) {
        let cpu = json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}});
        put(spec, "metrics", json!([{"type": "Resource", "resource": cpu}]));
    }
    let Some(behavior) = within(spec, "behavior") else { return };
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    for (key, policies) in [("scaleUp", json!([percent, pods])), ("scaleDown", json!([percent]))] {
        fill(behavior, key, json!({}));
        let Some(rules) = within(behavior, key) else { continue };
        if key == "scaleUp" {
            fill(rules, "stabilizationWindowSeconds", 0);
        }
        fill(rules, "selectPolicy", "Max");
        fill(rules, "policies", policies);
    }
}

fn autoscaler(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    let (fewest, most) = (spec.child("minReplicas"), spec.child("maxReplicas"));
    if fewest.int().is_some_and(|n| n < 1) {
        out.push(fewest.invalid("must be greater than or equal to 1"));
    }
    if most.int_or_zero() < 1 {
        out.push(FieldError::invalid(&most.path, most.int_or_zero(), "must be greater than 0"));
    }
    if fewest.int().is_some_and(|n| most.int_or_zero() < n) {
        out.push(FieldError::invalid(&most.path, most.int_or_zero(), "must be greater than or equal to `minReplicas`"));
    }
    let target = spec.child("scaleTargetRef");
    let segment = |name: &str| names::path_segment(name, false);
    required_shape(&target.child("kind"), segment, out);
    required_shape(&target.child("name"), segment, out);
    for metric in spec.child("metrics").items() {
        targets::metric(&metric, out);
    }
    let behavior = spec.child("behavior");
    for key in ["scaleUp", "scaleDown"] {
        scaling_rules(&behavior.child(key), out);
    }
}

const WINDOW_SECONDS_MAX: i64 = 3600;
const PERIOD_SECONDS_MAX: i64 = 1800;

fn scaling_rules(at: &At<'_, '_>, out: &mut Findings) {
    let window = at.child("stabilizationWindowSeconds");
    non_negative(&window, out);
    if window.int_or_zero() > WINDOW_SECONDS_MAX {
        out.push(window.invalid(format!("must be less than or equal to {WINDOW_SECONDS_MAX}")));
    }
    supported_if_set(&at.child("selectPolicy"), &["Disabled", "Max", "Min"], out);
    let policies = at.child("policies");
    if at.is_set() && policies.is_empty() {
        out.push(policies.required("must specify at least one Policy"));
    }
    for policy in policies.items() {
        let kind = policy.child("type");
        if !matches!(kind.text(), "Pods" | "Percent") {
            out.push(kind.not_supported(&["Percent", "Pods"]));
        }
        for key in ["value", "periodSeconds"] {
            let number = policy.child(key);
            if number.int_or_zero() <= 0 {
                out.push(FieldError::invalid(&number.path, number.int_or_zero(), "must be greater than zero"));
            }
        }
        let period = policy.child("periodSeconds");
        if period.int_or_zero() > PERIOD_SECONDS_MAX {
            out.push(period.invalid(format!("must be less than or equal to {PERIOD_SECONDS_MAX}")));
        }
    }
}

/// PodDisruptionBudgets.
pub(crate) static BUDGET: Kind = Kind {
    create: |_, object, out| budget(object, out),
    status_update: |_, object, _, out| {
        let status = At::root(object, "status");
        for key in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            non_negative(&status.child(key), out);
        }
    },
    unconditional_update: false,
    columns: &[
        NAME,
        column("Min Available", "string", "Fewest pods that must stay"),
        column("Max Unavailable", "string", "Most pods that may go"),
        column("Allowed Disruptions", "integer", "How many may go now"),
        AGE,
    ],
    row: |object, now| {
        let count = |key: &str| match &object["spec"][key] {
            Value::Null => "N/A".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        vec![
            name(object),
            count("minAvailable").into(),
            count("maxUnavailable").into(),
            number(object, &["status", "disruptionsAllowed"]).into(),
            age_cell(object, now),
        ]
    },
    ..Kind::FULL
};

fn budget(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    let (available, unavailable) = (spec.child("minAvailable"), spec.child("maxUnavailable"));
    if available.is_set() && unavailable.is_set() {
        out.push(spec.invalid("minAvailable and maxUnavailable cannot be both set"));
    }
    for count in [available, unavailable] {
        int_or_percent(&count, out);
        not_above_100_percent(&count, out);
    }
    label_selector(&spec.child("selector"), out);
    supported_if_set(&spec.child("unhealthyPodEvictionPolicy"), &["AlwaysAllow", "IfHealthyBudget"], out);
}

#[cfg(test)]
mod tests;
