//! Service account tokens for projected volumes: asked for, kept, and asked for anew before they end.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use navarch_client::Client;
use navarch_types::{ApiError, ResourceResponse};
use serde_json::{Value, json};

/// Tokens older than this are renewed, however long they last.
const AGE_LONGEST: SignedDuration = SignedDuration::from_hours(24);

struct Held {
    token: String,
    renew_at: Timestamp,
    expires: Timestamp,
}

/// The tokens of one pod.
#[derive(Default)]
pub struct Tokens {
    held: BTreeMap<(String, String), Held>,
}

impl Tokens {
    /// The token of every projected source, by volume and path. A token that cannot be renewed stays while it is valid.
    ///
    /// # Errors
    /// What the server said, for a token that is not held.
    pub async fn all(
        &mut self,
        client: &Client,
        pod: &Pod,
        now: Timestamp,
    ) -> Result<BTreeMap<(String, String), String>, String> {
        let mut result = BTreeMap::new();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            for part in volume.projected.iter().flat_map(|source| source.sources.iter().flatten()) {
                let Some(source) = &part.service_account_token else { continue };
                let key = (volume.name.clone(), source.path.clone());
                if self.held.get(&key).is_none_or(|held| held.renew_at <= now) {
                    let seconds = source.expiration_seconds.unwrap_or(3600);
                    match request(client, pod, source.audience.as_deref(), seconds, now).await {
                        Ok(held) => drop(self.held.insert(key.clone(), held)),
                        Err(error) => match self.held.get_mut(&key) {
                            Some(held) if held.expires > now => {
                                held.renew_at = now.checked_add(SignedDuration::from_secs(30)).unwrap_or(now);
                            }
                            _ => return Err(format!("failed to fetch token: {error}")),
                        },
                    }
                }
                if let Some(held) = self.held.get(&key) {
                    result.insert(key, held.token.clone());
                }
            }
        }
        Ok(result)
    }

    /// When the first has to be renewed.
    pub fn due(&self) -> Option<Timestamp> {
        self.held.values().map(|held| held.renew_at).min()
    }
}

async fn request(
    client: &Client,
    pod: &Pod,
    audience: Option<&str>,
    seconds: i64,
    now: Timestamp,
) -> Result<Held, ApiError> {
    let metadata = &pod.metadata;
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let audiences: Vec<&str> = audience.into_iter().filter(|audience| !audience.is_empty()).collect();
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
        "audiences": audiences, "expirationSeconds": seconds,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": metadata.name, "uid": metadata.uid}}});
    let api = client.namespaced::<ServiceAccount>(metadata.namespace.as_deref().unwrap_or_default());
    let answer = match api.post(account, "token".into(), body).await? {
        ResourceResponse::Object(object) | ResourceResponse::Created(object) => {
            serde_json::from_slice::<Value>(&object.served()).map_err(ApiError::internal)?
        }
        ResourceResponse::Value(_, value) => value,
        _ => return Err(ApiError::internal("the server answered a token request with something else")),
    };
    let status = &answer["status"];
    let token = status["token"].as_str().filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| ApiError::internal("the server answered a token request without a token"))?;
    let expires = status["expirationTimestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let expires = expires.unwrap_or_else(|| now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now));
    Ok(Held { token: token.to_owned(), renew_at: renewal(now, expires), expires })
}

/// At four fifths of its life, and after a day at the latest.
fn renewal(now: Timestamp, expires: Timestamp) -> Timestamp {
    let life = expires.duration_since(now);
    let wait = (life * 4 / 5).min(AGE_LONGEST);
    now.checked_add(wait).unwrap_or(expires)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn renewals() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        assert_eq!(renewal(at(0), at(3600)), at(2880));
        assert_eq!(renewal(at(0), at(31_536_000)), at(86_400));
    }
}
