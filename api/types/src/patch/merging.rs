//! Strategic merge patches: like merge patches, but lists whose elements have a key are merged, and directives in the patch
//! (`$patch`, `$retainKeys`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…`) say what else to do. Which lists merge,
//! and by which key, comes from the schema.

mod list;
mod order;

use serde_json::{Map, Value};

use super::unprocessable;
use crate::error::ApiError;
use crate::name::GroupVersionKind;
use crate::schema::{DefinitionId, Field, Schema, Type};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

type Object = Map<String, Value>;

/// Why a patch does not apply.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum StrategicError {
    #[error("invalid JSON document")]
    NoObject,
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("invalid patch format of primitive list")]
    PrimitiveList,
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    #[error("invalid patch format of setElementOrder list")]
    ElementOrder,
    #[error("unknown patch type: {0}")]
    Directive(String),
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirective,
    #[error("list element does not contain declared merge key: {0}")]
    NoMergeKey(String),
    #[error("list of mixed element types")]
    MixedList,
    #[error("cannot merge lists without merge key")]
    NoDeclaredKey,
    #[error("unable to find api field in struct {0} for the json field {1:?}")]
    UnknownField(String, String),
}

pub(super) fn apply(
    schema: &Schema,
    kind: &GroupVersionKind,
    current: Value,
    patch: &Value,
) -> Result<Value, ApiError> {
    let shape = match schema.by_gvk(kind) {
        Some(id) => Shape::Struct(id),
        None => return Err(ApiError::bad_request("strategic merge patch is not supported for this resource")),
    };
    let merged = match (current, patch) {
        (Value::Object(current), Value::Object(patch)) => merge_objects(schema, shape, current, patch.clone()),
        _ => Err(StrategicError::NoObject),
    };
    merged.map(Value::Object).map_err(|error| match error {
        StrategicError::ListOfLists => unprocessable(&error.to_string()),
        other => ApiError::bad_request(other.to_string()),
    })
}

/// What the schema knows about a value.
#[derive(Clone, Copy)]
enum Shape {
    Struct(DefinitionId),
    /// A map or list of these.
    Of(Type),
    /// Nothing; such values are merged without keys.
    Free,
}

impl Shape {
    fn of(kind: Type, schema: &Schema) -> Self {
        match kind {
            Type::Struct(id) => Self::Struct(id),
            Type::List(element) | Type::Map(element) => Self::Of(schema.element(element)),
            _ => Self::Free,
        }
    }

    /// The elements of a list.
    fn element(self, schema: &Schema) -> Self {
        match self {
            Self::Of(element) => Self::of(element, schema),
            Self::Struct(_) | Self::Free => Self::Free,
        }
    }

    /// A field, with its rules if it is one of a structure.
    fn field<'s>(self, schema: &'s Schema, name: &str) -> Result<(Self, Option<&'s Field>), StrategicError> {
        match self {
            Self::Struct(id) => {
                let definition = schema.definition(id);
                let field = definition
                    .field(name)
                    .ok_or_else(|| StrategicError::UnknownField(definition.short_name().to_owned(), name.to_owned()))?;
                Ok((Self::of(field.field_type, schema), Some(field)))
            }
            Self::Of(element) => Ok((Self::of(element, schema), None)),
            Self::Free => Ok((Self::Free, None)),
        }
    }
}

/// Merges a patch into an object.
fn merge_objects(
    schema: &Schema,
    shape: Shape,
    mut original: Object,
    mut patch: Object,
) -> Result<Object, StrategicError> {
    match patch.remove(DIRECTIVE) {
        None => {}
        Some(directive) => {
            return match directive.as_str() {
                Some("replace") => Ok(patch),
                Some("delete") => Ok(Object::new()),
                _ => Err(StrategicError::Directive(directive.to_string())),
            };
        }
    }
    retain_keys(&mut original, &mut patch)?;
    order::apply_directives(schema, shape, &mut original, &mut patch)?;
    for (key, value) in patch {
        if let Some(name) = key.strip_prefix(DELETE_PRIMITIVES) {
            let unwanted = value.as_array().ok_or(StrategicError::PrimitiveList)?;
            if let Some(Value::Array(list)) = original.get_mut(name) {
                list.retain(|element| !unwanted.contains(element));
            }
            continue;
        }
        if key.starts_with("$deleteFromPrimitiveList") {
            return Err(StrategicError::PrimitiveList);
        }
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let merged = match (original.remove(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                let (shape, field) = shape.field(schema, &key)?;
                match field {
                    Some(field) if field.patch_replace => Value::Object(new),
                    _ => Value::Object(merge_objects(schema, shape, old, new)?),
                }
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                let (shape, field) = shape.field(schema, &key)?;
                match field {
                    Some(field) if field.patch_merge => {
                        Value::Array(list::merge(schema, shape.element(schema), field, old, new)?)
                    }
                    _ => Value::Array(new),
                }
            }
            (_, value) => without_directives(value),
        };
        original.insert(key, merged);
    }
    Ok(original)
}

/// `$retainKeys`: fields of the original that it does not list go; the patch may set no others.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), StrategicError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let keys = keys.as_array().ok_or(StrategicError::RetainKeys)?;
    let listed = |name: &str| keys.iter().any(|key| key.as_str() == Some(name));
    let directive = |name: &str| name.starts_with(DELETE_PRIMITIVES) || name.starts_with(SET_ORDER);
    if patch.iter().any(|(name, value)| !value.is_null() && !directive(name) && !listed(name)) {
        return Err(StrategicError::RetainKeys);
    }
    original.retain(|name, _| listed(name));
    Ok(())
}

/// A value of the patch that has nothing to merge with: without nulls, directives, and elements that are only deletions.
fn without_directives(value: Value) -> Value {
    match value {
        Value::Object(mut map) => {
            if map.remove(DIRECTIVE).is_some_and(|d| d == "delete") {
                return Value::Object(Object::new());
            }
            let plain = |name: &str| {
                name != RETAIN_KEYS && !name.starts_with(SET_ORDER) && !name.starts_with(DELETE_PRIMITIVES)
            };
            let kept = map.into_iter().filter(|(name, value)| plain(name) && !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_directives(value))).collect())
        }
        Value::Array(list) => {
            let special = |element: &Value| match element.get(DIRECTIVE).and_then(Value::as_str) {
                Some("delete") => true,
                Some("replace") => element.as_object().is_some_and(|map| map.len() == 1),
                _ => false,
            };
            Value::Array(list.into_iter().filter(|e| !special(e)).map(without_directives).collect())
        }
        scalar => scalar,
    }
}

#[cfg(test)]
mod tests;
