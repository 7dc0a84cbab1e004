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

use crate::name::{GroupVersionKind, Str};
use crate::schema::{DefinitionId, Schema};
use reader::Reader;
use writer::Writer;

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";

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
    let mut writer = Writer::with_capacity(raw.len() + api_version.len() + kind.len() + 32);
    // Content encoding and type are always empty.
    writer.field(4, b"");
    writer.field(3, b"");
    writer.field(2, raw);
    writer.nested(1, |writer| {
        writer.field(2, kind.as_bytes());
        writer.field(1, api_version.as_bytes());
    });
    let mut out = writer.finish();
    out.splice(0..0, MAGIC.iter().copied());
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

/// A whole body for an object of a kind.
///
/// # Errors
/// If the kind is not known, or the object does not fit it.
pub fn body(schema: &Schema, kind: &GroupVersionKind, object: &Value) -> Result<Vec<u8>, EncodeError> {
    let id = schema.by_gvk(kind).ok_or_else(|| EncodeError::Kind(kind.kind.clone()))?;
    Ok(enclose(&kind.api_version(), &kind.kind, &encode(schema, id, object)?))
}

/// A name for error texts.
fn named(name: &str) -> Str {
    name.to_owned().into()
}

#[cfg(test)]
mod tests;
