//! Bad autoscalers and budgets and the exact words about them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use navarch_types::UserInfo;
use serde_json::{Value, json};

use super::*;
use crate::kinds::rules::rendered;
use crate::strategy::{Context, Strategy};

#[test]
fn objects_are_judged() {
    let target = json!({"kind": "Deployment", "name": "d"});
    let cases: Vec<(&Kind, Value, Vec<&str>)> = vec![
        (&AUTOSCALER, json!({"scaleTargetRef": target, "maxReplicas": 3}), vec![]),
        (
            &AUTOSCALER,
            json!({"scaleTargetRef": target}),
            vec![
                "spec.maxReplicas: Invalid value: 0: must be greater than 0",
                "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
            ],
        ),
        (
            &AUTOSCALER,
            json!({"maxReplicas": 1}),
            vec!["spec.scaleTargetRef.kind: Required value", "spec.scaleTargetRef.name: Required value"],
        ),
        (
            &AUTOSCALER,
            json!({"scaleTargetRef": target, "maxReplicas": 1, "metrics": [{"type": "Resource"}]}),
            vec!["spec.metrics[0].resource: Required value: must populate information for the given metric source"],
        ),
        (&BUDGET, json!({"minAvailable": 1}), vec![]),
        (
            &BUDGET,
            json!({"minAvailable": 1, "maxUnavailable": 1}),
            vec![
                "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both set",
            ],
        ),
        (
            &BUDGET,
            json!({"minAvailable": "101%"}),
            vec!["spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%"],
        ),
        (
            &BUDGET,
            json!({"unhealthyPodEvictionPolicy": "x"}),
            vec![
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"x\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
            ],
        ),
    ];
    let user = UserInfo::default();
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    for (kind, spec, want) in cases {
        let mut object = json!({"spec": spec});
        kind.default(&mut object);
        let context = Context { user: &user, namespace: "d", subresource: None, now };
        assert_eq!(rendered(&kind.validate_create(&context, &object)), want, "{object}");
    }
}

#[test]
fn defaults_and_rows() {
    let mut object = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "behavior": {},
        "scaleTargetRef": {"kind": "Deployment", "name": "d"}}});
    AUTOSCALER.default(&mut object);
    assert_eq!(object["spec"]["behavior"]["scaleUp"]["policies"][1]["value"], 4);
    assert_eq!(object["spec"]["behavior"]["scaleDown"].get("stabilizationWindowSeconds"), None);
    object["status"] = json!({"currentReplicas": 2, "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 10}}}]});
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let row = AUTOSCALER.row(&object, now);
    assert_eq!(row[1..6], [json!("Deployment/d"), json!("cpu: 10%/80%"), json!("1"), json!(3), json!(2)]);
    assert_eq!(
        BUDGET.row(&json!({"spec": {"minAvailable": "50%"}}), now)[1..4],
        [json!("50%"), json!("N/A"), json!(0)]
    );
}
