//! Policies of admission and their bindings. Expressions are judged where they are compiled.

use serde_json::Value;

use super::{default_matching, match_conditions, matching, rule};
use crate::kinds::at::At;
use crate::kinds::cells::{UNSET, age_cell, list, name, text, text_or};
use crate::kinds::fill::{fill, within};
use crate::kinds::kind::{AGE, Findings, Kind, NAME, column};
use crate::kinds::rules::{one_of, required, supported_if_set};

fn default_constraints(spec: &mut Value, key: &str) {
    if let Some(constraints) = within(spec, key) {
        default_matching(constraints, "resourceRules");
        crate::kinds::fill::each(constraints, "excludeResourceRules", |rule| fill(rule, "scope", "*"));
    }
}

fn param_kind(object: &Value) -> String {
    let kind = &object["spec"]["paramKind"];
    if kind.is_null() { UNSET.to_owned() } else { format!("{}/{}", text(kind, &["apiVersion"]), text(kind, &["kind"])) }
}

fn constraints(at: &At<'_, '_>, out: &mut Findings) {
    if !at.is_set() {
        return;
    }
    matching(at, out);
    for key in ["resourceRules", "excludeResourceRules"] {
        for item in at.child(key).items() {
            rule(&item, out);
        }
    }
}

fn default_policy(object: &mut Value) {
    if let Some(spec) = within(object, "spec") {
        fill(spec, "failurePolicy", "Fail");
        default_constraints(spec, "matchConstraints");
    }
}

fn policy(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    supported_if_set(&spec.child("failurePolicy"), &["Fail", "Ignore"], out);
    let kind = spec.child("paramKind");
    if kind.is_set() {
        required(&kind.child("apiVersion"), out);
        required(&kind.child("kind"), out);
    }
    let matched = spec.child("matchConstraints");
    if !matched.is_set() {
        out.push(matched.required(""));
    } else if matched.child("resourceRules").is_empty() {
        out.push(matched.child("resourceRules").required(""));
    }
    constraints(&matched, out);
    match_conditions(&spec.child("matchConditions"), out);
}

/// ValidatingAdmissionPolicies.
pub(crate) static VALIDATING_POLICY: Kind = Kind {
    default: default_policy,
    create: |_, object, out| {
        policy(object, out);
        let spec = At::root(object, "spec");
        let (validations, annotations) = (spec.child("validations"), spec.child("auditAnnotations"));
        if validations.is_empty() && annotations.is_empty() {
            out.push(validations.required("validations or auditAnnotations must be non-empty"));
        }
        for validation in validations.items() {
            let expression = validation.child("expression");
            if expression.text().trim().is_empty() {
                out.push(expression.required("expression is not specified"));
            }
        }
    },
    unconditional_update: false,
    columns: &[
        NAME,
        column("Validations", "integer", "How many rules"),
        column("ParamKind", "string", "Kind of its parameters"),
        AGE,
    ],
    row: |object, now| {
        let rules = list(object, &["spec", "validations"]).len();
        vec![name(object), rules.into(), param_kind(object).into(), age_cell(object, now)]
    },
    ..Kind::FULL
};

/// MutatingAdmissionPolicies.
pub(crate) static MUTATING_POLICY: Kind = Kind {
    default: default_policy,
    create: |_, object, out| {
        policy(object, out);
        let spec = At::root(object, "spec");
        let mutations = spec.child("mutations");
        if mutations.is_empty() {
            out.push(mutations.required("mutations must contain at least one item"));
        }
    },
    unconditional_update: false,
    columns: &[
        NAME,
        column("Mutations", "integer", "How many changes"),
        column("ParamKind", "string", "Kind of its parameters"),
        AGE,
    ],
    row: |object, now| {
        let changes = list(object, &["spec", "mutations"]).len();
        vec![name(object), changes.into(), param_kind(object).into(), age_cell(object, now)]
    },
    ..Kind::WITH_GENERATION
};

/// What bindings of both kinds share.
const BINDING: Kind = Kind {
    default: |object| {
        if let Some(spec) = within(object, "spec") {
            default_constraints(spec, "matchResources");
        }
    },
    create: |_, object, out| binding(object, out),
    unconditional_update: false,
    columns: &[
        NAME,
        column("PolicyName", "string", "Policy that is bound"),
        column("ParamRef", "string", "Parameters that it gets"),
        AGE,
    ],
    row: |object, now| {
        let reference = &object["spec"]["paramRef"];
        let shown = if reference.is_null() {
            UNSET.to_owned()
        } else {
            match text(reference, &["namespace"]) {
                "" => text_or(reference, &["name"], "*").to_owned(),
                namespace => format!("{namespace}/{}", text_or(reference, &["name"], "*")),
            }
        };
        vec![name(object), text(object, &["spec", "policyName"]).into(), shown.into(), age_cell(object, now)]
    },
    ..Kind::WITH_GENERATION
};

/// ValidatingAdmissionPolicyBindings.
pub(crate) static VALIDATING_BINDING: Kind = Kind {
    create: |_, object, out| {
        binding(object, out);
        let spec = At::root(object, "spec");
        let actions = spec.child("validationActions");
        if actions.is_empty() {
            out.push(actions.required("at least one validation action is required"));
        }
        let has = |name: &str| actions.items().any(|a| a.text() == name);
        if has("Deny") && has("Warn") {
            const WHY: &str = "must not contain both Deny and Warn (repeating the same validation failure information \
                in the API response and headers serves no purpose)";
            out.push(actions.invalid(WHY));
        }
        for action in actions.items() {
            one_of(&action, &["Audit", "Deny", "Warn"], out);
        }
    },
    ..BINDING
};

/// MutatingAdmissionPolicyBindings.
pub(crate) static MUTATING_BINDING: Kind = BINDING;

fn binding(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    required(&spec.child("policyName"), out);
    let reference = spec.child("paramRef");
    if reference.is_set() {
        let (title, selector) = (reference.child("name"), reference.child("selector"));
        match (title.is_empty(), selector.is_set()) {
            (true, false) => out.push(reference.required("one of name or selector must be specified")),
            (false, true) => {
                out.push(title.forbidden("name and selector are mutually exclusive"));
            }
            _ => {}
        }
        one_of(&reference.child("parameterNotFoundAction"), &["Allow", "Deny"], out);
    }
    constraints(&spec.child("matchResources"), out);
}
