//! Containers of all kinds in a pod, and how messages name those that violate.

use serde_json::Value;

use super::super::json::{at, items, text};
use super::Violation;

/// All containers: ordinary, init and ephemeral.
pub(super) fn all(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|list| items(pod, &["spec", list]))
}

/// A field of a container's security context.
pub(super) fn context<'a>(container: &'a Value, path: &[&str]) -> Option<&'a Value> {
    at(container, &["securityContext"]).and_then(|c| at(c, path))
}

/// Names of the containers that a condition holds for.
pub(super) fn which(pod: &Value, mut bad: impl FnMut(&Value) -> bool) -> Vec<String> {
    all(pod).filter(|c| bad(c)).map(|c| text(c, &["name"]).to_owned()).collect()
}

/// `"a", "b"`.
pub(super) fn quoted(names: &[String]) -> String {
    names.iter().map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", ")
}

/// `container "a" rest` or `containers "a", "b" rest`, if there are any.
pub(super) fn violation(reason: &'static str, names: &[String], rest: &str) -> Option<Violation> {
    if names.is_empty() {
        return None;
    }
    let noun = if names.len() == 1 { "container" } else { "containers" };
    Some(Violation { reason, detail: format!("{noun} {} {rest}", quoted(names)) })
}
