//! Cases for `merging`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

const DEPLOYMENT: GroupVersionKind = GroupVersionKind::new("apps", "v1", "Deployment");
const POD: GroupVersionKind = GroupVersionKind::new("", "v1", "Pod");
const SERVICE: GroupVersionKind = GroupVersionKind::new("", "v1", "Service");

fn run(kind: &GroupVersionKind, current: Value, patch: Value) -> Result<Value, u16> {
    apply(Schema::builtin(), kind, current, &patch).map_err(|e| e.code())
}

fn containers(names: &[&str]) -> Value {
    json!({"spec": {"containers": names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>()}})
}

#[test]
fn structures_merge_and_null_deletes() {
    for (current, patch, result) in [
        (
            json!({"metadata": {"labels": {"a": "b"}}}),
            json!({"metadata": {"labels": {"c": "d"}}}),
            json!({"metadata": {"labels": {"a": "b", "c": "d"}}}),
        ),
        (
            json!({"metadata": {"labels": {"a": "b"}}}),
            json!({"metadata": {"labels": {"a": null, "x": null}}}),
            json!({"metadata": {"labels": {}}}),
        ),
        (json!({"metadata": {"labels": {"a": "b"}}}), json!({"metadata": {"labels": null}}), json!({"metadata": {}})),
        (
            json!({"metadata": {}}),
            json!({"metadata": {"labels": {"a": "b", "c": null}}}),
            json!({"metadata": {"labels": {"a": "b"}}}),
        ),
        (
            json!({"metadata": {"labels": {"a": "b"}}}),
            json!({"metadata": {"labels": {"$patch": "replace", "c": "d"}}}),
            json!({"metadata": {"labels": {"c": "d"}}}),
        ),
        (
            json!({"metadata": {"labels": {"a": "b"}}}),
            json!({"metadata": {"labels": {"$patch": "delete"}}}),
            json!({"metadata": {"labels": {}}}),
        ),
        (json!({"spec": {"x": 1}}), json!({"spec": "text"}), json!({"spec": "text"})),
        (json!({"spec": {"hostNetwork": true}}), json!({}), json!({"spec": {"hostNetwork": true}})),
    ] {
        assert_eq!(run(&POD, current, patch.clone()), Ok(result), "{patch}");
    }
}

#[test]
fn keyed_lists_merge_by_key() {
    let two =
        json!({"spec": {"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "2"}]}});
    for (patch, result) in [
        (
            json!([{"name": "b", "image": "3"}]),
            json!([{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "3"}]),
        ),
        // Lists without a strategy are replaced.
        (
            json!([{"name": "a", "args": ["y"]}]),
            json!([{"name": "a", "image": "1", "args": ["y"]}, {"name": "b", "image": "2"}]),
        ),
        (
            json!([{"name": "c", "image": "4"}]),
            json!([{"name": "c", "image": "4"}, {"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "2"}]),
        ),
        (json!([{"name": "a", "$patch": "delete"}]), json!([{"name": "b", "image": "2"}])),
        (json!([{"name": "z", "$patch": "delete"}]), two["spec"]["containers"].clone()),
        (json!([{"$patch": "replace"}, {"name": "c"}]), json!([{"name": "c"}])),
        (json!([{"name": "a", "$patch": "replace", "image": "9"}]), json!([])),
    ] {
        let patched = run(&POD, two.clone(), json!({"spec": {"containers": patch}}));
        assert_eq!(patched.map(|p| p["spec"]["containers"].clone()), Ok(result), "{patch}");
    }
    let service = json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}]}});
    assert_eq!(
        run(&SERVICE, service, json!({"spec": {"ports": [{"port": 80, "targetPort": 8080}]}})),
        Ok(json!({"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]}}))
    );
}

#[test]
fn scalars_merge_as_sets() {
    let current = json!({"metadata": {"finalizers": ["a", "b"]}});
    for (patch, result) in [
        (json!({"finalizers": ["c", "a"]}), json!({"finalizers": ["c", "a", "b"]})),
        (json!({"$deleteFromPrimitiveList/finalizers": ["a", "z"]}), json!({"finalizers": ["b"]})),
        (
            json!({"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"], "$setElementOrder/finalizers": ["b", "c"]}),
            json!({"finalizers": ["b", "c"]}),
        ),
    ] {
        assert_eq!(run(&POD, current.clone(), json!({"metadata": patch})), Ok(json!({"metadata": result})));
    }
}

#[test]
fn order_of_elements() {
    for (current, patch, result) in [
        (&["a", "b"][..], json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}), &["b", "a"][..]),
        (
            &["a", "b"],
            json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}], "containers": [{"name": "c"}]}),
            &["c", "a", "b"],
        ),
        // Elements that only the object has stay where they were relative to the others.
        (
            &["injected", "a", "sidecar", "b"],
            json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}], "containers": [{"name": "b"}]}),
            &["injected", "a", "sidecar", "b"],
        ),
        (
            &["a", "b", "c"],
            json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "c"}], "containers": [{"name": "b", "$patch": "delete"}]}),
            &["a", "c"],
        ),
        (&[], json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "a"}]}), &["a"]),
    ] {
        assert_eq!(run(&POD, containers(current), json!({"spec": patch})), Ok(containers(result)), "{patch}");
    }
}

#[test]
fn retained_keys() {
    let current = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(run(&DEPLOYMENT, current.clone(), patch), Ok(json!({"spec": {"strategy": {"type": "Recreate"}}})));
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate", "rollingUpdate": null}}});
    assert_eq!(run(&DEPLOYMENT, current.clone(), patch), Ok(json!({"spec": {"strategy": {"type": "Recreate"}}})));
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}});
    assert_eq!(run(&DEPLOYMENT, current, patch), Err(400));
    let volumes = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
    let patch =
        json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}});
    assert_eq!(run(&POD, volumes, patch), Ok(json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}})));
}

#[test]
fn wrong_patches_are_refused() {
    let mut current = containers(&["a"]);
    current["metadata"] = json!({"finalizers": ["a"]});
    for (patch, code) in [
        (json!([]), 400),
        (json!("x"), 400),
        (json!({"$patch": "frob"}), 400),
        (json!({"spec": {"containers": [{"image": "x"}]}}), 400),
        (json!({"spec": {"containers": [{"name": "a", "$patch": "merge"}]}}), 400),
        (json!({"spec": {"containers": [{"$patch": "delete"}]}}), 400),
        (json!({"spec": {"containers": [[1]]}}), 422),
        (json!({"spec": {"containers": ["a"]}}), 400),
        (json!({"spec": {"$retainKeys": "x"}}), 400),
        (json!({"spec": {"$setElementOrder/containers": "x"}}), 400),
        (json!({"spec": {"$setElementOrder/nothing": []}}), 400),
        (json!({"spec": {"$setElementOrder": []}}), 400),
        (json!({"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}}), 400),
        (json!({"spec": {"$setElementOrder/containers": [{"x": "b"}], "containers": [{"name": "a"}]}}), 400),
        (json!({"metadata": {"$deleteFromPrimitiveList/finalizers": "x"}}), 400),
    ] {
        assert_eq!(run(&POD, current.clone(), patch.clone()), Err(code), "{patch}");
    }
    let unknown = GroupVersionKind::new("example.com", "v1", "Widget");
    assert_eq!(run(&unknown, json!({}), json!({})), Err(400));
}
