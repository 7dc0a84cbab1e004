//! Classes of pods (priority, runtime) and leases.

use serde_json::Value;

use navarch_types::validate::names;

use super::at::{At, same};
use super::cells::{age_cell, name, text};
use super::fill::fill;
use super::kind::{AGE, Findings, Kind, NAME, column};
use super::pod::resources::overhead;
use super::pod::scheduling::tolerations;
use super::rules::{immutable, labels, one_of, required_shape, supported_if_set};

/// The highest priority that users may give.
const PRIORITY_MAX: i64 = 1_000_000_000;
/// The classes that Kubernetes itself makes.
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// PriorityClasses.
pub(crate) static PRIORITY_CLASS: Kind = Kind {
    default: |object| fill(object, "preemptionPolicy", "PreemptLowerPriority"),
    create: |_, object, out| priority_class(object, out),
    update: Some(|_, object, old, out| {
        let value = At::root(object, "value");
        if !same(value.value, &old["value"]) {
            out.push(value.forbidden("may not be changed in an update."));
        }
        immutable(&At::root(object, "preemptionPolicy"), &old["preemptionPolicy"], out);
    }),
    generation_changes: |_, _| false,
    columns: &[
        NAME,
        column("Value", "integer", "Priority of pods of this class"),
        column("Global-Default", "boolean", "Whether pods without a class are of this one"),
        AGE,
        column("PreemptionPolicy", "string", "Whether pods of this class push others out"),
    ],
    row: |object, now| {
        vec![
            name(object),
            object["value"].as_i64().unwrap_or(0).into(),
            object["globalDefault"].as_bool().unwrap_or(false).into(),
            age_cell(object, now),
            text(object, &["preemptionPolicy"]).into(),
        ]
    },
    ..Kind::WITH_GENERATION
};

fn priority_class(object: &Value, out: &mut Findings) {
    let metadata = At::root(object, "metadata");
    let (title, value) = (metadata.child("name"), At::root(object, "value"));
    if title.text().starts_with("system-") {
        let known = SYSTEM_CLASSES.iter().any(|(n, v)| *n == title.text() && *v == value.int_or_zero());
        if !known {
            const WHY: &str = "priority class names with 'system-' prefix are reserved for system use only";
            out.push(title.forbidden(WHY));
        }
    } else if value.int_or_zero() > PRIORITY_MAX {
        let why = format!("maximum allowed value of a user defined priority is {PRIORITY_MAX}");
        out.push(value.forbidden(why));
    }
    one_of(&At::root(object, "preemptionPolicy"), &["PreemptLowerPriority", "Never"], out);
}

/// RuntimeClasses.
pub(crate) static RUNTIME_CLASS: Kind = Kind {
    create: |_, object, out| runtime_class(object, out),
    update: Some(|_, object, old, out| {
        runtime_class(object, out);
        immutable(&At::root(object, "handler"), &old["handler"], out);
    }),
    unconditional_update: false,
    columns: &[NAME, column("Handler", "string", "What the runtime calls it"), AGE],
    row: |object, now| vec![name(object), text(object, &["handler"]).into(), age_cell(object, now)],
    ..Kind::PLAIN
};

fn runtime_class(object: &Value, out: &mut Findings) {
    let handler = At::root(object, "handler");
    super::rules::texts(&handler, names::dns1123_label(handler.text()), out);
    let cost = At::root(object, "overhead");
    overhead(&cost.child("podFixed"), out);
    let placement = At::root(object, "scheduling");
    labels(&placement.child("nodeSelector"), out);
    tolerations(&placement.child("tolerations"), out);
}

/// Leases.
pub(crate) static LEASE: Kind = Kind {
    create: |_, object, out| {
        let spec = At::root(object, "spec");
        let (duration, transitions) = (spec.child("leaseDurationSeconds"), spec.child("leaseTransitions"));
        if duration.int().is_some_and(|n| n <= 0) {
            out.push(duration.invalid("must be greater than 0"));
        }
        if transitions.int().is_some_and(|n| n < 0) {
            out.push(transitions.invalid("must be greater than or equal to 0"));
        }
        let strategy = spec.child("strategy");
        if strategy.is_set() {
            supported_if_set(&strategy, &["OldestEmulationVersion"], out);
        } else if !spec.child("preferredHolder").is_empty() {
            out.push(spec.child("preferredHolder").forbidden("may only be specified when `strategy` is defined"));
        }
    },
    create_on_update: true,
    unconditional_update: false,
    columns: &[NAME, column("Holder", "string", "Who holds the lease"), AGE],
    row: |object, now| vec![name(object), text(object, &["spec", "holderIdentity"]).into(), age_cell(object, now)],
    ..Kind::PLAIN
};

/// LeaseCandidates.
pub(crate) static LEASE_CANDIDATE: Kind = Kind {
    create: |_, object, out| {
        let spec = At::root(object, "spec");
        required_shape(&spec.child("leaseName"), names::dns1123_subdomain, out);
    },
    create_on_update: true,
    columns: &[
        NAME,
        column("LeaseName", "string", "Lease that is sought"),
        column("BinaryVersion", "string", "Version of the program"),
        column("EmulationVersion", "string", "Version that it behaves as"),
        AGE,
    ],
    row: |object, now| {
        let of = |key| Value::from(text(object, &["spec", key]));
        vec![name(object), of("leaseName"), of("binaryVersion"), of("emulationVersion"), age_cell(object, now)]
    },
    ..Kind::PLAIN
};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use navarch_types::UserInfo;
    use serde_json::json;

    use super::*;
    use crate::kinds::rules::rendered;
    use crate::strategy::{Context, Strategy};

    #[test]
    fn classes_and_leases_are_judged() {
        let cases: Vec<(&Kind, Value, Vec<&str>)> = vec![
            (&PRIORITY_CLASS, json!({"metadata": {"name": "a"}, "value": 5}), vec![]),
            (&PRIORITY_CLASS, json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000}), vec![]),
            (
                &PRIORITY_CLASS,
                json!({"metadata": {"name": "system-x"}}),
                vec![
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only",
                ],
            ),
            (
                &PRIORITY_CLASS,
                json!({"value": 1_000_000_001}),
                vec!["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
            ),
            (
                &LEASE,
                json!({"spec": {"leaseDurationSeconds": 0}}),
                vec!["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
            ),
            (
                &LEASE,
                json!({"spec": {"leaseTransitions": -1}}),
                vec!["spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (&RUNTIME_CLASS, json!({"handler": "runc"}), vec![]),
        ];
        let user = UserInfo::default();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let context = Context { user: &user, namespace: "", subresource: None, now };
        for (kind, mut object, want) in cases {
            kind.default(&mut object);
            assert_eq!(rendered(&kind.validate_create(&context, &object)), want, "{object}");
        }
        let old = json!({"value": 1});
        assert_eq!(
            rendered(&PRIORITY_CLASS.validate_update(&context, &json!({"value": 2}), &old)),
            ["value: Forbidden: may not be changed in an update."]
        );
    }
}
