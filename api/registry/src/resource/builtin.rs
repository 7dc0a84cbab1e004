//! The built-in resources, from the table of facts: which version is stored, and which versions can be served beside it.

use std::collections::HashSet;

use navarch_types::schema::{DefinitionId, ResourceFacts, Schema, Type};
use navarch_types::{GroupResource, GroupVersionResource};

use super::Resource;
use crate::kinds;

/// Versions that differ in structure and have a conversion: (group, kind).
const CONVERTED: &[(&str, &str)] = &[("autoscaling", "HorizontalPodAutoscaler"), ("events.k8s.io", "Event")];

/// Resources that are no objects of the store and that nothing here answers.
const UNANSWERED: &[(&str, &str)] = &[("", "componentstatuses")];

pub(super) fn resources() -> Vec<Resource> {
    let schema = Schema::builtin();
    schema.resources().iter().filter_map(|facts| resource(schema, facts)).collect()
}

pub(super) fn not_served() -> Vec<GroupVersionResource> {
    let schema = Schema::builtin();
    schema.resources().iter().filter(|facts| resource(schema, facts).is_none()).map(ResourceFacts::gvr).collect()
}

fn resource(schema: &Schema, facts: &ResourceFacts) -> Option<Resource> {
    if UNANSWERED.contains(&(facts.group.as_ref(), facts.resource.as_ref())) {
        return None;
    }
    let definition = schema.by_gvk(&facts.gvk())?;
    let stored = stored_version(schema, facts);
    let storage_kind = stored.gvk();
    if stored.gvk() != facts.gvk() && !CONVERTED.contains(&(&*facts.group, &*facts.kind)) {
        let other = schema.by_gvk(&storage_kind)?;
        if !same(schema, definition, other, &mut HashSet::new()) {
            return None;
        }
    }
    let storage = GroupResource { group: stored.group.clone(), resource: stored.resource.clone() };
    Some(Resource {
        served: facts.gvr(),
        kind: facts.gvk(),
        definition,
        strategy: kinds::strategy(&storage.group, &storage.resource),
        storage,
        storage_kind,
        singular: facts.kind.to_ascii_lowercase(),
        namespaced: facts.namespaced,
        verbs: facts.verbs.clone(),
        subresources: facts.subresources.clone(),
    })
}

/// The version in which objects of a resource are stored: the most mature, the newest of these.
fn stored_version<'s>(schema: &'s Schema, facts: &'s ResourceFacts) -> &'s ResourceFacts {
    if facts.group == "events.k8s.io" && facts.resource == "events" {
        return schema.resource("", "v1", "events").unwrap_or(facts);
    }
    let all = schema.resources().iter().filter(|r| r.group == facts.group && r.resource == facts.resource);
    all.max_by_key(|r| maturity(&r.version)).unwrap_or(facts)
}

/// Orders versions: `v2` above `v1` above `v1beta2` above `v1beta1` above `v1alpha3`.
pub fn maturity(version: &str) -> (u8, u32, u32) {
    let rest = version.strip_prefix('v').unwrap_or(version);
    let number = |text: &str| text.parse().unwrap_or_default();
    if let Some((major, minor)) = rest.split_once("beta") {
        return (1, number(major), number(minor));
    }
    if let Some((major, minor)) = rest.split_once("alpha") {
        return (0, number(major), number(minor));
    }
    (2, number(rest), 0)
}

/// Whether two structures have the same fields of the same types, all the way down.
fn same(schema: &Schema, a: DefinitionId, b: DefinitionId, seen: &mut HashSet<(DefinitionId, DefinitionId)>) -> bool {
    if a == b || !seen.insert((a, b)) {
        return true;
    }
    let (a, b) = (schema.definition(a).fields(), schema.definition(b).fields());
    a.len() == b.len()
        && a.iter().zip(b).all(|(x, y)| x.name == y.name && same_type(schema, x.field_type, y.field_type, seen))
}

fn same_type(schema: &Schema, a: Type, b: Type, seen: &mut HashSet<(DefinitionId, DefinitionId)>) -> bool {
    match (a, b) {
        (Type::Struct(a), Type::Struct(b)) => same(schema, a, b, seen),
        (Type::List(a), Type::List(b)) | (Type::Map(a), Type::Map(b)) => {
            same_type(schema, schema.element(a), schema.element(b), seen)
        }
        _ => a == b,
    }
}

/// The kind that a storage group and resource hold.
#[cfg(test)]
fn stored_kind(group: &str, version: &str, resource: &str) -> Option<navarch_types::GroupVersionKind> {
    let table = super::Table::builtin();
    let served = GroupVersionResource {
        group: group.to_owned().into(),
        version: version.to_owned().into(),
        resource: resource.to_owned().into(),
    };
    table.get(&served).map(|r| r.storage_kind.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version_is_stored() {
        for (group, version, resource, stored) in [
            ("", "v1", "pods", ("", "v1")),
            ("apps", "v1", "deployments", ("apps", "v1")),
            ("autoscaling", "v1", "horizontalpodautoscalers", ("autoscaling", "v2")),
            ("events.k8s.io", "v1", "events", ("", "v1")),
            ("networking.k8s.io", "v1beta1", "ipaddresses", ("networking.k8s.io", "v1")),
        ] {
            let found = stored_kind(group, version, resource);
            let found = found.as_ref().map(|k| (k.group.as_ref(), k.version.as_ref()));
            assert_eq!(found, Some(stored), "{group}/{version} {resource}");
        }
    }

    #[test]
    fn maturity_orders_versions() {
        let mut versions = ["v1alpha3", "v1", "v1beta2", "v2", "v1beta1", "v1alpha1"];
        versions.sort_by_key(|v| maturity(v));
        assert_eq!(versions, ["v1alpha1", "v1alpha3", "v1beta1", "v1beta2", "v1", "v2"]);
    }

    #[test]
    fn what_is_not_served_is_known() {
        let names: Vec<String> =
            not_served().iter().map(|r| format!("{}/{} {}", r.group, r.version, r.resource)).collect();
        assert_eq!(names, NOT_SERVED);
    }

    const NOT_SERVED: &[&str] = &[
        "/v1 componentstatuses",
        "resource.k8s.io/v1beta1 resourceclaims",
        "resource.k8s.io/v1beta1 resourceclaimtemplates",
        "resource.k8s.io/v1beta1 resourceslices",
    ];
}
