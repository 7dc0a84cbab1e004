//! Whole documents as JSON text: written piece by piece, so that no document ever exists as a tree.

use std::collections::BTreeSet;

use navarch_types::schema::{DefinitionId, ResourceFacts, Schema};
use serde_json::{Map, Value, json};

use super::definitions::{Dialect, closure, leaves, name, render};
use super::describe::Descriptions;
use super::operations::{DELETE_OPTIONS, Operation, PathItem, STATUS, paths, tag};
use super::parameters::Parameter;

/// The resources of one group and version.
pub(super) struct Part<'s> {
    schema: &'s Schema,
    group: &'s str,
    version: &'s str,
    resources: Vec<&'s ResourceFacts>,
}

/// All groups and versions, in order.
pub(super) fn group_versions(schema: &Schema) -> Vec<(&str, &str)> {
    let all: BTreeSet<(&str, &str)> =
        schema.resources().iter().map(|r| (r.group.as_ref(), r.version.as_ref())).collect();
    all.into_iter().collect()
}

impl<'s> Part<'s> {
    /// `None` if nothing is served there.
    pub(super) fn new(schema: &'s Schema, group: &'s str, version: &'s str) -> Option<Self> {
        let resources: Vec<_> =
            schema.resources().iter().filter(|r| r.group == group && r.version == version).collect();
        (!resources.is_empty()).then_some(Self { schema, group, version, resources })
    }

    /// The structures that the paths speak of, and all that these refer to.
    fn structures(&self) -> Vec<DefinitionId> {
        let mut roots = Vec::new();
        for resource in &self.resources {
            let list = format!("{}List", resource.kind);
            roots.extend(self.schema.by_gvk(&resource.gvk()));
            roots.extend(self.schema.by_kind(&resource.group, &resource.version, &list));
            roots.extend(resource.subresources.iter().filter_map(|s| self.schema.by_gvk(&s.kind)));
        }
        for name in [STATUS, DELETE_OPTIONS] {
            roots.extend(self.schema.by_name(name.strip_prefix("io.k8s.").unwrap_or(name)));
        }
        closure(self.schema, roots)
    }

    /// Calls back with each path.
    pub(super) fn each_path(&self, dialect: Dialect, mut put: impl FnMut(&str, &Value)) {
        let tag = tag(self.group, self.version);
        for item in self.resources.iter().flat_map(|r| paths(self.schema, r)) {
            put(&item.path, &path_item(&item, &tag, dialect));
        }
    }

    /// Calls back with each definition that `known` has not.
    pub(super) fn each_definition(
        &self,
        dialect: Dialect,
        known: &mut BTreeSet<String>,
        mut put: impl FnMut(&str, &Value),
    ) {
        let structures = self.structures();
        let names: Vec<&str> = structures.iter().map(|id| self.schema.definition(*id).name.as_ref()).collect();
        let texts = Descriptions::of(names.into_iter());
        for id in structures {
            let name = name(self.schema.definition(id));
            if known.insert(name.clone()) {
                put(&name, &render(self.schema, id, &texts, dialect));
            }
        }
    }
}

fn kind_value(operation: &Operation) -> Value {
    let kind = &operation.kind;
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

fn path_item(item: &PathItem, tag: &str, dialect: Dialect) -> Value {
    let mut out = Map::new();
    out.insert("parameters".to_owned(), item.parameters.iter().map(|p| parameter(p, dialect)).collect());
    for operation in &item.operations {
        let rendered = match dialect {
            Dialect::V2 => operation_v2(operation, tag),
            Dialect::V3 => operation_v3(operation, tag),
        };
        out.insert(operation.method.to_owned(), rendered);
    }
    Value::Object(out)
}

fn parameter(parameter: &Parameter, dialect: Dialect) -> Value {
    let mut out = json!({"name": parameter.name, "in": parameter.place, "description": parameter.description});
    match dialect {
        Dialect::V2 => {
            out["type"] = parameter.kind.into();
            out["uniqueItems"] = true.into();
        }
        Dialect::V3 => out["schema"] = json!({"type": parameter.kind, "uniqueItems": true}),
    }
    if parameter.place == "path" {
        out["required"] = true.into();
    }
    out
}

fn code_text(code: u16) -> &'static str {
    match code {
        201 => "Created",
        202 => "Accepted",
        401 => "Unauthorized",
        _ => "OK",
    }
}

fn result(operation: &Operation, dialect: Dialect) -> Value {
    operation.result.as_ref().map_or_else(|| json!({"type": "string"}), |name| dialect.reference(name))
}

fn operation_v2(operation: &Operation, tag: &str) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    if let Some((body, required)) = &operation.body {
        let mut body = json!({"in": "body", "name": "body", "schema": Dialect::V2.reference(body)});
        if *required {
            body["required"] = true.into();
        }
        parameters.push(body);
    }
    parameters.extend(operation.parameters.iter().map(|p| parameter(p, Dialect::V2)));
    let mut responses = Map::new();
    for code in operation.codes {
        let response = json!({"description": code_text(*code), "schema": result(operation, Dialect::V2)});
        responses.insert(code.to_string(), response);
    }
    responses.insert("401".to_owned(), json!({"description": code_text(401)}));
    json!({
        "operationId": operation.id,
        "description": operation.description,
        "tags": [tag],
        "schemes": ["https"],
        "consumes": operation.consumes,
        "produces": operation.produces,
        "parameters": parameters,
        "responses": responses,
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": kind_value(operation),
    })
}

fn operation_v3(operation: &Operation, tag: &str) -> Value {
    let mut responses = Map::new();
    for code in operation.codes {
        let content: Map<String, Value> = operation
            .produces
            .iter()
            .map(|media| ((*media).to_owned(), json!({"schema": result(operation, Dialect::V3)})))
            .collect();
        responses.insert(code.to_string(), json!({"description": code_text(*code), "content": content}));
    }
    responses.insert("401".to_owned(), json!({"description": code_text(401)}));
    let mut out = json!({
        "operationId": operation.id,
        "description": operation.description,
        "tags": [tag],
        "parameters": operation.parameters.iter().map(|p| parameter(p, Dialect::V3)).collect::<Vec<_>>(),
        "responses": responses,
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": kind_value(operation),
    });
    if let Some((body, required)) = &operation.body {
        let content: Map<String, Value> = operation
            .consumes
            .iter()
            .map(|media| ((*media).to_owned(), json!({"schema": Dialect::V3.reference(body)})))
            .collect();
        out["requestBody"] = json!({"content": content});
        if *required {
            out["requestBody"]["required"] = true.into();
        }
    }
    out
}

const SECURITY: &str = r#"{"BearerToken":{"description":"Bearer Token authentication","in":"header","name":"authorization","type":"apiKey"}}"#;

/// Writes `"key":value` pairs with commas between.
struct Members(Vec<u8>, bool);

impl Members {
    fn open(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
        self.1 = true;
    }

    fn put(&mut self, key: &str, value: &Value) {
        if !std::mem::take(&mut self.1) {
            self.0.push(b',');
        }
        self.0.extend_from_slice(Value::from(key).to_string().as_bytes());
        self.0.push(b':');
        self.0.extend_from_slice(value.to_string().as_bytes());
    }
}

fn info(version: &str) -> Value {
    json!({"title": "Kubernetes", "version": version})
}

/// The OpenAPI 3.0 document of one group and version.
pub(super) fn v3(part: &Part<'_>, version: &str) -> Vec<u8> {
    let mut out = Members(Vec::with_capacity(1 << 18), true);
    out.open(&format!("{{\"openapi\":\"3.0.0\",\"info\":{},\"paths\":{{", info(version)));
    part.each_path(Dialect::V3, |path, item| out.put(path, item));
    out.open("},\"components\":{\"schemas\":{");
    for (name, schema) in leaves(Dialect::V3) {
        out.put(name, &schema);
    }
    part.each_definition(Dialect::V3, &mut BTreeSet::new(), |name, schema| out.put(name, schema));
    out.open(&format!("}},\"securitySchemes\":{SECURITY}}}}}"));
    out.0
}

/// The OpenAPI 2.0 document of everything.
pub(super) fn v2(schema: &Schema, version: &str) -> Vec<u8> {
    let parts: Vec<Part<'_>> =
        group_versions(schema).into_iter().filter_map(|(group, version)| Part::new(schema, group, version)).collect();
    let mut out = Members(Vec::with_capacity(1 << 22), true);
    out.open(&format!("{{\"swagger\":\"2.0\",\"info\":{},\"paths\":{{", info(version)));
    for part in &parts {
        part.each_path(Dialect::V2, |path, item| out.put(path, item));
    }
    out.open("},\"definitions\":{");
    for (name, schema) in leaves(Dialect::V2) {
        out.put(name, &schema);
    }
    let mut known = BTreeSet::new();
    for part in &parts {
        part.each_definition(Dialect::V2, &mut known, |name, schema| out.put(name, schema));
    }
    out.open(&format!("}},\"securityDefinitions\":{SECURITY},\"security\":[{{\"BearerToken\":[]}}]}}"));
    out.0
}

/// The OpenAPI 2.0 document of everything, in protobuf.
pub(super) fn v2_protobuf(schema: &Schema, version: &str) -> Vec<u8> {
    let mut out = super::protobuf::Document::new(&info(version));
    let parts: Vec<Part<'_>> =
        group_versions(schema).into_iter().filter_map(|(group, version)| Part::new(schema, group, version)).collect();
    for part in &parts {
        part.each_path(Dialect::V2, |path, item| out.path(path, item));
    }
    for (name, schema) in leaves(Dialect::V2) {
        out.definition(name, &schema);
    }
    let mut known = BTreeSet::new();
    for part in &parts {
        part.each_definition(Dialect::V2, &mut known, |name, schema| out.definition(name, schema));
    }
    out.finish()
}
