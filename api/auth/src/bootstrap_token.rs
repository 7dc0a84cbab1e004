//! Bootstrap tokens: what a machine shows before it has a certificate.
//!
//! They are upstream's: a Secret `bootstrap-token-<id>` in `kube-system`, and as a bearer token `<id>.<secret>`. The form
//! that people carry to a machine that joins, [`JoinToken`], says in front of that which authority to trust. Nothing here
//! shows a token's secret but [`BootstrapToken::bearer`] and the text of a [`JoinToken`].

mod secret;
mod text;

pub use secret::{NAMESPACE, SECRET_TYPE, TokenFacts, TokenRefusal, expires_at, facts, name_of, secret_value, user};
pub use text::{BootstrapToken, JoinToken, TokenTextError};

/// The user of a token is this and the token's id.
pub const USER_PREFIX: &str = "system:bootstrap:";
/// The group of whoever shows a bootstrap token.
pub const GROUP: &str = "system:bootstrappers";
/// What further groups of a token must begin with.
pub const GROUP_PREFIX: &str = "system:bootstrappers:";
/// The group of tokens that make control-plane members.
pub const SERVERS_GROUP: &str = "system:bootstrappers:navarch:servers";
/// The group of tokens that make nodes.
pub const NODES_GROUP: &str = "system:bootstrappers:navarch:nodes";

/// What a machine joins as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinRole {
    /// A member of the control plane.
    Server,
    /// A node.
    Node,
}

impl JoinRole {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Server, Self::Node];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Node => "node",
        }
    }

    /// The group whose tokens may join as this.
    pub const fn group(self) -> &'static str {
        match self {
            Self::Server => SERVERS_GROUP,
            Self::Node => NODES_GROUP,
        }
    }

    /// The role that groups allow; the greater one if they allow both.
    pub fn of_groups<S: AsRef<str>>(groups: &[S]) -> Option<Self> {
        Self::ALL.into_iter().find(|role| groups.iter().any(|group| group.as_ref() == role.group()))
    }
}

impl std::fmt::Display for JoinRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for JoinRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| format!("{text:?}: must be \"server\" or \"node\""))
    }
}

#[cfg(test)]
mod tests;
