//! Kubernetes' protobuf form of objects, which client-go and `kubectl create` send: `k8s\0`, an envelope that names the kind,
//! and the object by the numbers of [`crate::schema`].
//!
//! [`open`] and [`decode`] read what upstream's marshaller writes, as the JSON that upstream would make of it: what JSON
//! leaves out if it is zero is left out, what is a pointer is kept. [`encode`] and [`enclose`] write the same bytes as
//! upstream. Bytes from outside cause errors, never a panic; nesting is bounded.

mod decode;
mod encode;
mod error;
mod reader;
mod special;
mod writer;

use serde_json::{Map, Value};

pub use error::{DecodeError, EncodeError};

use crate::name::Str;
use crate::schema::{DefinitionId, Schema};
use reader::Reader;
use writer::Writer;

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// What stands behind an object in its envelope: content encoding and type, always empty.
pub const ENVELOPE_TAIL: &[u8] = b"\x1a\x00\x22\x00";

const OBJECT_META: &str = "apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "apimachinery.pkg.apis.meta.v1.ListMeta";

/// What is around an object: upstream's `runtime.Unknown`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// May be empty.
    pub api_version: String,
    /// May be empty.
    pub kind: String,
    /// The object.
    pub raw: &'a [u8],
}

/// Opens a body.
///
/// # Errors
/// If it is no envelope.
pub fn open(body: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    if body.is_empty() {
        return Err(DecodeError::Empty("data"));
    }
    let inner = body.strip_prefix(MAGIC).ok_or(DecodeError::Prefix)?;
    if inner.is_empty() {
        return Err(DecodeError::Empty("body"));
    }
    let mut envelope = Envelope { api_version: String::new(), kind: String::new(), raw: &[] };
    let mut reader = Reader::new(inner);
    while let Some((number, payload)) = reader.next()? {
        match number {
            1 => {
                let mut reader = Reader::new(payload.bytes("typeMeta")?);
                while let Some((number, payload)) = reader.next()? {
                    match number {
                        1 => envelope.api_version = payload.text("apiVersion")?,
                        2 => envelope.kind = payload.text("kind")?,
                        _ => {}
                    }
                }
            }
            2 => envelope.raw = payload.bytes("raw")?,
            _ => {}
        }
    }
    Ok(envelope)
}

/// Puts an object into an envelope.
pub fn enclose(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = envelope_head(api_version, kind, raw.len());
    out.reserve(raw.len() + ENVELOPE_TAIL.len());
    out.extend_from_slice(raw);
    out.extend_from_slice(ENVELOPE_TAIL);
    out
}

/// What stands before an object of a length; [`ENVELOPE_TAIL`] stands behind it.
pub fn envelope_head(api_version: &str, kind: &str, length: usize) -> Vec<u8> {
    let mut head = Writer::with_capacity(api_version.len() + kind.len() + 32);
    head.close(2, length);
    head.nested(1, |writer| {
        writer.field(2, kind.as_bytes());
        writer.field(1, api_version.as_bytes());
    });
    let mut out = MAGIC.to_vec();
    out.append(&mut head.finish());
    out
}

/// An object as an item of a list. Every list of Kubernetes has its metadata as field 1 and its items as field 2.
pub fn list_item(raw: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(8);
    writer.close(2, raw.len());
    let mut out = writer.finish();
    out.extend_from_slice(raw);
    out
}

/// A list's metadata, as what stands before its items.
///
/// # Errors
/// If it is no list metadata.
pub fn list_metadata(schema: &Schema, metadata: &Value) -> Result<Vec<u8>, EncodeError> {
    as_metadata(schema, LIST_META, metadata)
}

/// An event of a watch, with the length that goes before it.
pub fn watch_frame(event_type: &str, body: &[u8]) -> Vec<u8> {
    let mut head = Writer::with_capacity(32);
    let mut raw = Writer::with_capacity(8);
    raw.close(1, body.len());
    let raw = raw.finish();
    head.close(2, raw.len() + body.len());
    head.field(1, event_type.as_bytes());
    let head = head.finish();
    let length = head.len() + raw.len() + body.len();
    let mut out = Vec::with_capacity(4 + length);
    // A body is a request's, which is limited, or made of one: it never comes near 4 GiB.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    for part in [&head[..], &raw, body] {
        out.extend_from_slice(part);
    }
    out
}

/// Reads an object of a structure, without `apiVersion` and `kind`, which are not in it.
///
/// # Errors
/// If the bytes are not what the structure says.
pub fn decode(schema: &Schema, id: DefinitionId, raw: &[u8]) -> Result<Map<String, Value>, DecodeError> {
    let mut object = Map::new();
    decode::Decoder::new(schema).structure(id, raw, &mut object)?;
    Ok(object)
}

/// Writes an object of a structure; its `apiVersion` and `kind` are for [`enclose`].
///
/// # Errors
/// If the object does not fit the structure.
pub fn encode(schema: &Schema, id: DefinitionId, object: &Value) -> Result<Vec<u8>, EncodeError> {
    let mut encoder = encode::Encoder::new(schema);
    encoder.structure(id, Some(object))?;
    Ok(encoder.finish())
}

/// Writes an object that says what it is, without an envelope.
///
/// # Errors
/// If its kind is not known, or it does not fit it.
pub fn encode_kind(schema: &Schema, object: &Value) -> Result<Vec<u8>, EncodeError> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if group == "meta.k8s.io" && kind == "PartialObjectMetadata" {
        return as_metadata(schema, OBJECT_META, object.get("metadata").unwrap_or(&Value::Null));
    }
    let id = schema.by_kind(group, version, kind).filter(|id| has_form(schema, *id));
    encode(schema, id.ok_or_else(|| EncodeError::Kind(named(kind)))?, object)
}

/// A whole body for an object that says what it is.
///
/// # Errors
/// If its kind is not known, or it does not fit it.
pub fn body(schema: &Schema, object: &Value) -> Result<Vec<u8>, EncodeError> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    Ok(enclose(text("apiVersion"), text("kind"), &encode_kind(schema, object)?))
}

/// Whether a structure has a protobuf form: custom resources do not.
pub fn has_form(schema: &Schema, id: DefinitionId) -> bool {
    !schema.definition(id).message().entries().is_empty()
}

/// A message whose field 1 is metadata.
fn as_metadata(schema: &Schema, structure: &'static str, metadata: &Value) -> Result<Vec<u8>, EncodeError> {
    let id = schema.by_name(structure).ok_or(EncodeError::Kind(structure.into()))?;
    let mut writer = Writer::with_capacity(256);
    writer.field(1, &encode(schema, id, metadata)?);
    Ok(writer.finish())
}

/// A name for error texts.
fn named(name: &str) -> Str {
    name.to_owned().into()
}

#[cfg(test)]
mod tests;
