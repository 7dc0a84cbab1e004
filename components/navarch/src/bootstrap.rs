//! What every cluster has from its start: namespaces, default roles, priority classes, the Services of API and DNS.
//!
//! Idempotent: runs at every start, makes what is missing and mends what changed with the settings. It is the one writer
//! that no authorization rule stands behind, since it makes the rules; it writes through the registry, so defaults and
//! validation hold for it too.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures::future::try_join_all;
use jiff::Timestamp;
use navarch_auth::rbac::bootstrap::{Write, WriteKind};
use navarch_auth::view::ObjectView;
use navarch_config::Settings;
use navarch_registry::call::AdmitAll;
use navarch_registry::ops::delete::DeleteOptions;
use navarch_registry::{Call, Registry};
use navarch_types::{ApiError, GroupVersionResource, Reason, UserInfo, WriteOptions};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

/// How often repairs of roles are planned anew: aggregated roles depend on the roles made before them.
const ROLE_ROUNDS_MAX: usize = 4;
const DEADLINE: Duration = Duration::from_secs(30);
/// Creates under way at once: they share syncs.
const WRITES_AT_ONCE: usize = 64;

/// Where API servers are reached by pods: the addresses behind each port. A port without any had one before.
pub type Reach = BTreeMap<u16, BTreeSet<IpAddr>>;

/// Makes and mends everything.
///
/// # Errors
/// Whatever the store says; the process must not go on.
pub async fn run(registry: &Registry, view: &dyn ObjectView, settings: &Settings) -> Result<(), ApiError> {
    let writer = Writer { registry, user: UserInfo::new("system:apiserver", &[]) };
    for (resource, namespace, object) in namespaces() {
        writer.create(&resource, namespace, object).await?;
    }
    for _ in 0..ROLE_ROUNDS_MAX {
        let writes = navarch_auth::rbac::bootstrap::plan(view);
        if writes.is_empty() {
            break;
        }
        for chunk in writes.chunks(WRITES_AT_ONCE) {
            try_join_all(chunk.iter().map(|write| writer.role(write))).await?;
        }
    }
    for (resource, namespace, object) in fixtures(settings) {
        writer.put(&resource, namespace, object).await?;
    }
    Ok(())
}

/// Makes the endpoints of the `kubernetes` Service those of the API servers that are there.
///
/// # Errors
/// Whatever the store says.
pub async fn publish(registry: &Registry, reach: &Reach) -> Result<(), ApiError> {
    let writer = Writer { registry, user: UserInfo::new("system:apiserver", &[]) };
    for (resource, namespace, object) in endpoints(reach) {
        writer.put(&resource, namespace, object).await?;
    }
    Ok(())
}

type Fixture = (GroupVersionResource, &'static str, Value);

const fn core(resource: &'static str) -> GroupVersionResource {
    GroupVersionResource::new("", "v1", resource)
}

fn namespaces() -> Vec<Fixture> {
    ["default", "kube-system", "kube-public", "kube-node-lease"]
        .into_iter()
        .map(|name| {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            (core("namespaces"), "", object)
        })
        .collect()
}

fn fixtures(settings: &Settings) -> Vec<Fixture> {
    let cluster = &settings.cluster;
    let mut all = vec![
        (
            GroupVersionResource::new("networking.k8s.io", "v1", "servicecidrs"),
            "",
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
                   "spec": {"cidrs": [cluster.service_cidr.to_string()]}}),
        ),
        (
            core("services"),
            "default",
            json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "kubernetes", "namespace": "default",
                             "labels": {"component": "apiserver", "provider": "kubernetes"}},
                "spec": {"type": "ClusterIP", "clusterIP": cluster.kubernetes_service_ip().to_string(),
                         "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": settings.server.port}]}}),
        ),
    ];
    all.push((
        core("services"),
        "kube-system",
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system",
                         "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS",
                                    "kubernetes.io/cluster-service": "true"}},
            "spec": {"type": "ClusterIP", "clusterIP": cluster.dns_service_ip().to_string(),
                     "ports": [{"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                               {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53}]}}),
    ));
    // The node's network agent is one program: it answers DNS too.
    all.push((
        GroupVersionResource::new("rbac.authorization.k8s.io", "v1", "clusterrolebindings"),
        "",
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "navarch:dns"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:kube-dns"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:kube-proxy"}]}),
    ));
    for (name, value, text) in [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ] {
        all.push((
            GroupVersionResource::new("scheduling.k8s.io", "v1", "priorityclasses"),
            "",
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
                   "value": value, "description": text}),
        ));
    }
    all
}

/// One subset, and one slice, for each port: their addresses share their ports.
fn endpoints(reach: &Reach) -> Vec<Fixture> {
    let port = |port: &u16| json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    let ips =
        |addresses: &BTreeSet<IpAddr>| addresses.iter().map(|ip| json!({"ip": ip.to_string()})).collect::<Value>();
    let subsets = reach.iter().filter(|(_, addresses)| !addresses.is_empty());
    let subsets: Value = subsets.map(|(at, all)| json!({"addresses": ips(all), "ports": port(at)})).collect();
    let mut objects = vec![(
        core("endpoints"),
        "default",
        json!({"apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": "kubernetes", "namespace": "default",
                         "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": subsets}),
    )];
    for (number, (at, addresses)) in reach.iter().enumerate() {
        let name = if number == 0 { "kubernetes".to_owned() } else { format!("kubernetes-{at}") };
        let ready = |ip: &IpAddr| json!({"addresses": [ip.to_string()], "conditions": {"ready": true}});
        let kind = if addresses.iter().all(IpAddr::is_ipv4) { "IPv4" } else { "IPv6" };
        objects.push((
            GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices"),
            "default",
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": name, "namespace": "default",
                             "labels": {"kubernetes.io/service-name": "kubernetes"}},
                "addressType": kind,
                "endpoints": addresses.iter().map(ready).collect::<Value>(),
                "ports": port(at)}),
        ));
    }
    objects
}

struct Writer<'a> {
    registry: &'a Registry,
    user: UserInfo,
}

impl Writer<'_> {
    async fn with_call<T>(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
        run: impl AsyncFnOnce(&Call<'_>) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let write = WriteOptions::default();
        let call = Call {
            resource: self.registry.resource(resource)?,
            user: &self.user,
            namespace,
            name,
            subresource: None,
            write: &write,
            now: Timestamp::now(),
            deadline: Instant::now() + DEADLINE,
            admission: &AdmitAll,
            warnings: Mutex::default(),
        };
        run(&call).await
    }

    /// Makes an object unless it is there.
    async fn create(&self, resource: &GroupVersionResource, namespace: &str, object: Value) -> Result<(), ApiError> {
        let made = self
            .with_call(resource, namespace, "", async |call| self.registry.create(call, object).await.map(drop))
            .await;
        match made {
            Err(error) if error.is(Reason::AlreadyExists) => Ok(()),
            other => other,
        }
    }

    async fn replace(&self, resource: &GroupVersionResource, namespace: &str, object: Value) -> Result<(), ApiError> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.with_call(resource, namespace, &name, async |call| self.registry.update(call, object).await.map(drop))
            .await
    }

    /// Makes an object, or mends the fields of the one that is there.
    async fn put(&self, resource: &GroupVersionResource, namespace: &str, object: Value) -> Result<(), ApiError> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let present =
            self.with_call(resource, namespace, &name, async |call| self.registry.get(call, None).await).await;
        match present {
            Ok(present) => {
                let mut merged = present.to_value().map_err(ApiError::internal)?;
                let before = merged.clone();
                json_patch::merge(&mut merged, &object);
                // Lists in the fixture lack what defaulting adds; only a real difference is worth a write.
                if covers(&before, &object) { Ok(()) } else { self.replace(resource, namespace, merged).await }
            }
            Err(error) if error.is(Reason::NotFound) => self.create(resource, namespace, object).await,
            Err(error) => Err(error),
        }
    }

    async fn role(&self, write: &Write) -> Result<(), ApiError> {
        let group_resource = &write.resource.resource;
        let resource = GroupVersionResource {
            group: group_resource.group.clone(),
            version: "v1".into(),
            resource: group_resource.resource.clone(),
        };
        let text = |field: &str| write.object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        match write.kind {
            WriteKind::Create => self.create(&resource, &namespace, write.object.clone()).await,
            WriteKind::Update => self.replace(&resource, &namespace, write.object.clone()).await,
            WriteKind::Replace => {
                let options = DeleteOptions::default();
                self.with_call(&resource, &namespace, &name, async |call| {
                    self.registry.delete(call, &options).await.map(drop)
                })
                .await?;
                self.create(&resource, &namespace, write.object.clone()).await
            }
        }
    }
}

/// Whether `present` holds everything that `wanted` says; lists are compared element by element.
fn covers(present: &Value, wanted: &Value) -> bool {
    match (present, wanted) {
        (Value::Object(present), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| present.get(key).is_some_and(|p| covers(p, value)))
        }
        (Value::Array(present), Value::Array(wanted)) => {
            present.len() == wanted.len() && present.iter().zip(wanted).all(|(p, w)| covers(p, w))
        }
        _ => present == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_on_other_ports_have_slices_of_their_own() {
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        let reach = Reach::from([(6443, [ip(1), ip(2)].into()), (7443, [ip(1)].into()), (8443, BTreeSet::new())]);
        let all = endpoints(&reach);
        let subsets = &all[0].2["subsets"];
        assert_eq!(subsets.as_array().map(Vec::len), Some(2), "none without addresses");
        assert_eq!(subsets[0]["addresses"], json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]));
        let slices: Vec<_> = all[1..]
            .iter()
            .map(|(_, _, s)| (s["metadata"]["name"].clone(), s["endpoints"].as_array().map(Vec::len)))
            .collect();
        let expected = [("kubernetes", 2), ("kubernetes-7443", 1), ("kubernetes-8443", 0)];
        assert_eq!(slices, expected.map(|(name, count)| (json!(name), Some(count))));
    }

    #[test]
    fn defaults_in_what_is_there_are_no_difference() {
        let present = json!({"a": 1, "list": [{"x": 1, "y": 2}], "more": true});
        assert!(covers(&present, &json!({"a": 1, "list": [{"x": 1}]})));
        assert!(!covers(&present, &json!({"a": 2})));
        assert!(!covers(&present, &json!({"list": [{"x": 1}, {"x": 2}]})));
        assert!(!covers(&present, &json!({"b": 1})));
    }
}
