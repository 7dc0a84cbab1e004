//! The role of each controller. A controller calls as the service account of its name in `kube-system`, and has no more
//! rights than its role.

use serde_json::Value;

use super::bindings::{To, binding};
use super::{EVENTS, Rule, named, on, role};

const PREFIX: &str = "system:controller:";

#[rustfmt::skip]
const ROLES: &[(&str, &[Rule])] = &[
    ("attachdetach-controller", &[
        on("list watch", "-", "persistentvolumes persistentvolumeclaims"),
        on("get list watch", "-", "nodes"),
        on("patch update", "-", "nodes/status"),
        on("list watch", "-", "pods"),
        EVENTS,
        on("get create delete list watch", "storage.k8s.io", "volumeattachments"),
        on("get watch list", "storage.k8s.io", "csidrivers"),
        on("get watch list", "storage.k8s.io", "csinodes"),
    ]),
    ("clusterrole-aggregation-controller", &[
        on("escalate get list watch update patch", "rbac.authorization.k8s.io", "clusterroles"),
    ]),
    ("cronjob-controller", &[
        on("get list watch update", "batch", "cronjobs"),
        on("get list watch create update delete patch", "batch", "jobs"),
        on("update", "batch", "cronjobs/status"),
        on("update", "batch", "cronjobs/finalizers"),
        on("list watch delete", "-", "pods"),
        EVENTS,
    ]),
    ("daemon-set-controller", &[
        on("get list watch", "extensions apps", "daemonsets"),
        on("update", "extensions apps", "daemonsets/status"),
        on("update", "extensions apps", "daemonsets/finalizers"),
        on("list watch", "-", "nodes"),
        on("list watch create delete patch", "-", "pods"),
        on("create", "-", "pods/binding"),
        on("get list watch create delete update patch", "apps", "controllerrevisions"),
        EVENTS,
    ]),
    ("deployment-controller", &[
        // The revision annotation is written by a patch.
        on("get list watch update patch", "extensions apps", "deployments"),
        on("update", "extensions apps", "deployments/status"),
        on("update", "extensions apps", "deployments/finalizers"),
        on("get list watch create update patch delete", "apps extensions", "replicasets"),
        on("get list watch update", "-", "pods"),
        EVENTS,
    ]),
    ("disruption-controller", &[
        on("get list watch", "extensions apps", "deployments"),
        on("get list watch", "apps extensions", "replicasets"),
        on("get list watch", "-", "replicationcontrollers"),
        on("get list watch", "policy", "poddisruptionbudgets"),
        on("get list watch", "apps", "statefulsets"),
        on("update", "policy", "poddisruptionbudgets/status"),
        on("patch update", "-", "pods/status"),
        on("get", "*", "*/scale"),
        EVENTS,
    ]),
    ("endpoint-controller", &[
        on("get list watch", "-", "services pods"),
        on("get list watch create update delete", "-", "endpoints"),
        on("create", "-", "endpoints/restricted"),
        EVENTS,
    ]),
    ("endpointslice-controller", &[
        on("get list watch", "-", "services pods nodes"),
        on("update", "-", "services/finalizers"),
        on("get list watch create update delete", "discovery.k8s.io", "endpointslices"),
        EVENTS,
    ]),
    ("endpointslicemirroring-controller", &[
        on("get list watch", "-", "services endpoints"),
        on("update", "-", "services/finalizers"),
        on("update", "-", "endpoints/finalizers"),
        on("get list watch create update delete", "discovery.k8s.io", "endpointslices"),
        EVENTS,
    ]),
    ("expand-controller", &[
        on("get list watch update patch", "-", "persistentvolumes"),
        on("update patch", "-", "persistentvolumeclaims/status"),
        on("get list watch", "-", "persistentvolumeclaims"),
        EVENTS,
        on("get", "-", "services"),
    ]),
    ("ephemeral-volume-controller", &[
        on("get list watch", "-", "pods"),
        on("update", "-", "pods/finalizers"),
        on("get list watch create", "-", "persistentvolumeclaims"),
        EVENTS,
    ]),
    ("resource-claim-controller", &[
        on("get list watch", "-", "pods"),
        on("update", "-", "pods/finalizers"),
        on("get list watch create delete", "resource.k8s.io", "resourceclaims"),
        on("update patch", "resource.k8s.io", "resourceclaims resourceclaims/status"),
        on("update patch", "-", "pods/status"),
        EVENTS,
    ]),
    ("device-taint-eviction-controller", &[
        on("get list watch delete", "-", "pods"),
        on("update patch", "-", "pods/status"),
        on("get list watch", "resource.k8s.io", "resourceclaims"),
        on("get list watch", "resource.k8s.io", "resourceslices"),
        on("get list watch", "resource.k8s.io", "deviceclasses"),
        on("get list watch", "resource.k8s.io", "devicetaintrules"),
        EVENTS,
    ]),
    ("generic-garbage-collector", &[
        on("get list watch patch update delete", "*", "*"),
        EVENTS,
    ]),
    ("horizontal-pod-autoscaler", &[
        on("get list watch", "autoscaling", "horizontalpodautoscalers"),
        on("update", "autoscaling", "horizontalpodautoscalers/status"),
        on("get update", "*", "*/scale"),
        on("list watch", "-", "pods"),
        on("list watch", "metrics.k8s.io", "pods"),
        on("get list watch", "custom.metrics.k8s.io", "*"),
        on("get list watch", "external.metrics.k8s.io", "*"),
        EVENTS,
    ]),
    ("job-controller", &[
        on("get list watch update patch", "batch", "jobs"),
        on("update", "batch", "jobs/status"),
        on("update", "batch", "jobs/finalizers"),
        on("list watch create delete patch", "-", "pods"),
        EVENTS,
    ]),
    ("namespace-controller", &[
        on("get list watch delete", "-", "namespaces"),
        on("update", "-", "namespaces/finalize namespaces/status"),
        on("get list watch delete deletecollection", "*", "*"),
    ]),
    ("node-controller", &[
        on("get list watch update delete patch", "-", "nodes"),
        on("patch update", "-", "nodes/status"),
        on("patch update", "-", "pods/status"),
        on("list watch get delete", "-", "pods"),
        EVENTS,
        on("get list watch", "coordination.k8s.io", "leases"),
    ]),
    ("persistent-volume-binder", &[
        on("get list watch update create delete", "-", "persistentvolumes"),
        on("update", "-", "persistentvolumes/status"),
        on("get list watch update", "-", "persistentvolumeclaims"),
        on("update", "-", "persistentvolumeclaims/status"),
        on("list watch get create delete", "-", "pods"),
        on("get list watch", "storage.k8s.io", "storageclasses"),
        on("list watch", "-", "nodes"),
        EVENTS,
        on("watch", "-", "events"),
        on("get", "-", "services"),
    ]),
    ("pod-garbage-collector", &[
        on("list watch delete", "-", "pods"),
        on("get list watch", "-", "nodes"),
        on("patch", "-", "pods/status"),
    ]),
    ("replicaset-controller", &[
        on("get list watch update", "apps extensions", "replicasets"),
        on("update", "apps extensions", "replicasets/status"),
        on("update", "apps extensions", "replicasets/finalizers"),
        on("list watch patch create delete", "-", "pods"),
        EVENTS,
    ]),
    ("replication-controller", &[
        on("get list watch update", "-", "replicationcontrollers"),
        on("update", "-", "replicationcontrollers/status"),
        on("update", "-", "replicationcontrollers/finalizers"),
        on("list watch patch create delete", "-", "pods"),
        EVENTS,
    ]),
    ("resourcequota-controller", &[
        on("list watch", "*", "*"),
        on("update", "-", "resourcequotas/status"),
        EVENTS,
    ]),
    ("route-controller", &[
        on("list watch", "-", "nodes"),
        on("patch", "-", "nodes/status"),
        EVENTS,
    ]),
    ("service-account-controller", &[
        on("create", "-", "serviceaccounts"),
        // Upstream's shared informers list as the controller manager; here each controller lists as itself.
        on("get list watch", "-", "serviceaccounts namespaces"),
        EVENTS,
    ]),
    ("service-controller", &[
        on("get list watch", "-", "services"),
        on("patch update", "-", "services/status"),
        on("list watch", "-", "nodes"),
        EVENTS,
    ]),
    ("service-cidrs-controller", &[
        on("get list watch patch update", "networking.k8s.io", "servicecidrs"),
        on("patch update", "networking.k8s.io", "servicecidrs/finalizers"),
        on("patch update", "networking.k8s.io", "servicecidrs/status"),
        on("get list watch", "networking.k8s.io", "ipaddresses"),
        EVENTS,
    ]),
    ("statefulset-controller", &[
        on("list watch", "-", "pods"),
        on("get list watch", "apps", "statefulsets"),
        on("update", "apps", "statefulsets/status"),
        on("update", "apps", "statefulsets/finalizers"),
        on("get create delete update patch", "-", "pods"),
        on("get create delete update patch list watch", "apps", "controllerrevisions"),
        on("get create list watch", "-", "persistentvolumeclaims"),
        on("update delete", "-", "persistentvolumeclaims"),
        on("update", "-", "pods/finalizers"),
        EVENTS,
    ]),
    ("ttl-controller", &[
        on("update patch list watch", "-", "nodes"),
        EVENTS,
    ]),
    ("certificate-controller", &[
        on("get list watch delete", "certificates.k8s.io", "certificatesigningrequests"),
        on("update", "certificates.k8s.io",
           "certificatesigningrequests/status certificatesigningrequests/approval"),
        named("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
        named("sign", "certificates.k8s.io", "signers",
              "kubernetes.io/legacy-unknown kubernetes.io/kube-apiserver-client \
               kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving"),
        on("create", "authorization.k8s.io", "subjectaccessreviews"),
        EVENTS,
    ]),
    ("podcertificaterequestcleaner", &[
        on("get list watch delete", "certificates.k8s.io", "podcertificaterequests"),
    ]),
    ("pvc-protection-controller", &[
        on("get list watch update", "-", "persistentvolumeclaims"),
        on("list watch get", "-", "pods"),
        EVENTS,
    ]),
    ("pv-protection-controller", &[
        on("get list watch update", "-", "persistentvolumes"),
        EVENTS,
    ]),
    ("volumeattributesclass-protection-controller", &[
        on("list watch get", "-", "persistentvolumeclaims"),
        on("list watch get", "-", "persistentvolumes"),
        on("get list watch update", "storage.k8s.io", "volumeattributesclasses"),
        EVENTS,
    ]),
    ("ttl-after-finished-controller", &[
        on("get list watch delete", "batch", "jobs"),
        EVENTS,
    ]),
    ("root-ca-cert-publisher", &[
        on("create update", "-", "configmaps"),
        // As above: it follows its own objects itself.
        on("get list watch", "-", "configmaps namespaces"),
        EVENTS,
    ]),
    ("kube-apiserver-serving-clustertrustbundle-publisher", &[
        named("attest", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-serving"),
        on("create update delete list watch", "certificates.k8s.io", "clustertrustbundles"),
        EVENTS,
    ]),
    ("validatingadmissionpolicy-status-controller", &[
        on("get list watch", "admissionregistration.k8s.io", "validatingadmissionpolicies"),
        on("get patch update", "admissionregistration.k8s.io", "validatingadmissionpolicies/status"),
        EVENTS,
    ]),
    ("legacy-service-account-token-cleaner", &[
        named("get", "-", "configmaps", "kube-apiserver-legacy-service-account-token-tracking"),
        on("patch delete", "-", "secrets"),
    ]),
    ("selinux-warning-controller", &[
        EVENTS,
        on("get list watch", "-", "persistentvolumes"),
        on("get list watch", "-", "persistentvolumeclaims"),
        on("get list watch", "-", "pods"),
        on("get list watch", "storage.k8s.io", "csidrivers"),
    ]),
];

pub(super) fn cluster_roles() -> Vec<Value> {
    ROLES.iter().map(|(name, rules)| role("ClusterRole", "", &format!("{PREFIX}{name}"), rules)).collect()
}

pub(super) fn cluster_role_bindings() -> Vec<Value> {
    let bind = |name: &'static str| {
        let role = format!("{PREFIX}{name}");
        binding("", &role, "ClusterRole", &role, &[To::ServiceAccount(name)])
    };
    ROLES.iter().map(|(name, _)| bind(name)).collect()
}
