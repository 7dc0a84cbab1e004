//! What is peculiar to each kind: defaults, rules, what a client may set, selectable fields, table columns.
//!
//! [`strategy`] is the only way in. Everything here is a pure function of the values given; nothing does I/O, and nothing
//! panics whatever an object holds.

mod access;
mod apps;
mod at;
mod batch;
mod cells;
mod core;
mod extension;
mod fill;
mod kind;
mod network;
mod pod;
mod rules;
mod scaling;
mod scheduling;
mod service;
mod storage;

use kind::Kind;

use crate::strategy::Strategy;

static PLAIN: Kind = Kind::PLAIN;
static WITH_STATUS: Kind = Kind::WITH_STATUS;
static WITH_GENERATION: Kind = Kind::WITH_GENERATION;
static FULL: Kind = Kind::FULL;

/// The strategy of a resource; one without peculiarities for resources that have none (a custom resource's is made by
/// whoever knows its definition).
pub fn strategy(group: &str, resource: &str) -> &'static dyn Strategy {
    match group {
        "" => core_kind(resource),
        "apps" | "batch" | "autoscaling" | "policy" => workload_kind(resource),
        _ => other_kind(group, resource),
    }
}

fn core_kind(resource: &str) -> &'static Kind {
    match resource {
        "configmaps" => &core::CONFIG_MAP,
        "endpoints" => &network::ENDPOINTS,
        "events" => &core::EVENT,
        "limitranges" => &core::LIMIT_RANGE,
        "namespaces" => &core::NAMESPACE,
        "nodes" => &core::NODE,
        "persistentvolumeclaims" => &storage::CLAIM,
        "persistentvolumes" => &storage::VOLUME,
        "pods" => &pod::POD,
        "podtemplates" => &core::POD_TEMPLATE,
        "replicationcontrollers" => &apps::REPLICATION_CONTROLLER,
        "resourcequotas" => &core::RESOURCE_QUOTA,
        "secrets" => &core::SECRET,
        "serviceaccounts" => &core::SERVICE_ACCOUNT,
        "services" => &service::SERVICE,
        _ => &PLAIN,
    }
}

fn workload_kind(resource: &str) -> &'static Kind {
    match resource {
        "controllerrevisions" => &apps::CONTROLLER_REVISION,
        "cronjobs" => &batch::CRON_JOB,
        "daemonsets" => &apps::DAEMON_SET,
        "deployments" => &apps::DEPLOYMENT,
        "horizontalpodautoscalers" => &scaling::AUTOSCALER,
        "jobs" => &batch::JOB,
        "poddisruptionbudgets" => &scaling::BUDGET,
        "replicasets" => &apps::REPLICA_SET,
        "statefulsets" => &apps::STATEFUL_SET,
        _ => &PLAIN,
    }
}

fn other_kind(group: &str, resource: &str) -> &'static Kind {
    match (group, resource) {
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => &extension::MUTATING_POLICY,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings") => &extension::MUTATING_BINDING,
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations") => &extension::MUTATING,
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => &extension::VALIDATING_POLICY,
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings") => &extension::VALIDATING_BINDING,
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations") => &extension::VALIDATING,
        ("apiextensions.k8s.io", "customresourcedefinitions") => &extension::DEFINITION,
        ("apiregistration.k8s.io", "apiservices") => &extension::API_SERVICE,
        ("certificates.k8s.io", "certificatesigningrequests") => &access::REQUEST,
        ("certificates.k8s.io", "clustertrustbundles") => &access::TRUST_BUNDLE,
        ("coordination.k8s.io", "leasecandidates") => &scheduling::LEASE_CANDIDATE,
        ("coordination.k8s.io", "leases") => &scheduling::LEASE,
        ("discovery.k8s.io", "endpointslices") => &network::ENDPOINT_SLICE,
        ("events.k8s.io", "events") => &core::EVENT,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => &extension::FLOW_SCHEMA,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => &extension::PRIORITY_LEVEL,
        ("internal.apiserver.k8s.io", "storageversions") => &extension::STORAGE_VERSION,
        ("networking.k8s.io", "ingressclasses") => &network::INGRESS_CLASS,
        ("networking.k8s.io", "ingresses") => &network::INGRESS,
        ("networking.k8s.io", "ipaddresses") => &network::IP_ADDRESS,
        ("networking.k8s.io", "networkpolicies") => &network::NETWORK_POLICY,
        ("networking.k8s.io", "servicecidrs") => &network::SERVICE_CIDR,
        ("node.k8s.io", "runtimeclasses") => &scheduling::RUNTIME_CLASS,
        ("rbac.authorization.k8s.io", "clusterrolebindings") => &access::CLUSTER_ROLE_BINDING,
        ("rbac.authorization.k8s.io", "clusterroles") => &access::CLUSTER_ROLE,
        ("rbac.authorization.k8s.io", "rolebindings") => &access::ROLE_BINDING,
        ("rbac.authorization.k8s.io", "roles") => &access::ROLE,
        ("resource.k8s.io", "deviceclasses") => &extension::DEVICE_CLASS,
        ("resource.k8s.io", "resourceclaims") => &extension::CLAIM,
        ("resource.k8s.io", "resourceslices") => &extension::SLICE,
        ("scheduling.k8s.io", "priorityclasses") => &scheduling::PRIORITY_CLASS,
        ("storage.k8s.io", "csidrivers") => &storage::CSI_DRIVER,
        ("storage.k8s.io", "csinodes") => &storage::CSI_NODE,
        ("storage.k8s.io", "csistoragecapacities") => &storage::STORAGE_CAPACITY,
        ("storage.k8s.io", "storageclasses") => &storage::STORAGE_CLASS,
        ("storage.k8s.io", "volumeattachments") => &storage::ATTACHMENT,
        ("storage.k8s.io", "volumeattributesclasses") => &storage::ATTRIBUTES_CLASS,
        _ => generic(group, resource),
    }
}

/// Resources whose shape is known and whose rules are nobody's but the schema's.
fn generic(group: &str, resource: &str) -> &'static Kind {
    match (group, resource) {
        ("scheduling.k8s.io", "podgroups") | ("resource.k8s.io", "devicetaintrules" | "resourcepoolstatusrequests") => {
            &FULL
        }
        ("certificates.k8s.io", "podcertificaterequests") | ("storagemigration.k8s.io", "storageversionmigrations") => {
            &WITH_STATUS
        }
        ("scheduling.k8s.io", "workloads") => &WITH_GENERATION,
        _ => &PLAIN,
    }
}

#[cfg(test)]
mod tests;
