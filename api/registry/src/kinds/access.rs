//! Who may do what, and who is who: RBAC, certificate requests.

mod certificates;
mod rbac;

pub(crate) use certificates::{REQUEST, TRUST_BUNDLE};
pub(crate) use rbac::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING};

#[cfg(test)]
mod tests;
