//! The claims of a service-account token, as Kubernetes lays them out.

use serde::{Deserialize, Deserializer, Serialize};

use super::TokenError;

/// How far clocks may be apart.
pub const LEEWAY_SECONDS: i64 = 60;

/// The whole payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whom it is for.
    #[serde(deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// Valid until, in seconds.
    pub exp: i64,
    /// Issued at, in seconds.
    pub iat: i64,
    /// By whom.
    pub iss: String,
    /// An id of this token.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// What is peculiar to Kubernetes.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: KubernetesClaims,
    /// Not valid before, in seconds.
    #[serde(default)]
    pub nbf: i64,
    /// The user name.
    pub sub: String,
}

impl Claims {
    pub(super) fn check_time(&self, now: i64) -> Result<(), TokenError> {
        if now > self.exp.saturating_add(LEEWAY_SECONDS) {
            return Err(TokenError::Expired);
        }
        if now < self.nbf.saturating_sub(LEEWAY_SECONDS) || now < self.iat.saturating_sub(LEEWAY_SECONDS) {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }
}

/// Names of objects that must live as long as the token is to be accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesClaims {
    /// The service account's namespace.
    #[serde(default)]
    pub namespace: String,
    /// The node that the pod runs on, or that the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<BoundObject>,
    /// The pod that the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<BoundObject>,
    /// The secret that the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<BoundObject>,
    /// The service account.
    #[serde(default)]
    pub serviceaccount: BoundObject,
    /// From when on the holder should have fetched a new one, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// An object by name and uid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundObject {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its uid; empty if it was not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}
