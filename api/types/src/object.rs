//! Objects as they are stored and served.
//!
//! The stored bytes are canonical JSON without `resourceVersion`, with `apiVersion`, `kind` and `metadata` first, so that
//! the object is served as head, revision and tail without being parsed. What needs a look inside decodes lazily, once,
//! and shares the result.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::protobuf;
use crate::schema::Schema;

const METADATA_OPEN: &[u8] = b"\"metadata\":{";

/// One version of one object. Immutable; share it as `Arc<Object>`.
pub struct Object {
    revision: u64,
    json: Bytes,
    splice: usize,
    metadata: OnceLock<Result<Arc<ObjectMeta>, DecodeError>>,
    typed: OnceLock<Result<Arc<dyn Any + Send + Sync>, DecodeError>>,
    protobuf: OnceLock<Arc<[u8]>>,
}

/// Bytes that are not an object. Stored bytes never are: this is damage, or a caller's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode object: {0}")]
pub struct DecodeError(String);

#[derive(serde::Deserialize)]
struct MetadataOnly {
    #[serde(default)]
    metadata: ObjectMeta,
}

impl Object {
    /// From stored bytes and the revision of the change that wrote them. Does not parse.
    ///
    /// # Errors
    /// If the bytes do not begin as [`encode`] writes them.
    pub fn from_stored(json: Bytes, revision: u64) -> Result<Self, DecodeError> {
        let at = memchr::memmem::find(&json, METADATA_OPEN)
            .ok_or_else(|| DecodeError("no metadata in stored bytes".to_owned()))?;
        let splice = at + METADATA_OPEN.len();
        Ok(Self {
            revision,
            json,
            splice,
            metadata: OnceLock::new(),
            typed: OnceLock::new(),
            protobuf: OnceLock::new(),
        })
    }

    /// Encodes a value. A `resourceVersion` in it is left out.
    ///
    /// # Errors
    /// If the value is not an object with metadata.
    pub fn from_value(value: &Value, revision: u64) -> Result<Self, DecodeError> {
        Self::from_stored(encode(value)?, revision)
    }

    /// The revision of the change that wrote this version; 0 for an object that is not stored (dry run).
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The stored bytes.
    pub fn stored(&self) -> &Bytes {
        &self.json
    }

    /// The length of the served form.
    pub fn served_len(&self) -> usize {
        self.json.len() + revision_field(self.revision, self.is_bare()).len()
    }

    fn is_bare(&self) -> bool {
        self.json.get(self.splice) == Some(&b'}')
    }

    /// Appends the served form: the stored bytes with `metadata.resourceVersion`.
    pub fn write_served(&self, out: &mut BytesMut) {
        let field = revision_field(self.revision, self.is_bare());
        out.reserve(self.json.len() + field.len());
        out.put_slice(&self.json[..self.splice]);
        out.put_slice(field.as_bytes());
        out.put_slice(&self.json[self.splice..]);
    }

    /// The served form.
    pub fn served(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.write_served(&mut out);
        out.freeze()
    }

    /// The metadata, with `resourceVersion`; decoded at the first call.
    ///
    /// # Errors
    /// If the bytes are damaged.
    pub fn metadata(&self) -> Result<&Arc<ObjectMeta>, DecodeError> {
        self.metadata
            .get_or_init(|| {
                let mut parsed: MetadataOnly =
                    serde_json::from_slice(&self.json).map_err(|e| DecodeError(e.to_string()))?;
                parsed.metadata.resource_version = Some(self.revision.to_string());
                Ok(Arc::new(parsed.metadata))
            })
            .as_ref()
            .map_err(Clone::clone)
    }

    /// The typed object, with `resourceVersion`; decoded at the first call and shared by all later ones of the same type.
    ///
    /// # Errors
    /// If the bytes are not an object of this type.
    pub fn typed<K: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Arc<K>, DecodeError> {
        let shared = self.typed.get_or_init(|| self.decode::<K>().map(|k| Arc::new(k) as Arc<dyn Any + Send + Sync>));
        match shared {
            Ok(any) => match Arc::clone(any).downcast::<K>() {
                Ok(typed) => Ok(typed),
                Err(_) => self.decode::<K>().map(Arc::new),
            },
            Err(error) => Err(error.clone()),
        }
    }

    /// Decodes the served form, every time anew.
    ///
    /// # Errors
    /// If the bytes are not an object of this type.
    pub fn decode<K: DeserializeOwned>(&self) -> Result<K, DecodeError> {
        serde_json::from_slice(&self.served()).map_err(|e| DecodeError(e.to_string()))
    }

    /// The object as a value, with `resourceVersion`; decoded every time anew.
    ///
    /// # Errors
    /// If the bytes are damaged.
    pub fn to_value(&self) -> Result<Value, DecodeError> {
        self.decode()
    }
}

/// The protobuf form.
impl Object {
    /// The object in protobuf, with its envelope. It is kept for those who ask again: for what many want at once, such as
    /// the event of a change.
    ///
    /// # Errors
    /// If the bytes are damaged, or the kind has no protobuf form.
    pub fn shared_protobuf(&self) -> Result<Arc<[u8]>, DecodeError> {
        if let Some(kept) = self.protobuf.get() {
            return Ok(Arc::clone(kept));
        }
        let body = protobuf::body(Schema::builtin(), &self.to_value()?).map_err(|e| DecodeError(e.to_string()))?;
        Ok(Arc::clone(self.protobuf.get_or_init(|| body.into())))
    }

    /// The object in protobuf, without an envelope, as it is in a list. Nothing is kept: a list of everything would keep
    /// everything twice.
    ///
    /// # Errors
    /// If the bytes are damaged, or the kind has no protobuf form.
    pub fn raw_protobuf(&self) -> Result<Vec<u8>, DecodeError> {
        if let Some(kept) = self.protobuf.get() {
            let envelope = protobuf::open(kept).map_err(|e| DecodeError(e.to_string()))?;
            return Ok(envelope.raw.to_vec());
        }
        protobuf::encode_kind(Schema::builtin(), &self.to_value()?).map_err(|e| DecodeError(e.to_string()))
    }
}

impl fmt::Debug for Object {
    /// Names the object; never its contents, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("revision", &self.revision).field("bytes", &self.json.len()).finish()
    }
}

fn revision_field(revision: u64, bare: bool) -> String {
    match (revision, bare) {
        (0, _) => String::new(),
        (_, true) => format!("\"resourceVersion\":\"{revision}\""),
        (_, false) => format!("\"resourceVersion\":\"{revision}\","),
    }
}

/// Canonical bytes of an object: `apiVersion`, `kind`, `metadata` (without `resourceVersion`) first, then the rest in
/// order of key.
///
/// # Errors
/// If the value is not a JSON object with an object `metadata`.
pub fn encode(value: &Value) -> Result<Bytes, DecodeError> {
    let object = value.as_object().ok_or_else(|| DecodeError("not an object".to_owned()))?;
    let metadata =
        object.get("metadata").and_then(Value::as_object).ok_or_else(|| DecodeError("no metadata".to_owned()))?;
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    for key in ["apiVersion", "kind"] {
        if let Some(text) = object.get(key) {
            write_member(&mut out, key, text)?;
            out.push(b',');
        }
    }
    out.extend_from_slice(METADATA_OPEN);
    write_members(&mut out, metadata, &["resourceVersion"])?;
    out.push(b'}');
    let mut rest = Vec::new();
    write_members(&mut rest, object, &["apiVersion", "kind", "metadata"])?;
    if !rest.is_empty() {
        out.push(b',');
        out.extend_from_slice(&rest);
    }
    out.push(b'}');
    Ok(out.into())
}

fn write_members(out: &mut Vec<u8>, map: &Map<String, Value>, except: &[&str]) -> Result<(), DecodeError> {
    let mut first = true;
    for (key, value) in map.iter().filter(|(k, _)| !except.contains(&k.as_str())) {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write_member(out, key, value)?;
    }
    Ok(())
}

fn write_member(out: &mut Vec<u8>, key: &str, value: &Value) -> Result<(), DecodeError> {
    write_json(out, key)?;
    out.push(b':');
    write_json(out, value)
}

fn write_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), DecodeError> {
    serde_json::to_writer(out, value).map_err(|e| DecodeError(e.to_string()))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    fn config_map() -> Value {
        json!({"data": {"metadata": "{\"metadata\":{"}, "kind": "ConfigMap", "apiVersion": "v1",
               "metadata": {"name": "a", "resourceVersion": "7", "labels": {"x": "y"}}})
    }

    #[test]
    fn served_form_is_the_stored_one_with_the_revision() -> Result<(), DecodeError> {
        let object = Object::from_value(&config_map(), 42)?;
        assert!(!object.stored().windows(15).any(|w| w == b"resourceVersion"));
        let served: Value = serde_json::from_slice(&object.served()).map_err(|e| DecodeError(e.to_string()))?;
        assert_eq!(served["metadata"]["resourceVersion"], "42");
        assert_eq!(served["data"], config_map()["data"]);
        assert_eq!(object.served().len(), object.served_len());
        Ok(())
    }

    #[test]
    fn typed_decode_is_shared() -> Result<(), DecodeError> {
        let object = Object::from_value(&config_map(), 42)?;
        let first = object.typed::<ConfigMap>()?;
        assert_eq!(first.metadata.resource_version.as_deref(), Some("42"));
        assert!(Arc::ptr_eq(&first, &object.typed::<ConfigMap>()?));
        assert_eq!(object.metadata()?.labels.as_ref().map(|l| l["x"].as_str()), Some("y"));
        Ok(())
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(Object::from_value(&json!([1]), 1).is_err());
        assert!(Object::from_value(&json!({"kind": "x"}), 1).is_err());
        assert!(Object::from_stored(Bytes::from_static(b"{}"), 1).is_err());
    }

    #[test]
    fn empty_metadata_still_serves_valid_json() -> Result<(), DecodeError> {
        let object = Object::from_value(&json!({"metadata": {}, "kind": "X"}), 3)?;
        let served: Value = serde_json::from_slice(&object.served()).map_err(|e| DecodeError(e.to_string()))?;
        assert_eq!(served["metadata"]["resourceVersion"], "3");
        Ok(())
    }
}
