//! Bootstrap tokens go when their time is over.

use std::str::FromStr as _;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use navarch_client::{Change, Client, DeleteOptions, Informer, InformerFactory, ObjectKey, Subscription, WorkQueue};
use navarch_types::{ApiError, Reason};

use crate::controller::{Next, Reconcile};

/// Where tokens are; nothing else is looked at.
const NAMESPACE: &str = "kube-system";
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const EXPIRATION: &str = "expiration";

fn is_token(secret: &Secret) -> bool {
    secret.metadata.namespace.as_deref() == Some(NAMESPACE) && secret.type_.as_deref() == Some(SECRET_TYPE)
}

/// How long a token is good for from `now` on: `None` for ever, nothing or less if it is over. What is no time is over:
/// it must not be taken for a token without an end.
fn time_left(secret: &Secret, now: Timestamp) -> Option<SignedDuration> {
    let text = secret.data.as_ref()?.get(EXPIRATION)?;
    let end = std::str::from_utf8(&text.0).ok().and_then(|text| Timestamp::from_str(text).ok());
    match end {
        _ if text.0.is_empty() => None,
        Some(end) => Some(end.duration_since(now)),
        None => Some(SignedDuration::ZERO),
    }
}

pub(crate) struct TokenCleaner {
    client: Client,
    secrets: Informer<Secret>,
}

impl TokenCleaner {
    pub fn new(client: Client, informers: &InformerFactory) -> Self {
        Self { client, secrets: informers.informer() }
    }
}

#[async_trait(?Send)]
impl Reconcile for TokenCleaner {
    fn workers(&self) -> usize {
        1
    }

    async fn synced(&self) {
        self.secrets.synced().await;
    }

    fn subscribe(&self, queue: &WorkQueue<ObjectKey>) -> Vec<Subscription> {
        let queue = queue.clone();
        vec![self.secrets.subscribe(move |change: &Change<Secret>| {
            if *change.key().namespace == *NAMESPACE {
                queue.add(change.key());
            }
        })]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ApiError> {
        let Some(secret) = self.secrets.store().get(key).filter(|secret| is_token(secret)) else {
            return Ok(Next::Done);
        };
        let Some(left) = time_left(&secret, Timestamp::now()) else { return Ok(Next::Done) };
        if let Ok(left) = Duration::try_from(left)
            && !left.is_zero()
        {
            return Ok(Next::After(left));
        }
        let options = DeleteOptions { uid: secret.metadata.uid.clone(), ..DeleteOptions::default() };
        match self.client.namespaced::<Secret>(&key.namespace).delete(&key.name, &options).await {
            // Gone already, or another one of that name, of which the informer will tell.
            Err(error) if error.is(Reason::NotFound) || error.is(Reason::Conflict) => Ok(Next::Done),
            result => result.map(|()| Next::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;
    use crate::testbed::Testbed;

    fn token(expiration: Option<&str>) -> Secret {
        let data = expiration.map(|text| (EXPIRATION.to_owned(), ByteString(text.into())));
        Secret { data: Some(data.into_iter().collect()), ..Secret::default() }
    }

    #[test]
    fn an_end_is_read_and_what_is_none_is_now() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (expiration, left) in [
            (None, None),
            (Some(""), None),
            (Some("1970-01-12T13:46:50Z"), Some(10)),
            (Some("1970-01-12T14:46:50+01:00"), Some(10)),
            (Some("1970-01-12T13:46:40Z"), Some(0)),
            (Some("1970-01-12T13:46:30Z"), Some(-10)),
            (Some("tomorrow"), Some(0)),
        ] {
            let found = time_left(&token(expiration), now).map(|left| left.as_secs());
            assert_eq!(found, left, "{expiration:?}");
        }
        assert_eq!(time_left(&Secret::default(), now), None);
    }

    #[actix::test]
    async fn tokens_go_at_their_end() {
        let bed = Testbed::new(&["token-cleaner-controller"]).await;
        let put = |namespace: &str, name: &str, kind: &str, expiration: Timestamp| {
            let data = json!({EXPIRATION: ByteString(expiration.to_string().into_bytes())});
            bed.server.put_json::<Secret>(
                json!({"metadata": {"name": name, "namespace": namespace}, "type": kind, "data": data}),
            );
        };
        let now = Timestamp::now();
        put(NAMESPACE, "good", SECRET_TYPE, now + SignedDuration::from_hours(1));
        put(NAMESPACE, "soon", SECRET_TYPE, now + SignedDuration::from_millis(300));
        put(NAMESPACE, "over", SECRET_TYPE, now - SignedDuration::from_secs(1));
        put(NAMESPACE, "other", "Opaque", now - SignedDuration::from_secs(1));
        put("default", "elsewhere", SECRET_TYPE, now - SignedDuration::from_secs(1));
        bed.until("over", |s| s.get::<Secret>(NAMESPACE, "over").is_none()).await;
        bed.until("soon", |s| s.get::<Secret>(NAMESPACE, "soon").is_none()).await;
        bed.quiet().await;
        for (namespace, kept) in [(NAMESPACE, "good"), (NAMESPACE, "other"), ("default", "elsewhere")] {
            assert!(bed.server.get::<Secret>(namespace, kept).is_some(), "{kept}");
        }
        // A token whose end is moved is looked at anew.
        put(NAMESPACE, "good", SECRET_TYPE, now - SignedDuration::from_secs(1));
        bed.until("good", |s| s.get::<Secret>(NAMESPACE, "good").is_none()).await;
    }
}
