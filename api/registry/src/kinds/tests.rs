//! What holds for all kinds.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use navarch_types::UserInfo;
use serde_json::{Value, json};

use super::*;
use crate::strategy::Context;

#[test]
fn the_shape_of_built_in_resources_is_known() {
    for (group, resource, status, generation) in [
        ("", "pods", true, true),
        ("", "nodes", true, false),
        ("", "configmaps", false, false),
        ("", "podtemplates", false, true),
        ("", "services", true, false),
        ("apps", "deployments", true, true),
        ("apps", "controllerrevisions", false, false),
        ("autoscaling", "horizontalpodautoscalers", true, false),
        ("policy", "poddisruptionbudgets", true, true),
        ("discovery.k8s.io", "endpointslices", false, true),
        ("networking.k8s.io", "networkpolicies", false, true),
        ("networking.k8s.io", "servicecidrs", true, false),
        ("rbac.authorization.k8s.io", "roles", false, false),
        ("storage.k8s.io", "volumeattachments", true, false),
        ("example.com", "pods", false, false),
    ] {
        let found = strategy(group, resource);
        assert_eq!((found.has_status(), found.has_generation()), (status, generation), "{group}/{resource}");
    }
}

/// The plural that a kind's name makes.
fn plural(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.as_str() {
        "endpoints" => lower,
        _ if lower.ends_with("ss") || lower.ends_with("ch") => format!("{lower}es"),
        _ if lower.ends_with("cy") => format!("{}ies", &lower[..lower.len() - 1]),
        _ => format!("{lower}s"),
    }
}

/// Objects with every field set, of every kind: no rule panics on them, defaults are idempotent, rows are as wide as their
/// headings.
#[test]
fn whole_objects_of_all_kinds_pass_through() {
    let Some(data) = std::env::var_os("NAVARCH_K8S_DATA") else { return };
    let folder = PathBuf::from(data).join("api-golden-v1.36");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let title = path.file_name().unwrap().to_string_lossy().into_owned();
        if !title.ends_with(".json") || title.contains("roundtrip") {
            continue;
        }
        let object: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let (version, kind) = (object["apiVersion"].as_str().unwrap_or(""), object["kind"].as_str().unwrap_or(""));
        let group = version.split_once('/').map_or("", |(group, _)| group);
        seen += 1;
        pass_through(strategy(group, &plural(kind)), &object, &title);
    }
    assert!(seen > 100, "only {seen} objects found");
}

fn pass_through(strategy: &dyn Strategy, object: &Value, title: &str) {
    let user = UserInfo::new("jane", &["dev"]);
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    for given in [object, &json!({}), &emptied(object)] {
        let mut object = given.clone();
        strategy.default(&mut object);
        let once = object.clone();
        strategy.default(&mut object);
        assert_eq!(object, once, "defaults of {title} are not idempotent");
        for subresource in
            [None, Some("status"), Some("finalize"), Some("approval"), Some("resize"), Some("ephemeralcontainers")]
        {
            let context = Context { user: &user, namespace: "n", subresource, now };
            let mut changed = object.clone();
            strategy.prepare_update(&context, &mut changed, given);
            strategy.validate_update(&context, &changed, given);
            strategy.validate_update(&context, given, &changed);
            strategy.warnings(&context, &changed, Some(given));
        }
        let context = Context { user: &user, namespace: "n", subresource: None, now };
        let mut created = object.clone();
        strategy.prepare_create(&context, &mut created);
        strategy.validate_create(&context, &created);
        strategy.generation_changes(&created, &object);
        strategy.grace_period(&created, None);
        assert_eq!(strategy.row(&object, now).len(), strategy.columns().len(), "row of {title}");
    }
}

/// The same object with every leaf replaced by one of another type.
fn emptied(object: &Value) -> Value {
    match object {
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), emptied(v))).collect(),
        Value::Array(list) => list.iter().map(emptied).collect(),
        Value::String(_) => json!(7),
        Value::Number(_) => json!("x"),
        Value::Bool(_) => json!({}),
        Value::Null => json!([]),
    }
}
