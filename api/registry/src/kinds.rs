//! What is peculiar to each kind: defaults, rules, what a client may set, selectable fields, table columns.
//!
//! [`strategy`] is the only way in. Everything here is a pure function of the values given; nothing does I/O, and nothing
//! panics whatever an object holds.

mod apps;
mod at;
mod batch;
mod cells;
mod fill;
mod kind;
mod pod;
mod rules;
mod service;
mod storage;

use kind::Kind;

use crate::strategy::Strategy;

static PLAIN: Kind = Kind::PLAIN;
static WITH_STATUS: Kind = Kind::WITH_STATUS;
static WITH_GENERATION: Kind = Kind::WITH_GENERATION;
static FULL: Kind = Kind::FULL;
static POD_TEMPLATE: Kind = Kind { default: apps::defaults::pod_template_object, ..Kind::WITH_GENERATION };
static SERVICE: Kind = Kind { default: service::defaults::service, ..Kind::WITH_STATUS };

/// The strategy of a resource; one without peculiarities for resources that have none (a custom resource's is made by
/// whoever knows its definition).
pub fn strategy(group: &str, resource: &str) -> &'static dyn Strategy {
    kind(group, resource)
}

fn kind(group: &str, resource: &str) -> &'static Kind {
    match (group, resource) {
        ("", "pods") => &pod::POD,
        ("", "podtemplates") => &POD_TEMPLATE,
        ("", "replicationcontrollers") => &apps::REPLICATION_CONTROLLER,
        ("", "services") => &SERVICE,
        ("", "persistentvolumes") => &storage::VOLUME,
        ("", "persistentvolumeclaims") => &storage::CLAIM,
        ("", "namespaces" | "nodes" | "resourcequotas") => &WITH_STATUS,
        ("storage.k8s.io", "storageclasses") => &storage::STORAGE_CLASS,
        ("storage.k8s.io", "volumeattributesclasses") => &storage::ATTRIBUTES_CLASS,
        ("storage.k8s.io", "csidrivers") => &storage::CSI_DRIVER,
        ("storage.k8s.io", "csinodes") => &storage::CSI_NODE,
        ("storage.k8s.io", "csistoragecapacities") => &storage::STORAGE_CAPACITY,
        ("storage.k8s.io", "volumeattachments") => &storage::ATTACHMENT,
        ("apps", "controllerrevisions") => &apps::CONTROLLER_REVISION,
        ("apps", "deployments") => &apps::DEPLOYMENT,
        ("apps", "replicasets") => &apps::REPLICA_SET,
        ("apps", "statefulsets") => &apps::STATEFUL_SET,
        ("apps", "daemonsets") => &apps::DAEMON_SET,
        ("batch", "jobs") => &batch::JOB,
        ("batch", "cronjobs") => &batch::CRON_JOB,
        _ => generic(group, resource),
    }
}

/// Resources whose shape is known and whose rules are nobody's but the schema's.
fn generic(group: &str, resource: &str) -> &'static Kind {
    match (group, resource) {
        ("policy", "poddisruptionbudgets")
        | ("networking.k8s.io", "ingresses")
        | ("flowcontrol.apiserver.k8s.io", "flowschemas" | "prioritylevelconfigurations")
        | ("admissionregistration.k8s.io", "validatingadmissionpolicies")
        | ("apiextensions.k8s.io", "customresourcedefinitions")
        | ("scheduling.k8s.io", "podgroups")
        | ("resource.k8s.io", "devicetaintrules" | "resourcepoolstatusrequests") => &FULL,
        ("autoscaling", "horizontalpodautoscalers")
        | ("networking.k8s.io", "servicecidrs")
        | ("certificates.k8s.io", "certificatesigningrequests" | "podcertificaterequests")
        | ("resource.k8s.io", "resourceclaims")
        | ("apiregistration.k8s.io", "apiservices")
        | ("storagemigration.k8s.io", "storageversionmigrations")
        | ("internal.apiserver.k8s.io", "storageversions") => &WITH_STATUS,
        ("networking.k8s.io", "networkpolicies" | "ingressclasses")
        | ("discovery.k8s.io", "endpointslices")
        | ("scheduling.k8s.io", "priorityclasses" | "workloads")
        | ("resource.k8s.io", "resourceslices" | "deviceclasses")
        | (
            "admissionregistration.k8s.io",
            "validatingwebhookconfigurations"
            | "mutatingwebhookconfigurations"
            | "validatingadmissionpolicybindings"
            | "mutatingadmissionpolicies"
            | "mutatingadmissionpolicybindings",
        ) => &WITH_GENERATION,
        _ => &PLAIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_of_built_in_resources_is_known() {
        for (group, resource, status, generation) in [
            ("", "pods", true, true),
            ("", "nodes", true, false),
            ("", "configmaps", false, false),
            ("", "podtemplates", false, true),
            ("apps", "deployments", true, true),
            ("apps", "controllerrevisions", false, false),
            ("autoscaling", "horizontalpodautoscalers", true, false),
            ("discovery.k8s.io", "endpointslices", false, true),
            ("rbac.authorization.k8s.io", "roles", false, false),
            ("example.com", "pods", false, false),
        ] {
            let found = strategy(group, resource);
            assert_eq!((found.has_status(), found.has_generation()), (status, generation), "{group}/{resource}");
        }
    }
}
