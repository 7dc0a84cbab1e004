//! Makes the table of facts from upstream's OpenAPI v2 document and the Go files of the API types: the document does not
//! tell protobuf numbers, nor which fields are pointers. Runs when the target version changes, and in a test that compares;
//! never in the server.

mod go;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

/// Why a document cannot be made into a table.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// Something is missing or not of the expected form.
    #[error("{0}: not understood")]
    Unknown(String),
    /// A package of Go files cannot be read.
    #[error("Go package {0}: {1}")]
    Source(String, std::io::Error),
    /// Writing into a string failed.
    #[error(transparent)]
    Format(#[from] std::fmt::Error),
}

/// The table for a document. `sources` gives the texts of the Go files of a package, named by its folder below upstream's
/// `staging/src/k8s.io`: `api/core/v1`.
///
/// # Errors
/// If the document holds what the table has no words for: then generator and schema must learn it.
pub fn generate(
    document: &Value,
    sources: impl Fn(&str) -> std::io::Result<Vec<String>>,
) -> Result<String, GenerateError> {
    let mut out =
        String::from("# Made by generate-facts from Kubernetes' OpenAPI document and Go types. Not to be edited.\n");
    let mut packages = go::Packages::new(sources);
    for (name, definition) in object(document, "definitions")? {
        if leaf(name, definition).is_some() {
            continue;
        }
        let (package, structure) = short(name).rsplit_once('.').ok_or_else(|| GenerateError::Unknown(name.clone()))?;
        let folder = package.replace('.', "/");
        write_definition(&mut out, name, definition, |field| packages.place(&folder, structure, field))?;
    }
    for resource in resources(document)?.values() {
        writeln!(out, "{}", resource.head())?;
        for (name, subresource) in &resource.subresources {
            let verbs = join(&subresource.verbs);
            let connect = if subresource.connect { " connect" } else { "" };
            writeln!(out, "S {name} {verbs} {}{connect}", subresource.kind)?;
        }
    }
    Ok(out)
}

/// The texts of the Go files in a folder, which need not exist. Tests and generated files tell nothing about types.
///
/// # Errors
/// If a file does not read.
pub fn go_files(folder: &std::path::Path) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut texts = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let wanted = name.ends_with(".go") && !name.ends_with("_test.go") && !name.contains("generated");
        if wanted {
            texts.push(std::fs::read_to_string(&path)?);
        }
    }
    Ok(texts)
}

fn object<'a>(value: &'a Value, field: &str) -> Result<&'a serde_json::Map<String, Value>, GenerateError> {
    value[field].as_object().ok_or_else(|| GenerateError::Unknown(field.to_owned()))
}

fn short(name: &str) -> &str {
    name.strip_prefix("io.k8s.").unwrap_or(name)
}

/// The type of a definition that is not a structure.
fn leaf(name: &str, definition: &Value) -> Option<&'static str> {
    if definition.get("properties").is_some() {
        return None;
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    match (definition["type"].as_str(), last) {
        (None, _) => Some("any"),
        (Some("string"), "Quantity") => Some("quantity"),
        (Some("string"), "Time") => Some("time"),
        (Some("string"), "MicroTime") => Some("microtime"),
        (Some("string"), "IntOrString") => Some("intorstring"),
        (Some("object"), "RawExtension" | "FieldsV1" | "Patch") => Some("object"),
        _ => None,
    }
}

fn write_definition(
    out: &mut String,
    name: &str,
    definition: &Value,
    mut place: impl FnMut(&str) -> Result<Option<go::Place>, GenerateError>,
) -> Result<(), GenerateError> {
    write!(out, "D {}", short(name))?;
    if definition["x-kubernetes-map-type"] == "atomic" {
        out.push_str(" atomic");
    }
    let kinds = definition["x-kubernetes-group-version-kind"].as_array().map_or(&[][..], Vec::as_slice);
    // Options and watch events are listed under every group; the core one stands for all.
    let core = kinds.iter().find(|k| k["group"] == "").filter(|_| kinds.len() > 1);
    for kind in core.map_or(kinds, std::slice::from_ref) {
        write!(out, " {}", gvk(kind)?)?;
    }
    out.push('\n');
    let required: BTreeSet<&str> =
        definition["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (field, property) in definition["properties"].as_object().into_iter().flatten() {
        let field_type = type_of(property)?;
        write!(out, " {field} {field_type}")?;
        if let Some(place) = place(field)? {
            write_place(out, &place, &field_type)?;
        }
        if required.contains(field.as_str()) {
            out.push_str(" required");
        }
        write_rules(out, property)?;
        out.push('\n');
    }
    Ok(())
}

/// The word for a field's place on the wire.
fn write_place(out: &mut String, place: &go::Place, field_type: &str) -> Result<(), GenerateError> {
    let path: Vec<String> = place.path.iter().map(u32::to_string).collect();
    write!(out, " ={}", path.join("."))?;
    if place.pointer {
        out.push('*');
    } else if !place.omitted_if_empty && matches!(field_type, "string" | "int32" | "int64" | "bool" | "double") {
        out.push('!');
    }
    match place.type_name.as_str() {
        "JSONSchemaPropsOrArray" => out.push_str(":orarray"),
        "JSONSchemaPropsOrBool" => out.push_str(":orbool"),
        "JSONSchemaPropsOrStringArray" | "JSONSchemaDependencies" => out.push_str(":orstrings"),
        _ if place.message_list => out.push_str(":items"),
        _ => {}
    }
    Ok(())
}

fn write_rules(out: &mut String, property: &Value) -> Result<(), GenerateError> {
    match property["x-kubernetes-list-type"].as_str() {
        Some("map") => {
            let keys =
                property["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str);
            write!(out, " map({})", keys.collect::<Vec<_>>().join(","))?;
        }
        Some(kind @ ("atomic" | "set")) => write!(out, " {kind}")?,
        Some(other) => return Err(GenerateError::Unknown(format!("list type {other}"))),
        None => {}
    }
    if let Some(strategy) = property["x-kubernetes-patch-strategy"].as_str() {
        write!(out, " patch({strategy})")?;
    }
    if let Some(key) = property["x-kubernetes-patch-merge-key"].as_str() {
        write!(out, " key({key})")?;
    }
    if property["x-kubernetes-map-type"] == "atomic" {
        out.push_str(" atomicmap");
    }
    Ok(())
}

fn type_of(property: &Value) -> Result<String, GenerateError> {
    const REFERENCE: &str = "#/definitions/";
    if let Some(target) = property["$ref"].as_str().and_then(|r| r.strip_prefix(REFERENCE)) {
        return Ok(match leaf(target, &reference_shape(target)) {
            Some(leaf) => leaf.to_owned(),
            None => format!("@{}", short(target)),
        });
    }
    let name = match (property["type"].as_str(), property["format"].as_str()) {
        (Some("string"), None) => "string",
        (Some("string"), Some("byte")) => "bytes",
        (Some("integer"), Some("int32")) => "int32",
        (Some("integer"), Some("int64")) => "int64",
        (Some("number"), _) => "double",
        (Some("boolean"), _) => "bool",
        (Some("array"), _) => return Ok(format!("[]{}", type_of(&property["items"])?)),
        (Some("object"), _) if property["additionalProperties"].is_object() => {
            return Ok(format!("{{}}{}", type_of(&property["additionalProperties"])?));
        }
        (Some("object"), _) => "object",
        _ => return Err(GenerateError::Unknown(property.to_string())),
    };
    Ok(name.to_owned())
}

/// Leaves are known by name, so a reference is judged without the document.
fn reference_shape(target: &str) -> Value {
    let last = target.rsplit('.').next().unwrap_or(target);
    match last {
        "Quantity" | "Time" | "MicroTime" | "IntOrString" => serde_json::json!({"type": "string"}),
        "JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray" => Value::Null,
        _ => serde_json::json!({"type": "object"}),
    }
}

fn gvk(kind: &Value) -> Result<String, GenerateError> {
    let part = |name: &str| kind[name].as_str().ok_or_else(|| GenerateError::Unknown(kind.to_string()));
    Ok(format!("{}:{}:{}", part("group")?, part("version")?, part("kind")?))
}

fn join(verbs: &BTreeSet<&'static str>) -> String {
    verbs.iter().copied().collect::<Vec<_>>().join(",")
}

struct Resource {
    group: String,
    version: String,
    name: String,
    kind: String,
    namespaced: bool,
    verbs: BTreeSet<&'static str>,
    subresources: BTreeMap<String, Subresource>,
}

struct Subresource {
    verbs: BTreeSet<&'static str>,
    kind: String,
    connect: bool,
}

impl Resource {
    fn head(&self) -> String {
        let group = if self.group.is_empty() { "-" } else { &self.group };
        let scope = if self.namespaced { "namespaced" } else { "cluster" };
        format!("R {group} {} {} {} {scope} {}", self.version, self.name, self.kind, join(&self.verbs))
    }
}

/// A path as it concerns a resource.
struct Place<'a> {
    group: &'a str,
    version: &'a str,
    resource: &'a str,
    subresource: Option<&'a str>,
    namespaced: bool,
    watch: bool,
}

fn place(path: &str) -> Option<Place<'_>> {
    let mut parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let (group, version) = match parts.as_slice() {
        ["api", version, ..] => ("", *version),
        ["apis", group, version, ..] => (*group, *version),
        _ => return None,
    };
    parts.drain(..if group.is_empty() { 2 } else { 3 });
    let watch = parts.first() == Some(&"watch");
    if watch {
        parts.remove(0);
    }
    let namespaced = parts.starts_with(&["namespaces", "{namespace}"]);
    if namespaced {
        parts.drain(..2);
    }
    let (resource, subresource) = match parts.as_slice() {
        [resource] | [resource, "{name}"] => (*resource, None),
        [resource, "{name}", sub] => (*resource, Some(*sub)),
        _ => return None,
    };
    Some(Place { group, version, resource, subresource, namespaced, watch })
}

fn verb(method: &str, action: &str) -> Option<&'static str> {
    Some(match (method, action) {
        ("post", _) => "create",
        ("put", _) => "update",
        ("patch", _) => "patch",
        ("delete", "deletecollection") => "deletecollection",
        ("delete", _) => "delete",
        ("get", "list") => "list",
        ("get", "watch" | "watchlist") => "watch",
        ("get", _) => "get",
        _ => return None,
    })
}

fn resources(document: &Value) -> Result<BTreeMap<String, Resource>, GenerateError> {
    let mut found: BTreeMap<String, Resource> = BTreeMap::new();
    for (path, item) in object(document, "paths")? {
        let Some(place) = place(path) else { continue };
        for (method, operation) in item.as_object().into_iter().flatten() {
            let Some(action) = operation["x-kubernetes-action"].as_str() else { continue };
            let Some(verb) = verb(method, action) else { continue };
            let kind = &operation["x-kubernetes-group-version-kind"];
            let key = format!("{} {} {}", place.group, place.version, place.resource);
            let resource = found.entry(key).or_insert_with(|| Resource {
                group: place.group.to_owned(),
                version: place.version.to_owned(),
                name: place.resource.to_owned(),
                kind: String::new(),
                namespaced: false,
                verbs: BTreeSet::new(),
                subresources: BTreeMap::new(),
            });
            let Some(sub) = place.subresource else {
                resource.namespaced |= place.namespaced;
                resource.verbs.insert(if place.watch { "watch" } else { verb });
                resource.kind = kind["kind"].as_str().unwrap_or_default().to_owned();
                continue;
            };
            let connect = action == "connect";
            let own = connect_kind(place.resource, sub).filter(|_| connect);
            let kind = own.map_or_else(|| gvk(kind), |own| Ok(format!(":v1:{own}")))?;
            let entry = resource.subresources.entry(sub.to_owned());
            entry.or_insert(Subresource { verbs: BTreeSet::new(), kind, connect }).verbs.insert(verb);
        }
    }
    Ok(found)
}

/// The document gives connections the kind of their object; discovery gives them that of their options.
fn connect_kind(resource: &str, subresource: &str) -> Option<&'static str> {
    Some(match (resource, subresource) {
        ("pods", "attach") => "PodAttachOptions",
        ("pods", "exec") => "PodExecOptions",
        ("pods", "portforward") => "PodPortForwardOptions",
        ("pods", "proxy") => "PodProxyOptions",
        ("services", "proxy") => "ServiceProxyOptions",
        ("nodes", "proxy") => "NodeProxyOptions",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    /// Needs upstream's document and Go files, which are not part of the project: `NAVARCH_K8S_DATA` names their folder.
    #[test]
    fn the_committed_table_is_what_the_generator_makes() {
        let Some(folder) = std::env::var_os("NAVARCH_K8S_DATA").map(std::path::PathBuf::from) else {
            println!("skipped: NAVARCH_K8S_DATA is not set");
            return;
        };
        let types = folder.join("kubernetes-types-v1.36");
        if !types.exists() {
            println!("skipped: there is no {}", types.display());
            return;
        }
        let document = std::fs::read(folder.join("kubernetes-openapi-v1.36.json")).unwrap();
        let document = serde_json::from_slice(&document).unwrap();
        let made = super::generate(&document, |package| super::go_files(&types.join(package))).unwrap();
        assert!(made == super::super::TABLE, "run generate-facts and commit the table");
    }
}
