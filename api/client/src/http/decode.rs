//! Answers and watch events from JSON.

use std::collections::VecDeque;
use std::sync::Arc;

use navarch_types::{
    ApiError, Object, ObjectList, Reason, ResourceRequest, ResourceResponse, Status, Verb, WatchEvent, WatchEventType,
};
use serde_json::Value;

/// One event. The largest object is 3 MiB or so.
const EVENT_BYTES_MAX: usize = 16 << 20;

fn malformed(what: impl std::fmt::Display) -> ApiError {
    ApiError::internal(format!("the server's answer is malformed: {what}"))
}

/// The error of an answer that is none.
pub(super) fn failure(code: u16, body: &[u8]) -> ApiError {
    if let Ok(status) = serde_json::from_slice::<Status>(body)
        && status.kind == "Status"
        && status.code >= 400
    {
        return ApiError::from_status(status);
    }
    // Not a Kubernetes server, or something before it.
    let reason = match code {
        400 => Reason::BadRequest,
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        405 => Reason::MethodNotAllowed,
        409 => Reason::Conflict,
        410 => Reason::Expired,
        413 => Reason::RequestEntityTooLarge,
        429 => Reason::TooManyRequests,
        502 | 503 => Reason::ServiceUnavailable,
        504 => Reason::ServerTimeout,
        _ => Reason::InternalError,
    };
    ApiError::new(reason, format!("the server answered with HTTP {code}"))
}

fn revision(value: &Value) -> u64 {
    value["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or(0)
}

fn object(value: &Value) -> Result<Arc<Object>, ApiError> {
    Object::from_value(value, revision(value)).map(Arc::new).map_err(malformed)
}

pub(super) fn response(request: &ResourceRequest, code: u16, body: &[u8]) -> Result<ResourceResponse, ApiError> {
    if !(200..300).contains(&code) {
        return Err(failure(code, body));
    }
    let value: Value = serde_json::from_slice(body).map_err(malformed)?;
    if request.verb == Verb::List {
        return list(value).map(ResourceResponse::List);
    }
    if value["kind"] == "Status" {
        let status: Status = serde_json::from_value(value).map_err(malformed)?;
        return Ok(ResourceResponse::Status(Box::new(status)));
    }
    // Reviews, scales and tokens are no stored objects.
    let stored =
        request.subresource.as_deref().is_none_or(|s| !matches!(s, "scale" | "token" | "eviction" | "binding"));
    if !stored || revision(&value) == 0 {
        return Ok(ResourceResponse::Value(code, value));
    }
    let object = object(&value)?;
    Ok(if code == 201 { ResourceResponse::Created(object) } else { ResourceResponse::Object(object) })
}

fn list(mut value: Value) -> Result<ObjectList, ApiError> {
    let kind = value["kind"].as_str().and_then(|k| k.strip_suffix("List")).map(str::to_owned);
    let version = value["apiVersion"].clone();
    let mut items = Vec::new();
    if let Value::Array(all) = value["items"].take() {
        for mut item in all {
            // Servers leave out of items what the list says for all.
            if item["kind"].is_null()
                && let Some(kind) = &kind
            {
                item["kind"] = kind.as_str().into();
                item["apiVersion"] = version.clone();
            }
            items.push(object(&item)?);
        }
    }
    let metadata = &value["metadata"];
    Ok(ObjectList {
        revision: revision(&value),
        continue_token: metadata["continue"].as_str().filter(|t| !t.is_empty()).map(str::to_owned),
        remaining: metadata["remainingItemCount"].as_u64(),
        items,
    })
}

/// Takes a watch's bytes as they come, gives its events.
#[derive(Default)]
pub(super) struct EventDecoder {
    partial: Vec<u8>,
    lines: VecDeque<Vec<u8>>,
}

impl EventDecoder {
    pub fn push(&mut self, data: &[u8]) {
        let mut rest = data;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(&rest[..end]);
            let line = std::mem::take(&mut self.partial);
            if !line.is_empty() {
                self.lines.push_back(line);
            }
            rest = &rest[end + 1..];
        }
        self.partial.extend_from_slice(rest);
    }

    pub fn next(&mut self) -> Result<Option<WatchEvent>, ApiError> {
        if self.partial.len() > EVENT_BYTES_MAX {
            return Err(malformed("an event is too large"));
        }
        self.lines.pop_front().map(|line| event(&line)).transpose()
    }
}

fn event(line: &[u8]) -> Result<WatchEvent, ApiError> {
    let value: Value = serde_json::from_slice(line).map_err(malformed)?;
    let inner = &value["object"];
    let event_type = match value["type"].as_str() {
        Some("ADDED") => WatchEventType::Added,
        Some("MODIFIED") => WatchEventType::Modified,
        Some("DELETED") => WatchEventType::Deleted,
        Some("BOOKMARK") => WatchEventType::Bookmark,
        Some("ERROR") => {
            let status: Status = serde_json::from_value(inner.clone()).map_err(malformed)?;
            return Err(ApiError::from_status(status));
        }
        _ => return Err(malformed("an event of no known type")),
    };
    let initial_events_end = inner["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true";
    Ok(WatchEvent { event_type, object: object(inner)?, initial_events_end })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use navarch_types::GroupVersionResource;
    use serde_json::json;

    use super::*;

    #[test]
    fn events_come_in_any_pieces() {
        let text = concat!(
            r#"{"type":"ADDED","object":{"kind":"Pod","metadata":{"name":"ä","resourceVersion":"5"}}}"#,
            "\n\n",
            r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
            "\n",
            r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}}"#,
            "\n",
        );
        for size in [1, 3, 7, 1000] {
            let mut decoder = EventDecoder::default();
            let mut seen = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                decoder.push(piece);
                loop {
                    match decoder.next() {
                        Ok(Some(event)) => seen.push(format!(
                            "{} {} {}",
                            event.event_type.as_str(),
                            event.object.revision(),
                            event.initial_events_end
                        )),
                        Ok(None) => break,
                        Err(error) => seen.push(error.status().reason.clone()),
                    }
                }
            }
            assert_eq!(seen, ["ADDED 5 false", "BOOKMARK 9 true", "Expired"], "pieces of {size}");
        }
        let mut decoder = EventDecoder::default();
        decoder.push(b"nonsense\n");
        assert!(decoder.next().is_err());
    }

    #[test]
    fn answers() {
        let request = |verb| ResourceRequest::new(verb, GroupVersionResource::new("", "v1", "pods"));
        let body = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "8", "continue": "c", "remainingItemCount": 3},
            "items": [{"metadata": {"name": "a", "resourceVersion": "4"}}]}).to_string();
        let ResourceResponse::List(list) = response(&request(Verb::List), 200, body.as_bytes()).unwrap() else {
            panic!("no list")
        };
        assert_eq!((list.revision, list.continue_token.as_deref(), list.remaining), (8, Some("c"), Some(3)));
        assert_eq!(list.items[0].to_value().unwrap()["kind"], "Pod");
        let pod = json!({"kind": "Pod", "metadata": {"name": "a", "resourceVersion": "4"}}).to_string();
        assert!(
            matches!(response(&request(Verb::Create), 201, pod.as_bytes()), Ok(ResourceResponse::Created(o)) if o.revision() == 4)
        );
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}).to_string();
        assert!(matches!(response(&request(Verb::Delete), 200, status.as_bytes()), Ok(ResourceResponse::Status(_))));
        let mut token = request(Verb::Create);
        token.subresource = Some("token".into());
        assert!(matches!(response(&token, 201, b"{\"kind\":\"TokenRequest\"}"), Ok(ResourceResponse::Value(201, _))));
        let failed = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "m"}).to_string();
        assert!(response(&request(Verb::Get), 404, failed.as_bytes()).unwrap_err().is(Reason::NotFound));
        assert!(response(&request(Verb::Get), 503, b"<html>").unwrap_err().is(Reason::ServiceUnavailable));
        assert!(response(&request(Verb::Get), 200, b"<html>").unwrap_err().is(Reason::InternalError));
    }
}
