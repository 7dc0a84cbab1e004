//! Lists that merge: of structures by their key, of scalars as sets.

use serde_json::Value;

use super::{DIRECTIVE, Shape, StrategicError, merge_objects, order, without_directives};
use crate::schema::{Field, Schema};

/// Merges the list of a patch into one of the object. The patch's elements take their order from the patch, others stay
/// where they were.
pub(super) fn merge(
    schema: &Schema,
    element: Shape,
    field: &Field,
    original: Vec<Value>,
    patch: Vec<Value>,
) -> Result<Vec<Value>, StrategicError> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    if !are_objects(original.iter().chain(&patch))? {
        let mut merged: Vec<Value> = Vec::with_capacity(original.len() + patch.len());
        for value in original.iter().chain(&patch) {
            if !merged.contains(value) {
                merged.push(value.clone());
            }
        }
        return order::arrange(merged, &patch, &original, None);
    }
    let key = field.patch_merge_key.as_deref().ok_or(StrategicError::NoDeclaredKey)?;
    let (original, patch) = special_elements(original, patch, key)?;
    let mut merged = original.clone();
    for value in &patch {
        let identity = value.get(key).ok_or_else(|| StrategicError::NoMergeKey(key.to_owned()))?;
        match merged.iter_mut().find(|element| element.get(key) == Some(identity)) {
            Some(found) => {
                if let (Value::Object(old), Value::Object(new)) = (found.take(), value) {
                    *found = Value::Object(merge_objects(schema, element, old, new.clone())?);
                }
            }
            None => merged.push(without_directives(value.clone())),
        }
    }
    order::arrange(merged, &patch, &original, Some(key))
}

/// Whether the elements are objects, which all or none must be.
pub(super) fn are_objects<'v>(elements: impl Iterator<Item = &'v Value>) -> Result<bool, StrategicError> {
    let mut objects = None;
    for element in elements {
        if element.is_array() {
            return Err(StrategicError::ListOfLists);
        }
        if *objects.get_or_insert(element.is_object()) != element.is_object() {
            return Err(StrategicError::MixedList);
        }
    }
    Ok(objects.unwrap_or(false))
}

/// Carries out the elements of a patch that hold `$patch`, and gives both lists without them.
fn special_elements(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), StrategicError> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut replace = false;
    for element in patch {
        let Some(directive) = element.get(DIRECTIVE) else {
            plain.push(element);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let identity = element.get(key).ok_or_else(|| StrategicError::NoMergeKey(key.to_owned()))?;
                original.retain(|e| e.get(key) != Some(identity));
            }
            Some("replace") => replace = true,
            Some("merge") => return Err(StrategicError::MergeDirective),
            _ => return Err(StrategicError::Directive(directive.to_string())),
        }
    }
    if replace {
        return Ok((plain.into_iter().map(without_directives).collect(), Vec::new()));
    }
    Ok((original, plain))
}
