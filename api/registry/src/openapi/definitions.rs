//! Structures as JSON schemas, in the dialect of either version.

use std::collections::BTreeSet;

use navarch_types::schema::{Definition, DefinitionId, Field, ListType, Schema, Type};
use serde_json::{Map, Value, json};

use super::describe::Descriptions;
use super::operations::{PATCH_BODY, STATUS};

/// OpenAPI 2.0 or 3.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// A reference to a definition.
    pub(super) fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Self::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }

    /// A reference that may stand beside a description.
    fn used(self, name: &str) -> Value {
        match self {
            Self::V2 => self.reference(name),
            Self::V3 => json!({"allOf": [self.reference(name)]}),
        }
    }
}

/// Structures with a form of their own in JSON, which have definitions nonetheless.
fn leaf(kind: Type) -> Option<&'static str> {
    Some(match kind {
        Type::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity",
        Type::Time => "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
        Type::MicroTime => "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
        Type::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        _ => return None,
    })
}

/// The definitions that any document has, beside structures.
pub(super) fn leaves(dialect: Dialect) -> Vec<(&'static str, Value)> {
    let int_or_string = match dialect {
        Dialect::V2 => json!({"type": "string", "format": "int-or-string"}),
        Dialect::V3 => json!({"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}),
    };
    let mut leaves = vec![
        (
            Type::Quantity,
            json!({"type": "string", "description": "A decimal number with an optional suffix: 100m, 1.5Gi, 2e3."}),
        ),
        (Type::Time, json!({"type": "string", "format": "date-time", "description": "A time to the second."})),
        (
            Type::MicroTime,
            json!({"type": "string", "format": "date-time", "description": "A time to the microsecond."}),
        ),
        (Type::IntOrString, int_or_string),
    ]
    .into_iter()
    .filter_map(|(kind, schema)| Some((leaf(kind)?, schema)))
    .collect::<Vec<_>>();
    leaves.push((
        PATCH_BODY,
        json!({"type": "object", "description": "A patch; what it may hold depends on its media type."}),
    ));
    leaves
}

/// All structures that some refer to, themselves included.
pub(super) fn closure(schema: &Schema, roots: impl IntoIterator<Item = DefinitionId>) -> Vec<DefinitionId> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut pending: Vec<DefinitionId> = roots.into_iter().collect();
    let mut found = Vec::new();
    while let Some(id) = pending.pop() {
        let definition = schema.definition(id);
        if !seen.insert(&definition.name) {
            continue;
        }
        found.push(id);
        for field in definition.fields() {
            let mut kind = field.field_type;
            while let Type::List(element) | Type::Map(element) = kind {
                kind = schema.element(element);
            }
            if let Type::Struct(id) = kind {
                pending.push(id);
            }
        }
    }
    found.sort_by(|a, b| schema.definition(*a).name.cmp(&schema.definition(*b).name));
    found
}

/// A definition's name in documents.
pub(super) fn name(definition: &Definition) -> String {
    format!("io.k8s.{}", definition.name)
}

/// One structure as a schema.
pub(super) fn render(schema: &Schema, id: DefinitionId, texts: &Descriptions, dialect: Dialect) -> Value {
    let definition = schema.definition(id);
    let name = name(definition);
    let mut out = Map::new();
    out.insert("type".to_owned(), "object".into());
    if let Some(text) = describe(definition, &name, texts) {
        out.insert("description".to_owned(), text.into());
    }
    if !definition.fields().is_empty() {
        let properties = definition
            .fields()
            .iter()
            .map(|f| (f.name.to_string(), property(schema, &name, definition, f, texts, dialect)));
        out.insert("properties".to_owned(), Value::Object(properties.collect()));
    }
    let required: Vec<&str> = definition.fields().iter().filter(|f| f.required).map(|f| f.name.as_ref()).collect();
    if !required.is_empty() {
        out.insert("required".to_owned(), required.into());
    }
    if let Some(kind) = &definition.kind {
        let kind = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        out.insert("x-kubernetes-group-version-kind".to_owned(), json!([kind]));
    }
    if definition.atomic {
        out.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
    Value::Object(out)
}

fn list_of(definition: &Definition) -> Option<&str> {
    definition.field("items")?;
    definition.kind.as_ref()?.kind.strip_suffix("List")
}

fn describe(definition: &Definition, name: &str, texts: &Descriptions) -> Option<String> {
    let text = texts.definition(name).map(str::to_owned);
    text.or_else(|| list_of(definition).map(|kind| format!("{kind}List is a list of objects of kind {kind}.")))
}

fn describe_field(definition: &Definition, name: &str, field: &str, texts: &Descriptions) -> Option<String> {
    if let Some(text) = texts.field(name, field) {
        return Some(text.to_owned());
    }
    list_of(definition)?;
    match field {
        "apiVersion" | "kind" => texts.field(STATUS, field).map(str::to_owned),
        "items" => Some("The objects.".to_owned()),
        "metadata" => Some("The list's resourceVersion, and how to go on.".to_owned()),
        _ => None,
    }
}

fn property(
    schema: &Schema,
    name: &str,
    definition: &Definition,
    field: &Field,
    texts: &Descriptions,
    dialect: Dialect,
) -> Value {
    let Value::Object(mut out) = of_type(schema, field.field_type, dialect) else { return Value::Null };
    if let Some(text) = describe_field(definition, name, &field.name, texts) {
        out.insert("description".to_owned(), text.into());
    }
    let mut extension = |key: &str, value: Value| out.insert(format!("x-kubernetes-{key}"), value);
    match &field.list_type {
        Some(ListType::Atomic) => {
            extension("list-type", "atomic".into());
        }
        Some(ListType::Set) => {
            extension("list-type", "set".into());
        }
        Some(ListType::Map(keys)) => {
            extension("list-type", "map".into());
            extension("list-map-keys", json!(keys));
        }
        None => {}
    }
    let strategies =
        [(field.patch_merge, "merge"), (field.patch_retain_keys, "retainKeys"), (field.patch_replace, "replace")];
    let strategies: Vec<&str> = strategies.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    if !strategies.is_empty() {
        extension("patch-strategy", strategies.join(",").into());
    }
    if let Some(key) = &field.patch_merge_key {
        extension("patch-merge-key", key.as_ref().into());
    }
    if field.atomic_map {
        extension("map-type", "atomic".into());
    }
    Value::Object(out)
}

fn of_type(schema: &Schema, kind: Type, dialect: Dialect) -> Value {
    if let Some(name) = leaf(kind) {
        return dialect.used(name);
    }
    match kind {
        Type::Bool => json!({"type": "boolean"}),
        Type::String => json!({"type": "string"}),
        Type::Int32 => json!({"type": "integer", "format": "int32"}),
        Type::Int64 => json!({"type": "integer", "format": "int64"}),
        Type::Double => json!({"type": "number", "format": "double"}),
        Type::Bytes => json!({"type": "string", "format": "byte"}),
        Type::Object => json!({"type": "object"}),
        Type::Struct(id) => dialect.used(&name(schema.definition(id))),
        Type::List(element) => json!({"type": "array", "items": of_element(schema, schema.element(element), dialect)}),
        Type::Map(element) => {
            json!({"type": "object", "additionalProperties": of_element(schema, schema.element(element), dialect)})
        }
        Type::Any | Type::Quantity | Type::Time | Type::MicroTime | Type::IntOrString => json!({}),
    }
}

/// Elements have no description of their own, so the bare reference will do; kubectl shows its name then.
fn of_element(schema: &Schema, kind: Type, dialect: Dialect) -> Value {
    match leaf(kind) {
        Some(name) => dialect.reference(name),
        None => of_type(schema, kind, dialect),
    }
}
