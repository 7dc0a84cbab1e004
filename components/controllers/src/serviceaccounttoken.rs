//! Secrets that hold the token of a ServiceAccount go with it.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use navarch_client::{Change, Client, DeleteOptions, Informer, InformerFactory, ObjectKey, Subscription, WorkQueue};
use navarch_types::{ApiError, Reason};

use crate::controller::{Next, Reconcile, own_key};

const TOKEN_TYPE: &str = "kubernetes.io/service-account-token";

/// The account that a token secret names, and its uid if the secret tells.
fn account_of(secret: &Secret) -> Option<(&str, Option<&str>)> {
    if secret.type_.as_deref() != Some(TOKEN_TYPE) {
        return None;
    }
    let annotation = |key: &str| secret.metadata.annotations.as_ref().and_then(|a| a.get(key)).map(String::as_str);
    Some((annotation("kubernetes.io/service-account.name")?, annotation("kubernetes.io/service-account.uid")))
}

pub(crate) struct ServiceAccountTokens {
    client: Client,
    secrets: Informer<Secret>,
    accounts: Informer<ServiceAccount>,
}

impl ServiceAccountTokens {
    pub fn new(client: Client, informers: &InformerFactory) -> Self {
        Self { client, secrets: informers.informer(), accounts: informers.informer() }
    }
}

#[async_trait(?Send)]
impl Reconcile for ServiceAccountTokens {
    async fn synced(&self) {
        self.secrets.synced().await;
        self.accounts.synced().await;
    }

    fn subscribe(&self, queue: &WorkQueue<ObjectKey>) -> Vec<Subscription> {
        let (secrets, wanted) = (self.secrets.clone(), queue.clone());
        let of_account = move |change: &Change<ServiceAccount>| {
            if let Change::Deleted(account) = change {
                let name = account.metadata.name.as_deref().unwrap_or_default();
                for secret in secrets.store().in_namespace(account.metadata.namespace.as_deref().unwrap_or_default()) {
                    if account_of(&secret).is_some_and(|(of, _)| of == name) {
                        wanted.add(ObjectKey::of(&secret.metadata));
                    }
                }
            }
        };
        vec![self.secrets.subscribe(own_key(queue)), self.accounts.subscribe(of_account)]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ApiError> {
        let Some(secret) = self.secrets.store().get(key) else { return Ok(Next::Done) };
        let Some((name, uid)) = account_of(&secret) else { return Ok(Next::Done) };
        let belongs = |account: &ServiceAccount| uid.is_none_or(|uid| account.metadata.uid.as_deref() == Some(uid));
        if self.accounts.store().find(&key.namespace, name).is_some_and(|a| belongs(&a)) {
            return Ok(Next::Done);
        }
        // The store may be behind: a secret is easily made right after its account.
        match self.client.namespaced::<ServiceAccount>(&key.namespace).get(name).await {
            Ok(account) if belongs(&account) => return Ok(Next::Done),
            Err(error) if !error.is(Reason::NotFound) => return Err(error),
            _ => {}
        }
        let options = DeleteOptions { uid: secret.metadata.uid.clone(), ..DeleteOptions::default() };
        match self.client.namespaced::<Secret>(&key.namespace).delete(&key.name, &options).await {
            Err(error) if error.is(Reason::NotFound) => Ok(Next::Done),
            result => result.map(|()| Next::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use serde_json::json;

    use super::*;
    use crate::testbed::Testbed;

    #[actix::test]
    async fn tokens_go_with_their_account() {
        let bed = Testbed::new(&["serviceaccount-token-controller"]).await;
        let account = bed.server.put_json::<ServiceAccount>(json!({"metadata": {"name": "a", "namespace": "d"}}));
        for (name, of, uid, kind) in [
            ("kept", "a", account.metadata.uid.as_deref(), TOKEN_TYPE),
            ("stale", "a", Some("other"), TOKEN_TYPE),
            ("ordinary", "none", None, "Opaque"),
        ] {
            bed.server.put_json::<Secret>(json!({"metadata": {"name": name, "namespace": "d", "annotations": {
                "kubernetes.io/service-account.name": of, "kubernetes.io/service-account.uid": uid.unwrap_or("x")}}, "type": kind}));
        }
        bed.until("stale", |s| s.get::<Secret>("d", "stale").is_none()).await;
        bed.quiet().await;
        assert!(bed.server.get::<Secret>("d", "kept").is_some());
        bed.server.remove::<ServiceAccount>("d", "a");
        bed.until("kept", |s| s.get::<Secret>("d", "kept").is_none()).await;
        assert!(bed.server.get::<Secret>("d", "ordinary").is_some());
    }
}
