//! What can be done at which path, from the table of resources. The same for both versions of the documents.

use navarch_types::schema::{ResourceFacts, Schema, SubresourceFacts};
use navarch_types::{GroupVersionKind, Verb};

use super::parameters::{
    DELETE, NAME, NAMESPACE, PATCH, PATH, PRETTY, Parameter, SELECT, WATCH, WRITE, of_subresource,
};

/// A definition, as documents name it.
pub(super) type DefinitionName = String;

pub(super) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub(super) const PATCH_BODY: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

const OBJECT_TYPES: &[&str] = &["application/json", "application/yaml"];
const LIST_TYPES: &[&str] = &["application/json", "application/yaml", "application/json;stream=watch"];
const ANY_TYPE: &[&str] = &["*/*"];
const PATCH_TYPES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

/// A path and what is done there.
#[derive(Debug)]
pub(super) struct PathItem {
    pub(super) path: String,
    pub(super) parameters: Vec<Parameter>,
    pub(super) operations: Vec<Operation>,
}

/// One method at a path.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    /// `x-kubernetes-action`.
    pub(super) action: &'static str,
    pub(super) kind: GroupVersionKind,
    pub(super) id: String,
    pub(super) description: String,
    pub(super) parameters: Vec<Parameter>,
    /// The body and whether it must be there.
    pub(super) body: Option<(DefinitionName, bool)>,
    pub(super) consumes: &'static [&'static str],
    pub(super) produces: &'static [&'static str],
    /// Codes of success.
    pub(super) codes: &'static [u16],
    /// `None` for text.
    pub(super) result: Option<DefinitionName>,
}

/// `api/v1` or `apis/apps/v1`.
pub(super) fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// `AppsV1`, `RbacAuthorizationV1`, `CoreV1`: part of operation ids.
fn camel(group: &str, version: &str) -> String {
    let group = if group.is_empty() { "core" } else { group.strip_suffix(".k8s.io").unwrap_or(group) };
    group.split('.').chain([version]).map(upper_first).collect()
}

/// `apps_v1`, `rbacAuthorization_v1`, `core_v1`.
pub(super) fn tag(group: &str, version: &str) -> String {
    let camel = camel(group, "");
    let mut chars = camel.chars();
    let lower: String = chars.next().into_iter().flat_map(char::to_lowercase).chain(chars).collect();
    format!("{lower}_{version}")
}

fn upper_first(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().into_iter().flat_map(char::to_uppercase).chain(chars).collect()
}

/// The definition of a kind, if it has one.
pub(super) fn definition_of(schema: &Schema, kind: &GroupVersionKind) -> Option<DefinitionName> {
    schema.by_gvk(kind).map(|id| format!("io.k8s.{}", schema.definition(id).name))
}

/// All paths of a resource.
pub(super) fn paths(schema: &Schema, resource: &ResourceFacts) -> Vec<PathItem> {
    let maker = Maker { schema, resource };
    let base = format!("/{}", root(&resource.group, &resource.version));
    let name = &resource.resource;
    let collection =
        if resource.namespaced { format!("{base}/namespaces/{{namespace}}/{name}") } else { format!("{base}/{name}") };
    let item = format!("{collection}/{{name}}");
    let mut items = vec![maker.item(&collection, &[], maker.collection()), maker.item(&item, &[NAME], maker.object())];
    if resource.namespaced && resource.serves(Verb::List) {
        let mut list = maker.list();
        list.id = format!("list{}{}ForAllNamespaces", maker.camel(), resource.kind);
        items.push(PathItem { path: format!("{base}/{name}"), parameters: vec![PRETTY], operations: vec![list] });
    }
    for subresource in &resource.subresources {
        let path = format!("{item}/{}", subresource.name);
        if subresource.connect {
            items.push(maker.item(&path, &[NAME], maker.connect(subresource, "")));
            if subresource.name == "proxy" {
                items.push(maker.item(
                    &format!("{path}/{{path}}"),
                    &[NAME, PATH],
                    maker.connect(subresource, "WithPath"),
                ));
            }
        } else {
            items.push(maker.item(&path, &[NAME], maker.subresource(subresource)));
        }
    }
    items.retain(|item| !item.operations.is_empty());
    items
}

struct Maker<'a> {
    schema: &'a Schema,
    resource: &'a ResourceFacts,
}

impl Maker<'_> {
    fn camel(&self) -> String {
        camel(&self.resource.group, &self.resource.version)
    }

    fn scope(&self) -> &'static str {
        if self.resource.namespaced { "Namespaced" } else { "" }
    }

    fn item(&self, path: &str, more: &[Parameter], operations: Vec<Operation>) -> PathItem {
        let mut parameters = more.to_vec();
        if self.resource.namespaced {
            parameters.push(NAMESPACE);
        }
        parameters.push(PRETTY);
        PathItem { path: path.to_owned(), parameters, operations }
    }

    fn operation(&self, method: &'static str, action: &'static str, verb: &str, suffix: &str) -> Operation {
        let kind = &self.resource.kind;
        let tail = if suffix.is_empty() { String::new() } else { format!(" {suffix} of a") };
        Operation {
            method,
            action,
            kind: self.resource.gvk(),
            id: format!("{verb}{}{}{kind}{}", self.camel(), self.scope(), upper_first(suffix)),
            description: format!("{verb}{tail} {kind}"),
            parameters: Vec::new(),
            body: None,
            consumes: ANY_TYPE,
            produces: OBJECT_TYPES,
            codes: &[200],
            result: definition_of(self.schema, &self.resource.gvk()),
        }
    }

    fn list(&self) -> Operation {
        let list = GroupVersionKind { kind: format!("{}List", self.resource.kind).into(), ..self.resource.gvk() };
        let mut parameters = SELECT.to_vec();
        parameters.extend_from_slice(WATCH);
        Operation {
            description: format!("list or watch objects of kind {}", self.resource.kind),
            parameters,
            produces: LIST_TYPES,
            result: definition_of(self.schema, &list),
            ..self.operation("get", "list", "list", "")
        }
    }

    fn collection(&self) -> Vec<Operation> {
        let mut operations = Vec::new();
        if self.resource.serves(Verb::List) {
            operations.push(self.list());
        }
        if self.resource.serves(Verb::Create) {
            operations.push(self.write("post", "post", "create", "", &self.resource.gvk(), &[200, 201, 202]));
        }
        if self.resource.serves(Verb::DeleteCollection) {
            let mut parameters = SELECT.to_vec();
            parameters.extend_from_slice(DELETE);
            operations.push(Operation {
                id: format!("delete{}Collection{}{}", self.camel(), self.scope(), self.resource.kind),
                description: format!("delete collection of {}", self.resource.kind),
                parameters,
                body: Some((DELETE_OPTIONS.to_owned(), false)),
                result: Some(STATUS.to_owned()),
                ..self.operation("delete", "deletecollection", "delete", "")
            });
        }
        operations
    }

    fn object(&self) -> Vec<Operation> {
        let gvk = self.resource.gvk();
        let mut operations = Vec::new();
        if self.resource.serves(Verb::Get) {
            operations.push(self.operation("get", "get", "read", ""));
        }
        if self.resource.serves(Verb::Update) {
            operations.push(self.write("put", "put", "replace", "", &gvk, &[200, 201]));
        }
        if self.resource.serves(Verb::Patch) {
            operations.push(self.patch("", &gvk));
        }
        if self.resource.serves(Verb::Delete) {
            operations.push(Operation {
                parameters: DELETE.to_vec(),
                body: Some((DELETE_OPTIONS.to_owned(), false)),
                codes: &[200, 202],
                result: Some(STATUS.to_owned()),
                ..self.operation("delete", "delete", "delete", "")
            });
        }
        operations
    }

    fn write(
        &self,
        method: &'static str,
        action: &'static str,
        verb: &str,
        suffix: &str,
        kind: &GroupVersionKind,
        codes: &'static [u16],
    ) -> Operation {
        let definition = definition_of(self.schema, kind);
        Operation {
            kind: kind.clone(),
            parameters: WRITE.to_vec(),
            body: definition.clone().map(|name| (name, true)),
            codes,
            result: definition,
            ..self.operation(method, action, verb, suffix)
        }
    }

    fn patch(&self, suffix: &str, kind: &GroupVersionKind) -> Operation {
        Operation {
            kind: kind.clone(),
            parameters: PATCH.to_vec(),
            body: Some((PATCH_BODY.to_owned(), true)),
            consumes: PATCH_TYPES,
            codes: &[200, 201],
            result: definition_of(self.schema, kind),
            ..self.operation("patch", "patch", "patch", suffix)
        }
    }

    fn subresource(&self, subresource: &SubresourceFacts) -> Vec<Operation> {
        let (name, kind) = (subresource.name.as_ref(), &subresource.kind);
        let mut operations = Vec::new();
        for verb in &subresource.verbs {
            operations.push(match verb {
                Verb::Get if name == "log" => Operation {
                    parameters: of_subresource(&self.resource.resource, name).to_vec(),
                    produces: &["text/plain"],
                    result: None,
                    ..self.operation("get", "get", "read", name)
                },
                Verb::Get => Operation {
                    kind: kind.clone(),
                    result: definition_of(self.schema, kind),
                    ..self.operation("get", "get", "read", name)
                },
                Verb::Create => self.write("post", "post", "create", name, kind, &[200, 201, 202]),
                Verb::Update => self.write("put", "put", "replace", name, kind, &[200, 201]),
                Verb::Patch => self.patch(name, kind),
                _ => continue,
            });
        }
        operations
    }

    fn connect(&self, subresource: &SubresourceFacts, with: &str) -> Vec<Operation> {
        let name = subresource.name.as_ref();
        let operation = |verb: &Verb| {
            let method = match verb {
                Verb::Create => "post",
                Verb::Update => "put",
                Verb::Patch => "patch",
                Verb::Delete => "delete",
                _ => "get",
            };
            let (camel, scope, kind) = (self.camel(), self.scope(), &self.resource.kind);
            Operation {
                id: format!("connect{camel}{}{scope}{kind}{}{with}", upper_first(method), upper_first(name)),
                description: format!("connect {} requests to {name} of {kind}", method.to_uppercase()),
                parameters: of_subresource(&self.resource.resource, name).to_vec(),
                produces: ANY_TYPE,
                result: None,
                ..self.operation(method, "connect", "connect", name)
            }
        };
        subresource.verbs.iter().map(operation).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_upstreams() {
        assert_eq!(tag("rbac.authorization.k8s.io", "v1"), "rbacAuthorization_v1");
        assert_eq!(tag("", "v1"), "core_v1");
        let schema = Schema::builtin();
        let ids = |group, version, resource| {
            let items = paths(schema, schema.resource(group, version, resource).unwrap());
            items.into_iter().flat_map(|i| i.operations).map(|o| o.id).collect::<Vec<_>>()
        };
        let deployments = ids("apps", "v1", "deployments");
        for id in [
            "listAppsV1NamespacedDeployment",
            "createAppsV1NamespacedDeployment",
            "deleteAppsV1CollectionNamespacedDeployment",
            "readAppsV1NamespacedDeployment",
            "replaceAppsV1NamespacedDeploymentStatus",
            "patchAppsV1NamespacedDeploymentScale",
            "listAppsV1DeploymentForAllNamespaces",
        ] {
            assert!(deployments.iter().any(|i| i == id), "{id}");
        }
        assert!(ids("", "v1", "pods").iter().any(|i| i == "connectCoreV1GetNamespacedPodExec"));
        assert!(ids("", "v1", "nodes").iter().any(|i| i == "connectCoreV1PutNodeProxyWithPath"));
    }

    #[test]
    fn ids_are_unique_and_all_definitions_exist() {
        let schema = Schema::builtin();
        let mut seen = HashSet::new();
        for operation in schema.resources().iter().flat_map(|r| paths(schema, r)).flat_map(|i| i.operations) {
            assert!(seen.insert(operation.id.clone()), "{}", operation.id);
            assert!(
                operation.result.is_some() || matches!(operation.action, "connect") || operation.id.ends_with("Log")
            );
            assert!(
                !matches!(operation.method, "post" | "put" | "patch")
                    || operation.action == "connect"
                    || operation.body.is_some()
            );
        }
    }
}
