//! Owner references: who controls an object, and how a controller takes it or lets it go.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use navarch_client::{Client, Resource};
use navarch_types::{ApiError, PatchType, Reason};
use serde_json::json;

/// The reference to the controlling owner.
pub(crate) fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// A reference that makes `owner` the controller.
pub(crate) fn controller_reference<K: Resource>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: owner.metadata().name.clone().unwrap_or_default(),
        uid: owner.metadata().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What a controller does with an object in its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is its own.
    Keep,
    /// Take it: it matches and nobody controls it.
    Adopt,
    /// Let it go: it is controlled but matches no more.
    Release,
    /// Somebody else's, or nobody's that matches.
    Ignore,
}

/// Decides about one object.
pub(crate) fn claim(object: &ObjectMeta, owner_uid: &str, owner_deleting: bool, matches: bool) -> Claim {
    match controller_of(object) {
        Some(owner) if owner.uid != owner_uid => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if owner_deleting => Claim::Ignore,
        Some(_) => Claim::Release,
        None if matches && !owner_deleting && object.deletion_timestamp.is_none() => Claim::Adopt,
        None => Claim::Ignore,
    }
}

/// Makes `owner` the controller of an object. The uid in the patch keeps it from another object of the same name.
pub(crate) async fn adopt<K: Resource, O: Resource>(client: &Client, object: &K, owner: &O) -> Result<(), ApiError> {
    let metadata = object.metadata();
    let patch = json!({"metadata": {"uid": metadata.uid, "ownerReferences": [controller_reference(owner)]}});
    patch_owners(client, object, patch).await
}

/// Removes the reference to an owner.
pub(crate) async fn release<K: Resource>(client: &Client, object: &K, owner_uid: &str) -> Result<(), ApiError> {
    let metadata = object.metadata();
    let patch = json!({"metadata": {"uid": metadata.uid, "ownerReferences": [{"$patch": "delete", "uid": owner_uid}]}});
    match patch_owners(client, object, patch).await {
        // Gone already, or another object by now: there is nothing to release.
        Err(error) if error.is(Reason::NotFound) || error.is(Reason::Invalid) => Ok(()),
        result => result,
    }
}

async fn patch_owners<K: Resource>(client: &Client, object: &K, patch: serde_json::Value) -> Result<(), ApiError> {
    let metadata = object.metadata();
    let api = client.namespaced::<K>(metadata.namespace.as_deref().unwrap_or_default());
    api.patch(metadata.name.as_deref().unwrap_or_default(), None, PatchType::Strategic, patch).await.map(drop)
}

/// An owner that adopts must still exist, not be deleting, and be the same: caches may be behind.
pub(crate) async fn may_adopt<O: Resource>(client: &Client, owner: &O) -> Result<bool, ApiError> {
    let metadata = owner.metadata();
    let api = client.namespaced::<O>(metadata.namespace.as_deref().unwrap_or_default());
    let fresh = api.get(metadata.name.as_deref().unwrap_or_default()).await?;
    Ok(fresh.metadata().uid == metadata.uid && fresh.metadata().deletion_timestamp.is_none())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn claims() {
        let object = |owner: Option<&str>, deleting: bool| -> ObjectMeta {
            serde_json::from_value(json!({"name": "x",
                "deletionTimestamp": deleting.then_some("2024-01-01T00:00:00Z"),
                "ownerReferences": owner.map(|uid| vec![json!({"uid": uid, "controller": true, "apiVersion": "v1", "kind": "K", "name": "n"})])}))
            .unwrap()
        };
        let table = [
            (Some("me"), false, false, true, Claim::Keep),
            (Some("me"), false, false, false, Claim::Release),
            (Some("me"), false, true, false, Claim::Ignore),
            (Some("other"), false, false, true, Claim::Ignore),
            (None, false, false, true, Claim::Adopt),
            (None, true, false, true, Claim::Ignore),
            (None, false, true, true, Claim::Ignore),
            (None, false, false, false, Claim::Ignore),
        ];
        for (owner, deleting, owner_deleting, matches, want) in table {
            assert_eq!(
                claim(&object(owner, deleting), "me", owner_deleting, matches),
                want,
                "{owner:?} {deleting} {owner_deleting} {matches}"
            );
        }
    }
}
