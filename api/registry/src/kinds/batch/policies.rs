//! What makes a Job fail or succeed before all its pods have.

use serde_json::Value;

use crate::kinds::at::At;
use crate::kinds::kind::Findings;
use crate::kinds::rules::{non_negative, one_of, required};
use navarch_types::field::FieldError;

const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const CONDITIONS_MAX: usize = 20;

/// Rules for `podFailurePolicy`.
pub(super) fn failure(at: &At<'_, '_>, job_spec: &Value, out: &mut Findings) {
    if !at.is_set() {
        return;
    }
    let rules = at.child("rules");
    if rules.len() > RULES_MAX {
        out.push(FieldError::too_many(&rules.path, rules.len(), RULES_MAX));
    }
    for rule in rules.items() {
        failure_rule(&rule, job_spec, out);
    }
    if job_spec["template"]["spec"]["restartPolicy"] != "Never" {
        let policy = job_spec["template"]["spec"]["restartPolicy"].clone();
        let spec = at.path;
        let finding =
            FieldError::invalid(&spec, policy, "only \"Never\" is supported when podFailurePolicy is specified");
        out.push(FieldError {
            field: finding.field.replace("podFailurePolicy", "template.spec.restartPolicy"),
            ..finding
        });
    }
    if !matches!(job_spec["podReplacementPolicy"].as_str(), None | Some("" | "Failed")) {
        let finding = FieldError::not_supported(&at.path, job_spec["podReplacementPolicy"].clone(), &["Failed"]);
        out.push(FieldError { field: finding.field.replace("podFailurePolicy", "podReplacementPolicy"), ..finding });
    }
}

fn failure_rule(at: &At<'_, '_>, job_spec: &Value, out: &mut Findings) {
    let action = at.child("action");
    one_of(&action, &["Count", "FailIndex", "FailJob", "Ignore"], out);
    if action.text() == "FailIndex" && job_spec["backoffLimitPerIndex"].is_null() {
        out.push(action.invalid("requires the backoffLimitPerIndex to be set"));
    }
    let (codes, conditions) = (at.child("onExitCodes"), at.child("onPodConditions"));
    if codes.is_set() && !conditions.is_empty() {
        out.push(at.invalid("specifying both OnExitCodes and OnPodConditions is not supported"));
    }
    if !codes.is_set() && conditions.is_empty() {
        out.push(at.invalid("specifying one of OnExitCodes and OnPodConditions is required"));
    }
    if codes.is_set() {
        one_of(&codes.child("operator"), &["In", "NotIn"], out);
        let values = codes.child("values");
        if values.is_empty() {
            out.push(values.invalid("at least one value is required"));
        } else if values.len() > EXIT_CODES_MAX {
            out.push(FieldError::too_many(&values.path, values.len(), EXIT_CODES_MAX));
        }
        let negated = codes.child("operator").text() == "In";
        for value in values.items() {
            if negated && value.int() == Some(0) {
                out.push(value.invalid("must not be 0 for the In operator"));
            }
        }
    }
    if conditions.len() > CONDITIONS_MAX {
        out.push(FieldError::too_many(&conditions.path, conditions.len(), CONDITIONS_MAX));
    }
    for condition in conditions.items() {
        required(&condition.child("type"), out);
        one_of(&condition.child("status"), &["False", "True", "Unknown"], out);
    }
}

/// Rules for `successPolicy`.
pub(super) fn success(at: &At<'_, '_>, indexed: bool, out: &mut Findings) {
    if !at.is_set() {
        return;
    }
    if !indexed {
        out.push(at.invalid("requires indexed completion mode"));
        return;
    }
    let rules = at.child("rules");
    if rules.is_empty() {
        out.push(rules.required("at least one rules must be specified when the successPolicy is specified"));
    }
    if rules.len() > RULES_MAX {
        out.push(FieldError::too_many(&rules.path, rules.len(), RULES_MAX));
    }
    for rule in rules.items() {
        let (indexes, count) = (rule.child("succeededIndexes"), rule.child("succeededCount"));
        if !indexes.is_set() && !count.is_set() {
            out.push(rule.required("at least one of succeededCount or succeededIndexes must be specified"));
        }
        non_negative(&count, out);
    }
}
