//! What every namespace has: a default ServiceAccount, and the CA that its pods trust.

use std::collections::BTreeMap;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use navarch_client::{Change, Client, Informer, InformerFactory, Item, ObjectKey, Resource, Subscription, WorkQueue};
use navarch_types::{ApiError, Reason};

use crate::controller::{Next, Reconcile};
use crate::replicaset::is_terminating_namespace;

const ROOT_CA: &str = "kube-root-ca.crt";
const ROOT_CA_KEY: &str = "ca.crt";
const ROOT_CA_NOTE: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
     internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes \
     clusters.",
);

/// An object that every namespace has.
pub(crate) trait Fixture: 'static {
    type Object: Resource;
    /// Its name.
    fn name(&self) -> &'static str;
    /// As it is made.
    fn new_object(&self) -> Self::Object;
    /// What it is to become, if it is not as it should be.
    fn correct(&self, object: &Self::Object) -> Option<Self::Object>;
}

pub(crate) struct DefaultServiceAccount;

impl Fixture for DefaultServiceAccount {
    type Object = ServiceAccount;

    fn name(&self) -> &'static str {
        "default"
    }

    fn new_object(&self) -> ServiceAccount {
        let metadata = ObjectMeta { name: Some(self.name().to_owned()), ..ObjectMeta::default() };
        ServiceAccount { metadata, ..ServiceAccount::default() }
    }

    fn correct(&self, _: &ServiceAccount) -> Option<ServiceAccount> {
        None
    }
}

pub(crate) struct RootCa {
    pub pem: String,
}

impl RootCa {
    fn data(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(ROOT_CA_KEY.to_owned(), self.pem.clone())])
    }
}

impl Fixture for RootCa {
    type Object = ConfigMap;

    fn name(&self) -> &'static str {
        ROOT_CA
    }

    fn new_object(&self) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(ROOT_CA.to_owned()),
                annotations: Some(BTreeMap::from([(ROOT_CA_NOTE.0.to_owned(), ROOT_CA_NOTE.1.to_owned())])),
                ..ObjectMeta::default()
            },
            data: Some(self.data()),
            ..ConfigMap::default()
        }
    }

    fn correct(&self, object: &ConfigMap) -> Option<ConfigMap> {
        let data = self.data();
        let annotations = object.metadata.annotations.as_ref();
        let noted = annotations.and_then(|a| a.get(ROOT_CA_NOTE.0)).is_some_and(|note| !note.is_empty());
        if object.data.as_ref() == Some(&data) && noted {
            return None;
        }
        let mut correct = object.clone();
        correct.data = Some(data);
        let annotations = correct.metadata.annotations.get_or_insert_default();
        annotations.insert(ROOT_CA_NOTE.0.to_owned(), ROOT_CA_NOTE.1.to_owned());
        Some(correct)
    }
}

/// Keeps one [`Fixture`] in every namespace. Keys are namespaces.
pub(crate) struct EveryNamespace<F: Fixture> {
    client: Client,
    fixture: F,
    namespaces: Informer<Namespace>,
    objects: Informer<F::Object>,
}

impl<F: Fixture> EveryNamespace<F> {
    pub fn new(client: Client, informers: &InformerFactory, fixture: F) -> Self {
        Self { client, fixture, namespaces: informers.informer(), objects: informers.informer() }
    }
}

#[async_trait(?Send)]
impl<F: Fixture> Reconcile for EveryNamespace<F> {
    async fn synced(&self) {
        self.namespaces.synced().await;
        self.objects.synced().await;
    }

    fn subscribe(&self, queue: &WorkQueue<ObjectKey>) -> Vec<Subscription> {
        let (wanted, name) = (queue.clone(), self.fixture.name());
        let of_object = move |change: &Change<F::Object>| {
            let metadata = Item::metadata(&**change.object());
            if metadata.name.as_deref() == Some(name) {
                wanted.add(ObjectKey::new("", metadata.namespace.as_deref().unwrap_or_default()));
            }
        };
        let wanted = queue.clone();
        let of_namespace = move |change: &Change<Namespace>| {
            if change.old().is_none() {
                wanted.add(change.key());
            }
        };
        vec![self.namespaces.subscribe(of_namespace), self.objects.subscribe(of_object)]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ApiError> {
        let Some(namespace) = self.namespaces.store().get(key) else { return Ok(Next::Done) };
        if namespace.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        let api = self.client.namespaced::<F::Object>(&key.name);
        let result = match self.objects.store().find(&key.name, self.fixture.name()) {
            None => api.create(&self.fixture.new_object()).await,
            Some(object) => match self.fixture.correct(&object) {
                None => return Ok(Next::Done),
                Some(correct) => api.update(&correct).await,
            },
        };
        match result {
            Ok(_) => Ok(Next::Done),
            // There already, not seen yet: its event brings the key again.
            Err(error) if error.is(Reason::AlreadyExists) || is_terminating_namespace(&error) => Ok(Next::Done),
            // The namespace is gone, or its event came before the server's own view of it.
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use navarch_client::testing::{FakeServer, Fault};
    use navarch_types::Verb;
    use serde_json::json;

    use super::*;
    use crate::registry::Config;
    use crate::testbed::Testbed;

    #[actix::test]
    async fn every_namespace_has_its_account_and_ca() {
        let config = Config { root_ca_pem: "PEM".into(), ..Config::default() };
        let server = FakeServer::new();
        server.inject(Fault::lost_answer().on(Verb::Create, "serviceaccounts"));
        let bed = Testbed::with(&["service-account-controller", "root-ca-certificate-publisher"], server, config).await;
        let api = bed.server.client().all::<Namespace>();
        api.create(&serde_json::from_value(json!({"metadata": {"name": "d"}})).unwrap()).await.unwrap();
        let pem = |s: &FakeServer| {
            s.get::<ConfigMap>("d", ROOT_CA).and_then(|c| c.data.clone()).map(|d| d[ROOT_CA_KEY].clone())
        };
        bed.until("both", |s| s.get::<ServiceAccount>("d", "default").is_some() && pem(s).as_deref() == Some("PEM"))
            .await;
        bed.server.remove::<ServiceAccount>("d", "default");
        bed.change::<ConfigMap>("d", ROOT_CA, |c| c["data"] = json!({"ca.crt": "forged", "more": "x"}));
        bed.until("repaired", |s| {
            s.get::<ServiceAccount>("d", "default").is_some() && pem(s).as_deref() == Some("PEM")
        })
        .await;
        bed.quiet().await;
        bed.server.forget_requests();
        bed.change::<ConfigMap>("d", ROOT_CA, |c| c["metadata"]["labels"] = json!({"x": "y"}));
        bed.quiet().await;
        assert_eq!(bed.server.writes(), [], "nothing to correct, nothing written");
    }
}
