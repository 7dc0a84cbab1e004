//! Bad workloads and the exact words about them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use navarch_types::UserInfo;
use serde_json::{Value, json};

use super::*;
use crate::kinds::rules::rendered;
use crate::strategy::Strategy;

fn workload(kind: &Kind, spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": "w"}, "spec": {
        "selector": {"matchLabels": {"app": "w"}},
        "template": {"metadata": {"labels": {"app": "w"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}});
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    kind.default(&mut object);
    object
}

fn judge(kind: &Kind, object: &Value, old: Option<&Value>, subresource: Option<&str>) -> Vec<String> {
    let user = UserInfo::default();
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let context = Context { user: &user, namespace: "d", subresource, now };
    rendered(&match old {
        Some(old) => kind.validate_update(&context, object, old),
        None => kind.validate_create(&context, object),
    })
}

#[test]
fn good_workloads_pass() {
    for kind in [&DEPLOYMENT, &REPLICA_SET, &STATEFUL_SET, &DAEMON_SET] {
        assert_eq!(judge(kind, &workload(kind, json!({})), None, None), Vec::<String>::new());
    }
    let controller = workload(&REPLICATION_CONTROLLER, json!({"selector": {"app": "w"}}));
    assert_eq!(judge(&REPLICATION_CONTROLLER, &controller, None, None), Vec::<String>::new());
}

#[test]
fn bad_workloads_are_named() {
    let other =
        json!({"metadata": {"labels": {"app": "other"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let with_pod = |key: &str, value: Value| {
        let mut template =
            json!({"metadata": {"labels": {"app": "w"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        template["spec"][key] = value;
        json!({"template": template})
    };
    let cases: Vec<(&Kind, Value, &str)> = vec![
        (&DEPLOYMENT, json!({"replicas": -1}), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (&DEPLOYMENT, json!({"selector": null}), "spec.selector: Required value"),
        (
            &DEPLOYMENT,
            json!({"selector": {}}),
            "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
        ),
        (
            &DEPLOYMENT,
            json!({"template": other}),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`",
        ),
        (
            &DEPLOYMENT,
            with_pod("restartPolicy", json!("Never")),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (
            &DEPLOYMENT,
            with_pod("activeDeadlineSeconds", json!(5)),
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
        ),
        (
            &DEPLOYMENT,
            json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}}),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            &DEPLOYMENT,
            json!({"strategy": {"type": "x"}}),
            "spec.strategy: Unsupported value: {\"type\":\"x\"}: supported values: \"Recreate\", \"RollingUpdate\"",
        ),
        (
            &DEPLOYMENT,
            json!({"strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "0%"}}}),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ),
        (
            &DEPLOYMENT,
            json!({"strategy": {"rollingUpdate": {"maxUnavailable": "101%"}}}),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ),
        (
            &DEPLOYMENT,
            json!({"strategy": {"rollingUpdate": {"maxSurge": "x"}}}),
            "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        ),
        (
            &DEPLOYMENT,
            json!({"minReadySeconds": 600}),
            "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
        ),
        (
            &REPLICATION_CONTROLLER,
            json!({"selector": {"app": "x"}}),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"w\"}: `selector` does not match template `labels`",
        ),
        (
            &STATEFUL_SET,
            json!({"podManagementPolicy": "x"}),
            "spec.podManagementPolicy: Invalid value: \"x\": must be 'OrderedReady' or 'Parallel'",
        ),
        (
            &STATEFUL_SET,
            json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": {}}}),
            "spec.updateStrategy.rollingUpdate: Invalid value: {}: only allowed for updateStrategy 'RollingUpdate'",
        ),
        (
            &STATEFUL_SET,
            json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "x"}}),
            "spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: \"x\": supported values: \"Delete\", \"Retain\"",
        ),
        (
            &DAEMON_SET,
            json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}}),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
        ),
        (
            &DAEMON_SET,
            json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}}),
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
        ),
    ];
    for (kind, spec, want) in cases {
        let found = judge(kind, &workload(kind, spec), None, None);
        assert!(found.iter().any(|f| f == want), "{want}\n{found:#?}");
    }
}

#[test]
fn selectors_do_not_change() {
    for kind in [&DEPLOYMENT, &REPLICA_SET, &DAEMON_SET] {
        let old = workload(kind, json!({}));
        let labels = json!({"app": "x"});
        let mut object = old.clone();
        object["spec"]["selector"]["matchLabels"] = labels.clone();
        object["spec"]["template"]["metadata"]["labels"] = labels;
        assert_eq!(
            judge(kind, &object, Some(&old), None),
            ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"x\"}}: field is immutable"]
        );
    }
}

#[test]
fn a_stateful_set_changes_only_in_some_fields() {
    let old = workload(&STATEFUL_SET, json!({"serviceName": "a"}));
    let mut object = old.clone();
    object["spec"]["replicas"] = json!(5);
    assert_eq!(judge(&STATEFUL_SET, &object, Some(&old), None), Vec::<String>::new());
    object["spec"]["serviceName"] = json!("b");
    assert_eq!(
        judge(&STATEFUL_SET, &object, Some(&old), None),
        ["spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
          'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"]
    );
}

#[test]
fn statuses_are_judged() {
    let old = json!({"status": {"collisionCount": 3}});
    let object = json!({"status": {"replicas": 1, "readyReplicas": 1, "availableReplicas": 2, "collisionCount": 2}});
    assert_eq!(
        judge(&DEPLOYMENT, &object, Some(&old), Some("status")),
        [
            "status.availableReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas",
            "status.collisionCount: Invalid value: 2: cannot be decremented",
        ]
    );
}

#[test]
fn rows_show_numbers_and_templates() {
    let mut object = workload(&DEPLOYMENT, json!({"replicas": 3}));
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    object["status"] = json!({"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1});
    let now = "2026-01-01T00:05:00Z".parse().unwrap();
    assert_eq!(
        DEPLOYMENT.row(&object, now),
        [json!("w"), json!("2/3"), json!(3), json!(1), json!("5m"), json!("c"), json!("i:1"), json!("app=w")]
    );
    for kind in [&DEPLOYMENT, &REPLICA_SET, &REPLICATION_CONTROLLER, &STATEFUL_SET, &DAEMON_SET, &CONTROLLER_REVISION] {
        assert_eq!(kind.row(&object, now).len(), kind.columns().len());
        assert_eq!(kind.row(&json!({}), now).len(), kind.columns().len());
    }
}
