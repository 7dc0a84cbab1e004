//! ServiceAccount: every pod runs as one, and finds its token, the cluster's authority and its namespace in
//! `/var/run/secrets/kubernetes.io/serviceaccount`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::ServiceAccount as Account;
use navarch_auth::ObjectView;
use navarch_auth::view::SERVICE_ACCOUNTS;
use navarch_types::ApiError;
use rand::Rng;
use serde_json::{Value, json};

use super::json::{CONTAINERS, at, is_unset, items, items_mut, list_mut, map_mut, text};
use crate::attributes::AdmissionAttributes;
use crate::plugin::{FINE, Plugin, Verdict};

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// An hour and a bit, by which the API server knows tokens of this volume.
const TOKEN_EXPIRATION_SECONDS: u64 = 60 * 60 + 7;
/// A mirror pod stands for one that the node runs by itself.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// How often a missing account is looked for: in a new namespace its controller is about to make it.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

pub(super) struct ServiceAccount {
    view: Arc<dyn ObjectView>,
}

impl ServiceAccount {
    pub(super) fn new(view: Arc<dyn ObjectView>) -> Self {
        Self { view }
    }

    async fn account(&self, attributes: &AdmissionAttributes<'_>, name: &str) -> Result<Arc<Account>, ApiError> {
        for look in 0..LOOKS {
            if let Some(object) = self.view.get(&SERVICE_ACCOUNTS, attributes.namespace, name) {
                return object.typed::<Account>().map_err(ApiError::internal);
            }
            if look + 1 < LOOKS {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        }
        let missing = ApiError::not_found(&SERVICE_ACCOUNTS.resource, name);
        let why = format!("error looking up service account {}/{name}: {missing}", attributes.namespace);
        Err(attributes.forbidden(why))
    }
}

fn is_mirror(pod: &Value) -> bool {
    at(pod, &["metadata", "annotations"]).is_some_and(|a| a.get(MIRROR_ANNOTATION).is_some())
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        attributes.creates() && attributes.is("", "pods")
    }

    async fn mutate(&self, attributes: &AdmissionAttributes<'_>, pod: &mut Value) -> Verdict {
        if is_mirror(pod) {
            return FINE;
        }
        if is_unset(pod, &["spec", "serviceAccountName"]) {
            // The deprecated alias counts where the field is not set.
            let alias = text(pod, &["spec", "serviceAccount"]).to_owned();
            let name = if alias.is_empty() { "default".to_owned() } else { alias };
            if let Some(spec) = map_mut(pod, &["spec"]) {
                spec.insert("serviceAccountName".to_owned(), json!(name));
            }
        }
        let name = text(pod, &["spec", "serviceAccountName"]).to_owned();
        if let Some(spec) = map_mut(pod, &["spec"]) {
            spec.insert("serviceAccount".to_owned(), json!(name));
        }
        let account = self.account(attributes, &name).await?;
        if automount(pod, &account) {
            mount(pod);
        }
        let has_own = items(pod, &["spec", "imagePullSecrets"]).next().is_some();
        if !has_own && let Some(secrets) = account.image_pull_secrets.as_ref().filter(|s| !s.is_empty()) {
            let names: Vec<_> = secrets.iter().map(|s| json!({"name": s.name})).collect();
            if let Some(spec) = map_mut(pod, &["spec"]) {
                spec.insert("imagePullSecrets".to_owned(), json!(names));
            }
        }
        FINE
    }

    async fn validate(&self, attributes: &AdmissionAttributes<'_>, pod: &Value) -> Verdict {
        if is_mirror(pod) {
            return validate_mirror(attributes, pod);
        }
        let name = text(pod, &["spec", "serviceAccountName"]);
        self.account(attributes, name).await?;
        FINE
    }
}

/// A mirror pod gets nothing through the API server that its node does not have anyway.
fn validate_mirror(attributes: &AdmissionAttributes<'_>, pod: &Value) -> Verdict {
    if !is_unset(pod, &["spec", "serviceAccountName"]) {
        return Err(attributes.forbidden("a mirror pod may not reference service accounts"));
    }
    for volume in items(pod, &["spec", "volumes"]) {
        if at(volume, &["secret"]).is_some() {
            return Err(attributes.forbidden("a mirror pod may not reference secrets"));
        }
        let tokens = items(volume, &["projected", "sources"]).any(|s| at(s, &["serviceAccountToken"]).is_some());
        if tokens {
            let why = "a mirror pod may not use ServiceAccountToken volume projections";
            return Err(attributes.forbidden(why));
        }
    }
    FINE
}

/// The pod's word counts first, then the account's; without either it is mounted.
fn automount(pod: &Value, account: &Account) -> bool {
    let own = at(pod, &["spec", "automountServiceAccountToken"]).and_then(Value::as_bool);
    own.or(account.automount_service_account_token).unwrap_or(true)
}

/// Adds the volume, unless it is there, and mounts it where nothing else is mounted.
fn mount(pod: &mut Value) {
    let present = items(pod, &["spec", "volumes"])
        .find(|v| text(v, &["name"]).starts_with(VOLUME_PREFIX) && at(v, &["projected"]).is_some())
        .map(|v| text(v, &["name"]).to_owned());
    let add = present.is_none();
    let name = present.unwrap_or_else(|| {
        let taken: Vec<_> = items(pod, &["spec", "volumes"]).map(|v| text(v, &["name"]).to_owned()).collect();
        unused_name(&taken)
    });
    let mut mounted = false;
    for list in CONTAINERS {
        for container in items_mut(pod, &["spec", list]) {
            let occupied = items(container, &["volumeMounts"]).any(|m| text(m, &["mountPath"]) == MOUNT_PATH);
            if occupied {
                continue;
            }
            if let Some(mounts) = list_mut(container, &["volumeMounts"]) {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
                mounted = true;
            }
        }
    }
    if mounted
        && add
        && let Some(volumes) = list_mut(pod, &["spec", "volumes"])
    {
        volumes.push(json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_EXPIRATION_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{
                "path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
            }]}},
        ]}}));
    }
}

/// Upstream's alphabet of generated names: without vowels and what looks alike, so that no words come about.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

fn unused_name(taken: &[String]) -> String {
    let mut random = rand::rng();
    loop {
        let suffix: String = (0..5).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect();
        let name = format!("{VOLUME_PREFIX}{suffix}");
        if !taken.contains(&name) {
            return name;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::super::testing::Case;
    use super::*;

    #[tokio::test]
    async fn a_pod_gets_the_default_account_and_its_token() {
        let case = Case::with_namespace();
        let mut pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [
            {"name": "mine", "mountPath": MOUNT_PATH}]}]}});
        case.create("", "pods", "default", "web").mutate(&mut pod).await.unwrap();
        assert_eq!(pod["spec"]["serviceAccountName"], "default");
        let volume = pod["spec"]["volumes"][0]["name"].as_str().unwrap().to_owned();
        assert!(volume.starts_with(VOLUME_PREFIX) && volume.len() == VOLUME_PREFIX.len() + 5, "{volume}");
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["name"], volume.as_str());
        assert_eq!(pod["spec"]["containers"][1]["volumeMounts"].as_array().unwrap().len(), 1);
        let sources = &pod["spec"]["volumes"][0]["projected"]["sources"];
        assert_eq!(sources[0]["serviceAccountToken"]["expirationSeconds"], 3607);
        // Again, as after a conflict: nothing is added twice.
        let before = pod.clone();
        case.create("", "pods", "default", "web").mutate(&mut pod).await.unwrap();
        assert_eq!(pod, before);
    }

    #[tokio::test]
    async fn the_pod_s_word_counts_before_the_account_s() {
        let case = Case::with_namespace();
        let account = json!({"metadata": {"name": "quiet", "namespace": "default"},
            "automountServiceAccountToken": false, "imagePullSecrets": [{"name": "registry"}]});
        case.view.put(&SERVICE_ACCOUNTS, &account).unwrap();
        for (own, mounted) in [(None, false), (Some(true), true), (Some(false), false)] {
            let mut pod = json!({"spec": {"serviceAccountName": "quiet", "containers": [{"name": "a"}]}});
            if let Some(own) = own {
                pod["spec"]["automountServiceAccountToken"] = json!(own);
            }
            case.create("", "pods", "default", "web").mutate(&mut pod).await.unwrap();
            assert_eq!(pod["spec"]["volumes"].is_array(), mounted, "{own:?}");
            assert_eq!(pod["spec"]["imagePullSecrets"][0]["name"], "registry");
        }
    }

    #[tokio::test]
    async fn a_missing_account_is_refused() {
        let case = Case::with_namespace();
        let mut pod = json!({"spec": {"serviceAccountName": "none", "containers": [{"name": "a"}]}});
        let error = case.create("", "pods", "default", "web").mutate(&mut pod).await.unwrap_err();
        assert!(error.to_string().contains("serviceaccounts \"none\" not found"), "{error}");
    }
}
