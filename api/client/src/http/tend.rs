//! Keeping the list of servers, and the choice among them, good: what a long-lived client does beside its requests.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, USER_AGENT};
use http_body_util::{BodyExt, Full, Limited};
use navarch_types::{SERVERS_PATH, ServerList};

use super::{Failure, HttpTransport, Trouble, failure};

/// Between two looks, and a little more, so that clients that started together do not ask together.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between two looks when requests fail.
const LOOK_SOON: Duration = Duration::from_millis(200);
/// What is asked for is at hand. A server that takes longer is in no state to serve.
const LOOK_TIMEOUT: Duration = Duration::from_secs(4);
/// A list of a few addresses.
const LIST_BYTES_MAX: usize = 64 << 10;

/// What a server said when it was looked at.
enum Look {
    /// It serves, and tells of the others.
    Serves(ServerList),
    /// It answers, and is not asked or does not say who the others are.
    Answers,
    Failed(Trouble),
}

impl HttpTransport {
    /// Learns again and again which servers there are, and whether the one in use serves; moves all clients that share
    /// [`super::Servers`] when another one is better. Runs until it is dropped.
    pub async fn tend(&self) {
        loop {
            self.look_around().await;
            let pause = LOOK_EVERY.mul_f64(rand::random_range(1.0..1.25));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = async {
                    tokio::time::sleep(LOOK_SOON).await;
                    self.servers.woken().await;
                } => {}
            }
        }
    }

    async fn look_around(&self) {
        let current = self.servers.current();
        self.look_at(&current).await;
        // Nobody leaves a server before another one has answered.
        if let Some(better) = self.servers.better()
            && self.look_at(&better).await
        {
            self.servers.settle(&better);
        }
    }

    /// Returns whether the server is well.
    async fn look_at(&self, server: &str) -> bool {
        let looked = tokio::time::timeout(LOOK_TIMEOUT, self.ask(server)).await;
        match looked.unwrap_or(Look::Failed(Trouble::Silent)) {
            Look::Serves(list) => {
                self.servers.answered(server);
                self.servers.learn(&list).await;
                true
            }
            Look::Answers => {
                self.servers.answered(server);
                true
            }
            Look::Failed(trouble) => {
                self.servers.failed(server, trouble);
                false
            }
        }
    }

    async fn ask(&self, server: &str) -> Look {
        let session = self.session();
        let mut request = http::Request::get(format!("{server}{SERVERS_PATH}"))
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, self.user_agent.clone());
        if let Some(token) = &session.loaded.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        let Ok(request) = request.body(Full::<Bytes>::default()) else { return Look::Answers };
        let response = match session.client.request(request).await {
            Ok(response) => response,
            Err(error) => {
                let (Failure::Unsent(trouble) | Failure::Lost(trouble)) = failure::of_request(&error) else {
                    return Look::Failed(Trouble::Lost);
                };
                return Look::Failed(trouble);
            }
        };
        let code = response.status().as_u16();
        let Ok(body) = Limited::new(response.into_body(), LIST_BYTES_MAX).collect().await else {
            return Look::Failed(Trouble::Lost);
        };
        match (code, serde_json::from_slice::<ServerList>(&body.to_bytes())) {
            (200, Ok(list)) if list.ready => Look::Serves(list),
            (200, Ok(_)) | (500.., _) => Look::Failed(Trouble::NotReady),
            // A server that knows no such path, or does not tell this user.
            _ => Look::Answers,
        }
    }
}
