//! A list, then watches after it, through lost connections and moves to other servers: what informers are made of, and
//! whatever else follows a part of the API.
//!
//! A broken watch goes on from the last revision that was seen, wherever the next server is; it is listed anew only when
//! no server can go on from there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use navarch_types::{ApiError, Object, Reason, ResourceRequest, ResourceResponse, Verb, WatchEvent};

use crate::client::Client;

/// Waits between failed requests: doubles from the first to the last.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A watch that ends sooner than this, and without any event, has failed too.
const WATCH_MIN: Duration = Duration::from_secs(1);

/// A watch is renewed after so long, at random within this range, so that servers can balance.
const WATCH_SECONDS: std::ops::Range<u64> = 300..600;

/// Objects a page of a list.
const PAGE: u64 = 500;

/// What one who follows is told.
pub enum Step {
    /// Everything there is, complete up to a revision. Comes first, and again when the place in history was lost.
    Listed {
        /// The objects.
        items: Vec<Arc<Object>>,
        /// The revision.
        revision: u64,
    },
    /// What happened next. Bookmarks too.
    Event(WatchEvent),
    /// The server does not answer, or refuses; it is tried again.
    Failed(ApiError),
}

/// Follows what a list request selects (its resource, namespace and selectors) until the future is dropped. If `on`
/// refuses a step, everything is listed anew after a while.
pub async fn follow(client: &Client, list: &ResourceRequest, mut on: impl FnMut(Step) -> Result<(), ApiError>) {
    let mut follower = Follower { client, list, from: None, retry: RETRY_MIN };
    loop {
        let listing = follower.from.is_none();
        let result = if listing { follower.list(&mut on).await } else { follower.watch(&mut on).await };
        let resource = &*list.resource.resource;
        if let Err(error) = result {
            if lost_place(&error) {
                follower.from = None;
                if !listing {
                    tracing::info!(resource, %error, "the watch cannot go on from its revision, listing anew");
                    continue;
                }
            }
            tracing::warn!(resource, %error, retry_ms = follower.retry.as_millis(), "cannot follow a resource");
            // Refused or not: it is about to begin again.
            let _ = on(Step::Failed(error));
            follower.pause().await;
        }
    }
}

/// Whether a watch can go on nowhere: its revision is forgotten, or not to be had (a cluster that was made anew).
fn lost_place(error: &ApiError) -> bool {
    let causes = || error.status().details.iter().flat_map(|details| &details.causes);
    error.is(Reason::Expired)
        || error.is(Reason::Gone)
        || causes().any(|cause| cause.reason.as_deref() == Some("ResourceVersionTooLarge"))
}

struct Follower<'a> {
    client: &'a Client,
    list: &'a ResourceRequest,
    /// The last revision seen.
    from: Option<u64>,
    retry: Duration,
}

impl Follower<'_> {
    async fn pause(&mut self) {
        tokio::time::sleep(self.retry.mul_f64(rand::random_range(0.5..1.0))).await;
        self.retry = (self.retry * 2).min(RETRY_MAX);
    }

    async fn list(&mut self, on: &mut impl FnMut(Step) -> Result<(), ApiError>) -> Result<(), ApiError> {
        let mut items = Vec::new();
        let mut continue_token = None;
        let revision = loop {
            let mut request = self.list.clone();
            request.list.limit = PAGE;
            request.list.continue_token = continue_token;
            let ResourceResponse::List(page) = self.client.send(request).await? else {
                return Err(ApiError::internal("the server answered a list with something else"));
            };
            items.extend(page.items);
            continue_token = page.continue_token.filter(|token| !token.is_empty());
            if continue_token.is_none() {
                break page.revision;
            }
        };
        on(Step::Listed { items, revision })?;
        (self.from, self.retry) = (Some(revision), RETRY_MIN);
        Ok(())
    }

    async fn watch(&mut self, on: &mut impl FnMut(Step) -> Result<(), ApiError>) -> Result<(), ApiError> {
        let mut revision = self.from.unwrap_or_default();
        let mut request = self.list.clone();
        request.verb = Verb::Watch;
        request.list.resource_version = Some(revision.to_string());
        request.list.allow_watch_bookmarks = true;
        request.list.timeout_seconds = Some(rand::random_range(WATCH_SECONDS));
        let mut events = self.client.watch(request).await?;
        let (opened, mut any) = (Instant::now(), false);
        while let Some(event) = events.next().await {
            let event = event?;
            revision = revision.max(event.object.revision());
            if let Err(error) = on(Step::Event(event)) {
                self.from = None;
                return Err(error);
            }
            (self.from, self.retry, any) = (Some(revision), RETRY_MIN, true);
        }
        if !any && opened.elapsed() < WATCH_MIN {
            self.pause().await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use k8s_openapi::api::core::v1::ConfigMap;
    use parking_lot::Mutex;
    use serde_json::json;

    use super::*;
    use crate::testing::{FakeServer, Fault};

    /// Follows config maps until `enough` of the steps; each is told in short.
    async fn steps(server: &FakeServer, refuse: &str, enough: &str, mut act: impl FnMut(&str)) {
        let client = server.client();
        let list = client.namespaced::<ConfigMap>("d").request(Verb::List, None);
        let seen = Mutex::new(String::new());
        let (done, finished) = tokio::sync::oneshot::channel();
        let mut done = Some(done);
        let following = follow(&client, &list, |step| {
            let name = |object: &Arc<Object>| object.typed::<ConfigMap>().unwrap().metadata.name.clone().unwrap();
            let told = match &step {
                Step::Listed { items, .. } => format!("[{}]", items.iter().map(name).collect::<String>()),
                Step::Event(event) => name(&event.object),
                Step::Failed(error) => format!("!{} ", error.code()),
            };
            let mut seen = seen.lock();
            let refused = !seen.contains(refuse) && told == refuse;
            seen.push_str(&told);
            if *seen == enough {
                let _: Option<()> = done.take().and_then(|done| done.send(()).ok());
            }
            act(&seen);
            if refused { Err(ApiError::internal("refused")) } else { Ok(()) }
        });
        tokio::select! {
            () = following => unreachable!("it never ends"),
            _ = finished => {}
            () = tokio::time::sleep(Duration::from_secs(20)) => {}
        }
        assert_eq!(*seen.lock(), enough);
    }

    fn put(server: &FakeServer, name: &str) {
        server.put_json::<ConfigMap>(json!({"metadata": {"name": name, "namespace": "d"}}));
    }

    #[tokio::test]
    async fn a_broken_watch_goes_on_and_a_lost_place_lists_anew() {
        let server = FakeServer::new();
        put(&server, "a");
        server.inject(Fault::lost_connection().on(Verb::List, "configmaps").times(1));
        server.inject(Fault::lost_connection().on(Verb::Watch, "configmaps").times(1));
        let acting = server.clone();
        steps(&server, "-", "!503 [a]!503 b!503 c[abcd]", |seen| match seen {
            "!503 [a]" => put(&acting, "b"),
            "!503 [a]!503 b" => {
                acting.break_watches();
                put(&acting, "c");
            }
            "!503 [a]!503 b!503 c" => {
                put(&acting, "d");
                acting.compact();
            }
            _ => {}
        })
        .await;
    }

    #[tokio::test]
    async fn what_was_refused_comes_again() {
        let server = FakeServer::new();
        put(&server, "a");
        let acting = server.clone();
        steps(&server, "b", "[a]b!500 [ab]", |seen| {
            if seen == "[a]" {
                put(&acting, "b");
            }
        })
        .await;
    }
}
