//! EndpointSlices: the addresses behind each Service, at most a hundred a slice.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use navarch_client::{
    Change, Client, DeleteOptions, Expectations, Informer, InformerFactory, ObjectKey, Subscription, WorkQueue,
};
use navarch_types::{ApiError, Reason};

use crate::controller::{Next, Reconcile, own_key};
use crate::replicaset::is_terminating_namespace;
use crate::{endpoints, sources};

/// Pods become ready in bursts; one write serves them. Short, because traffic waits for it.
const BURST_PAUSE: Duration = Duration::from_millis(5);
const EXPECTATION_PAUSE: Duration = Duration::from_secs(1);
const BY_SERVICE: &str = "service";

pub(crate) struct EndpointSlices {
    client: Client,
    services: Informer<Service>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    slices: Informer<EndpointSlice>,
    expectations: Expectations<ObjectKey>,
}

/// Index values are `namespace/service`, of slices that are this controller's.
fn by_service(slice: &EndpointSlice) -> Vec<String> {
    let label = |key: &str| slice.metadata.labels.as_ref().and_then(|l| l.get(key));
    match (label(plan::SERVICE_NAME), label(plan::MANAGED_BY)) {
        (Some(service), Some(manager)) if manager == plan::MANAGER => {
            vec![format!("{}/{service}", slice.metadata.namespace.as_deref().unwrap_or_default())]
        }
        _ => Vec::new(),
    }
}

impl EndpointSlices {
    pub fn new(client: Client, informers: &InformerFactory) -> Self {
        Self {
            client,
            services: informers.informer(),
            pods: sources::pods(informers),
            nodes: informers.informer(),
            slices: informers.informer::<EndpointSlice>().with_index(BY_SERVICE, by_service),
            expectations: Expectations::default(),
        }
    }

    async fn carry_out(&self, key: &ObjectKey, plan: plan::Plan) -> Result<(), ApiError> {
        let api = self.client.namespaced::<EndpointSlice>(&key.namespace);
        for slice in &plan.update {
            let written = api.update(slice).await?;
            self.expectations.expect_version(key, written.metadata.resource_version.as_deref());
        }
        for slice in &plan.create {
            match api.create(slice).await {
                Ok(made) => self.expectations.expect_version(key, made.metadata.resource_version.as_deref()),
                Err(error) if is_terminating_namespace(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        for slice in &plan.delete {
            let options = DeleteOptions { uid: slice.metadata.uid.clone(), ..DeleteOptions::default() };
            match api.delete(slice.metadata.name.as_deref().unwrap_or_default(), &options).await {
                Err(error) if !error.is(Reason::NotFound) => return Err(error),
                _ => {
                    let uid = slice.metadata.uid.as_deref().unwrap_or_default();
                    self.expectations.expect_deletion(key, ObjectKey::of(&slice.metadata), uid);
                }
            }
        }
        Ok(())
    }
}

/// Enqueues the Services that select a pod, now or before.
pub(crate) fn services_of_pod(
    services: &Informer<Service>,
    queue: &WorkQueue<ObjectKey>,
    pause: Duration,
) -> impl Fn(&Change<Pod>) + Send + Sync + use<> {
    let (services, queue) = (services.clone(), queue.clone());
    move |change| {
        let pod = change.object();
        let old = change.old().filter(|old| !Arc::ptr_eq(old, pod));
        if old.is_some_and(|old| !endpoints::is_relevant(old, pod)) {
            return;
        }
        for service in services.store().in_namespace(pod.metadata.namespace.as_deref().unwrap_or_default()) {
            if endpoints::selects(&service, pod) || old.is_some_and(|old| endpoints::selects(&service, old)) {
                queue.add_after(ObjectKey::of(&service.metadata), pause);
            }
        }
    }
}

fn zone_label(node: &Node) -> Option<&String> {
    node.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone")
}

#[async_trait(?Send)]
impl Reconcile for EndpointSlices {
    async fn synced(&self) {
        self.services.synced().await;
        self.pods.synced().await;
        self.nodes.synced().await;
        self.slices.synced().await;
    }

    fn subscribe(&self, queue: &WorkQueue<ObjectKey>) -> Vec<Subscription> {
        let wanted = queue.clone();
        let of_slice = move |change: &Change<EndpointSlice>| {
            for slice in change.old().into_iter().chain([change.object()]) {
                for owner in by_service(slice) {
                    if let Some((namespace, name)) = owner.split_once('/') {
                        wanted.add_after(ObjectKey::new(namespace, name), BURST_PAUSE);
                    }
                }
            }
        };
        let (services, wanted) = (self.services.clone(), queue.clone());
        let of_node = move |change: &Change<Node>| {
            let zone = zone_label(change.object());
            // New nodes have no pods yet; the zone of one that has matters to every Service with a pod on it.
            if change.old().is_some_and(|old| zone_label(old) != zone) {
                services.store().keys().into_iter().for_each(|key| wanted.add(key));
            }
        };
        vec![
            self.services.subscribe(own_key(queue)),
            self.pods.subscribe(services_of_pod(&self.services, queue, BURST_PAUSE)),
            self.slices.subscribe(of_slice),
            self.nodes.subscribe(of_node),
        ]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ApiError> {
        let Some(service) = self.services.store().get(key) else {
            // The garbage collector removes what the Service owned.
            self.expectations.forget(key);
            return Ok(Next::Done);
        };
        if !endpoints::is_managed(&service) || service.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        if !self.expectations.satisfied(key, &self.slices) {
            return Ok(Next::After(EXPECTATION_PAUSE));
        }
        let pods = self.pods.store().in_namespace(&key.namespace);
        let selected: Vec<Arc<Pod>> = pods.into_iter().filter(|pod| endpoints::selects(&service, pod)).collect();
        let existing = self.slices.store().by_index(BY_SERVICE, &format!("{}/{}", key.namespace, key.name));
        let zone_of = |node: &str| self.nodes.store().find("", node).and_then(|n| zone_label(&n).cloned());
        let plan = plan::plan(&service, &selected, &existing, &zone_of);
        self.carry_out(key, plan).await?;
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use navarch_client::testing::Fault;
    use navarch_types::Verb;
    use serde_json::json;

    use super::*;
    use crate::testbed::Testbed;

    fn pod(bed: &Testbed, name: &str, ip: &str, ready: bool) {
        bed.server.put_json::<Pod>(json!({"metadata": {"name": name, "namespace": "d", "labels": {"app": "web"}},
            "spec": {"nodeName": "n", "containers": []},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}}));
    }

    fn addresses(bed: &Testbed) -> Vec<(String, bool)> {
        let slices = bed.server.list::<EndpointSlice>();
        let mut all: Vec<_> = slices
            .iter()
            .flat_map(|s| {
                s.endpoints
                    .iter()
                    .flatten()
                    .map(|e| (e.addresses[0].clone(), e.conditions.as_ref().unwrap().ready.unwrap()))
            })
            .collect();
        all.sort();
        all
    }

    #[actix::test]
    async fn follows_pods_through_lost_watches_and_conflicts() {
        let bed = Testbed::new(&["endpointslice-controller"]).await;
        bed.server.put_json::<Service>(json!({"metadata": {"name": "web", "namespace": "d"},
            "spec": {"clusterIP": "10.0.0.1", "selector": {"app": "web"}, "ports": [{"port": 80}]}}));
        bed.until("an empty slice", |s| s.list::<EndpointSlice>().len() == 1).await;
        pod(&bed, "a", "10.1.0.1", false);
        pod(&bed, "b", "10.1.0.2", true);
        bed.until("two", |_| addresses(&bed) == [("10.1.0.1".into(), false), ("10.1.0.2".into(), true)]).await;
        bed.server.inject(Fault::conflict("endpointslices").times(2));
        bed.server.break_watches();
        pod(&bed, "a", "10.1.0.1", true);
        bed.until("ready", |_| addresses(&bed).iter().all(|(_, ready)| *ready)).await;
        assert_eq!(bed.server.list::<EndpointSlice>().len(), 1);
        bed.quiet().await;
        bed.server.forget_requests();
        let slice = bed.server.list::<EndpointSlice>()[0].metadata.name.clone().unwrap();
        bed.server.remove::<EndpointSlice>("d", &slice);
        bed.until("made again", |_| addresses(&bed).len() == 2).await;
        let writes = bed.server.writes();
        assert_eq!(writes.iter().map(|w| w.verb).collect::<Vec<_>>(), [Verb::Create]);
        bed.server.remove::<Pod>("d", "a");
        bed.until("one", |_| addresses(&bed).len() == 1).await;
    }
}
