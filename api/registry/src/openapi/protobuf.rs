//! OpenAPI 2.0 in protobuf, as kubectl asks for it: the messages of gnostic's `openapi.v2`, as far as our documents use
//! them. Works on the JSON of single paths and definitions.
//!
//! Field numbers are gnostic's; each function below writes the message it is named for.

use serde_json::{Map, Value};

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

const VARINT: u64 = 0;
const BYTES: u64 = 2;

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | BYTES);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }

    /// A text, if it is there.
    fn text(&mut self, field: u64, value: Option<&Value>) {
        if let Some(text) = value.and_then(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn texts(&mut self, field: u64, value: Option<&Value>) {
        for text in value.and_then(Value::as_array).into_iter().flatten() {
            self.text(field, Some(text));
        }
    }

    fn flag(&mut self, field: u64, value: Option<&Value>) {
        if value.and_then(Value::as_bool) == Some(true) {
            self.varint(field << 3 | VARINT);
            self.varint(1);
        }
    }

    /// All `x-…` members as `NamedAny`, whose text is YAML; JSON is.
    fn extensions(&mut self, field: u64, map: &Map<String, Value>) {
        for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
            let mut any = Self::default();
            any.bytes(2, value.to_string().as_bytes());
            self.message(field, &named(name, &any));
        }
    }
}

/// Any of the `Named…` messages.
fn named(name: &str, value: &Message) -> Message {
    let mut out = Message::default();
    out.bytes(1, name.as_bytes());
    out.message(2, value);
    out
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// A document that grows by paths and definitions.
pub(super) struct Document {
    head: Message,
    paths: Message,
    definitions: Message,
}

impl Document {
    pub(super) fn new(info: &Value) -> Self {
        let mut head = Message::default();
        head.bytes(1, b"2.0");
        let mut message = Message::default();
        message.text(1, info.get("title"));
        message.text(2, info.get("version"));
        head.message(2, &message);
        Self { head, paths: Message::default(), definitions: Message::default() }
    }

    pub(super) fn path(&mut self, path: &str, item: &Value) {
        self.paths.message(2, &named(path, &path_item(item)));
    }

    pub(super) fn definition(&mut self, name: &str, value: &Value) {
        self.definitions.message(1, &named(name, &schema(value)));
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.head.message(8, &self.paths);
        self.head.message(9, &self.definitions);
        self.head.0
    }
}

fn path_item(item: &Value) -> Message {
    const METHODS: [(&str, u64); 5] = [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)];
    let mut out = Message::default();
    for (method, field) in METHODS {
        if let Some(value) = item.get(method) {
            out.message(field, &operation(&object(value)));
        }
    }
    for value in item["parameters"].as_array().into_iter().flatten() {
        out.message(9, &parameter(value));
    }
    out
}

fn operation(map: &Map<String, Value>) -> Message {
    let mut out = Message::default();
    out.texts(1, map.get("tags"));
    out.text(3, map.get("description"));
    out.text(5, map.get("operationId"));
    out.texts(6, map.get("produces"));
    out.texts(7, map.get("consumes"));
    for value in map.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        out.message(8, &parameter(value));
    }
    let mut responses = Message::default();
    for (code, value) in map.get("responses").and_then(Value::as_object).into_iter().flatten() {
        let mut response = Message::default();
        response.text(1, value.get("description"));
        if let Some(value) = value.get("schema") {
            let mut item = Message::default();
            item.message(1, &schema(value));
            response.message(2, &item);
        }
        let mut value = Message::default();
        value.message(1, &response);
        responses.message(1, &named(code, &value));
    }
    out.message(9, &responses);
    out.texts(10, map.get("schemes"));
    out.extensions(13, map);
    out
}

/// `ParametersItem`, which wraps a `Parameter`, which wraps one of several.
fn parameter(value: &Value) -> Message {
    let mut inner = Message::default();
    let mut wrapped = Message::default();
    match value["in"].as_str() {
        Some("body") => {
            inner.text(1, value.get("description"));
            inner.text(2, value.get("name"));
            inner.text(3, value.get("in"));
            inner.flag(4, value.get("required"));
            if let Some(value) = value.get("schema") {
                inner.message(5, &schema(value));
            }
            wrapped.message(1, &inner);
        }
        place => {
            let in_path = place == Some("path");
            inner.flag(1, value.get("required"));
            inner.text(2, value.get("in"));
            inner.text(3, value.get("description"));
            inner.text(4, value.get("name"));
            inner.text(if in_path { 5 } else { 6 }, value.get("type"));
            inner.flag(if in_path { 19 } else { 20 }, value.get("uniqueItems"));
            let mut other = Message::default();
            other.message(if in_path { 4 } else { 3 }, &inner);
            wrapped.message(2, &other);
        }
    }
    let mut out = Message::default();
    out.message(1, &wrapped);
    out
}

fn schema(value: &Value) -> Message {
    let map = object(value);
    let mut out = Message::default();
    out.text(1, map.get("$ref"));
    out.text(2, map.get("format"));
    out.text(4, map.get("description"));
    out.texts(19, map.get("required"));
    if let Some(value) = map.get("additionalProperties") {
        let mut item = Message::default();
        item.message(1, &schema(value));
        out.message(21, &item);
    }
    if map.contains_key("type") {
        let mut kind = Message::default();
        kind.text(1, map.get("type"));
        out.message(22, &kind);
    }
    if let Some(value) = map.get("items") {
        let mut items = Message::default();
        items.message(1, &schema(value));
        out.message(23, &items);
    }
    if let Some(properties) = map.get("properties").and_then(Value::as_object) {
        let mut message = Message::default();
        for (name, value) in properties {
            message.message(1, &named(name, &schema(value)));
        }
        out.message(25, &message);
    }
    out.extensions(31, &map);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_small_document_byte_by_byte() {
        let mut document = Document::new(&json!({"title": "K", "version": "1"}));
        document.definition("a", &json!({"type": "string", "x-y": true}));
        let expected: &[&[u8]] = &[
            &[0x0a, 3, b'2', b'.', b'0'],
            &[0x12, 6, 0x0a, 1, b'K', 0x12, 1, b'1'],
            // No paths; then definitions: one, named a.
            &[0x42, 0, 0x4a, 34, 0x0a, 32, 0x0a, 1, b'a', 0x12, 27],
            // Its type, and an extension with its value as YAML.
            &[0xb2, 0x01, 8, 0x0a, 6],
            b"string",
            &[0xfa, 0x01, 13, 0x0a, 3],
            b"x-y",
            &[0x12, 6, 0x12, 4],
            b"true",
        ];
        assert_eq!(document.finish(), expected.concat());
    }

    #[test]
    fn lengths_over_one_byte() {
        let mut message = Message::default();
        message.bytes(31, &[0; 300]);
        assert_eq!(message.0[..4], [0xfa, 0x01, 0xac, 0x02]);
        assert_eq!(message.0.len(), 304);
    }
}
