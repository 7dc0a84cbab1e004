//! Cases for `rbac`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use navarch_types::UserInfo;
use serde_json::{Value, json};

use super::*;
use crate::authorize::Authorizer;
use crate::view::{FixedView, NAMESPACES};

fn put(view: &FixedView, resource: &Viewed, kind: &str, namespace: &str, name: &str, rest: Value) {
    let mut value = rest;
    value["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
    value["kind"] = json!(kind);
    value["metadata"]["name"] = json!(name);
    if !namespace.is_empty() {
        value["metadata"]["namespace"] = json!(namespace);
    }
    view.put(resource, &value).unwrap();
}

fn bind(view: &FixedView, namespace: &str, role_kind: &str, role: &str, subject: Value) {
    let body = json!({"roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role}, "subjects": [subject]});
    let (resource, kind) = if namespace.is_empty() {
        (&CLUSTER_ROLE_BINDINGS, "ClusterRoleBinding")
    } else {
        (&ROLE_BINDINGS, "RoleBinding")
    };
    put(view, resource, kind, namespace, &format!("{role}-binding"), body);
}

fn rule_of(value: Value) -> PolicyRule {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_rule_allows_what_it_names() {
    let user = UserInfo::new("u", &[]);
    // verb, group, resource, subresource, name
    type Asked<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, bool);
    let cases: &[(Value, &[Asked<'_>])] = &[
        (
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}),
            &[
                ("get", "", "pods", "", "", true),
                ("list", "", "pods", "", "", false),
                ("get", "apps", "pods", "", "", false),
                ("get", "", "pods", "log", "", false),
                ("get", "", "services", "", "", false),
            ],
        ),
        (
            json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*/scale"]}),
            &[("get", "apps", "deployments", "scale", "", true), ("get", "apps", "deployments", "", "", false)],
        ),
        (
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"]}),
            &[("get", "", "pods", "log", "a", true), ("get", "", "pods", "", "a", false)],
        ),
        (
            json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]}),
            &[
                ("get", "", "secrets", "", "a", true),
                ("get", "", "secrets", "", "b", false),
                ("list", "", "secrets", "", "", false),
            ],
        ),
        (json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}), &[("escalate", "x", "y", "z", "", true)]),
        (json!({"verbs": ["get"], "nonResourceURLs": ["*"]}), &[("get", "", "pods", "", "", false)]),
    ];
    for (rule, requests) in cases {
        for (verb, group, resource, subresource, name, allowed) in *requests {
            let mut attributes = Attributes::resource(&user, verb, group, "v1", resource);
            (attributes.subresource, attributes.name) = (subresource, name);
            assert_eq!(rule::allows(&rule_of(rule.clone()), &attributes), *allowed, "{rule} {attributes:?}");
        }
    }
    for (url, path, allowed) in [
        ("/healthz", "/healthz", true),
        ("/healthz", "/healthz/etcd", false),
        ("/apis/*", "/apis/apps", true),
        ("/apis/*", "/apis", false),
        ("*", "/anything", true),
    ] {
        let rule = rule_of(json!({"verbs": ["get"], "nonResourceURLs": [url]}));
        assert_eq!(rule::allows(&rule, &Attributes::path(&user, "get", path)), allowed, "{url} {path}");
    }
}

fn get_pods<'a>(user: &'a UserInfo, namespace: &'a str) -> Attributes<'a> {
    let mut attributes = Attributes::resource(user, "get", "", "v1", "pods");
    attributes.namespace = namespace;
    attributes
}

fn reads_pods() -> Value {
    json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]})
}

#[test]
fn bindings_give_roles_to_users_groups_and_service_accounts_at_once() {
    let view = Arc::new(FixedView::default());
    let rbac = Rbac::new(view.clone());
    let (jane, account) = (UserInfo::new("jane", &["devs"]), crate::service_account_identity("a", "web", ""));
    assert_eq!(rbac.explain(&get_pods(&jane, "a")), Err(String::new()));
    put(&view, &CLUSTER_ROLES, "ClusterRole", "", "reader", reads_pods());
    bind(&view, "a", "ClusterRole", "reader", json!({"kind": "Group", "name": "devs"}));
    assert_eq!(
        rbac.explain(&get_pods(&jane, "a")).unwrap(),
        "RBAC: allowed by RoleBinding \"reader-binding/a\" of ClusterRole \"reader\" to Group \"devs\""
    );
    assert!(rbac.explain(&get_pods(&jane, "b")).is_err());
    assert!(rbac.explain(&get_pods(&jane, "")).is_err());
    // The namespace of a service account is that of its binding unless it says otherwise.
    bind(&view, "a", "ClusterRole", "reader", json!({"kind": "ServiceAccount", "name": "web"}));
    assert!(rbac.explain(&get_pods(&account, "a")).is_ok());
    assert!(rbac.explain(&get_pods(&jane, "a")).is_err(), "the binding was replaced");
    bind(&view, "", "ClusterRole", "reader", json!({"kind": "User", "name": "jane"}));
    assert!(rbac.explain(&get_pods(&jane, "")).is_ok());
    view.remove(&CLUSTER_ROLES, "", "reader");
    let why = "RBAC: clusterrole.rbac.authorization.k8s.io \"reader\" not found";
    assert_eq!(rbac.explain(&get_pods(&jane, "b")), Err(why.to_owned()));
}

#[test]
fn a_cluster_role_binding_gives_no_role_of_a_namespace() {
    let view = Arc::new(FixedView::default());
    put(&view, &ROLES, "Role", "a", "reader", reads_pods());
    bind(&view, "", "Role", "reader", json!({"kind": "User", "name": "jane"}));
    let jane = UserInfo::new("jane", &[]);
    assert!(Rbac::new(view).explain(&get_pods(&jane, "a")).is_err());
}

#[test]
fn masters_may_do_everything_and_health_is_for_all() {
    let authorizer = Authorizer::new(Arc::new(FixedView::default()));
    assert!(authorizer.authorize(&get_pods(&UserInfo::new("x", &["system:masters"]), "")).allowed());
    let nobody = UserInfo::new("system:anonymous", &["system:unauthenticated"]);
    assert!(authorizer.authorize(&Attributes::path(&nobody, "get", "/livez")).allowed());
    assert!(!authorizer.authorize(&Attributes::path(&nobody, "get", "/metrics")).allowed());
    let denied = get_pods(&nobody, "default");
    assert_eq!(
        denied.forbidden("").to_string(),
        "pods is forbidden: User \"system:anonymous\" cannot get resource \"pods\" in API group \"\" in the namespace \
         \"default\""
    );
}

/// Applies plans until nothing is left, as the server does at start.
fn bootstrap_into(view: &FixedView) -> usize {
    for round in 0..10 {
        let writes = bootstrap::plan(view);
        if writes.is_empty() {
            return round;
        }
        for write in writes {
            view.put(write.resource, &write.object).unwrap();
        }
    }
    panic!("the defaults never settle");
}

#[test]
fn defaults_settle_and_aggregate() {
    let view = Arc::new(FixedView::default());
    view.put(&NAMESPACES, &json!({"metadata": {"name": "kube-system"}})).unwrap();
    bootstrap_into(&view);
    let rbac = Rbac::new(view.clone());
    let admin = rbac.role_rules("", "ClusterRole", "admin").unwrap();
    let view_rules = rbac.role_rules("", "ClusterRole", "view").unwrap();
    assert!(escalation::not_covered(&admin, &view_rules).is_empty(), "admin has what view has, through edit");
    assert!(rbac.role_rules("kube-system", "Role", "extension-apiserver-authentication-reader").is_some());
    assert!(rbac.role_rules("kube-public", "Role", "system:controller:bootstrap-signer").is_none());
    for (name, verb, group, resource, allowed) in [
        ("deployment-controller", "create", "apps", "replicasets", true),
        ("deployment-controller", "create", "", "secrets", false),
        ("generic-garbage-collector", "delete", "any.io", "things", true),
        ("namespace-controller", "deletecollection", "apps", "deployments", true),
    ] {
        let user = crate::service_account_identity("kube-system", name, "");
        let mut attributes = Attributes::resource(&user, verb, group, "v1", resource);
        attributes.namespace = "default";
        assert_eq!(rbac.explain(&attributes).is_ok(), allowed, "{name} {verb} {resource}");
    }
    for (user, group, allowed) in [
        ("system:node:n2", "system:authenticated", true),
        ("system:kube-proxy", "system:authenticated", true),
        ("system:anonymous", "system:unauthenticated", false),
    ] {
        let user = UserInfo::new(user, &[group]);
        let ask = |verb| rbac.explain(&Attributes::path(&user, verb, navarch_types::SERVERS_PATH)).is_ok();
        assert_eq!((ask("get"), ask("post")), (allowed, false), "{}", user.name);
    }
    let scheduler = UserInfo::new("system:kube-scheduler", &["system:authenticated"]);
    let mut bindings = Attributes::resource(&scheduler, "create", "", "v1", "pods");
    (bindings.subresource, bindings.namespace) = ("binding", "default");
    assert!(rbac.explain(&bindings).is_ok());
}

#[test]
fn defaults_are_repaired_unless_told_not_to() {
    let view = FixedView::default();
    bootstrap_into(&view);
    let mut role = view.get(&CLUSTER_ROLES, "", "system:basic-user").unwrap().to_value().unwrap();
    role["rules"] = json!([{"verbs": ["get"], "apiGroups": ["x"], "resources": ["mine"]}]);
    view.put(&CLUSTER_ROLES, &role).unwrap();
    bootstrap_into(&view);
    let repaired = view.get(&CLUSTER_ROLES, "", "system:basic-user").unwrap().to_value().unwrap();
    assert_eq!(repaired["rules"][0]["resources"][0], "mine", "what was added stays");
    assert!(repaired["rules"].to_string().contains("selfsubjectaccessreviews"));
    role["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = json!("false");
    view.put(&CLUSTER_ROLES, &role).unwrap();
    assert!(bootstrap::plan(&view).is_empty());
}

#[test]
fn nobody_gives_away_more_than_they_have() {
    let view = Arc::new(FixedView::default());
    bootstrap_into(&view);
    put(&view, &CLUSTER_ROLES, "ClusterRole", "", "reader", reads_pods());
    bind(&view, "a", "ClusterRole", "reader", json!({"kind": "User", "name": "jane"}));
    let authorizer = Authorizer::new(view.clone());
    let (jane, root) = (UserInfo::new("jane", &["devs"]), UserInfo::new("root", &["system:masters"]));
    let role = |verb: &str| json!({"metadata": {"name": "r"}, "rules": [{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]});
    let check = |user, resource, object: &Value, old| escalation::check(&authorizer, user, resource, "a", object, old);
    assert!(check(&jane, "roles", &role("get"), None).is_ok());
    let error = check(&jane, "roles", &role("delete"), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"jane\" (groups=[\"devs\"]) is attempting to grant \
         RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}"
    );
    assert!(check(&root, "roles", &role("delete"), None).is_ok());
    let present = role("delete");
    assert!(check(&jane, "roles", &role("delete"), Some(&present)).is_ok(), "unchanged rules may stay");
    let binding = |name: &str| {
        json!({"metadata": {"name": "b"}, "subjects": [{"kind": "User", "name": "joe"}],
               "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name}})
    };
    assert!(check(&jane, "rolebindings", &binding("reader"), None).is_ok());
    assert_eq!(check(&jane, "rolebindings", &binding("cluster-admin"), None).unwrap_err().code(), 403);
    assert_eq!(check(&jane, "rolebindings", &binding("none"), None).unwrap_err().code(), 404);
    let aggregating = json!({"metadata": {"name": "r"}, "aggregationRule": {"clusterRoleSelectors": [{}]}});
    assert!(check(&jane, "clusterroles", &aggregating, None).is_err());
}

#[test]
fn covering_is_atom_by_atom() {
    let rule = |verbs: &[&str], resources: &[&str], names: &[&str]| {
        rule_of(json!({"verbs": verbs, "apiGroups": [""], "resources": resources, "resourceNames": names}))
    };
    for (held, wanted, covered) in [
        (
            vec![rule(&["get"], &["pods"], &[]), rule(&["list"], &["pods"], &[])],
            rule(&["get", "list"], &["pods"], &[]),
            true,
        ),
        (vec![rule(&["*"], &["*"], &[])], rule(&["get"], &["pods/log"], &["a"]), true),
        (vec![rule(&["get"], &["*/scale"], &[])], rule(&["get"], &["x/scale"], &[]), true),
        (vec![rule(&["get"], &["pods"], &["a"])], rule(&["get"], &["pods"], &[]), false),
        (vec![rule(&["get"], &["pods"], &["a", "b"])], rule(&["get"], &["pods"], &["b"]), true),
        (vec![rule(&["get"], &["pods"], &[])], rule(&["*"], &["pods"], &[]), false),
    ] {
        assert_eq!(escalation::not_covered(&held, std::slice::from_ref(&wanted)).is_empty(), covered, "{wanted:?}");
    }
}
