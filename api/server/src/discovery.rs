//! Discovery documents: which groups, versions and resources there are, plain and aggregated. Made once from the table.

use std::collections::BTreeMap;

use bytes::Bytes;
use navarch_registry::{Resource, Table};
use navarch_types::schema::SubresourceFacts;
use navarch_types::{ApiError, GroupVersion, Verb};
use serde_json::{Value, json};

mod names;

/// The content type of aggregated documents.
pub const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// All documents, encoded.
pub struct Discovery {
    plain: BTreeMap<String, Bytes>,
    aggregated: BTreeMap<&'static str, Bytes>,
    paths: Vec<String>,
}

impl Discovery {
    /// From the table.
    ///
    /// # Errors
    /// If a document cannot be encoded, which does not happen.
    pub fn new(table: &Table) -> Result<Self, ApiError> {
        let groups = groups(table);
        let mut plain = BTreeMap::new();
        let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
        let mut put = |path: String, document: &Value| -> Result<(), ApiError> {
            plain.insert(path, encode(document)?);
            Ok(())
        };
        put("/api".to_owned(), &core_versions())?;
        let named: Vec<&Group> = groups.iter().filter(|g| !g.name.is_empty()).collect();
        let list: Vec<Value> = named.iter().map(|g| group_document(g, false)).collect();
        put("/apis".to_owned(), &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list}))?;
        for group in &groups {
            let base = if group.name.is_empty() { "/api".to_owned() } else { format!("/apis/{}", group.name) };
            if !group.name.is_empty() {
                put(base.clone(), &group_document(group, true))?;
                paths.push(base.clone());
            }
            for (version, resources) in &group.versions {
                put(format!("{base}/{version}"), &resources_document(&group.name, version, resources))?;
                if !group.name.is_empty() {
                    paths.push(format!("{base}/{version}"));
                }
            }
        }
        let core: Vec<&Group> = groups.iter().filter(|g| g.name.is_empty()).collect();
        let mut aggregated = BTreeMap::new();
        aggregated.insert("/api", encode(&aggregate(&core))?);
        aggregated.insert("/apis", encode(&aggregate(&named))?);
        Ok(Self { plain, aggregated, paths })
    }

    /// The document at a path, with its content type, in the form that the client accepts.
    pub fn get(&self, path: &str, accept: Option<&str>) -> Option<(&'static str, Bytes)> {
        let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        if accept.is_some_and(wants_aggregated)
            && let Some(document) = self.aggregated.get(path)
        {
            return Some((AGGREGATED, document.clone()));
        }
        self.plain.get(path).map(|document| ("application/json", document.clone()))
    }

    /// All paths that have documents.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }
}

/// Whether an `Accept` header prefers an aggregated document in a version that is made here.
fn wants_aggregated(accept: &str) -> bool {
    accept.split(',').any(|clause| {
        let has = |part: &str| clause.split(';').any(|p| p.trim() == part);
        has("as=APIGroupDiscoveryList") && has("g=apidiscovery.k8s.io") && has("v=v2")
    })
}

struct Group<'t> {
    name: String,
    /// The preferred one first.
    versions: Vec<(String, Vec<&'t Resource>)>,
}

fn groups(table: &Table) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for resource in table.iter() {
        let (group, version) = (resource.served.group.as_ref(), resource.served.version.as_ref());
        let at = match groups.iter().position(|g| g.name == group) {
            Some(at) => at,
            None => {
                groups.push(Group { name: group.to_owned(), versions: Vec::new() });
                groups.len() - 1
            }
        };
        let versions = &mut groups[at].versions;
        match versions.iter_mut().find(|(v, _)| v == version) {
            Some((_, resources)) => resources.push(resource),
            None => versions.push((version.to_owned(), vec![resource])),
        }
    }
    for group in &mut groups {
        group.versions.sort_by_key(|(version, _)| std::cmp::Reverse(navarch_registry::resource::maturity(version)));
    }
    groups.sort_by_key(|g| names::group_priority(&g.name));
    groups
}

fn encode(document: &Value) -> Result<Bytes, ApiError> {
    serde_json::to_vec(document).map(Bytes::from).map_err(ApiError::internal)
}

fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

fn group_document(group: &Group<'_>, whole: bool) -> Value {
    let version = |v: &str| json!({"groupVersion": format!("{}/{v}", group.name), "version": v});
    let versions: Vec<Value> = group.versions.iter().map(|(v, _)| version(v)).collect();
    let mut document = json!({"name": group.name, "versions": versions, "preferredVersion": versions.first()});
    if whole {
        document["kind"] = "APIGroup".into();
        document["apiVersion"] = "v1".into();
    }
    document
}

fn verbs(verbs: &[Verb]) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = verbs.iter().map(|v| v.as_str()).collect();
    names.sort_unstable();
    names
}

fn resources_document(group: &str, version: &str, resources: &[&Resource]) -> Value {
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut list = Vec::new();
    for resource in resources {
        let name = resource.served.resource.as_ref();
        let mut entry = json!({
            "name": name,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind.kind,
            "verbs": verbs(&resource.verbs),
        });
        if let Some(short) = names::short_names(group, name) {
            entry["shortNames"] = json!(short);
        }
        if let Some(categories) = names::categories(group, name) {
            entry["categories"] = json!(categories);
        }
        list.push(entry);
        for subresource in &resource.subresources {
            list.push(subresource_entry(resource, subresource));
        }
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list})
}

fn subresource_entry(resource: &Resource, subresource: &SubresourceFacts) -> Value {
    let mut entry = json!({
        "name": format!("{}/{}", resource.served.resource, subresource.name),
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": subresource.kind.kind,
        "verbs": verbs(&subresource.verbs),
    });
    let own = GroupVersion { group: resource.served.group.clone(), version: resource.served.version.clone() };
    if subresource.kind.group_version() != own {
        entry["group"] = subresource.kind.group.to_string().into();
        entry["version"] = subresource.kind.version.to_string().into();
    }
    entry
}

fn aggregate(groups: &[&Group<'_>]) -> Value {
    let items: Vec<Value> = groups
        .iter()
        .map(|group| {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|(version, resources)| {
                    let resources: Vec<Value> = resources.iter().map(|r| aggregated_resource(&group.name, r)).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let mut item = json!({"metadata": {"creationTimestamp": null}, "versions": versions});
            if !group.name.is_empty() {
                item["metadata"]["name"] = group.name.as_str().into();
            }
            item
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_resource(group: &str, resource: &Resource) -> Value {
    let name = resource.served.resource.as_ref();
    let kind = |k: &navarch_types::GroupVersionKind| json!({"group": k.group, "version": k.version, "kind": k.kind});
    let mut entry = json!({
        "resource": name,
        "responseKind": kind(&resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": verbs(&resource.verbs),
    });
    if let Some(short) = names::short_names(group, name) {
        entry["shortNames"] = json!(short);
    }
    if let Some(categories) = names::categories(group, name) {
        entry["categories"] = json!(categories);
    }
    if !resource.subresources.is_empty() {
        let subresources: Vec<Value> = resource
            .subresources
            .iter()
            .map(|s| json!({"subresource": s.name, "responseKind": kind(&s.kind), "verbs": verbs(&s.verbs)}))
            .collect();
        entry["subresources"] = Value::Array(subresources);
    }
    entry
}
