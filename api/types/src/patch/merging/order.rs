//! The order of merged lists: `$setElementOrder` before the patch's own order before that of the object.

use serde_json::Value;

use super::{DIRECTIVE, Object, SET_ORDER, Shape, StrategicError, list, without_directives};
use crate::schema::Schema;

/// Carries out all `$setElementOrder/<list>` of a patch, together with the lists they are about.
pub(super) fn apply_directives(
    schema: &Schema,
    shape: Shape,
    original: &mut Object,
    patch: &mut Object,
) -> Result<(), StrategicError> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with("$setElementOrder")).cloned().collect();
    for directive in directives {
        let name = directive.strip_prefix(SET_ORDER).ok_or(StrategicError::ElementOrder)?;
        let Some(Value::Array(wanted)) = patch.remove(&directive) else { return Err(StrategicError::ElementOrder) };
        let taken = |value: Option<Value>| match value {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(StrategicError::ElementOrder),
        };
        let (shape, field) = shape.field(schema, name)?;
        let field = field.ok_or(StrategicError::ElementOrder)?;
        let key = field.patch_merge_key.as_deref();
        let old = taken(original.remove(name))?;
        let new = taken(patch.remove(name))?;
        check(new.as_deref().unwrap_or_default(), &wanted, key)?;
        let live = old.clone().unwrap_or_default();
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => match without_directives(Value::Array(new)) {
                Value::Array(new) => new,
                _ => continue,
            },
            (Some(old), Some(new)) if field.patch_merge => list::merge(schema, shape.element(schema), field, old, new)?,
            (Some(_), Some(new)) => new,
        };
        list::are_objects(merged.iter())?;
        let merged = arrange(merged, &wanted, &live, key)?;
        original.insert(name.to_owned(), Value::Array(merged));
    }
    Ok(())
}

/// The elements of the patch's list must stand in the wanted order, and be in it.
fn check(patch: &[Value], wanted: &[Value], key: Option<&str>) -> Result<(), StrategicError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut rest = wanted.iter();
    for element in patch.iter().filter(|element| element.get(DIRECTIVE).is_none()) {
        let element = identity(element, key)?;
        loop {
            let Some(candidate) = rest.next() else { return Err(StrategicError::ElementOrder) };
            if identity(candidate, key)? == element {
                break;
            }
        }
    }
    Ok(())
}

fn identity<'v>(element: &'v Value, key: Option<&str>) -> Result<&'v Value, StrategicError> {
    match key {
        None => Ok(element),
        Some(key) => element.get(key).ok_or_else(|| StrategicError::NoMergeKey(key.to_owned())),
    }
}

/// Puts elements named in `wanted` into its order, and the others between them where they stood in `live`.
pub(super) fn arrange(
    elements: Vec<Value>,
    wanted: &[Value],
    live: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, StrategicError> {
    let position = |list: &[Value], element: &Value| -> Result<Option<usize>, StrategicError> {
        let this = identity(element, key)?;
        for (index, other) in list.iter().enumerate() {
            if identity(other, key)? == this {
                return Ok(Some(index));
            }
        }
        Ok(None)
    };
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for element in elements {
        let in_live = position(live, &element)?;
        match position(wanted, &element)? {
            Some(at) => ours.push((at, in_live, element)),
            None => others.push((in_live, element)),
        }
    }
    ours.sort_by_key(|(at, ..)| *at);
    others.sort_by_key(|(at, _)| at.unwrap_or(usize::MAX));
    let mut arranged = Vec::with_capacity(ours.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, ours_at, element) in ours {
        let goes_first =
            |(at, _): &(Option<usize>, Value)| matches!((at, ours_at), (Some(other), Some(ours)) if *other < ours);
        while let Some((_, other)) = others.next_if(goes_first) {
            arranged.push(other);
        }
        arranged.push(element);
    }
    arranged.extend(others.map(|(_, element)| element));
    Ok(arranged)
}
