//! What the zone is made of, out of informers. Every question reads the present state: there is nothing to keep in step.

use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use navarch_client::{Informer, InformerFactory};

use crate::services::model::SERVICE_NAME;

const BY_SERVICE: &str = "dns-service";
const BY_ADDRESS: &str = "dns-address";

/// Where the zone looks things up.
pub trait Records {
    /// Whether a namespace exists.
    fn has_namespace(&self, namespace: &str) -> bool;
    /// A Service.
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>>;
    /// The EndpointSlices of a Service.
    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>>;
    /// The Services with a cluster address.
    fn services_at(&self, address: Ipv4Addr) -> Vec<Arc<Service>>;
    /// The EndpointSlices with an endpoint.
    fn slices_at(&self, address: Ipv4Addr) -> Vec<Arc<EndpointSlice>>;
}

/// [`Records`] of informers.
#[derive(Clone)]
pub struct InformerRecords {
    namespaces: Informer<Namespace>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
}

fn service_of(slice: &EndpointSlice) -> Option<(&str, &str)> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some((slice.metadata.namespace.as_deref().unwrap_or_default(), service))
}

impl InformerRecords {
    /// Over shared informers; adds the indexes it needs.
    pub fn new(informers: &InformerFactory) -> Self {
        let services = informers.informer::<Service>().with_index(BY_ADDRESS, |service: &Service| {
            let spec = service.spec.as_ref();
            let mut all: Vec<String> =
                spec.into_iter().flat_map(|s| s.cluster_ips.iter().flatten().chain(&s.cluster_ip)).cloned().collect();
            all.sort();
            all.dedup();
            all
        });
        let slices = informers
            .informer::<EndpointSlice>()
            .with_index(BY_SERVICE, |slice: &EndpointSlice| {
                service_of(slice).map(|(namespace, service)| format!("{namespace}/{service}")).into_iter().collect()
            })
            .with_index(BY_ADDRESS, |slice: &EndpointSlice| {
                let mut all: Vec<String> =
                    slice.endpoints.iter().flatten().flat_map(|e| e.addresses.iter().cloned()).collect();
                all.sort();
                all.dedup();
                all
            });
        Self { namespaces: informers.informer(), services, slices }
    }

    /// Waits until all is known.
    pub async fn synced(&self) {
        self.namespaces.synced().await;
        self.services.synced().await;
        self.slices.synced().await;
    }
}

impl Records for InformerRecords {
    fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.store().find("", namespace).is_some()
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.services.store().find(namespace, name)
    }

    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>> {
        self.slices.store().by_index(BY_SERVICE, &format!("{namespace}/{service}"))
    }

    fn services_at(&self, address: Ipv4Addr) -> Vec<Arc<Service>> {
        self.services.store().by_index(BY_ADDRESS, &address.to_string())
    }

    fn slices_at(&self, address: Ipv4Addr) -> Vec<Arc<EndpointSlice>> {
        self.slices.store().by_index(BY_ADDRESS, &address.to_string())
    }
}
