//! Answers in protobuf.

use std::sync::Arc;

use bytes::Bytes;
use navarch_types::protobuf;
use navarch_types::schema::Schema;
use navarch_types::{ApiError, Object};
use serde_json::Value;

use super::list_body::ListBody;
use super::table;

/// Longer lists are encoded on a thread for such work: some ten microseconds an object add up.
const INLINE_MAX: usize = 100;

/// A whole body for an object that says what it is.
pub(super) fn encode(value: &Value) -> Result<Vec<u8>, ApiError> {
    protobuf::body(Schema::builtin(), value).map_err(ApiError::internal)
}

/// A list of objects, or of their metadata alone. Its length stands before it, so every item is made before any is sent.
pub(super) async fn list(
    api_version: String,
    kind: String,
    metadata: &Value,
    objects: Vec<Arc<Object>>,
    partial: bool,
) -> Result<ListBody, ApiError> {
    let start = protobuf::list_metadata(Schema::builtin(), metadata).map_err(ApiError::internal)?;
    let items = if objects.len() <= INLINE_MAX {
        items(&objects, partial)?
    } else {
        let made = actix_web::web::block(move || items(&objects, partial)).await;
        made.map_err(ApiError::internal)??
    };
    let length = start.len() + items.iter().map(Bytes::len).sum::<usize>();
    let mut head = protobuf::envelope_head(&api_version, &kind, length);
    head.extend_from_slice(&start);
    Ok(ListBody::made(head.into(), items, protobuf::ENVELOPE_TAIL))
}

fn items(objects: &[Arc<Object>], partial: bool) -> Result<Vec<Bytes>, ApiError> {
    objects.iter().map(|object| Ok(protobuf::list_item(&item(object, partial)?).into())).collect()
}

fn item(object: &Object, partial: bool) -> Result<Vec<u8>, ApiError> {
    if !partial {
        return object.raw_protobuf().map_err(ApiError::internal);
    }
    let value = table::partial(&object.to_value().map_err(ApiError::internal)?);
    protobuf::encode_kind(Schema::builtin(), &value).map_err(ApiError::internal)
}
