//! Objects as rows, and as their metadata alone.

use jiff::Timestamp;
use navarch_registry::{Resource, convert};
use navarch_types::{ApiError, Object};
use serde_json::{Value, json};

/// What of each object goes with its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    /// Its metadata.
    Metadata,
    /// All of it.
    Object,
    /// Nothing.
    None,
}

impl Include {
    /// From the query's `includeObject`.
    ///
    /// # Errors
    /// 400 for other words.
    pub fn parse(text: Option<&str>) -> Result<Self, ApiError> {
        match text {
            None | Some("" | "Metadata") => Ok(Self::Metadata),
            Some("Object") => Ok(Self::Object),
            Some("None") => Ok(Self::None),
            Some(other) => Err(ApiError::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        }
    }
}

/// A `Table` of objects. `metadata` is that of the list, or of the one object.
///
/// # Errors
/// 500 if stored bytes are damaged.
pub fn table<'o>(
    resource: &Resource,
    objects: impl Iterator<Item = &'o Object>,
    metadata: Value,
    include: Include,
) -> Result<Value, ApiError> {
    let now = Timestamp::now();
    let columns: Vec<Value> = resource
        .strategy
        .columns()
        .iter()
        .map(|c| {
            json!({"name": c.name, "type": c.column_type, "format": c.format, "description": c.description,
                   "priority": c.priority})
        })
        .collect();
    let mut rows = Vec::new();
    for object in objects {
        let value = object.to_value().map_err(ApiError::internal)?;
        // Strategies know objects in their storage version.
        let cells = if resource.serves_stored() {
            resource.strategy.row(&value, now)
        } else {
            resource.strategy.row(&convert::to_storage(resource, value.clone()), now)
        };
        let mut row = json!({"cells": cells});
        match include {
            Include::Metadata => row["object"] = partial(&value),
            Include::Object => row["object"] = value,
            Include::None => {}
        }
        rows.push(row);
    }
    Ok(json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    }))
}

/// An object's metadata as an object of its own.
pub fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}
