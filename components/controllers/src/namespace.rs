//! Namespaces that are being deleted: everything in them goes, pods first, then they do.

mod conditions;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus, Pod};
use navarch_client::client::resource_of;
use navarch_client::{Change, Client, Informer, InformerFactory, ObjectKey, Subscription, WorkQueue};
use navarch_types::{
    ApiError, Body, GroupResource, GroupVersionResource, ListOptions, ObjectList, Reason, ResourceRequest,
    ResourceResponse, Verb,
};
use serde_json::json;

use crate::controller::{Next, Reconcile, own_key};
use crate::registry::Discover;
use crate::sources;
use conditions::Findings;

const FINALIZER: &str = "kubernetes";
/// How soon to look again while something remains that no event tells of.
const RECHECK: Duration = Duration::from_millis(500);
/// Enough to count what hinders; the count is for people.
const COUNTED_MAX: u64 = 500;

pub(crate) struct Namespaces {
    client: Client,
    namespaces: Informer<Namespace>,
    pods: Informer<Pod>,
    discover: Discover,
}

impl Namespaces {
    pub fn new(client: Client, informers: &InformerFactory, discover: Discover) -> Self {
        Self { client, namespaces: informers.informer(), pods: sources::pods(informers), discover }
    }

    async fn list(&self, resource: &GroupVersionResource, namespace: &str) -> Result<ObjectList, ApiError> {
        let mut request = ResourceRequest::new(Verb::List, resource.clone());
        request.namespace = Some(namespace.to_owned());
        request.list = ListOptions { limit: COUNTED_MAX, ..ListOptions::default() };
        match self.client.send(request).await? {
            ResourceResponse::List(list) => Ok(list),
            _ => Err(ApiError::internal("the server answered a list with something else")),
        }
    }

    /// Deletes all objects of a resource, one by one if there is no way for all at once.
    async fn delete_all(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        list: &ObjectList,
        at_once: bool,
    ) -> Result<(), ApiError> {
        let options =
            Body::Value(json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}));
        let mut request = ResourceRequest::new(Verb::DeleteCollection, resource.clone());
        request.namespace = Some(namespace.to_owned());
        request.body = options;
        if at_once {
            return self.client.send(request).await.map(drop);
        }
        request.verb = Verb::Delete;
        for object in &list.items {
            request.name.clone_from(&object.metadata().map_err(ApiError::internal)?.name);
            match self.client.send(request.clone()).await {
                Err(error) if !error.is(Reason::NotFound) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Deletes what there is of a resource and notes what is left.
    async fn sweep(&self, resource: &GroupVersionResource, verbs: &[String], namespace: &str, findings: &mut Findings) {
        let failed = |findings: &mut Findings, error: &ApiError| {
            // A resource that is not served any more has no objects.
            if !error.is(Reason::NotFound) && !error.is(Reason::MethodNotAllowed) {
                findings.delete_failures.push(format!("{}: {error}", resource.group_resource()));
            }
        };
        let list = match self.list(resource, namespace).await {
            Ok(list) if list.items.is_empty() => return,
            Ok(list) => list,
            Err(error) => return failed(findings, &error),
        };
        // Graceful deletion is asked for once; asking again would only be more writes.
        let wanted = list.items.iter().any(|o| o.metadata().is_ok_and(|m| m.deletion_timestamp.is_none()));
        let at_once = verbs.iter().any(|v| v == "deletecollection");
        if wanted && let Err(error) = self.delete_all(resource, namespace, &list, at_once).await {
            failed(findings, &error);
        }
        match self.list(resource, namespace).await {
            Ok(left) => note(findings, resource.group_resource(), &left),
            Err(error) => failed(findings, &error),
        }
    }

    async fn clear(&self, namespace: &str) -> Findings {
        let mut findings = Findings::default();
        let served = match (self.discover)() {
            Ok(served) => served,
            Err(error) => {
                findings.discovery_failures.push(error.to_string());
                Vec::new()
            }
        };
        let pods = resource_of::<Pod>();
        let has = |verbs: &[String], verb: &str| verbs.iter().any(|v| v == verb);
        let deletable = |r: &&crate::registry::ServedResource| {
            r.namespaced && has(&r.verbs, "list") && (has(&r.verbs, "delete") || has(&r.verbs, "deletecollection"))
        };
        // Pods first: what they still need (secrets, policies that confine them) must outlive them.
        for first in [true, false] {
            for served in served.iter().filter(deletable).filter(|r| (r.resource == pods) == first) {
                self.sweep(&served.resource, &served.verbs, namespace, &mut findings).await;
            }
            if !findings.is_empty() {
                break;
            }
        }
        findings
    }

    async fn write_status(&self, namespace: &Namespace, findings: &Findings) -> Result<(), ApiError> {
        let old = namespace.status.clone().unwrap_or_default();
        let conditions =
            conditions::conditions(old.conditions.as_deref().unwrap_or_default(), findings, Timestamp::now());
        let new = NamespaceStatus { conditions: Some(conditions), phase: Some("Terminating".to_owned()) };
        if new == old {
            return Ok(());
        }
        let mut changed = namespace.clone();
        changed.status = Some(new);
        // The object in the store may be a step behind; nobody else writes these conditions.
        changed.metadata.resource_version = None;
        self.client.all::<Namespace>().update_status(&changed).await.map(drop)
    }

    async fn finalize(&self, namespace: &Namespace) -> Result<(), ApiError> {
        let mut body = serde_json::to_value(namespace).map_err(ApiError::internal)?;
        body["apiVersion"] = "v1".into();
        body["kind"] = "Namespace".into();
        let kept = namespace.spec.iter().flat_map(|s| s.finalizers.iter().flatten()).filter(|f| *f != FINALIZER);
        body["spec"]["finalizers"] = kept.cloned().collect::<Vec<String>>().into();
        if let Some(metadata) = body["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        let mut request = ResourceRequest::new(Verb::Update, resource_of::<Namespace>());
        request.name.clone_from(&namespace.metadata.name);
        request.subresource = Some("finalize".into());
        request.body = Body::Value(body);
        self.client.send(request).await.map(drop)
    }
}

fn note(findings: &mut Findings, resource: GroupResource, left: &ObjectList) {
    if left.items.is_empty() {
        return;
    }
    for object in &left.items {
        for finalizer in object.metadata().iter().flat_map(|m| m.finalizers.iter().flatten()) {
            *findings.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
    }
    findings.remaining.insert(resource, left.items.len());
}

#[async_trait(?Send)]
impl Reconcile for Namespaces {
    async fn synced(&self) {
        self.namespaces.synced().await;
        self.pods.synced().await;
    }

    fn subscribe(&self, queue: &WorkQueue<ObjectKey>) -> Vec<Subscription> {
        let (namespaces, wanted) = (self.namespaces.clone(), queue.clone());
        let of_pod = move |change: &Change<Pod>| {
            if let Change::Deleted(pod) = change
                && let Some(namespace) =
                    namespaces.store().find("", pod.metadata.namespace.as_deref().unwrap_or_default())
                && namespace.metadata.deletion_timestamp.is_some()
            {
                wanted.add_after(ObjectKey::of(&namespace.metadata), Duration::from_millis(20));
            }
        };
        vec![self.namespaces.subscribe(own_key(queue)), self.pods.subscribe(of_pod)]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ApiError> {
        let Some(namespace) = self.namespaces.store().get(key) else { return Ok(Next::Done) };
        let finalizes = namespace.spec.iter().flat_map(|s| s.finalizers.iter().flatten()).any(|f| f == FINALIZER);
        if namespace.metadata.deletion_timestamp.is_none() || !finalizes {
            return Ok(Next::Done);
        }
        let findings = self.clear(&key.name).await;
        let written = self.write_status(&namespace, &findings).await;
        if findings.is_empty() {
            return match self.finalize(&namespace).await {
                Err(error) if error.is(Reason::NotFound) => Ok(Next::Done),
                result => result.map(|()| Next::Done),
            };
        }
        written?;
        if findings.delete_failures.is_empty() && findings.discovery_failures.is_empty() {
            return Ok(Next::After(RECHECK));
        }
        Err(ApiError::internal(format!("cannot empty the namespace: {}", findings.delete_failures.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::ConfigMap;
    use navarch_client::DeleteOptions;
    use navarch_client::testing::Fault;

    use super::*;
    use crate::testbed::Testbed;

    #[actix::test]
    async fn a_namespace_goes_when_all_in_it_is_gone() {
        let bed = Testbed::new(&["namespace-controller"]).await;
        let api = bed.server.client().all::<Namespace>();
        for name in ["d", "other"] {
            api.create(&serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()).await.unwrap();
        }
        bed.server.put_json::<Pod>(
            json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"nodeName": "n", "containers": []}}),
        );
        bed.server.put_json::<ConfigMap>(json!({"metadata": {"name": "c", "namespace": "d", "finalizers": ["x/y"]}}));
        bed.server.put_json::<ConfigMap>(json!({"metadata": {"name": "c", "namespace": "other"}}));
        bed.server.put_json::<Deployment>(
            json!({"metadata": {"name": "w", "namespace": "d"}, "spec": {"selector": {}, "template": {}}}),
        );
        bed.server.inject(Fault::lost_connection().on(Verb::DeleteCollection, "pods"));
        api.delete("d", &DeleteOptions::default()).await.unwrap();
        let message = |s: &navarch_client::testing::FakeServer| {
            let status = s.get::<Namespace>("", "d").and_then(|n| n.status.clone()).unwrap_or_default();
            status
                .conditions
                .iter()
                .flatten()
                .find(|c| c.type_ == "NamespaceContentRemaining")
                .and_then(|c| c.message.clone())
        };
        bed.until("pods", |s| message(s).is_some_and(|m| m.contains("pods. has 1 resource instances"))).await;
        assert!(bed.server.get::<Deployment>("d", "w").is_some(), "pods first");
        bed.server.remove::<Pod>("d", "p");
        bed.until("the rest", |s| message(s).is_some_and(|m| m.contains("configmaps. has 1"))).await;
        assert!(bed.server.get::<Deployment>("d", "w").is_none());
        bed.change::<ConfigMap>("d", "c", |c| c["metadata"]["finalizers"] = json!([]));
        bed.server.remove::<ConfigMap>("d", "c");
        bed.until("gone", |s| s.get::<Namespace>("", "d").is_none()).await;
        assert!(bed.server.get::<ConfigMap>("other", "c").is_some());
        assert!(bed.server.get::<Namespace>("", "other").is_some());
    }
}
