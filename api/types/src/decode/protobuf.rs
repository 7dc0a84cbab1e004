//! Bodies in protobuf: the envelope names the kind, the object in it does not.

use serde_json::{Map, Value};

use super::{Parsed, unsupported_media_type};
use crate::error::ApiError;
use crate::name::GroupVersionKind;
use crate::protobuf::{self, MEDIA_TYPE};
use crate::schema::Schema;

/// Reads a body as an object of the expected kind. If it says that it is of another one, only what it says is read: the
/// caller refuses it.
///
/// # Errors
/// 415 for kinds that have no protobuf form, 400 for what does not parse.
pub(super) fn parse(body: &[u8], expected: &GroupVersionKind) -> Result<Parsed, ApiError> {
    let schema = Schema::builtin();
    let id = schema.by_gvk(expected).filter(|id| protobuf::has_form(schema, *id));
    let id = id.ok_or_else(|| unsupported_media_type(MEDIA_TYPE))?;
    let envelope = protobuf::open(body).map_err(|error| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {error}",
            expected.kind
        ))
    })?;
    let mut object = if envelope.kind.is_empty() || envelope.kind == expected.kind {
        protobuf::decode(schema, id, envelope.raw).map_err(|error| {
            ApiError::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: {error}",
                expected.kind, expected.version, expected.kind
            ))
        })?
    } else {
        Map::new()
    };
    for (name, text) in [("apiVersion", envelope.api_version), ("kind", envelope.kind)] {
        if !text.is_empty() {
            object.insert(name.to_owned(), text.into());
        }
    }
    Ok(Value::Object(object).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::super::{FieldValidation, decode};
    use super::*;

    const DEPLOYMENT: GroupVersionKind = GroupVersionKind::new("apps", "v1", "Deployment");

    fn run(body: &[u8]) -> Result<Value, (u16, String)> {
        let parsed = super::super::parse(MEDIA_TYPE, body, &DEPLOYMENT);
        let decoded = parsed.and_then(|p| decode(Schema::builtin(), p, &DEPLOYMENT, FieldValidation::Strict));
        decoded.map(|d| d.value).map_err(|e| (e.code(), e.to_string()))
    }

    #[test]
    fn the_envelope_names_the_kind() {
        let raw = b"\x12\x02\x08\x00";
        let expected = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 0}});
        for (api_version, kind) in [("apps/v1", "Deployment"), ("", "")] {
            assert_eq!(run(&protobuf::enclose(api_version, kind, raw)), Ok(expected.clone()));
        }
        for (api_version, kind, raw, why) in [
            ("v1", "Pod", &b""[..], "Pod in version \"v1\" cannot be handled as a Deployment: it is not a Deployment"),
            (
                "apps/v2",
                "Deployment",
                b"",
                "the API version in the data (apps/v2) does not match the expected API version (apps/v1)",
            ),
            (
                "apps/v1",
                "Deployment",
                b"\x12\x02",
                "Deployment in version \"v1\" cannot be handled as a Deployment: unexpected EOF",
            ),
        ] {
            assert_eq!(run(&protobuf::enclose(api_version, kind, raw)), Err((400, why.to_owned())));
        }
        let (code, error) = run(b"{}").unwrap_err();
        assert_eq!(code, 400);
        assert!(error.starts_with("the object provided is unrecognized (must be of type Deployment): provided data"));
        let custom = GroupVersionKind::new("example.com", "v1", "Custom");
        assert_eq!(super::super::parse(MEDIA_TYPE, b"k8s\0", &custom).unwrap_err().code(), 415);
    }
}
