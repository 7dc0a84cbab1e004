//! Endpoints, the older form of what EndpointSlices say, for clients that still read them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use navarch_client::{Client, Informer, InformerFactory, ObjectKey, Subscription, WorkQueue};
use navarch_types::{ApiError, Reason};

use crate::controller::{Next, Reconcile, gone, own_key};
use crate::endpoints::{self, HEADLESS, TRIGGER_TIME};
use crate::endpointslice::services_of_pod;
use crate::replicaset::is_terminating_namespace;
use crate::{pods, sources};

const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Upstream's limit: an object with more is too large to watch.
const ADDRESSES_MAX: usize = 1000;
/// Nothing in the cluster waits for these, so they may gather for longer than slices do.
const BURST_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct EndpointsController {
    client: Client,
    services: Informer<Service>,
    pods: Informer<Pod>,
    endpoints: Informer<Endpoints>,
}

impl EndpointsController {
    pub fn new(client: Client, informers: &InformerFactory) -> Self {
        Self { client, services: informers.informer(), pods: sources::pods(informers), endpoints: informers.informer() }
    }
}

type Group = (Vec<EndpointPort>, BTreeMap<String, EndpointAddress>, BTreeMap<String, EndpointAddress>);

/// The subsets: pods with the same ports together, in a stable order. True if some had to be left out.
fn subsets(service: &Service, selected: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let ipv6 = endpoints::families(service).first().copied().unwrap_or(false);
    let everybody = endpoints::publishes_not_ready(service);
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut count = 0;
    let mut over = false;
    for pod in selected {
        let Some(ip) = endpoints::address(pod, ipv6) else { continue };
        if pods::is_terminal(pod) || (pod.metadata.deletion_timestamp.is_some() && !everybody) {
            continue;
        }
        let ports = ports_of(service, pod);
        if ports.is_empty() && !endpoints::is_headless(service) {
            continue;
        }
        if count == ADDRESSES_MAX {
            over = true;
            break;
        }
        count += 1;
        let key =
            ports.iter().map(|p| format!("{:?}/{}/{:?}", p.name, p.port, p.protocol)).collect::<Vec<_>>().join(",");
        let group = groups.entry(key).or_insert_with(|| (ports, BTreeMap::new(), BTreeMap::new()));
        let ready = everybody || pods::is_ready(pod);
        let addresses = if ready { &mut group.1 } else { &mut group.2 };
        addresses.insert(ip.to_owned(), address_of(service, pod, ip));
    }
    let list = |addresses: BTreeMap<String, EndpointAddress>| {
        Some(addresses.into_values().collect::<Vec<_>>()).filter(|a| !a.is_empty())
    };
    let subsets = groups.into_values().map(|(ports, ready, not_ready)| EndpointSubset {
        addresses: list(ready),
        not_ready_addresses: list(not_ready),
        ports: Some(ports).filter(|p| !p.is_empty()),
    });
    (subsets.collect(), over)
}

fn ports_of(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    let mut ports: Vec<EndpointPort> = ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: port.name.clone().filter(|n| !n.is_empty()),
                port: endpoints::target_port(pod, port)?,
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    ports.sort_by(|a, b| (&a.name, a.port).cmp(&(&b.name, b.port)));
    ports
}

fn address_of(service: &Service, pod: &Pod, ip: &str) -> EndpointAddress {
    EndpointAddress {
        ip: ip.to_owned(),
        hostname: endpoints::hostname(service, pod),
        node_name: pods::node_name(pod).map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    }
}

/// The Endpoints that a Service is to have; `None` if it has them.
fn wanted(service: &Service, selected: &[Arc<Pod>], current: Option<&Endpoints>) -> Option<Endpoints> {
    let (subsets, over) = subsets(service, selected);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    if endpoints::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let mut annotations = current.and_then(|c| c.metadata.annotations.clone()).unwrap_or_default();
    let noted_over = annotations.contains_key(OVER_CAPACITY);
    let same = current.is_some_and(|c| {
        c.subsets.as_deref().unwrap_or_default() == subsets
            && c.metadata.labels.as_ref() == Some(&labels)
            && noted_over == over
    });
    if same {
        return None;
    }
    if over {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    match selected.iter().filter_map(|p| endpoints::changed_at(p)).max() {
        Some(at) => annotations.insert(TRIGGER_TIME.to_owned(), at.to_string()),
        None => annotations.remove(TRIGGER_TIME),
    };
    let mut metadata = current.map_or_else(
        || ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        |c| c.metadata.clone(),
    );
    metadata.labels = Some(labels);
    metadata.annotations = Some(annotations).filter(|a| !a.is_empty());
    Some(Endpoints { metadata, subsets: Some(subsets).filter(|s| !s.is_empty()) })
}

#[async_trait(?Send)]
impl Reconcile for EndpointsController {
    async fn synced(&self) {
        self.services.synced().await;
        self.pods.synced().await;
        self.endpoints.synced().await;
    }

    fn subscribe(&self, queue: &WorkQueue<ObjectKey>) -> Vec<Subscription> {
        vec![
            self.services.subscribe(own_key(queue)),
            self.pods.subscribe(services_of_pod(&self.services, queue, BURST_PAUSE)),
            self.endpoints.subscribe(own_key(queue)),
        ]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ApiError> {
        let api = self.client.namespaced::<Endpoints>(&key.namespace);
        let current = self.endpoints.store().get(key);
        let Some(service) = self.services.store().get(key) else {
            // Only what was made here: Endpoints without a Service may be somebody's own.
            let is_ours =
                |e: &Endpoints| e.metadata.labels.iter().flatten().any(|(k, v)| k == MANAGED_BY.0 && v == MANAGED_BY.1);
            if current.is_some_and(|c| is_ours(&c)) {
                gone(api.delete(&key.name, &navarch_client::DeleteOptions::default()).await)?;
            }
            return Ok(Next::Done);
        };
        if !endpoints::is_managed(&service) {
            return Ok(Next::Done);
        }
        let all = self.pods.store().in_namespace(&key.namespace);
        let selected: Vec<Arc<Pod>> = all.into_iter().filter(|pod| endpoints::selects(&service, pod)).collect();
        let Some(wanted) = wanted(&service, &selected, current.as_deref()) else { return Ok(Next::Done) };
        let result = if current.is_some() { api.update(&wanted).await } else { api.create(&wanted).await };
        match result {
            Ok(_) => Ok(Next::Done),
            Err(error) if is_terminating_namespace(&error) => Ok(Next::Done),
            // There, but not seen yet: its event brings the key again.
            Err(error) if error.is(Reason::AlreadyExists) => Ok(Next::After(BURST_PAUSE)),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use serde_json::{Value, json};

    use super::*;
    use crate::testbed::Testbed;

    fn pod(name: &str, ip: &str, ready: bool, port: i32) -> Value {
        json!({"metadata": {"name": name, "namespace": "d", "uid": name, "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}})
    }

    fn service() -> Value {
        json!({"metadata": {"name": "web", "namespace": "d"}, "spec": {"clusterIP": "10.0.0.1",
            "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}})
    }

    #[test]
    fn pods_are_grouped_by_ports_and_readiness() {
        let service: Service = serde_json::from_value(service()).unwrap();
        let pods: Vec<Arc<Pod>> = [
            pod("a", "10.1.0.2", true, 80),
            pod("b", "10.1.0.1", true, 80),
            pod("c", "10.1.0.3", false, 80),
            pod("e", "10.1.0.4", true, 81),
        ]
        .into_iter()
        .map(|p| Arc::new(serde_json::from_value(p).unwrap()))
        .collect();
        let made = wanted(&service, &pods, None).unwrap();
        let subsets = made.subsets.clone().unwrap();
        assert_eq!(subsets.len(), 2);
        let ips = |a: &Option<Vec<EndpointAddress>>| a.iter().flatten().map(|a| a.ip.clone()).collect::<Vec<_>>();
        assert_eq!(
            (ips(&subsets[0].addresses), ips(&subsets[0].not_ready_addresses)),
            (vec!["10.1.0.1".to_owned(), "10.1.0.2".to_owned()], vec!["10.1.0.3".to_owned()])
        );
        assert!(wanted(&service, &pods, Some(&made)).is_none(), "nothing to write");
        let many: Vec<Arc<Pod>> = (0..1200)
            .map(|n| {
                Arc::new(
                    serde_json::from_value(pod(&format!("p{n}"), &format!("10.2.{}.{}", n / 250, n % 250), true, 80))
                        .unwrap(),
                )
            })
            .collect();
        let made = wanted(&service, &many, None).unwrap();
        assert_eq!(made.metadata.annotations.unwrap()[OVER_CAPACITY], "truncated");
    }

    #[actix::test]
    async fn follows_its_service() {
        let bed = Testbed::new(&["endpoint-controller"]).await;
        bed.server.put_json::<Service>(service());
        bed.server.put_json::<Pod>(pod("a", "10.1.0.2", true, 80));
        bed.until("made", |s| s.get::<Endpoints>("d", "web").is_some_and(|e| e.subsets.is_some())).await;
        bed.server.remove::<Service>("d", "web");
        bed.until("gone", |s| s.get::<Endpoints>("d", "web").is_none()).await;
    }
}
