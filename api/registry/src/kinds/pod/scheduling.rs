//! Where a pod may run: affinity, tolerations, topology spread, scheduling gates.

use std::collections::HashSet;

use navarch_types::field::FieldError;
use navarch_types::validate::names;

use crate::kinds::at::At;
use crate::kinds::kind::Findings;
use crate::kinds::rules::{label_name, label_selector, required, supported_if_set, texts};

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Rules for `affinity`.
pub(crate) fn affinity(at: &At<'_, '_>, out: &mut Findings) {
    let node = at.child("nodeAffinity");
    let must = node.child("requiredDuringSchedulingIgnoredDuringExecution");
    if must.is_set() {
        node_selector(&must, out);
    }
    for term in node.child("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&term, out);
        node_selector_term(&term.child("preference"), out);
    }
    for key in ["podAffinity", "podAntiAffinity"] {
        let pods = at.child(key);
        for term in pods.child("requiredDuringSchedulingIgnoredDuringExecution").items() {
            pod_affinity_term(&term, out);
        }
        for term in pods.child("preferredDuringSchedulingIgnoredDuringExecution").items() {
            weight(&term, out);
            pod_affinity_term(&term.child("podAffinityTerm"), out);
        }
    }
}

fn weight(term: &At<'_, '_>, out: &mut Findings) {
    let weight = term.child("weight");
    if !(1..=100).contains(&weight.int_or_zero()) {
        out.push(FieldError::invalid(&weight.path, weight.int_or_zero(), "must be in the range 1-100"));
    }
}

/// Rules for a selector of nodes, as pods and volumes have it.
pub(crate) fn node_selector(at: &At<'_, '_>, out: &mut Findings) {
    let terms = at.child("nodeSelectorTerms");
    if terms.is_empty() {
        out.push(terms.required("must have at least one node selector term"));
    }
    for term in terms.items() {
        node_selector_term(&term, out);
    }
}

fn node_selector_term(at: &At<'_, '_>, out: &mut Findings) {
    for expression in at.child("matchExpressions").items() {
        node_expression(&expression, out);
    }
    for field in at.child("matchFields").items() {
        let (operator, values, key) = (field.child("operator"), field.child("values"), field.child("key"));
        match operator.text() {
            "In" | "NotIn" if values.len() != 1 => out.push(
                values.required("must be only one value when `operator` is 'In' or 'NotIn' for node field selector"),
            ),
            "In" | "NotIn" => {}
            _ => out.push(operator.invalid("not a valid selector operator")),
        }
        if key.text() == "metadata.name" {
            for value in values.items() {
                texts(&value, names::dns1123_subdomain(value.text()), out);
            }
        } else {
            out.push(key.invalid("not a valid field selector key"));
        }
    }
}

fn node_expression(at: &At<'_, '_>, out: &mut Findings) {
    let (operator, values) = (at.child("operator"), at.child("values"));
    match operator.text() {
        "In" | "NotIn" if values.is_empty() => {
            out.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            out.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            out.push(values.required("must be specified single value when `operator` is 'Lt' or 'Gt'"));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        _ => out.push(operator.invalid("not a valid selector operator")),
    }
    label_name(&at.child("key"), out);
    for value in values.items() {
        texts(&value, names::label_value(value.text()), out);
    }
}

fn pod_affinity_term(at: &At<'_, '_>, out: &mut Findings) {
    label_selector(&at.child("labelSelector"), out);
    label_selector(&at.child("namespaceSelector"), out);
    for namespace in at.child("namespaces").items() {
        let field = at.child("namespace");
        let wrong = names::dns1123_label(namespace.text());
        out.extend(wrong.into_iter().map(|t| FieldError::invalid(&field.path, namespace.text(), t)));
    }
    for key in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = at.child(key);
        if !keys.is_empty() && !at.child("labelSelector").is_set() {
            out.push(keys.forbidden("must not be specified when labelSelector is not set"));
        }
        for key in keys.items() {
            label_name(&key, out);
        }
    }
    let topology = at.child("topologyKey");
    if topology.is_empty() {
        out.push(topology.required("can not be empty"));
    } else {
        label_name(&topology, out);
    }
}

/// Rules for `tolerations`.
pub(crate) fn tolerations(at: &At<'_, '_>, out: &mut Findings) {
    for toleration in at.items() {
        let (key, operator) = (toleration.child("key"), toleration.child("operator"));
        let (value, effect) = (toleration.child("value"), toleration.child("effect"));
        if !key.is_empty() {
            label_name(&key, out);
        } else if operator.text() != "Exists" {
            const WHY: &str =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            out.push(operator.invalid(WHY));
        }
        if toleration.child("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            out.push(effect.invalid("effect must be 'NoExecute' when `tolerationSeconds` is set"));
        }
        match operator.text() {
            "" | "Equal" => {
                let wrong = names::label_value(value.text());
                if !wrong.is_empty() {
                    out.push(FieldError::invalid(&operator.path, value.text(), wrong.join(";")));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    let whole = toleration.value.clone();
                    out.push(FieldError::invalid(
                        &operator.path,
                        whole,
                        "value must be empty when `operator` is 'Exists'",
                    ));
                }
            }
            _ => out.push(operator.not_supported(&["Equal", "Exists"])),
        }
        if !effect.is_empty() {
            supported_if_set(&effect, EFFECTS, out);
        }
    }
}

/// Rules for `topologySpreadConstraints`.
pub(crate) fn topology_spread(at: &At<'_, '_>, out: &mut Findings) {
    let mut seen = HashSet::new();
    for constraint in at.items() {
        let (skew, key) = (constraint.child("maxSkew"), constraint.child("topologyKey"));
        if skew.int_or_zero() <= 0 {
            out.push(FieldError::invalid(&skew.path, skew.int_or_zero(), "must be greater than zero"));
        }
        if key.is_empty() {
            out.push(key.required("can not be empty"));
        } else {
            label_name(&key, out);
        }
        let action = constraint.child("whenUnsatisfiable");
        if !matches!(action.text(), "DoNotSchedule" | "ScheduleAnyway") {
            out.push(action.not_supported(&["DoNotSchedule", "ScheduleAnyway"]));
        }
        if !seen.insert((key.text(), action.text())) {
            let pair = constraint.child("{topologyKey, whenUnsatisfiable}");
            out.push(FieldError::duplicate(&pair.path, format!("{{{}, {}}}", key.text(), action.text())));
        }
        let domains = constraint.child("minDomains");
        if let Some(number) = domains.int() {
            if number <= 0 {
                out.push(domains.invalid("must be greater than zero"));
            }
            if action.text() != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", action.text());
                out.push(domains.invalid(why));
            }
        }
        supported_if_set(&constraint.child("nodeAffinityPolicy"), &["Honor", "Ignore"], out);
        supported_if_set(&constraint.child("nodeTaintsPolicy"), &["Honor", "Ignore"], out);
        match_label_keys(&constraint, out);
        label_selector(&constraint.child("labelSelector"), out);
    }
}

fn match_label_keys(constraint: &At<'_, '_>, out: &mut Findings) {
    let (keys, selector) = (constraint.child("matchLabelKeys"), constraint.child("labelSelector"));
    if keys.is_empty() {
        return;
    }
    if !selector.is_set() {
        out.push(keys.forbidden("must not be specified when labelSelector is not set"));
        return;
    }
    let labels = selector.child("matchLabels");
    let expressions = selector.child("matchExpressions");
    let mut selected: HashSet<&str> = expressions.items().map(|e| e.child("key").text()).collect();
    selected.extend(labels.entries().map(|(key, _)| key));
    for key in keys.items() {
        label_name(&key, out);
        if selected.contains(key.text()) {
            out.push(key.invalid("exists in both matchLabelKeys and labelSelector"));
        }
    }
}

/// Rules for `schedulingGates`.
pub(crate) fn scheduling_gates(at: &At<'_, '_>, out: &mut Findings) {
    let mut seen = HashSet::new();
    for gate in at.items() {
        let name = gate.child("name");
        let wrong = names::qualified_name(name.text());
        out.extend(wrong.into_iter().map(|t| FieldError::invalid(&gate.path, name.text(), t)));
        if !seen.insert(name.text()) {
            out.push(FieldError::duplicate(&gate.path, name.text()));
        }
    }
}

/// Rules for taints of a node.
pub(crate) fn taints(at: &At<'_, '_>, out: &mut Findings) {
    let mut seen = HashSet::new();
    for taint in at.items() {
        let (key, value, effect) = (taint.child("key"), taint.child("value"), taint.child("effect"));
        label_name(&key, out);
        let wrong = names::label_value(value.text());
        if !wrong.is_empty() {
            out.push(FieldError::invalid(&value.path, value.text(), wrong.join(";")));
        }
        if !EFFECTS.contains(&effect.text()) {
            out.push(if effect.is_empty() { effect.required("") } else { effect.not_supported(EFFECTS) });
        }
        if !seen.insert((key.text(), effect.text())) {
            let mut finding = taint.duplicate();
            "taints must be unique by key and effect pair".clone_into(&mut finding.detail);
            out.push(finding);
        }
    }
}

/// Rules for `readinessGates`.
pub(crate) fn readiness_gates(at: &At<'_, '_>, out: &mut Findings) {
    for gate in at.items() {
        let kind = gate.child("conditionType");
        required(&kind, out);
        if !kind.is_empty() {
            texts(&kind, names::qualified_name(kind.text()), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::rules::rendered;

    type Rule = fn(&At<'_, '_>, &mut Findings);

    #[test]
    fn every_rule_has_its_words() {
        let cases: Vec<(Rule, Value, &str)> = vec![
            (tolerations, json!([{"operator": "Exists"}]), ""),
            (
                tolerations,
                json!([{"value": "a"}]),
                "at[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ),
            (
                tolerations,
                json!([{"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 1}]),
                "at[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set",
            ),
            (
                tolerations,
                json!([{"key": "a", "operator": "Near"}]),
                "at[0].operator: Unsupported value: \"Near\": supported values: \"Equal\", \"Exists\"",
            ),
            (
                tolerations,
                json!([{"key": "a", "effect": "x"}]),
                "at[0].effect: Unsupported value: \"x\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ),
            (
                topology_spread,
                json!([{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]),
                "at[0].maxSkew: Invalid value: 0: must be greater than zero",
            ),
            (
                topology_spread,
                json!([{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 1}]),
                "at[0].minDomains: Invalid value: 1: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
            ),
            (
                topology_spread,
                json!([{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"},
                       {"maxSkew": 2, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]),
                "at[1].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{z, DoNotSchedule}\"",
            ),
            (scheduling_gates, json!([{"name": "a/b"}, {"name": "a/b"}]), "at[1]: Duplicate value: \"a/b\""),
            (
                affinity,
                json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}),
                "at.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
            ),
            (
                affinity,
                json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 101, "podAffinityTerm": {"topologyKey": "z"}}]}}),
                "at.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100",
            ),
            (
                affinity,
                json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}),
                "at.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty",
            ),
            (
                taints,
                json!([{"key": "a", "effect": "NoSchedule"}, {"key": "a", "value": "b", "effect": "NoSchedule"}]),
                "at[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\",\"value\":\"b\"}: taints must be unique by key and effect pair",
            ),
        ];
        for (rule, value, want) in cases {
            let object = json!({"at": value});
            let mut out = Findings::new();
            rule(&At::root(&object, "at"), &mut out);
            assert_eq!(rendered(&out).join("; "), want);
        }
    }
}
