//! Where objects live in the key space. The one place that knows.
//!
//! `{group}/{resource}/{namespace}/{name}`, or `{group}/{resource}/{name}` for cluster-scoped resources; the core group
//! is `core`. No part contains a slash, so prefixes do not overlap.

use bytes::Bytes;
use navarch_types::GroupResource;

fn group(resource: &GroupResource) -> &str {
    if resource.group.is_empty() { "core" } else { &resource.group }
}

/// What all keys of a resource begin with.
pub fn resource_prefix(resource: &GroupResource) -> String {
    format!("{}/{}/", group(resource), resource.resource)
}

/// What all keys of a resource in a namespace begin with.
pub fn namespace_prefix(resource: &GroupResource, namespace: &str) -> String {
    format!("{}/{}/{namespace}/", group(resource), resource.resource)
}

/// The key of an object; `namespace` is empty for cluster-scoped resources.
pub fn object_key(resource: &GroupResource, namespace: &str, name: &str) -> Bytes {
    let prefix = if namespace.is_empty() { resource_prefix(resource) } else { namespace_prefix(resource, namespace) };
    Bytes::from(prefix + name)
}

/// The resource prefix of a key: everything up to its second slash. `None` for keys that are no objects'.
pub fn prefix_of(key: &[u8]) -> Option<&[u8]> {
    let mut slashes = key.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let (at, _) = slashes.nth(1)?;
    key.get(..=at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_split_where_they_were_joined() {
        let pods = GroupResource { group: "".into(), resource: "pods".into() };
        let roles = GroupResource { group: "rbac.authorization.k8s.io".into(), resource: "clusterroles".into() };
        for (key, expected) in [
            (object_key(&pods, "default", "web-1"), "core/pods/default/web-1"),
            (object_key(&roles, "", "system:node"), "rbac.authorization.k8s.io/clusterroles/system:node"),
        ] {
            assert_eq!(key, expected);
            assert!(expected.as_bytes().starts_with(prefix_of(&key).unwrap()));
        }
        assert_eq!(prefix_of(b"core/pods/a/b"), Some(&b"core/pods/"[..]));
        assert_eq!(prefix_of(b"core/pods"), None);
    }
}
