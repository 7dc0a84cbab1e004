//! Tokens as Secrets, with upstream's keys and rules.

use std::str::FromStr as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use navarch_types::UserInfo;
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq as _;

use super::{BootstrapToken, GROUP, GROUP_PREFIX, JoinRole, USER_PREFIX};
use crate::view::{ObjectView, SECRETS};

/// Where tokens are kept.
pub const NAMESPACE: &str = "kube-system";
/// The type of their Secrets.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";

const NAME_PREFIX: &str = "bootstrap-token-";
const ID: &str = "token-id";
const SECRET: &str = "token-secret";
const EXPIRATION: &str = "expiration";
const DESCRIPTION: &str = "description";
const AUTHENTICATION: &str = "usage-bootstrap-authentication";
const SIGNING: &str = "usage-bootstrap-signing";
const EXTRA_GROUPS: &str = "auth-extra-groups";
/// How long a group's name may be behind [`GROUP_PREFIX`].
const GROUP_BYTES_MAX: usize = 256;

/// Why a token that looks like one is not accepted. For logs: who shows it is told nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// There is none of this id.
    #[error("no bootstrap token {0}")]
    Unknown(String),
    /// Its Secret is on its way out.
    #[error("bootstrap token {0} is being deleted")]
    Deleting(String),
    /// The Secret is no bootstrap token, or one of another id.
    #[error("the Secret of bootstrap token {0} has another type or id")]
    NotOne(String),
    /// The secret is another.
    #[error("bootstrap token {0} has another secret")]
    Secret(String),
    /// Its time is over.
    #[error("bootstrap token {0} has expired")]
    Expired(String),
    /// It is for other things.
    #[error("bootstrap token {0} is not for authentication")]
    Usage(String),
    /// A group that tokens cannot give.
    #[error("bootstrap token {0} has an invalid group")]
    Group(String),
}

/// The name of a token's Secret.
pub fn name_of(id: &str) -> String {
    format!("{NAME_PREFIX}{id}")
}

/// A value of a Secret's `data`, decoded; empty if there is none.
fn value(secret: &Value, key: &str) -> String {
    let decoded = secret["data"][key].as_str().and_then(|text| STANDARD.decode(text).ok());
    decoded.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// When a token ends by its `expiration`: never if it is empty, at once if it is no time.
pub fn expires_at(expiration: &str) -> Option<Timestamp> {
    (!expiration.is_empty()).then(|| Timestamp::from_str(expiration).unwrap_or(Timestamp::MIN))
}

fn allowed_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix(GROUP_PREFIX) else { return false };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    rest.len() <= GROUP_BYTES_MAX
        && rest.bytes().all(|b| plain(b) || b == b':' || b == b'-')
        && rest.bytes().last().is_some_and(plain)
}

/// Who shows this token, if it is good now.
///
/// # Errors
/// Why it is not.
pub fn user(token: &BootstrapToken, view: &dyn ObjectView, now: Timestamp) -> Result<UserInfo, TokenRefusal> {
    let id = || token.id().to_owned();
    let object = view.get(&SECRETS, NAMESPACE, &name_of(token.id())).ok_or_else(|| TokenRefusal::Unknown(id()))?;
    let secret = object.to_value().map_err(|_| TokenRefusal::NotOne(id()))?;
    if !secret["metadata"]["deletionTimestamp"].is_null() {
        return Err(TokenRefusal::Deleting(id()));
    }
    if secret["type"] != SECRET_TYPE {
        return Err(TokenRefusal::NotOne(id()));
    }
    // In constant time: whoever guesses must not learn how much of it was right.
    if !bool::from(value(&secret, SECRET).as_bytes().ct_eq(token.secret().as_bytes())) {
        return Err(TokenRefusal::Secret(id()));
    }
    if value(&secret, ID) != token.id() {
        return Err(TokenRefusal::NotOne(id()));
    }
    if expires_at(&value(&secret, EXPIRATION)).is_some_and(|end| end <= now) {
        return Err(TokenRefusal::Expired(id()));
    }
    if value(&secret, AUTHENTICATION) != "true" {
        return Err(TokenRefusal::Usage(id()));
    }
    let mut user = UserInfo::new(format!("{USER_PREFIX}{}", token.id()), &[GROUP]);
    let extra = value(&secret, EXTRA_GROUPS);
    for group in extra.split(',').filter(|group| !group.is_empty()) {
        if !allowed_group(group) {
            return Err(TokenRefusal::Group(id()));
        }
        user.groups.push(group.to_owned());
    }
    user.groups.push(crate::ALL_AUTHENTICATED.to_owned());
    Ok(user)
}

/// The Secret of a new token that makes machines join as `role`, until `expires`.
pub fn secret_value(token: &BootstrapToken, role: JoinRole, expires: Timestamp, description: &str) -> Value {
    let expires = Timestamp::from_second(expires.as_second()).unwrap_or(expires);
    let mut data = Map::new();
    let mut put = |key: &str, text: &str| {
        data.insert(key.to_owned(), STANDARD.encode(text).into());
    };
    put(ID, token.id());
    put(SECRET, token.secret());
    put(EXPIRATION, &expires.to_string());
    put(AUTHENTICATION, "true");
    // The CA is pinned by its hash: there is no document that tokens would have to sign.
    put(SIGNING, "false");
    put(EXTRA_GROUPS, role.group());
    if !description.is_empty() {
        put(DESCRIPTION, description);
    }
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
        "metadata": {"name": name_of(token.id()), "namespace": NAMESPACE}, "data": data,
    })
}

/// What may be shown of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    /// Its id.
    pub id: String,
    /// What its machines join as; `None` for tokens of others.
    pub role: Option<JoinRole>,
    /// When it ends; `None` for never.
    pub expires: Option<Timestamp>,
    /// What it is for.
    pub description: String,
}

/// Reads a token's Secret; `None` for other Secrets.
pub fn facts(secret: &Value) -> Option<TokenFacts> {
    let name = secret["metadata"]["name"].as_str()?;
    let id = name.strip_prefix(NAME_PREFIX)?;
    if secret["type"] != SECRET_TYPE || value(secret, ID) != id {
        return None;
    }
    let extra = value(secret, EXTRA_GROUPS);
    let groups: Vec<&str> = extra.split(',').collect();
    Some(TokenFacts {
        id: id.to_owned(),
        role: JoinRole::of_groups(&groups),
        expires: expires_at(&value(secret, EXPIRATION)),
        description: value(secret, DESCRIPTION),
    })
}
