//! Who is asking, and what they may do.
//!
//! Certificates and keys of the cluster ([`pki`]), authentication by client certificate, service-account token and
//! bootstrap token ([`authenticate`], [`token`], [`bootstrap_token`]), authorization by RBAC and for nodes ([`authorize`], [`rbac`], [`node`]), and the review
//! resources that let clients ask both ([`virtual_resources`]).
//!
//! Everything here answers from memory through [`view::ObjectView`] and never waits; nothing here writes to the store.
//! Secrets never reach logs or errors.

pub mod attributes;
pub mod authenticate;
pub mod authorize;
pub mod bootstrap_token;
pub mod impersonation;
pub mod node;
pub mod pki;
pub mod rbac;
pub mod token;
pub mod view;
pub mod virtual_resources;

pub use attributes::{Attributes, Decision};
pub use authenticate::{Authenticator, Credentials};
pub use authorize::Authorizer;
pub use bootstrap_token::{BootstrapToken, JoinRole, JoinToken};
pub use pki::{Identity, Pki, PkiError};
pub use view::ObjectView;
pub use virtual_resources::VirtualResources;

/// The group of everybody who is authenticated.
pub const ALL_AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody who is not.
pub const ALL_UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user nobody is until authenticated.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group that may do everything, whatever RBAC says.
pub const PRIVILEGED_GROUP: &str = "system:masters";
/// The group of nodes.
pub const NODES_GROUP: &str = "system:nodes";
/// What precedes a node's name in its user name.
pub const NODE_USER_PREFIX: &str = "system:node:";
/// What precedes namespace and name in a service account's user name.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// The group of all service accounts.
pub const ALL_SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// What precedes the namespace in the group of its service accounts.
pub const SERVICE_ACCOUNT_GROUP_PREFIX: &str = "system:serviceaccounts:";

/// Where a machine asks to join the cluster.
pub const JOIN_PATH: &str = "/navarch/v1/join";

/// Who a node's network agent is to the API.
pub const PROXY_USER: &str = "system:kube-proxy";

/// The user name of a service account.
pub fn service_account_user(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")
}

/// Namespace and name in the user name of a service account; `None` for other users.
pub fn split_service_account_user(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// The identity of a service account, as its tokens and in-process callers carry it.
pub fn service_account_identity(namespace: &str, name: &str, uid: &str) -> navarch_types::UserInfo {
    let mut user = navarch_types::UserInfo::new(service_account_user(namespace, name), &[]);
    user.uid = uid.to_owned();
    user.groups = vec![
        ALL_SERVICE_ACCOUNTS.to_owned(),
        format!("{SERVICE_ACCOUNT_GROUP_PREFIX}{namespace}"),
        ALL_AUTHENTICATED.to_owned(),
    ];
    user
}

/// The identity of a node's agent.
pub fn node_identity(node: &str) -> navarch_types::UserInfo {
    navarch_types::UserInfo::new(format!("{NODE_USER_PREFIX}{node}"), &[NODES_GROUP, ALL_AUTHENTICATED])
}
