//! Whether what is there belongs together: every owner exists, every bound pod's node exists, nobody owns more than declared.
//!
//! Takes objects as Kubernetes' API gives them (JSON with `apiVersion`, `kind`, `metadata`), all of them at one revision.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Fault, Judge};

const JUDGE: Judge = Judge("orphans");
/// More are only counted.
const SHOWN_MAX: usize = 20;

/// What the objects are.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// The objects.
    pub objects: Vec<Value>,
    /// Kinds of which all objects are in `objects`. Whether an owner of another kind exists cannot be told.
    pub complete_kinds: BTreeSet<String>,
    /// Nothing is under way any more: declared counts must be reached exactly, not only not exceeded.
    pub settled: bool,
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn leaving(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null())
}

fn finished(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

fn show(object: &Value) -> String {
    let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
    match text(object, "/metadata/namespace") {
        "" => format!("{kind} {name}"),
        namespace => format!("{kind} {namespace}/{name}"),
    }
}

fn owners(object: &Value) -> &[Value] {
    object.pointer("/metadata/ownerReferences").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn controller(object: &Value) -> Option<&str> {
    let own = owners(object).iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true)));
    own.map(|owner| text(owner, "/uid"))
}

/// Checks a census.
///
/// # Errors
/// [`Fault::Broken`] with all that is wrong; [`Fault::Unusable`] if it cannot be told, because kinds are missing.
pub fn check(census: &Census) -> Result<(), Fault> {
    let mut wrong = Vec::new();
    let by_uid = index(census, &mut wrong);
    for object in &census.objects {
        owned(census, &by_uid, object, &mut wrong)?;
        bound(census, object, &mut wrong)?;
    }
    counted(census, &mut wrong)?;
    if wrong.is_empty() {
        return Ok(());
    }
    let more = wrong.len().saturating_sub(SHOWN_MAX);
    wrong.truncate(SHOWN_MAX);
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    Err(JUDGE.broken(format!("{}{rest}", wrong.join("; "))))
}

fn index<'a>(census: &'a Census, wrong: &mut Vec<String>) -> BTreeMap<&'a str, &'a Value> {
    let (mut by_uid, mut by_name) = (BTreeMap::new(), BTreeSet::new());
    for object in &census.objects {
        let uid = text(object, "/metadata/uid");
        if uid.is_empty() {
            wrong.push(format!("{} has no uid", show(object)));
        } else if let Some(other) = by_uid.insert(uid, object) {
            wrong.push(format!("{} and {} have the same uid", show(other), show(object)));
        }
        let group = text(object, "/apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
        if !by_name.insert((group, show(object))) {
            wrong.push(format!("{} is there twice", show(object)));
        }
    }
    by_uid
}

/// An object whose owners are all gone goes too, unless it is on its way already.
fn owned(
    census: &Census,
    by_uid: &BTreeMap<&str, &Value>,
    object: &Value,
    wrong: &mut Vec<String>,
) -> Result<(), Fault> {
    let references = owners(object);
    let controllers = references.iter().filter(|owner| owner.get("controller") == Some(&Value::Bool(true))).count();
    if controllers > 1 {
        wrong.push(format!("{} has {controllers} controllers", show(object)));
    }
    let mut present = 0;
    for reference in references {
        let (kind, name, uid) = (text(reference, "/kind"), text(reference, "/name"), text(reference, "/uid"));
        match by_uid.get(uid) {
            None if census.complete_kinds.contains(kind) => {}
            None => return Err(JUDGE.unusable(format!("{} is owned by a {kind}: not in the census", show(object)))),
            Some(owner) => {
                present += 1;
                let space = text(owner, "/metadata/namespace");
                let near = space.is_empty() || space == text(object, "/metadata/namespace");
                if text(owner, "/kind") != kind || text(owner, "/metadata/name") != name || !near {
                    wrong.push(format!("{} names {kind} {name} as its owner, which is {}", show(object), show(owner)));
                }
            }
        }
    }
    if !references.is_empty() && present == 0 && !leaving(object) {
        wrong.push(format!("{} has no owner any more: {}", show(object), names(references)));
    }
    Ok(())
}

fn names(references: &[Value]) -> String {
    let names = references.iter().map(|one| format!("{} {}", text(one, "/kind"), text(one, "/name")));
    names.collect::<Vec<_>>().join(", ")
}

fn bound(census: &Census, object: &Value, wrong: &mut Vec<String>) -> Result<(), Fault> {
    let node = text(object, "/spec/nodeName");
    if text(object, "/kind") != "Pod" || node.is_empty() || leaving(object) || finished(object) {
        return Ok(());
    }
    if !census.complete_kinds.contains("Node") {
        return Err(JUDGE.unusable("pods are bound, and nodes are not in the census"));
    }
    let is_it = |other: &Value| text(other, "/kind") == "Node" && text(other, "/metadata/name") == node;
    if !census.objects.iter().any(is_it) {
        wrong.push(format!("{} is bound to node {node}, which does not exist", show(object)));
    }
    Ok(())
}

/// Pods of an owner that declares how many it wants, by what each kind means by it.
fn counted(census: &Census, wrong: &mut Vec<String>) -> Result<(), Fault> {
    let mut pods: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    let living = |pod: &&Value| text(pod, "/kind") == "Pod" && !leaving(pod) && !finished(pod);
    for pod in census.objects.iter().filter(living) {
        if let Some(uid) = controller(pod) {
            pods.entry(uid).or_default().push(pod);
        }
    }
    for owner in census.objects.iter().filter(|owner| !leaving(owner)) {
        let has = pods.get(text(owner, "/metadata/uid")).map_or(&[][..], Vec::as_slice);
        let declared = match text(owner, "/kind") {
            "ReplicaSet" | "StatefulSet" | "ReplicationController" => {
                Some(owner.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1))
            }
            "DaemonSet" => {
                once_a_node(owner, has, wrong);
                None
            }
            _ => None,
        };
        let Some(declared) = declared else { continue };
        if !census.complete_kinds.contains("Pod") {
            return Err(JUDGE.unusable(format!("{} declares pods, which are not in the census", show(owner))));
        }
        let count = has.len() as u64;
        if count > declared || (census.settled && count < declared) {
            wrong.push(format!("{} has {count} pods, {declared} are declared", show(owner)));
        }
    }
    Ok(())
}

fn once_a_node(owner: &Value, pods: &[&Value], wrong: &mut Vec<String>) {
    let mut nodes = BTreeSet::new();
    for pod in pods {
        let node = text(pod, "/spec/nodeName");
        if !node.is_empty() && !nodes.insert(node) {
            wrong.push(format!("{} has two pods on node {node}", show(owner)));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use serde_json::json;

    use super::*;

    fn object(kind: &str, name: &str) -> Value {
        let uid = format!("uid-of-{name}");
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"namespace": "n", "name": name, "uid": uid}})
    }

    fn owned_by(mut object: Value, kind: &str, name: &str) -> Value {
        object["metadata"]["ownerReferences"] =
            json!([{"kind": kind, "name": name, "uid": format!("uid-of-{name}"), "controller": true}]);
        object
    }

    fn on(mut pod: Value, node: &str) -> Value {
        pod["spec"] = json!({"nodeName": node});
        pod
    }

    fn set(replicas: u64) -> Value {
        let mut set = object("ReplicaSet", "set");
        set["spec"] = json!({"replicas": replicas});
        set
    }

    fn pod(name: &str) -> Value {
        on(owned_by(object("Pod", name), "ReplicaSet", "set"), "node")
    }

    fn node() -> Value {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node", "uid": "uid-of-node"}})
    }

    fn leaving(mut object: Value) -> Value {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        object
    }

    fn with(mut object: Value, pointer: &str, value: Value) -> Value {
        *object.pointer_mut(pointer).unwrap() = value;
        object
    }

    fn verdict(settled: bool, objects: Vec<Value>) -> Result<(), Fault> {
        let complete_kinds = ["Pod", "ReplicaSet", "DaemonSet", "Node"].map(String::from).into();
        check(&Census { objects, complete_kinds, settled })
    }

    #[test]
    fn what_belongs_together_is_accepted() {
        let mut failed = pod("c");
        failed["status"] = json!({"phase": "Failed"});
        verdict(true, vec![set(2), pod("a"), pod("b"), failed, leaving(pod("d")), node()]).unwrap();
        verdict(false, vec![set(3), pod("a"), node()]).unwrap();
        verdict(false, vec![leaving(pod("a")), node()]).unwrap();
        let mut two = pod("a");
        let gone = json!({"kind": "ReplicaSet", "name": "gone", "uid": "uid-of-gone"});
        two["metadata"]["ownerReferences"].as_array_mut().unwrap().push(gone);
        verdict(false, vec![set(1), two, node()]).unwrap();
        let daemon = |name: &str, node: &str| on(owned_by(object("Pod", name), "DaemonSet", "d"), node);
        verdict(true, vec![object("DaemonSet", "d"), daemon("a", "node"), node()]).unwrap();
    }

    #[test]
    fn what_does_not_is_refused() {
        let daemon = |name: &str| on(owned_by(object("Pod", name), "DaemonSet", "d"), "node");
        let mut two = pod("a");
        let other = json!({"kind": "DaemonSet", "name": "d", "uid": "uid-of-d", "controller": true});
        two["metadata"]["ownerReferences"].as_array_mut().unwrap().push(other);
        let elsewhere = with(pod("a"), "/metadata/namespace", json!("m"));
        let renamed = with(pod("a"), "/metadata/ownerReferences/0/name", json!("other"));
        let recreated = with(set(1), "/metadata/uid", json!("another"));
        let cases = [
            ("an orphan", false, vec![pod("a"), node()], "has no owner any more: ReplicaSet set"),
            ("an owner made anew", false, vec![recreated, pod("a"), node()], "has no owner any more"),
            ("a lost node", false, vec![set(1), pod("a")], "is bound to node node, which does not exist"),
            ("too many", false, vec![set(1), pod("a"), pod("b"), node()], "has 2 pods, 1 are declared"),
            ("too few", true, vec![set(2), pod("a"), node()], "has 1 pods, 2 are declared"),
            ("two controllers", false, vec![set(1), object("DaemonSet", "d"), two, node()], "2 controllers"),
            ("twice on a node", false, vec![object("DaemonSet", "d"), daemon("a"), daemon("b"), node()], "two pods"),
            (
                "the same uid",
                false,
                vec![object("Pod", "a"), with(object("Pod", "b"), "/metadata/uid", json!("uid-of-a"))],
                "same uid",
            ),
            (
                "the same name",
                false,
                vec![object("Pod", "a"), with(object("Pod", "a"), "/metadata/uid", json!("x"))],
                "there twice",
            ),
            ("no uid", false, vec![with(object("Pod", "a"), "/metadata/uid", json!(null))], "has no uid"),
            ("an owner elsewhere", false, vec![set(1), elsewhere, node()], "as its owner"),
            ("an owner of another name", false, vec![set(1), renamed, node()], "as its owner"),
        ];
        for (what, settled, objects, words) in cases {
            let error = verdict(settled, objects).expect_err(what);
            assert!(matches!(error, Fault::Broken { .. }) && error.to_string().contains(words), "{what}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_no_pass() {
        let census = |objects| Census { objects, ..Census::default() };
        for objects in [vec![pod("a")], vec![on(object("Pod", "a"), "node")], vec![set(1)]] {
            let error = check(&census(objects)).unwrap_err();
            assert!(matches!(error, Fault::Unusable { .. }), "{error}");
        }
    }
}
