//! Answers in the form that the client wants.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use bytes::{Bytes, BytesMut};
use navarch_registry::Resource;
use navarch_types::schema::Schema;
use navarch_types::{ApiError, Object, ObjectList, ResourceResponse};
use serde::Serialize;
use serde_json::{Value, json};

use super::accept::{Form, Syntax, View};
use super::list_body::{GzipListBody, ListBody};
use super::protobuf;
use super::table::{self, Include};
use crate::info::Query;
use crate::pipeline::Answer;

/// Answers from this size on are compressed for clients that take it, as upstream does.
const GZIP_BYTES_MIN: u64 = 128 * 1024;

/// Whether an `Accept-Encoding` header takes gzip.
pub fn accepts_gzip(header: Option<&str>) -> bool {
    header.is_some_and(|h| h.split(',').any(|e| e.trim().split(';').next() == Some("gzip")))
}

/// Whether a resource's objects have a protobuf form.
pub fn has_protobuf(resource: &Resource) -> bool {
    navarch_types::protobuf::has_form(Schema::builtin(), resource.definition)
}

/// An error as a Status.
pub fn error(error: &ApiError, form: Form) -> HttpResponse {
    let status = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    if let Some(seconds) = error.status().details.as_ref().and_then(|d| d.retry_after_seconds) {
        response.insert_header((header::RETRY_AFTER, seconds.to_string()));
    }
    if status == StatusCode::UNAUTHORIZED {
        response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"kubernetes\""));
    }
    let form = Form { view: View::Full, ..form };
    match encode(error.status(), form) {
        Ok(bytes) => response.content_type(form.syntax.media_type()).body(bytes),
        Err(_) => response.finish(),
    }
}

/// The answer of the pipeline.
///
/// # Errors
/// 500 if stored bytes are damaged, 400 for a bad `includeObject`.
pub async fn answer(
    resource: &Resource,
    answer: Answer,
    form: Form,
    query: &Query,
    compress: bool,
) -> Result<HttpResponse, ApiError> {
    let mut response = match answer.response {
        ResourceResponse::Object(found) => object(resource, &found, 200, form, query)?,
        ResourceResponse::Created(made) => object(resource, &made, 201, form, query)?,
        ResourceResponse::List(found) => list(resource, found, form, query, compress).await?,
        ResourceResponse::Status(status) => {
            let code = if status.code == 0 { 200 } else { status.code };
            plain(&*status, code, Form { view: View::Full, ..form })?
        }
        ResourceResponse::Value(code, value) => plain(&value, code, Form { view: View::Full, ..form })?,
    };
    for text in answer.warnings {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        if let Ok(value) = header::HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    Ok(response)
}

fn status_code(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::OK)
}

fn bytes_response(code: u16, form: Form, bytes: Bytes) -> HttpResponse {
    HttpResponse::build(status_code(code)).content_type(form.syntax.media_type()).body(bytes)
}

/// Any value in this syntax.
pub(super) fn plain<T: Serialize>(value: &T, code: u16, form: Form) -> Result<HttpResponse, ApiError> {
    Ok(bytes_response(code, form, encode(value, form)?))
}

/// Encodes in this syntax.
pub(super) fn encode<T: Serialize>(value: &T, form: Form) -> Result<Bytes, ApiError> {
    let bytes = match form.syntax {
        Syntax::Json if form.pretty => serde_json::to_vec_pretty(value).map_err(ApiError::internal)?,
        Syntax::Json => serde_json::to_vec(value).map_err(ApiError::internal)?,
        Syntax::Protobuf => protobuf::encode(&serde_json::to_value(value).map_err(ApiError::internal)?)?,
        Syntax::Yaml => serde_saphyr::to_string(value).map_err(ApiError::internal)?.into_bytes(),
    };
    Ok(bytes.into())
}

fn object(
    resource: &Resource,
    object: &Arc<Object>,
    code: u16,
    form: Form,
    query: &Query,
) -> Result<HttpResponse, ApiError> {
    match form.view {
        View::Full if form.syntax == Syntax::Json && !form.pretty => Ok(bytes_response(code, form, object.served())),
        View::Full => plain(&object.to_value().map_err(ApiError::internal)?, code, form),
        View::Metadata => plain(&table::partial(&object.to_value().map_err(ApiError::internal)?), code, form),
        View::Table => {
            let include = Include::parse(query.get("includeObject"))?;
            let metadata = json!({"resourceVersion": object.revision().to_string()});
            plain(&table::table(resource, std::iter::once(&**object), metadata, include)?, code, form)
        }
    }
}

fn list_metadata(found: &ObjectList) -> Value {
    let mut metadata = json!({"resourceVersion": found.revision.to_string()});
    if let Some(token) = &found.continue_token {
        metadata["continue"] = token.as_str().into();
    }
    if let Some(remaining) = found.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    metadata
}

async fn list(
    resource: &Resource,
    found: ObjectList,
    form: Form,
    query: &Query,
    compress: bool,
) -> Result<HttpResponse, ApiError> {
    let metadata = list_metadata(&found);
    match form.view {
        View::Full if form.syntax == Syntax::Json && !form.pretty => {
            Ok(list_response(ListBody::new(list_head(resource, &metadata), found.items), form, compress))
        }
        View::Full if form.syntax == Syntax::Protobuf => {
            let (version, kind) = (resource.kind.api_version(), resource.list_kind());
            let body = protobuf::list(version, kind, &metadata, found.items, false).await?;
            Ok(list_response(body, form, compress))
        }
        View::Metadata if form.syntax == Syntax::Protobuf => {
            let (version, kind) = ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned());
            let body = protobuf::list(version, kind, &metadata, found.items, true).await?;
            Ok(list_response(body, form, compress))
        }
        View::Full => {
            let items = values(&found)?;
            let kind = resource.list_kind();
            let value =
                json!({"kind": kind, "apiVersion": resource.kind.api_version(), "metadata": metadata, "items": items});
            plain(&value, 200, form)
        }
        View::Metadata => {
            let items: Vec<Value> = values(&found)?.iter().map(table::partial).collect();
            let value = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata, "items": items});
            plain(&value, 200, form)
        }
        View::Table => {
            let include = Include::parse(query.get("includeObject"))?;
            plain(&table::table(resource, found.items.iter().map(|o| &**o), metadata, include)?, 200, form)
        }
    }
}

fn list_response(body: ListBody, form: Form, compress: bool) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.content_type(form.syntax.media_type());
    if compress && body.len() >= GZIP_BYTES_MIN {
        response.insert_header((header::CONTENT_ENCODING, "gzip"));
        response.insert_header((header::VARY, "Accept-Encoding"));
        return response.body(GzipListBody::new(body));
    }
    response.body(body)
}

fn values(found: &ObjectList) -> Result<Vec<Value>, ApiError> {
    found.items.iter().map(|o| o.to_value().map_err(ApiError::internal)).collect()
}

fn list_head(resource: &Resource, metadata: &Value) -> Bytes {
    let mut head = BytesMut::new();
    let text = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
        resource.list_kind(),
        resource.kind.api_version()
    );
    head.extend_from_slice(text.as_bytes());
    head.freeze()
}
