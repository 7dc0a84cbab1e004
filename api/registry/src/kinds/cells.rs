//! What table cells of several kinds are made of.

use jiff::Timestamp;
use serde_json::Value;

use crate::strategy::{age, human_duration};

/// What stands in a cell that has nothing to show.
pub(crate) const NONE: &str = "<none>";
/// What stands for a value that is not known.
pub(crate) const UNKNOWN: &str = "<unknown>";
/// What stands for a value that was never set.
pub(crate) const UNSET: &str = "<unset>";

/// The text at a way down; empty if there is none.
pub(crate) fn text<'v>(object: &'v Value, way: &[&str]) -> &'v str {
    at(object, way).as_str().unwrap_or("")
}

/// The text at a way down, or a replacement.
pub(crate) fn text_or<'v>(object: &'v Value, way: &[&str], replacement: &'v str) -> &'v str {
    Some(text(object, way)).filter(|t| !t.is_empty()).unwrap_or(replacement)
}

/// The number at a way down, or zero.
pub(crate) fn number(object: &Value, way: &[&str]) -> i64 {
    at(object, way).as_i64().unwrap_or(0)
}

/// The value at a way down, or `null`.
pub(crate) fn at<'v>(object: &'v Value, way: &[&str]) -> &'v Value {
    way.iter().fold(object, |value, key| &value[key])
}

/// The list at a way down.
pub(crate) fn list<'v>(object: &'v Value, way: &[&str]) -> &'v [Value] {
    at(object, way).as_array().map_or(&[], Vec::as_slice)
}

/// The name cell.
pub(crate) fn name(object: &Value) -> Value {
    object["metadata"]["name"].clone()
}

/// The age cell.
pub(crate) fn age_cell(object: &Value, now: Timestamp) -> Value {
    age(object, now).into()
}

/// How long ago a time was, `<unknown>` without one.
pub(crate) fn since(time: &Value, now: Timestamp) -> String {
    match timestamp(time) {
        Some(time) => human_duration(now.as_second() - time.as_second()),
        None => UNKNOWN.to_owned(),
    }
}

/// The time in a text.
pub(crate) fn timestamp(time: &Value) -> Option<Timestamp> {
    time.as_str()?.parse().ok()
}

/// `a=b,c=d`; `<none>` for an empty map.
pub(crate) fn map(map: &Value) -> String {
    let pairs: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    if pairs.is_empty() { NONE.to_owned() } else { pairs.join(",") }
}

/// A label selector: `a=b,c in (d,e),!f`; `<none>` if it selects nothing in particular.
pub(crate) fn selector(selector: &Value) -> String {
    let mut parts: Vec<(String, String)> = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        parts.push((key.clone(), format!("{key}={}", value.as_str().unwrap_or(""))));
    }
    for expression in list(selector, &["matchExpressions"]) {
        let key = text(expression, &["key"]);
        let mut values: Vec<&str> = list(expression, &["values"]).iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let part = match text(expression, &["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => continue,
        };
        parts.push((key.to_owned(), part));
    }
    parts.sort();
    let parts: Vec<String> = parts.into_iter().map(|(_, part)| part).collect();
    if parts.is_empty() { NONE.to_owned() } else { parts.join(",") }
}

/// The names and the images of a PodSpec's containers.
pub(crate) fn containers(pod_spec: &Value) -> (Value, Value) {
    let of = |key: &str| {
        let texts: Vec<&str> = list(pod_spec, &["containers"]).iter().map(|c| text(c, &[key])).collect();
        Value::from(texts.join(","))
    };
    (of("name"), of("image"))
}

/// Texts, or `<none>`.
pub(crate) fn joined<'v>(texts: impl IntoIterator<Item = &'v str>) -> String {
    let texts: Vec<&str> = texts.into_iter().collect();
    if texts.is_empty() { NONE.to_owned() } else { texts.join(",") }
}

/// Whether a condition of the object's status is `True`.
pub(crate) fn condition_is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|c| c["status"] == "True")
}

/// A condition of the object's status.
pub(crate) fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v Value> {
    list(object, &["status", "conditions"]).iter().find(|c| c["type"] == kind)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_read_as_kubectl_prints_them() {
        for (value, want) in [
            (json!(null), "<none>"),
            (json!({"matchLabels": {"b": "2", "a": "1"}}), "a=1,b=2"),
            (
                json!({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "x", "operator": "In", "values": ["q", "p"]},
                    {"key": "y", "operator": "DoesNotExist"}]}),
                "a=1,x in (p,q),!y",
            ),
        ] {
            assert_eq!(selector(&value), want);
        }
    }
}
