//! `/openapi/v2` and `/openapi/v3`: what clients learn about kinds, fields and parameters from.
//!
//! Made from the table of facts and the table of resources when a document is first asked for, and kept compressed: a
//! server that nobody asks holds none. The hashes in the index depend on the build alone, so that the index costs nothing
//! and clients keep their caches over restarts.

mod definitions;
mod describe;
mod document;
mod operations;
mod parameters;
mod protobuf;

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use navarch_types::schema::Schema;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// The version that documents name.
const VERSION: &str = "v1.36.0";
/// The media types that clients ask protobuf by; the second is not a valid one, and older.
const V2_PROTOBUF: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
];

/// A document in one form.
#[derive(Clone, Debug)]
pub struct Document {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `ETag`, with its quotes.
    pub etag: String,
    /// The content, compressed.
    pub gzip: Bytes,
}

impl Document {
    fn new(content_type: &'static str, content: &[u8]) -> std::io::Result<Self> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content)?;
        let gzip = Bytes::from(encoder.finish()?);
        let etag = format!("\"{}\"", hex(&Sha256::digest(content)));
        Ok(Self { content_type, etag, gzip })
    }

    /// The content as it is, for clients that take no compression.
    ///
    /// # Errors
    /// Never for a document made here.
    pub fn plain(&self) -> std::io::Result<Bytes> {
        let mut content = Vec::new();
        flate2::read::GzDecoder::new(self.gzip.as_ref()).read_to_end(&mut content)?;
        Ok(content.into())
    }
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum OpenApiError {
    /// Nothing is served at this path.
    #[error("the server could not find the requested resource")]
    NotFound,
    /// The client takes no form that there is; 406.
    #[error("only the following media types are accepted: {0}")]
    NotAcceptable(&'static str),
    /// Compressing failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// By path, and whether in protobuf.
type Kept = HashMap<(String, bool), Arc<Document>>;

/// What is kept: one document a group and version, and two of version 2.
static DOCUMENTS: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);
/// One document is made at a time, so that many who ask at once take no more memory than one.
static MAKING: Mutex<()> = Mutex::new(());

/// The document at a path (`/openapi/v2`, `/openapi/v3`, `/openapi/v3/apis/apps/v1`), in a form that `accept` allows.
///
/// The first request for a document takes some milliseconds, for `/openapi/v2` some hundred: callers do not run it on a
/// thread that serves others.
///
/// # Errors
/// If there is none.
pub fn document(path: &str, accept: Option<&str>) -> Result<Arc<Document>, OpenApiError> {
    let schema = Schema::builtin();
    let path = path.trim_matches('/');
    let protobuf = form(accept, path == "openapi/v2")?;
    let key = (path.to_owned(), protobuf);
    if let Some(found) = DOCUMENTS.lock().get(&key) {
        return Ok(Arc::clone(found));
    }
    let _alone = MAKING.lock();
    if let Some(found) = DOCUMENTS.lock().get(&key) {
        return Ok(Arc::clone(found));
    }
    let content = match path.strip_prefix("openapi/").ok_or(OpenApiError::NotFound)? {
        "v2" if protobuf => document::v2_protobuf(schema, VERSION),
        "v2" => document::v2(schema, VERSION),
        "v3" => index(schema).to_string().into_bytes(),
        path => {
            let (group, version) = path.strip_prefix("v3/").and_then(group_version).ok_or(OpenApiError::NotFound)?;
            let part = document::Part::new(schema, group, version).ok_or(OpenApiError::NotFound)?;
            document::v3(&part, VERSION)
        }
    };
    let content_type = if protobuf { V2_PROTOBUF[0] } else { "application/json" };
    let made = Arc::new(Document::new(content_type, &content)?);
    DOCUMENTS.lock().insert(key, Arc::clone(&made));
    Ok(made)
}

/// Whether protobuf is wanted, by the first form in the list that there is.
fn form(accept: Option<&str>, version_2: bool) -> Result<bool, OpenApiError> {
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else { return Ok(false) };
    for media in accept.split(',').map(|part| part.split(';').next().unwrap_or_default().trim()) {
        match media {
            "application/json" | "application/*" | "*/*" => return Ok(false),
            media if version_2 && V2_PROTOBUF.contains(&media) => return Ok(true),
            _ => {}
        }
    }
    Err(OpenApiError::NotAcceptable(if version_2 {
        "application/json, application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    } else {
        "application/json"
    }))
}

/// `api/v1` or `apis/apps/v1`.
fn group_version(path: &str) -> Option<(&str, &str)> {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => Some(("", version)),
        ["apis", group, version] => Some((group, version)),
        _ => None,
    }
}

fn index(schema: &Schema) -> Value {
    let mut paths = Map::new();
    for (group, version) in document::group_versions(schema) {
        let root = operations::root(group, version);
        let mut hash = Sha256::new();
        for part in [VERSION, env!("CARGO_PKG_VERSION"), navarch_types::facts::TABLE, root.as_str()] {
            hash.update(part.as_bytes());
        }
        let url = format!("/openapi/v3/{root}?hash={}", hex(&hash.finalize()));
        paths.insert(root, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::*;

    fn json(path: &str) -> Value {
        serde_json::from_slice(&document(path, None).unwrap().plain().unwrap()).unwrap()
    }

    /// Every `$ref` in a value.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|v| references(v, found));
            }
            Value::Array(list) => list.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }

    #[test]
    fn every_document_of_the_index_is_whole() {
        let index = json("/openapi/v3");
        let paths = index["paths"].as_object().unwrap();
        assert!(paths.len() > 30);
        for (root, entry) in paths {
            let url = entry["serverRelativeURL"].as_str().unwrap();
            assert!(url.starts_with(&format!("/openapi/v3/{root}?hash=")));
            let document = json(&format!("/openapi/v3/{root}"));
            let schemas = document["components"]["schemas"].as_object().unwrap();
            let mut found = BTreeSet::new();
            references(&document, &mut found);
            for reference in found {
                let name = reference.strip_prefix("#/components/schemas/").unwrap();
                assert!(schemas.contains_key(name), "{root}: {name}");
            }
        }
    }

    #[test]
    fn what_kubectl_looks_for() {
        let apps = json("/openapi/v3/apis/apps/v1");
        let patch = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({"group": "apps", "version": "v1", "kind": "Deployment"})
        );
        let names: Vec<&str> =
            patch["parameters"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
        assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
        let deployment = &apps["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"];
        assert_eq!(deployment["x-kubernetes-group-version-kind"][0]["kind"], "Deployment");
        assert!(deployment["properties"]["spec"]["description"].as_str().is_some_and(|d| !d.is_empty()));
        let containers = &apps["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    }

    #[test]
    fn version_2_is_whole_in_both_forms() {
        let document_2 = json("/openapi/v2");
        let definitions = document_2["definitions"].as_object().unwrap();
        let mut found = BTreeSet::new();
        references(&document_2, &mut found);
        for reference in found {
            assert!(definitions.contains_key(reference.strip_prefix("#/definitions/").unwrap()), "{reference}");
        }
        assert!(definitions.len() > 600);
        for accept in V2_PROTOBUF {
            let protobuf = document("/openapi/v2", Some(accept)).unwrap();
            assert_eq!(protobuf.content_type, V2_PROTOBUF[0]);
            assert!(protobuf.plain().unwrap().starts_with(&[0x0a, 3, b'2', b'.', b'0']));
        }
        let both = format!("{},application/json", V2_PROTOBUF[1]);
        assert_eq!(document("/openapi/v2", Some(&both)).unwrap().content_type, V2_PROTOBUF[0]);
        assert_eq!(document("/openapi/v2", Some("application/json;q=0.9")).unwrap().content_type, "application/json");
    }

    #[test]
    fn what_is_not_there() {
        for path in ["/openapi", "/openapi/v4", "/openapi/v3/api/v2", "/openapi/v3/apis/none/v1", "/openapi/v3/x"] {
            assert!(matches!(document(path, None), Err(OpenApiError::NotFound)), "{path}");
        }
        assert!(matches!(document("/openapi/v2", Some("text/html")), Err(OpenApiError::NotAcceptable(_))));
    }
}
