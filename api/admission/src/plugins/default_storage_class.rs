//! DefaultStorageClass: a claim that names no class gets the default one, if there is one.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::storage::v1::StorageClass;
use navarch_auth::ObjectView;
use navarch_auth::view::STORAGE_CLASSES;
use serde_json::{Value, json};

use super::json::{at, map_mut};
use crate::attributes::AdmissionAttributes;
use crate::plugin::{FINE, Plugin, Verdict};

const ANNOTATIONS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// Where the class stood before there was a field.
const BETA_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) struct DefaultStorageClass {
    view: Arc<dyn ObjectView>,
}

impl DefaultStorageClass {
    pub(super) fn new(view: Arc<dyn ObjectView>) -> Self {
        Self { view }
    }

    /// Of several defaults the newest counts, and of equally old ones the first by name.
    fn default_class(&self) -> Option<String> {
        let classes = self.view.list(&STORAGE_CLASSES, None);
        let defaults = classes.iter().filter_map(|o| o.typed::<StorageClass>().ok()).filter(|c| {
            let annotation = |key: &&str| c.metadata.annotations.as_ref().and_then(|a| a.get(*key));
            ANNOTATIONS.iter().filter_map(annotation).any(|v| v == "true")
        });
        let key = |c: &Arc<StorageClass>| {
            let age = c.metadata.creation_timestamp.as_ref().map(|t| t.0.as_second()).unwrap_or_default();
            (std::cmp::Reverse(age), c.metadata.name.clone())
        };
        defaults.min_by_key(key).and_then(|c| c.metadata.name.clone())
    }
}

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        attributes.creates() && attributes.is("", "persistentvolumeclaims")
    }

    async fn mutate(&self, _attributes: &AdmissionAttributes<'_>, claim: &mut Value) -> Verdict {
        // The empty class is an answer too: none.
        let named = at(claim, &["spec", "storageClassName"]).is_some()
            || at(claim, &["metadata", "annotations", BETA_ANNOTATION]).is_some();
        if !named
            && let Some(class) = self.default_class()
            && let Some(spec) = map_mut(claim, &["spec"])
        {
            spec.insert("storageClassName".to_owned(), json!(class));
        }
        FINE
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::super::testing::Case;
    use super::*;

    #[tokio::test]
    async fn only_a_claim_that_names_none_gets_the_newest_default() {
        let case = Case::with_namespace();
        for (name, day, default) in [("old", 1, "true"), ("new", 2, "true"), ("other", 3, "false")] {
            let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "p",
                "metadata": {"name": name, "creationTimestamp": format!("2026-01-0{day}T00:00:00Z"),
                             "annotations": {ANNOTATIONS[0]: default}}});
            case.view.put(&STORAGE_CLASSES, &class).unwrap();
        }
        for (spec, expected) in
            [(json!({}), "new"), (json!({"storageClassName": ""}), ""), (json!({"storageClassName": "old"}), "old")]
        {
            let mut claim = json!({"spec": spec});
            case.create("", "persistentvolumeclaims", "default", "c").mutate(&mut claim).await.unwrap();
            assert_eq!(claim["spec"]["storageClassName"], expected);
            assert_eq!(claim["metadata"]["finalizers"][0], "kubernetes.io/pvc-protection");
        }
    }
}
