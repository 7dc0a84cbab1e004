//! The default roles, but for those of controllers.

use serde_json::{Value, json};

use super::{EVENTS, READ, READ_WRITE, Rule, WRITE, named, on, paths, role};
use crate::rbac::aggregate::by_label;

const TO_ADMIN: &str = "rbac.authorization.k8s.io/aggregate-to-admin";
const TO_EDIT: &str = "rbac.authorization.k8s.io/aggregate-to-edit";
const TO_VIEW: &str = "rbac.authorization.k8s.io/aggregate-to-view";

const COORDINATION: &str = "coordination.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const STORAGE: &str = "storage.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

#[rustfmt::skip]
const ADMIN: &[Rule] = &[
    on("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    on(READ_WRITE, RBAC, "roles rolebindings"),
];

#[rustfmt::skip]
const EDIT: &[Rule] = &[
    on(READ, "-", "pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy"),
    on("impersonate", "-", "serviceaccounts"),
    on(WRITE, "-", "pods pods/attach pods/proxy pods/exec pods/portforward"),
    on("create", "-", "pods/eviction"),
    on(WRITE, "-", "replicationcontrollers replicationcontrollers/scale serviceaccounts services services/proxy \
        persistentvolumeclaims configmaps secrets events"),
    on("create", "-", "serviceaccounts/token"),
    on(WRITE, "apps", "statefulsets statefulsets/scale daemonsets deployments deployments/scale deployments/rollback \
        replicasets replicasets/scale"),
    on(WRITE, "autoscaling", "horizontalpodautoscalers"),
    on(WRITE, "batch", "jobs cronjobs"),
    on(WRITE, "extensions", "daemonsets deployments deployments/scale deployments/rollback ingresses replicasets \
        replicasets/scale replicationcontrollers/scale networkpolicies"),
    on(WRITE, "policy", "poddisruptionbudgets"),
    on(WRITE, "networking.k8s.io", "networkpolicies ingresses"),
    on(READ_WRITE, COORDINATION, "leases"),
    on(WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
];

#[rustfmt::skip]
const VIEW: &[Rule] = &[
    on(READ, "-", "pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status \
        endpoints persistentvolumeclaims persistentvolumeclaims/status configmaps"),
    on(READ, "-", "limitranges resourcequotas bindings events pods/status resourcequotas/status namespaces/status \
        replicationcontrollers/status pods/log"),
    on(READ, "-", "namespaces"),
    on(READ, "discovery.k8s.io", "endpointslices"),
    on(READ, "apps", "controllerrevisions statefulsets statefulsets/status statefulsets/scale daemonsets \
        daemonsets/status deployments deployments/status deployments/scale replicasets replicasets/status \
        replicasets/scale"),
    on(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    on(READ, "batch", "jobs cronjobs cronjobs/status jobs/status"),
    on(READ, "extensions", "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses \
        ingresses/status replicasets replicasets/scale replicasets/status replicationcontrollers/scale \
        networkpolicies"),
    on(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    on(READ, "networking.k8s.io", "networkpolicies ingresses ingresses/status"),
    on(READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
];

/// Also what the node authorizer lets nodes do where no graph is needed.
#[rustfmt::skip]
pub(super) const NODE: &[Rule] = &[
    on("create", "authentication.k8s.io", "tokenreviews"),
    on("create", "authorization.k8s.io", "subjectaccessreviews localsubjectaccessreviews"),
    on(READ, "-", "services"),
    on("create get list watch", "-", "nodes"),
    on("update patch", "-", "nodes/status"),
    on("update patch", "-", "nodes"),
    on("create update patch", "- events.k8s.io", "events"),
    on(READ, "-", "pods"),
    on("create delete", "-", "pods"),
    on("update patch", "-", "pods/status"),
    on("create", "-", "pods/eviction"),
    on(READ, "-", "secrets configmaps"),
    on("get", "-", "persistentvolumeclaims persistentvolumes"),
    on("get", "-", "endpoints"),
    on("create get list watch", CERTIFICATES, "certificatesigningrequests"),
    on("get create update patch delete", COORDINATION, "leases"),
    on("get", STORAGE, "volumeattachments"),
    on("get update patch", "-", "persistentvolumeclaims/status"),
    on("create", "-", "serviceaccounts/token"),
    on("get", "-", "serviceaccounts"),
    on(READ, STORAGE, "csidrivers"),
    on("get create update patch delete", STORAGE, "csinodes"),
    on(READ, "node.k8s.io", "runtimeclasses"),
    on("get", "resource.k8s.io", "resourceclaims"),
    on("deletecollection", "resource.k8s.io", "resourceslices"),
    on("get create update patch delete list watch", "resource.k8s.io", "resourceslices"),
    on(READ, CERTIFICATES, "clustertrustbundles"),
    on("create get list watch", CERTIFICATES, "podcertificaterequests"),
];

#[rustfmt::skip]
const CONTROLLER_MANAGER: &[Rule] = &[
    EVENTS,
    on("create", COORDINATION, "leases"),
    named("get update", COORDINATION, "leases", "kube-controller-manager"),
    on("create", "-", "secrets serviceaccounts"),
    on("delete", "-", "secrets"),
    on("get", "-", "namespaces secrets serviceaccounts configmaps"),
    on("update", "-", "secrets serviceaccounts"),
    on("create", "authentication.k8s.io", "tokenreviews"),
    on("create", "authorization.k8s.io", "subjectaccessreviews"),
    on("list watch", "*", "*"),
    on("create", "-", "serviceaccounts/token"),
];

#[rustfmt::skip]
const SCHEDULER: &[Rule] = &[
    EVENTS,
    on("create", COORDINATION, "leases"),
    named("get update", COORDINATION, "leases", "kube-scheduler"),
    on("create", COORDINATION, "leasecandidates"),
    on("get list watch", "-", "nodes"),
    on("get list watch delete", "-", "pods"),
    on("create", "-", "pods/binding bindings"),
    on("patch update", "-", "pods/status"),
    on(READ, "-", "services replicationcontrollers"),
    on(READ, "apps extensions", "replicasets"),
    on(READ, "apps", "statefulsets"),
    on(READ, "policy", "poddisruptionbudgets"),
    on(READ, "-", "persistentvolumeclaims persistentvolumes"),
    on("create", "authentication.k8s.io", "tokenreviews"),
    on("create", "authorization.k8s.io", "subjectaccessreviews"),
    on(READ, STORAGE, "csinodes"),
    on(READ, "-", "namespaces"),
    on(READ, STORAGE, "csidrivers"),
    on(READ, STORAGE, "csistoragecapacities"),
    on(READ, STORAGE, "volumeattachments"),
    on("get list watch patch update", "resource.k8s.io", "resourceclaims"),
    on("update patch", "resource.k8s.io", "resourceclaims/status"),
    on(READ, "resource.k8s.io", "deviceclasses resourceslices"),
    // Upstream's scheduler meets these through its shared informers.
    on(READ, "scheduling.k8s.io", "priorityclasses"),
    on(READ, STORAGE, "storageclasses"),
];

#[rustfmt::skip]
const PLAIN: &[(&str, &[Rule])] = &[
    ("cluster-admin", &[on("*", "*", "*"), paths("*", "*")]),
    ("system:discovery", &[
        paths("get", "/livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*"),
    ]),
    ("system:monitoring", &[
        paths("get", "/metrics /metrics/slis /livez /livez/* /readyz /readyz/* /healthz /healthz/*"),
    ]),
    ("system:basic-user", &[
        on("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
        on("create", "authentication.k8s.io", "selfsubjectreviews"),
    ]),
    ("system:public-info-viewer", &[paths("get", "/livez /readyz /healthz /version /version/")]),
    ("system:heapster", &[
        on(READ, "-", "events pods nodes namespaces"),
        on(READ, "extensions", "deployments"),
    ]),
    ("system:node", NODE),
    ("system:node-problem-detector", &[on("get", "-", "nodes"), on("patch", "-", "nodes/status"), EVENTS]),
    ("system:kubelet-api-admin", &[
        on(READ, "-", "nodes"),
        on("proxy", "-", "nodes"),
        on("*", "-", "nodes/proxy nodes/metrics nodes/stats nodes/log nodes/healthz nodes/pods nodes/configz"),
    ]),
    ("system:node-bootstrapper", &[on("create get list watch", CERTIFICATES, "certificatesigningrequests")]),
    // Not upstream's: who shows a join token may ask to join, and what as is for the endpoint to judge.
    (super::JOIN_ROLE, &[paths("post", crate::JOIN_PATH)]),
    // Not upstream's. A node may not read the endpoints of the `kubernetes` Service, and is not given more of a resource
    // that tells of every Service; a path tells the servers' addresses and nothing else. `/api`, which everybody who is
    // authenticated may read, tells one of them anyway.
    (super::SERVERS_ROLE, &[paths("get", navarch_types::SERVERS_PATH)]),
    ("system:auth-delegator", &[
        on("create", "authentication.k8s.io", "tokenreviews"),
        on("create", "authorization.k8s.io", "subjectaccessreviews"),
    ]),
    ("system:kube-aggregator", &[on(READ, "-", "services endpoints")]),
    ("system:kube-controller-manager", CONTROLLER_MANAGER),
    ("system:kube-dns", &[
        on("list watch", "-", "endpoints services"),
        on("list watch", "discovery.k8s.io", "endpointslices"),
        // DNS names of pods and headless services.
        on("list watch", "-", "pods namespaces"),
    ]),
    ("system:persistent-volume-provisioner", &[
        on("get list watch create delete", "-", "persistentvolumes"),
        on("get list watch update", "-", "persistentvolumeclaims"),
        on(READ, STORAGE, "storageclasses"),
        on("watch", "-", "events"),
        EVENTS,
    ]),
    ("system:certificates.k8s.io:certificatesigningrequests:nodeclient", &[
        on("create", CERTIFICATES, "certificatesigningrequests/nodeclient"),
    ]),
    ("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", &[
        on("create", CERTIFICATES, "certificatesigningrequests/selfnodeclient"),
    ]),
    ("system:volume-scheduler", &[
        on("get list watch update patch", "-", "persistentvolumes"),
        on(READ, STORAGE, "storageclasses"),
        on("get list watch update patch", "-", "persistentvolumeclaims"),
    ]),
    ("system:certificates.k8s.io:legacy-unknown-approver", &[
        named("approve", CERTIFICATES, "signers", "kubernetes.io/legacy-unknown"),
    ]),
    ("system:certificates.k8s.io:kubelet-serving-approver", &[
        named("approve", CERTIFICATES, "signers", "kubernetes.io/kubelet-serving"),
    ]),
    ("system:certificates.k8s.io:kube-apiserver-client-approver", &[
        named("approve", CERTIFICATES, "signers", "kubernetes.io/kube-apiserver-client"),
    ]),
    ("system:certificates.k8s.io:kube-apiserver-client-kubelet-approver", &[
        named("approve", CERTIFICATES, "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
    ]),
    ("system:service-account-issuer-discovery", &[
        paths("get", "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks \
            /openid/v1/jwks/"),
    ]),
    ("system:node-proxier", &[
        on("list watch", "-", "services endpoints"),
        on("get list watch", "-", "nodes"),
        EVENTS,
        on("list watch", "discovery.k8s.io", "endpointslices"),
        on("list watch", "networking.k8s.io", "servicecidrs"),
    ]),
    ("system:kube-scheduler", SCHEDULER),
];

fn aggregated(name: &str, from: &str, to: Option<&str>) -> Value {
    let mut role = role("ClusterRole", "", name, &[]);
    role["aggregationRule"] = by_label(from);
    label(&mut role, to);
    role
}

fn label(role: &mut Value, label: Option<&str>) {
    if let Some(label) = label {
        role["metadata"]["labels"][label] = json!("true");
    }
}

pub(super) fn cluster_roles() -> Vec<Value> {
    let mut all: Vec<_> = PLAIN.iter().map(|(name, rules)| role("ClusterRole", "", name, rules)).collect();
    for (name, to, rules) in [
        ("system:aggregate-to-admin", TO_ADMIN, ADMIN),
        ("system:aggregate-to-edit", TO_EDIT, EDIT),
        ("system:aggregate-to-view", TO_VIEW, VIEW),
    ] {
        let mut role = role("ClusterRole", "", name, rules);
        label(&mut role, Some(to));
        all.push(role);
    }
    all.push(aggregated("admin", TO_ADMIN, None));
    all.push(aggregated("edit", TO_EDIT, Some(TO_ADMIN)));
    all.push(aggregated("view", TO_VIEW, Some(TO_EDIT)));
    all
}

pub(super) fn roles() -> Vec<Value> {
    let leader = |name: &'static str| {
        let role_name = format!("system::leader-locking-{name}");
        let rules = [on("watch", "-", "configmaps"), named("get update", "-", "configmaps", name)];
        role("Role", "kube-system", &role_name, &rules)
    };
    let reader = named(READ, "-", "configmaps", "extension-apiserver-authentication");
    let signer = "system:controller:bootstrap-signer";
    let cloud = [on("create get list watch", "-", "configmaps")];
    let cleaner = [on("get list watch delete", "-", "secrets"), EVENTS];
    let public = [on(READ, "-", "configmaps"), named("update", "-", "configmaps", "cluster-info"), EVENTS];
    vec![
        role("Role", "kube-system", "extension-apiserver-authentication-reader", &[reader]),
        role("Role", "kube-system", signer, &[on(READ, "-", "secrets")]),
        role("Role", "kube-system", "system:controller:cloud-provider", &cloud),
        role("Role", "kube-system", "system:controller:token-cleaner", &cleaner),
        leader("kube-controller-manager"),
        leader("kube-scheduler"),
        role("Role", "kube-public", signer, &public),
    ]
}
