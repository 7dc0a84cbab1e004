//! Reads the table of facts. Its form is described at [`crate::facts::TABLE`].

use std::collections::HashMap;

use super::{
    Definition, DefinitionId, Field, ListType, Message, ResourceFacts, Schema, SubresourceFacts, Type, TypeId, Wire,
};
use crate::name::{GroupVersionKind, Str};
use crate::request::Verb;

/// A line that is not understood.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {what}")]
pub(super) struct LoadError {
    line: usize,
    what: String,
}

pub(super) fn load(table: &'static str) -> Result<Schema, LoadError> {
    let mut loader = Loader::default();
    // Structures refer to later ones, so their ids are given first.
    for line in table.lines() {
        if let Some(name) = line.strip_prefix("D ").and_then(|rest| rest.split(' ').next()) {
            let id = DefinitionId(u32::try_from(loader.schema.by_name.len()).unwrap_or(u32::MAX));
            loader.schema.by_name.insert(name.into(), id);
        }
    }
    for (index, line) in table.lines().enumerate() {
        loader.line(line).map_err(|what| LoadError { line: index + 1, what })?;
    }
    Ok(loader.schema)
}

#[derive(Default)]
struct Loader {
    schema: Schema,
    elements: HashMap<Type, TypeId>,
}

fn inside<'a>(word: &'a str, name: &str) -> Option<&'a str> {
    word.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')
}

fn verbs(list: &str) -> Result<Vec<Verb>, String> {
    list.split(',')
        .map(|verb| {
            Ok(match verb {
                "create" => Verb::Create,
                "delete" => Verb::Delete,
                "deletecollection" => Verb::DeleteCollection,
                "get" => Verb::Get,
                "list" => Verb::List,
                "patch" => Verb::Patch,
                "update" => Verb::Update,
                "watch" => Verb::Watch,
                other => return Err(format!("unknown verb {other}")),
            })
        })
        .collect()
}

fn gvk(text: &'static str) -> Result<GroupVersionKind, String> {
    match text.split(':').collect::<Vec<_>>().as_slice() {
        [group, version, kind] => Ok(GroupVersionKind::new(group, version, kind)),
        _ => Err(format!("no kind: {text}")),
    }
}

impl Loader {
    fn line(&mut self, line: &'static str) -> Result<(), String> {
        let words: Vec<&'static str> = line.split(' ').collect();
        match words.as_slice() {
            [] | [""] | ["#", ..] => Ok(()),
            ["D", name, rest @ ..] => self.definition(name, rest),
            ["", name, kind, rest @ ..] => self.field(name, kind, rest),
            ["R", group, version, resource, kind, scope, list] => {
                self.schema.by_resource.entry((*resource).into()).or_default().push(self.schema.resources.len());
                self.schema.resources.push(ResourceFacts {
                    group: if *group == "-" { "" } else { group }.into(),
                    version: (*version).into(),
                    resource: (*resource).into(),
                    kind: (*kind).into(),
                    namespaced: *scope == "namespaced",
                    verbs: verbs(list)?,
                    subresources: Vec::new(),
                });
                Ok(())
            }
            ["S", name, list, kind, rest @ ..] => {
                let subresource = SubresourceFacts {
                    name: (*name).into(),
                    kind: gvk(kind)?,
                    verbs: verbs(list)?,
                    connect: rest == ["connect"],
                };
                let resource = self.schema.resources.last_mut().ok_or("subresource without resource")?;
                resource.subresources.push(subresource);
                Ok(())
            }
            _ => Err("unknown form".to_owned()),
        }
    }

    fn definition(&mut self, name: &'static str, rest: &[&'static str]) -> Result<(), String> {
        let (atomic, rest) = match rest {
            ["atomic", rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let kind = rest.first().map(|text| gvk(text)).transpose()?;
        if let (Some(kind), Some(id)) = (&kind, self.schema.by_name.get(name)) {
            self.schema.by_kind.entry(kind.kind.clone()).or_default().push(*id);
        }
        let message = Message::default();
        self.schema.definitions.push(Definition { name: name.into(), atomic, kind, fields: Vec::new(), message });
        Ok(())
    }

    fn field(&mut self, name: &'static str, kind: &'static str, rest: &[&'static str]) -> Result<(), String> {
        let mut field = Field {
            name: name.into(),
            field_type: self.type_of(kind)?,
            required: false,
            wire: None,
            list_type: None,
            atomic_map: false,
            patch_merge: false,
            patch_retain_keys: false,
            patch_replace: false,
            patch_merge_key: None,
        };
        let mut path = Vec::new();
        for word in rest {
            match *word {
                word if word.starts_with('=') => {
                    let wire;
                    (path, wire) = Wire::parse(&word[1..])?;
                    field.wire = Some(wire);
                }
                "required" => field.required = true,
                "atomic" => field.list_type = Some(ListType::Atomic),
                "set" => field.list_type = Some(ListType::Set),
                "atomicmap" => field.atomic_map = true,
                word => {
                    if let Some(keys) = inside(word, "map") {
                        field.list_type = Some(ListType::Map(keys.split(',').map(Str::from).collect()));
                    } else if let Some(strategies) = inside(word, "patch") {
                        for strategy in strategies.split(',') {
                            match strategy {
                                "merge" => field.patch_merge = true,
                                "retainKeys" => field.patch_retain_keys = true,
                                "replace" => field.patch_replace = true,
                                other => return Err(format!("unknown strategy {other}")),
                            }
                        }
                    } else if let Some(key) = inside(word, "key") {
                        field.patch_merge_key = Some(key.into());
                    } else {
                        return Err(format!("unknown word {word}"));
                    }
                }
            }
        }
        let definition = self.schema.definitions.last_mut().ok_or("field without structure")?;
        if definition.fields.last().is_some_and(|last| last.name >= field.name) {
            return Err("fields out of order".to_owned());
        }
        if field.wire.is_some() {
            definition.message.insert(&path, definition.fields.len())?;
        }
        definition.fields.push(field);
        Ok(())
    }

    fn type_of(&mut self, text: &str) -> Result<Type, String> {
        if let Some(element) = text.strip_prefix("[]") {
            let element = self.type_of(element)?;
            return Ok(Type::List(self.element(element)));
        }
        if let Some(element) = text.strip_prefix("{}") {
            let element = self.type_of(element)?;
            return Ok(Type::Map(self.element(element)));
        }
        if let Some(name) = text.strip_prefix('@') {
            return self.schema.by_name(name).map(Type::Struct).ok_or_else(|| format!("unknown structure {name}"));
        }
        Ok(match text {
            "bool" => Type::Bool,
            "string" => Type::String,
            "int32" => Type::Int32,
            "int64" => Type::Int64,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "time" => Type::Time,
            "microtime" => Type::MicroTime,
            "quantity" => Type::Quantity,
            "intorstring" => Type::IntOrString,
            "any" => Type::Any,
            "object" => Type::Object,
            other => return Err(format!("unknown type {other}")),
        })
    }

    fn element(&mut self, element: Type) -> TypeId {
        let types = &mut self.schema.types;
        *self.elements.entry(element).or_insert_with(|| {
            types.push(element);
            TypeId(u32::try_from(types.len() - 1).unwrap_or(u32::MAX))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_committed_table_reads() {
        let schema = load(crate::facts::TABLE).unwrap();
        assert_eq!(schema.definitions.len(), schema.by_name.len());
        let pod = schema.definition(schema.by_kind("", "v1", "Pod").unwrap());
        assert_eq!(pod.name, "api.core.v1.Pod");
        let Type::Struct(spec) = pod.field("spec").unwrap().field_type else { panic!() };
        let containers = schema.definition(spec).field("containers").unwrap();
        assert!(containers.required && containers.patch_merge);
        assert_eq!(containers.list_type, Some(ListType::Map(vec!["name".into()])));
        assert_eq!(containers.patch_merge_key.as_deref(), Some("name"));
        let replicas = schema.definition(schema.by_name("api.apps.v1.DeploymentSpec").unwrap()).field("replicas");
        assert!(replicas.unwrap().wire.is_some_and(|wire| wire.pointer && !wire.zero_in_json));
        let pods = schema.resource("", "v1", "pods").unwrap();
        assert!(pods.namespaced && pods.serves(Verb::Watch) && pods.subresource("exec").unwrap().connect);
        assert_eq!(pods.subresource("eviction").unwrap().kind, GroupVersionKind::new("policy", "v1", "Eviction"));
        for resource in &schema.resources {
            assert!(schema.by_gvk(&resource.gvk()).is_some(), "{resource:?}");
            assert_eq!(resource.verbs.len(), resource.verbs.iter().collect::<std::collections::HashSet<_>>().len());
        }
    }

    #[test]
    fn damaged_tables_are_refused() {
        for table in [
            "X",
            "D a\n b nothing",
            "D a\n b @c",
            " b string",
            "S status get a:b:C",
            "D a\n b string odd",
            "D a b",
            "D a\n b string =x",
            "D a\n b string =0",
            "D a\n b string =1:odd",
            "D a\n b string =1.",
            "D a\n b string =1*!",
            "D a\n b string =1\n c string =1",
            "D a\n b string =1\n c string =1.2",
            "D a\n b string =1.2\n c string =1",
        ] {
            assert!(load(table).is_err(), "{table}");
        }
    }
}
