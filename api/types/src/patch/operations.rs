//! JSON patches (RFC 6902), with a limit on what copying may make of an object.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::unprocessable;
use crate::error::{ApiError, Reason};

/// Upstream's limit.
const OPERATIONS_MAX: usize = 10_000;
/// All copies together may not make more than a request's body could carry.
const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;
/// What operations build up may not nest deeper than what is parsed, since values are walked by recursion.
const DEPTH_MAX: usize = 128;

pub(super) fn apply(current: Value, patch: &Value) -> Result<Value, ApiError> {
    let operations =
        patch.as_array().ok_or_else(|| ApiError::bad_request("a JSON patch must be a list of operations"))?;
    if operations.len() > OPERATIONS_MAX {
        return Err(ApiError::new(
            Reason::RequestEntityTooLarge,
            format!("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}", operations.len()),
        ));
    }
    let Patch(operations) = serde_json::from_value(patch.clone())
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    let mut patched = current;
    let mut copied_bytes = 0_usize;
    for operation in &operations {
        let source = match operation {
            PatchOperation::Copy(copy) => patched.pointer(copy.from.as_str()),
            PatchOperation::Move(moved) => patched.pointer(moved.from.as_str()),
            PatchOperation::Add(add) => Some(&add.value),
            PatchOperation::Replace(replace) => Some(&replace.value),
            PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
        };
        let steps = operation.path().count();
        let room = DEPTH_MAX.checked_sub(steps);
        if room.is_none_or(|room| source.is_some_and(|value| deeper_than(value, room))) {
            return Err(ApiError::bad_request(format!("a JSON patch may not nest deeper than {DEPTH_MAX} levels")));
        }
        if let (PatchOperation::Copy(_), Some(source)) = (operation, source) {
            copied_bytes = copied_bytes.saturating_add(source.to_string().len());
            if copied_bytes > COPIED_BYTES_MAX {
                let why = format!("the copies of a JSON patch may not exceed {COPIED_BYTES_MAX} bytes");
                return Err(ApiError::new(Reason::RequestEntityTooLarge, why));
            }
        }
        json_patch::patch(&mut patched, std::slice::from_ref(operation)).map_err(|e| unprocessable(&e.to_string()))?;
    }
    Ok(patched)
}

/// Whether a value nests deeper than so many levels.
fn deeper_than(value: &Value, levels: usize) -> bool {
    match (value, levels.checked_sub(1)) {
        (Value::Array(list), Some(levels)) => list.iter().any(|v| deeper_than(v, levels)),
        (Value::Object(map), Some(levels)) => map.values().any(|v| deeper_than(v, levels)),
        (Value::Array(_) | Value::Object(_), None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn operations_apply_in_order_or_not_at_all() {
        let current = json!({"metadata": {"labels": {"a/b": "c"}}, "list": [1, 2]});
        for (patch, result) in [
            (json!([]), Ok(current.clone())),
            (
                json!([{"op": "test", "path": "/list/0", "value": 1}, {"op": "remove", "path": "/list/0"},
                    {"op": "add", "path": "/list/-", "value": 3}, {"op": "replace", "path": "/metadata/labels/a~1b", "value": "d"},
                    {"op": "move", "from": "/list", "path": "/moved"}, {"op": "copy", "from": "/moved/0", "path": "/x"}]),
                Ok(json!({"metadata": {"labels": {"a/b": "d"}}, "moved": [2, 3], "x": 2})),
            ),
            (json!([{"op": "test", "path": "/list/0", "value": 2}]), Err(422)),
            (json!([{"op": "remove", "path": "/none"}]), Err(422)),
            (json!([{"op": "replace", "path": "/none/deeper", "value": 1}]), Err(422)),
            (json!([{"op": "add", "path": "/list/7", "value": 1}]), Err(422)),
            (json!([{"op": "frob", "path": "/a"}]), Err(400)),
            (json!([{"op": "add", "path": "/a"}]), Err(400)),
            (json!([{"op": "add", "path": "a", "value": 1}]), Err(400)),
            (json!({"a": 1}), Err(400)),
            (json!(vec![json!({"op": "test", "path": "/list/0", "value": 1}); 10_001]), Err(413)),
        ] {
            assert_eq!(apply(current.clone(), &patch).map_err(|e| e.code()), result);
        }
    }

    #[test]
    fn copies_and_nesting_cannot_grow_without_end() {
        let current = json!({"a": {"x": "y"}});
        let doubling: Vec<Value> =
            (0..60).map(|n| json!({"op": "copy", "from": "/a", "path": format!("/a/{n}")})).collect();
        assert_eq!(apply(current.clone(), &json!(doubling)).unwrap_err().code(), 413);
        let nesting = json!(vec![json!({"op": "copy", "from": "/a", "path": "/a/b"}); 200]);
        assert_eq!(apply(current.clone(), &nesting).unwrap_err().code(), 400);
        let round = [
            json!({"op": "move", "from": "/a", "path": "/b"}),
            json!({"op": "add", "path": "/a", "value": {}}),
            json!({"op": "move", "from": "/b", "path": "/a/b"}),
        ];
        let nesting = Value::Array(std::iter::repeat_n(round, 200).flatten().collect());
        assert_eq!(apply(current.clone(), &nesting).unwrap_err().code(), 400);
        let path = "/a".repeat(200);
        assert_eq!(apply(current, &json!([{"op": "add", "path": path, "value": 1}])).unwrap_err().code(), 400);
    }
}
