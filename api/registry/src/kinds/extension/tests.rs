//! Bad extensions and the exact words about them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use navarch_types::UserInfo;
use serde_json::{Value, json};

use super::*;
use crate::kinds::kind::Kind;
use crate::kinds::rules::rendered;
use crate::strategy::{Context, Strategy};

#[test]
fn objects_are_judged() {
    let hook = |change: Value| {
        let mut hook = json!({"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": "s", "namespace": "n"}}});
        for (key, value) in change.as_object().unwrap() {
            hook[key] = value.clone();
        }
        json!({"webhooks": [hook]})
    };
    let cases: Vec<(&Kind, Value, Vec<&str>)> = vec![
        (&VALIDATING, hook(json!({})), vec![]),
        (
            &VALIDATING,
            hook(json!({"name": "a"})),
            vec![
                "webhooks[0].name: Invalid value: \"a\": should be a domain with at least three segments separated by dots",
            ],
        ),
        (&VALIDATING, hook(json!({"sideEffects": null})), vec!["webhooks[0].sideEffects: Required value"]),
        (
            &MUTATING,
            hook(json!({"timeoutSeconds": 31})),
            vec!["webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds"],
        ),
        (
            &MUTATING,
            hook(json!({"clientConfig": {}})),
            vec!["webhooks[0].clientConfig: Required value: exactly one of url or service is required"],
        ),
        (
            &MUTATING,
            hook(json!({"clientConfig": {"url": "http://x"}})),
            vec![
                "webhooks[0].clientConfig.url: Invalid value: \"http://x\": 'https' is the only allowed URL scheme; got \"http\"; desired format: https://host[/path]",
            ],
        ),
        (
            &MUTATING,
            hook(
                json!({"rules": [{"operations": ["EAT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}),
            ),
            vec![
                "webhooks[0].rules[0].operations[0]: Unsupported value: \"EAT\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
            ],
        ),
        (
            &API_SERVICE,
            json!({"metadata": {"name": "v1.a.b"}, "spec": {"group": "a.b", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}}),
            vec![],
        ),
        (
            &API_SERVICE,
            json!({"metadata": {"name": "x"}, "spec": {"group": "a.b", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}}),
            vec!["metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`: \"v1.a.b\""],
        ),
        (
            &DEFINITION,
            json!({"metadata": {"name": "as.b.c"}, "spec": {"group": "b.c", "scope": "Cluster", "names": {"plural": "as", "kind": "A"}, "versions": [{"name": "v1", "storage": true}]}}),
            vec![],
        ),
        (
            &PRIORITY_LEVEL,
            json!({"spec": {"type": "Limited"}}),
            vec!["spec.limited: Required value: must not be empty when type is Limited"],
        ),
        (
            &VALIDATING_BINDING,
            json!({"spec": {"policyName": "p"}}),
            vec!["spec.validationActions: Required value: at least one validation action is required"],
        ),
    ];
    let user = UserInfo::default();
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let context = Context { user: &user, namespace: "", subresource: None, now };
    for (kind, mut object, want) in cases {
        kind.default(&mut object);
        let once = object.clone();
        kind.default(&mut object);
        assert_eq!(object, once);
        assert_eq!(rendered(&kind.validate_create(&context, &object)), want, "{object}");
    }
}
