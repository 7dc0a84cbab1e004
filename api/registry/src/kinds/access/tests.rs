//! Bad access objects and the exact words about them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use navarch_types::UserInfo;
use serde_json::{Value, json};

use super::*;
use crate::kinds::kind::Kind;
use crate::kinds::rules::rendered;
use crate::strategy::{Context, Strategy};

fn context<'a>(user: &'a UserInfo, subresource: Option<&'a str>) -> Context<'a> {
    Context { user, namespace: "d", subresource, now: "2026-01-01T00:00:00Z".parse().unwrap() }
}

#[test]
fn roles_and_bindings_are_judged() {
    let role = json!({"kind": "ClusterRole", "name": "r"});
    let cases: Vec<(&Kind, Value, Vec<&str>)> = vec![
        (&ROLE, json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}), vec![]),
        (
            &ROLE,
            json!({"rules": [{"apiGroups": [""], "resources": ["pods"]}]}),
            vec!["rules[0].verbs: Required value: verbs must contain at least one value"],
        ),
        (
            &ROLE,
            json!({"rules": [{"verbs": ["get"]}]}),
            vec![
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
            ],
        ),
        (
            &ROLE,
            json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
            vec![
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
            ],
        ),
        (&CLUSTER_ROLE, json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}), vec![]),
        (
            &CLUSTER_ROLE,
            json!({"aggregationRule": {}}),
            vec![
                "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil",
            ],
        ),
        (&ROLE_BINDING, json!({"roleRef": role, "subjects": [{"kind": "User", "name": "u"}]}), vec![]),
        (
            &CLUSTER_ROLE_BINDING,
            json!({"roleRef": role, "subjects": [{"kind": "ServiceAccount", "name": "s"}]}),
            vec!["subjects[0].namespace: Required value"],
        ),
        (
            &CLUSTER_ROLE_BINDING,
            json!({"roleRef": {"kind": "Role", "name": "r"}}),
            vec!["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""],
        ),
        (
            &ROLE_BINDING,
            json!({"roleRef": {"kind": "Role"}, "subjects": [{"kind": "x", "name": "u"}]}),
            vec![
                "roleRef.name: Required value",
                "subjects[0].kind: Unsupported value: \"x\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
            ],
        ),
    ];
    let user = UserInfo::default();
    for (kind, mut object, want) in cases {
        kind.default(&mut object);
        assert_eq!(rendered(&kind.validate_create(&context(&user, None), &object)), want, "{object}");
    }
    let mut old = json!({"roleRef": {"kind": "Role", "name": "a"}});
    ROLE_BINDING.default(&mut old);
    let mut object = old.clone();
    object["roleRef"]["name"] = json!("b");
    assert_eq!(
        rendered(&ROLE_BINDING.validate_update(&context(&user, None), &object, &old)),
        [
            "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"b\"}: cannot change roleRef"
        ]
    );
    assert!(ROLE.validate_name("system:x", false).is_empty());
    assert!(!ROLE.validate_name("a/b", false).is_empty());
}

#[test]
fn a_request_is_made_by_who_makes_it() {
    let user = UserInfo { uid: "1".into(), ..UserInfo::new("jane", &["dev"]) };
    let mut object = json!({"metadata": {"name": "r"}, "spec": {"username": "root", "request": "eA==", "usages": ["x"], "signerName": "a", "expirationSeconds": 1}});
    REQUEST.prepare_create(&context(&user, None), &mut object);
    assert_eq!((&object["spec"]["username"], &object["spec"]["groups"]), (&json!("jane"), &json!(["dev"])));
    let found = rendered(&REQUEST.validate_create(&context(&user, None), &object));
    assert_eq!(found[0], "spec.request: Invalid value: \"eA==\": PEM block type must be CERTIFICATE REQUEST");
    assert!(found[1].starts_with("spec.usages: Unsupported value: \"x\": supported values: \"any\", "));
    assert_eq!(
        found[2],
        "spec.signerName: Invalid value: \"a\": must be a fully qualified domain and path of the form 'example.com/signer-name'"
    );
    assert_eq!(
        found[3],
        "spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds (10 minutes)"
    );
}

#[test]
fn only_approval_approves() {
    let user = UserInfo::default();
    let old = json!({"spec": {"username": "u"}, "status": {}});
    let approved = json!({"spec": {"username": "x"}, "status": {"certificate": "Yw==", "conditions": [{"type": "Approved", "status": "True"}]}});
    let mut object = approved.clone();
    REQUEST.prepare_update(&context(&user, Some("status")), &mut object, &old);
    assert_eq!(object, json!({"spec": {"username": "u"}, "status": {"certificate": "Yw==", "conditions": []}}));
    let mut object = approved;
    REQUEST.prepare_update(&context(&user, Some("approval")), &mut object, &old);
    assert!(object["status"]["certificate"].is_null());
    assert_eq!(object["status"]["conditions"][0]["lastUpdateTime"], "2026-01-01T00:00:00Z");
    assert_eq!(
        rendered(&REQUEST.validate_update(&context(&user, Some("approval")), &old, &object)),
        ["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""]
    );
}

#[test]
fn rows() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let object = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [
        {"kind": "User", "name": "u"}, {"kind": "User", "name": "v"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]});
    let row = ROLE_BINDING.row(&object, now);
    assert_eq!([&row[1], &row[3], &row[4], &row[5]], [&json!("Role/r"), &json!("u, v"), &json!(""), &json!("n/s")]);
    let request = json!({"metadata": {"name": "r"}, "spec": {"signerName": "a.b/c", "username": "u", "expirationSeconds": 3600},
        "status": {"certificate": "x", "conditions": [{"type": "Approved"}]}});
    assert_eq!(REQUEST.row(&request, now)[2..], [json!("a.b/c"), json!("u"), json!("60m"), json!("Approved,Issued")]);
}
