//! The smallest strategic merge patch from one pod status to another. Pure.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

use super::conditions::OURS;

/// The patch, or nothing if both are the same. Only conditions that changed are in it, so that those of others are
/// never written over; lists without merge key are given whole.
pub fn between(uid: &str, old: &PodStatus, new: &PodStatus) -> Result<Option<Value>, serde_json::Error> {
    let (old, new) = (serde_json::to_value(old)?, serde_json::to_value(new)?);
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return Ok(None) };
    let mut status = Map::new();
    for (key, value) in &new {
        let before = old.get(key);
        if before == Some(value) {
            continue;
        }
        let change = match key.as_str() {
            "conditions" => match changed_conditions(before, value) {
                Value::Array(changed) if changed.is_empty() => continue,
                changed => changed,
            },
            "podIPs" if before.is_some_and(|before| before.as_array().is_some_and(|list| !list.is_empty())) => {
                replace_list(value)
            }
            _ => value.clone(),
        };
        status.insert(key.clone(), change);
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        status.insert(key.clone(), Value::Null);
    }
    if status.is_empty() {
        return Ok(None);
    }
    Ok(Some(json!({"metadata": {"uid": uid}, "status": status})))
}

fn changed_conditions(before: Option<&Value>, after: &Value) -> Value {
    let empty = Vec::new();
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let before = list(before);
    let after = after.as_array().unwrap_or(&empty);
    let mut changed = Vec::new();
    for condition in after {
        let old = before.iter().find(|old| old.get("type") == condition.get("type"));
        let kind = condition.get("type").and_then(Value::as_str).unwrap_or_default();
        let ours = OURS.contains(&kind) || (kind == "PodScheduled" && old.is_none());
        if old == Some(condition) || !ours {
            continue;
        }
        let mut change = condition.clone();
        for key in ["reason", "message"] {
            if old.is_some_and(|old| old.get(key).is_some()) && condition.get(key).is_none() {
                change[key] = Value::Null;
            }
        }
        changed.push(change);
    }
    Value::Array(changed)
}

/// A list with a merge key, given whole.
fn replace_list(value: &Value) -> Value {
    let mut list = vec![json!({"$patch": "replace"})];
    list.extend(value.as_array().cloned().unwrap_or_default());
    Value::Array(list)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn equal_statuses_need_no_patch() {
        let one = status(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
        assert_eq!(between("u", &one, &one).unwrap(), None);
    }

    #[test]
    fn only_what_changed_is_sent_and_conditions_of_others_are_left_alone() {
        let old = status(json!({"phase": "Pending", "reason": "Odd", "hostIP": "10.0.0.1", "conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
            {"type": "example.com/gate", "status": "True"}]}));
        let new = status(json!({"phase": "Running", "hostIP": "10.0.0.1", "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "example.com/gate", "status": "True"}]}));
        let patch = between("u", &old, &new).unwrap().unwrap();
        let expected = json!({"metadata": {"uid": "u"}, "status": {"phase": "Running", "reason": null,
            "conditions": [{"type": "Ready", "status": "True", "reason": null}]}});
        assert_eq!(patch, expected);
    }
}
