//! Who makes a request.

use std::collections::BTreeMap;

/// An authenticated identity, as `authentication.k8s.io` `UserInfo` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// The name that identifies the user: `system:serviceaccount:default:web`.
    pub name: String,
    /// Distinguishes users of the same name over time; may be empty.
    pub uid: String,
    /// The groups the user is in.
    pub groups: Vec<String>,
    /// What the authenticator adds, such as the pod a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user by name and groups.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self { name: name.into(), groups: groups.iter().map(|g| (*g).to_owned()).collect(), ..Self::default() }
    }
}
