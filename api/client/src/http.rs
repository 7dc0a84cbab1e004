//! The HTTP transport: for node agents on other machines, and for tools.
//!
//! Knows the servers of the cluster ([`Servers`]), stays with one while it is well and goes to another when it is not. What
//! surely was not carried out, and what changes nothing, is sent to the next server at once; a write that may have been
//! carried out is never sent again: its sender is told so, by [`Reason::Timeout`]. TLS always; certificates and tokens from
//! files are read again when the files change.

mod credentials;
mod decode;
mod failure;
mod path;
mod servers;
mod session;
mod tend;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http_body_util::{BodyExt, BodyStream, Full, Limited};
use hyper::body::{Frame, Incoming};
use navarch_types::{ApiError, Body, PatchType, Reason, ResourceRequest, ResourceResponse, Verb};

pub use credentials::{Credentials, HttpConfigError};
use decode::EventDecoder;
use failure::{Failure, Next, chain};
pub use servers::{Servers, Trouble};
use session::Session;

use crate::transport::{Transport, WatchStream};

/// The server's own deadline is 60 s; past this the answer is lost.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(65);
/// A whole answer. Lists come in pages.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Where the servers are and how they are trusted.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// `https://host:port`. Ignored by [`HttpTransport::sharing`].
    pub servers: Vec<String>,
    /// The cluster's CA, PEM.
    pub ca_pem: Vec<u8>,
    /// Who asks.
    pub credentials: Credentials,
    /// Tells servers who asks, in their logs: `navarch-agent/0.1`.
    pub user_agent: String,
}

/// The transport. [`HttpTransport::tend`] keeps its servers current; without it, it knows those that it was told of.
pub struct HttpTransport {
    config: HttpConfig,
    user_agent: HeaderValue,
    session: ArcSwap<Session>,
    servers: Arc<Servers>,
}

/// What one server answered.
enum Reply {
    Whole(u16, Bytes),
    /// The answer to a watch, still coming.
    Events(Incoming),
}

impl HttpTransport {
    /// Reads the credentials; connects when first used. Knows the configuration's servers.
    ///
    /// # Errors
    /// If a file cannot be read, or something in it or in the configuration is malformed.
    pub fn new(config: HttpConfig) -> Result<Self, HttpConfigError> {
        // Tools: each run begins where it will.
        let servers = Servers::new(&config.servers, &rand::random::<u64>().to_string(), None)?;
        Self::sharing(config, servers)
    }

    /// As [`HttpTransport::new`], with servers that it shares with other transports to the same cluster.
    ///
    /// # Errors
    /// As [`HttpTransport::new`].
    pub fn sharing(config: HttpConfig, servers: Arc<Servers>) -> Result<Self, HttpConfigError> {
        let user_agent = HeaderValue::from_str(&config.user_agent)
            .map_err(|_| HttpConfigError::UserAgent(config.user_agent.clone()))?;
        let session = ArcSwap::from_pointee(Session::open(&config)?);
        Ok(Self { config, user_agent, session, servers })
    }

    /// What it knows of its servers.
    pub fn servers(&self) -> &Arc<Servers> {
        &self.servers
    }

    fn session(&self) -> Arc<Session> {
        let session = self.session.load_full();
        if !session.is_stale() {
            return session;
        }
        match Session::open(&self.config) {
            // The old connections serve as long as they are who we are.
            Ok(new) if new.loaded == session.loaded => self.session.store(Arc::new(session.renewed(new))),
            Ok(new) => {
                self.session.store(Arc::new(new));
                self.servers.forgive();
            }
            // Half-written, perhaps: the old ones may still be good.
            Err(error) => tracing::warn!(%error, "cannot read the credentials again"),
        }
        self.session.load_full()
    }

    fn build(
        &self,
        server: &str,
        request: &ResourceRequest,
        token: Option<&HeaderValue>,
    ) -> Result<http::Request<Full<Bytes>>, ApiError> {
        let uri = format!("{server}{}", path::of(request));
        let mut builder = http::Request::builder().method(path::method(request.verb)).uri(uri);
        builder = builder.header(ACCEPT, "application/json").header(USER_AGENT, self.user_agent.clone());
        if let Some(token) = token {
            builder = builder.header(AUTHORIZATION, token.clone());
        }
        let (media_type, content) = match &request.body {
            Body::Empty => return builder.body(Full::default()).map_err(ApiError::internal),
            Body::Bytes { media_type, content } => (media_type.to_string(), content.clone()),
            Body::Value(value) => {
                let media_type = request.patch.map_or("application/json", PatchType::media_type);
                (media_type.to_owned(), serde_json::to_vec(value).map_err(ApiError::internal)?.into())
            }
        };
        builder.header(CONTENT_TYPE, media_type).body(Full::new(content)).map_err(ApiError::internal)
    }

    /// Sends to one server after the other, as far as that is safe, until one answers.
    async fn exchange(&self, request: &ResourceRequest) -> Result<(Arc<str>, Reply), ApiError> {
        let (session, started) = (self.session(), Instant::now());
        let safe = failure::is_safe(request);
        let (mut tried, mut last) = (Vec::new(), None);
        while let Some(server) = self.servers.pick(&tried) {
            if !tried.is_empty() && started.elapsed() > REQUEST_TIMEOUT {
                break;
            }
            tried.push(Arc::clone(&server));
            let built = self.build(&server, request, session.loaded.token.as_ref())?;
            match self.attempt(&server, &session, built, request.verb == Verb::Watch, safe).await {
                Ok(reply) => {
                    let refused = match &reply {
                        Reply::Whole(code @ 503..=504, body) => {
                            let error = decode::failure(*code, body);
                            failure::of_answer(&error).map(|trouble| (trouble, error))
                        }
                        _ => None,
                    };
                    let Some((trouble, error)) = refused else {
                        self.servers.answered(&server);
                        return Ok((server, reply));
                    };
                    self.servers.alarm(&server, trouble);
                    if !safe {
                        return Err(error);
                    }
                    last = Some(error);
                }
                Err((failure, why)) => {
                    if let Some(trouble) = failure.trouble() {
                        self.servers.alarm(&server, trouble);
                    }
                    match failure.next(safe) {
                        Next::Elsewhere => last = Some(failure::unreachable(&server, &why)),
                        Next::Unknown => return Err(failure::unknown(&server, &why)),
                        Next::TooLate => return Err(ApiError::new(Reason::Timeout, format!("{server}: {why}"))),
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| self.servers.refusal()))
    }

    /// One request to one server. What is `safe` is given up when the client moves on meanwhile.
    async fn attempt(
        &self,
        server: &Arc<str>,
        session: &Session,
        request: http::Request<Full<Bytes>>,
        watch: bool,
        safe: bool,
    ) -> Result<Reply, (Failure, String)> {
        let exchange = async {
            let response = session.client.request(request).await;
            let response = response.map_err(|error| (failure::of_request(&error), chain(&error)))?;
            let code = response.status().as_u16();
            if watch && response.status().is_success() {
                return Ok(Reply::Events(response.into_body()));
            }
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| (Failure::Lost(Trouble::Lost), chain(&*error)))?;
            Ok(Reply::Whole(code, body.to_bytes()))
        };
        tokio::select! {
            biased;
            done = tokio::time::timeout(REQUEST_TIMEOUT, exchange) => done.unwrap_or_else(|_| {
                Err((Failure::Late, format!("no answer in {} s", REQUEST_TIMEOUT.as_secs())))
            }),
            () = Arc::clone(&self.servers).left(Arc::clone(server)), if safe => {
                Err((Failure::Left, "it was left for another server".to_owned()))
            }
        }
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn request(&self, request: ResourceRequest) -> Result<ResourceResponse, ApiError> {
        match self.exchange(&request).await?.1 {
            Reply::Whole(code, body) => decode::response(&request, code, &body),
            Reply::Events(_) => Err(ApiError::bad_request("a watch is opened by `watch`")),
        }
    }

    async fn watch(&self, request: ResourceRequest) -> Result<WatchStream, ApiError> {
        let (server, reply) = self.exchange(&request).await?;
        let frames = match reply {
            Reply::Whole(code, body) => return Err(decode::failure(code, &body)),
            Reply::Events(body) => BodyStream::new(body),
        };
        // Ends as if the server had closed it: the next watch resumes at the next server.
        let left = Arc::clone(&self.servers).left(Arc::clone(&server));
        let servers = Arc::clone(&self.servers);
        let frames = frames.take_until(left).map(move |frame| {
            frame.map_err(|error| {
                servers.alarm(&server, Trouble::Lost);
                let text = format!("{server}: the watch was lost: {}", chain(&error));
                ApiError::new(Reason::ServiceUnavailable, text)
            })
        });
        Ok(events(frames.boxed()))
    }
}

/// The events in a watch's bytes. It ends with its first error.
fn events(frames: BoxStream<'static, Result<Frame<Bytes>, ApiError>>) -> WatchStream {
    let state = (frames, EventDecoder::default(), false);
    let events = futures::stream::unfold(state, |(mut frames, mut decoder, over)| async move {
        if over {
            return None;
        }
        loop {
            match decoder.next() {
                Ok(Some(event)) => return Some((Ok(event), (frames, decoder, false))),
                Ok(None) => {}
                Err(error) => return Some((Err(error), (frames, decoder, true))),
            }
            match frames.next().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        decoder.push(&data);
                    }
                }
                Err(error) => return Some((Err(error), (frames, decoder, true))),
            }
        }
    });
    events.boxed()
}
