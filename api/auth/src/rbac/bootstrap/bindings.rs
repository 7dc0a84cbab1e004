//! Who holds the default roles from the start.

use serde_json::{Value, json};

use super::{GROUP, JOIN_ROLE, SERVERS_ROLE, metadata};
use crate::{ALL_AUTHENTICATED, ALL_SERVICE_ACCOUNTS, ALL_UNAUTHENTICATED, JoinRole, PRIVILEGED_GROUP};

/// A subject in a binding's list.
pub(super) enum To {
    User(&'static str),
    Group(&'static str),
    /// In `kube-system`.
    ServiceAccount(&'static str),
}

use To::{Group, ServiceAccount, User};

impl To {
    fn subject(&self) -> Value {
        match self {
            User(name) => json!({"apiGroup": GROUP, "kind": "User", "name": name}),
            Group(name) => json!({"apiGroup": GROUP, "kind": "Group", "name": name}),
            ServiceAccount(name) => json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}),
        }
    }
}

pub(super) fn binding(namespace: &str, name: &str, role_kind: &str, role: &str, subjects: &[To]) -> Value {
    let subjects: Vec<_> = subjects.iter().map(To::subject).collect();
    let kind = if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
    let mut binding = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata(name),
        "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role},
    });
    if !subjects.is_empty() {
        binding["subjects"] = json!(subjects);
    }
    if !namespace.is_empty() {
        binding["metadata"]["namespace"] = json!(namespace);
    }
    binding
}

const SCHEDULER: &str = "system:kube-scheduler";
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";

pub(super) fn cluster_role_bindings() -> Vec<Value> {
    let table: &[(&str, &[To])] = &[
        ("cluster-admin", &[Group(PRIVILEGED_GROUP)]),
        ("system:discovery", &[Group(ALL_AUTHENTICATED)]),
        ("system:basic-user", &[Group(ALL_AUTHENTICATED)]),
        ("system:public-info-viewer", &[Group(ALL_AUTHENTICATED), Group(ALL_UNAUTHENTICATED)]),
        ("system:monitoring", &[Group("system:monitoring")]),
        ("system:node-proxier", &[User(crate::PROXY_USER)]),
        (CONTROLLER_MANAGER, &[User(CONTROLLER_MANAGER)]),
        ("system:kube-dns", &[ServiceAccount("kube-dns")]),
        (SCHEDULER, &[User(SCHEDULER)]),
        ("system:volume-scheduler", &[User(SCHEDULER)]),
        // Nodes are authorized by the node authorizer; the binding stays without subjects, as upstream keeps it.
        ("system:node", &[]),
        ("system:service-account-issuer-discovery", &[Group(ALL_SERVICE_ACCOUNTS)]),
    ];
    let mut all: Vec<_> =
        table.iter().map(|(name, subjects)| binding("", name, "ClusterRole", name, subjects)).collect();
    // Not upstream's, but what every installer of it makes: the API server may call kubelets.
    let kubelet_client = &[User(crate::pki::KUBELET_CLIENT_USER)];
    all.push(binding(
        "",
        "navarch:apiserver-kubelet-client",
        "ClusterRole",
        "system:kubelet-api-admin",
        kubelet_client,
    ));
    let joining = &[Group(JoinRole::Server.group()), Group(JoinRole::Node.group())];
    all.push(binding("", JOIN_ROLE, "ClusterRole", JOIN_ROLE, joining));
    all.push(binding("", SERVERS_ROLE, "ClusterRole", SERVERS_ROLE, &[Group(ALL_AUTHENTICATED)]));
    all
}

pub(super) fn role_bindings() -> Vec<Value> {
    const READER: &str = "extension-apiserver-authentication-reader";
    const LEADER_CM: &str = "system::leader-locking-kube-controller-manager";
    const LEADER_SCHEDULER: &str = "system::leader-locking-kube-scheduler";
    let system = |name: &str, role: &str, to: &[To]| binding("kube-system", name, "Role", role, to);
    let signer = "system:controller:bootstrap-signer";
    vec![
        system(&format!("system::{READER}"), READER, &[User(CONTROLLER_MANAGER), User(SCHEDULER)]),
        system(LEADER_CM, LEADER_CM, &[User(CONTROLLER_MANAGER), ServiceAccount("kube-controller-manager")]),
        system(LEADER_SCHEDULER, LEADER_SCHEDULER, &[User(SCHEDULER), ServiceAccount("kube-scheduler")]),
        system(
            "system:controller:cloud-provider",
            "system:controller:cloud-provider",
            &[ServiceAccount("cloud-provider")],
        ),
        system(
            "system:controller:token-cleaner",
            "system:controller:token-cleaner",
            &[ServiceAccount("token-cleaner")],
        ),
        system(signer, signer, &[ServiceAccount("bootstrap-signer")]),
        binding("kube-public", signer, "Role", signer, &[ServiceAccount("bootstrap-signer")]),
    ]
}
