//! The HTTP transport: for node agents on other machines, and for tools.
//!
//! Knows every server of the cluster and goes to the next when one cannot be reached. A write is repeated elsewhere only
//! if it surely was not sent. TLS always; certificates and tokens from files are read again when the files change.

mod credentials;
mod decode;
mod path;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http_body_util::{BodyExt, BodyStream, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use navarch_types::{ApiError, Body, PatchType, Reason, ResourceRequest, ResourceResponse, Verb};

use credentials::Loaded;
pub use credentials::{Credentials, HttpConfigError};
use decode::EventDecoder;

use crate::transport::{Transport, WatchStream};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The server's own deadline is 60 s; past this the answer is lost.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(65);
/// A server that went away without a word is noticed after two of these.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Files are looked at again after so long.
const RELOAD_AFTER: Duration = Duration::from_secs(30);
/// A whole answer. Lists come in pages.
const ANSWER_BYTES_MAX: usize = 256 << 20;

type Https = HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Where the servers are and how they are trusted.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// `https://host:port`, in the order of preference.
    pub servers: Vec<String>,
    /// The cluster's CA, PEM.
    pub ca_pem: Vec<u8>,
    /// Who asks.
    pub credentials: Credentials,
    /// Tells servers who asks, in their logs: `navarch-agent/0.1`.
    pub user_agent: String,
}

struct Session {
    client: Https,
    loaded: Loaded,
    checked: std::time::Instant,
}

/// The transport.
pub struct HttpTransport {
    config: HttpConfig,
    user_agent: HeaderValue,
    session: ArcSwap<Session>,
    preferred: AtomicUsize,
}

impl HttpTransport {
    /// Reads the credentials; connects when first used.
    ///
    /// # Errors
    /// If a file cannot be read, or something in it or in the configuration is malformed.
    pub fn new(config: HttpConfig) -> Result<Self, HttpConfigError> {
        for server in &config.servers {
            let uri: http::Uri = server.parse().map_err(|_| HttpConfigError::Server(server.clone()))?;
            if uri.scheme_str() != Some("https") || uri.authority().is_none() {
                return Err(HttpConfigError::Server(server.clone()));
            }
        }
        if config.servers.is_empty() {
            return Err(HttpConfigError::Server(String::new()));
        }
        let user_agent = HeaderValue::from_str(&config.user_agent)
            .map_err(|_| HttpConfigError::Server(config.user_agent.clone()))?;
        let session = ArcSwap::from_pointee(open_session(&config)?);
        Ok(Self { config, user_agent, session, preferred: AtomicUsize::new(0) })
    }

    fn session(&self) -> Arc<Session> {
        let session = self.session.load_full();
        if session.checked.elapsed() < RELOAD_AFTER {
            return session;
        }
        match open_session(&self.config) {
            // The old connections serve as long as they are who we are.
            Ok(new) if new.loaded == session.loaded => {
                let renewed = Session { client: session.client.clone(), loaded: new.loaded, checked: new.checked };
                self.session.store(Arc::new(renewed));
            }
            Ok(new) => self.session.store(Arc::new(new)),
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
        let uri = format!("{}{}", server.trim_end_matches('/'), path::of(request));
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

    /// Sends to the preferred server, then to the others.
    async fn exchange(&self, request: &ResourceRequest) -> Result<http::Response<Incoming>, ApiError> {
        let session = self.session();
        let first = self.preferred.load(Ordering::Relaxed);
        let count = self.config.servers.len();
        let mut last = ApiError::new(Reason::ServiceUnavailable, "no server can be reached");
        for attempt in 0..count {
            let index = (first + attempt) % count;
            let built = self.build(&self.config.servers[index], request, session.loaded.token.as_ref())?;
            match tokio::time::timeout(REQUEST_TIMEOUT, session.client.request(built)).await {
                Ok(Ok(response)) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(response);
                }
                Ok(Err(error)) => {
                    let unsent = error.is_connect();
                    let server = &self.config.servers[index];
                    last =
                        ApiError::new(Reason::ServiceUnavailable, format!("cannot reach {server}: {}", chain(&error)));
                    if !unsent && !is_read(request.verb) {
                        break;
                    }
                }
                Err(_) => {
                    last = ApiError::new(Reason::Timeout, "the server did not answer in time");
                    if !is_read(request.verb) {
                        break;
                    }
                }
            }
        }
        // The next request begins with another server.
        self.preferred.store((first + 1) % count, Ordering::Relaxed);
        Err(last)
    }
}

fn is_read(verb: Verb) -> bool {
    matches!(verb, Verb::Get | Verb::List | Verb::Watch)
}

/// An error with its sources: hyper's own text says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

fn lost(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(Reason::ServiceUnavailable, format!("the connection was lost: {error}"))
}

fn open_session(config: &HttpConfig) -> Result<Session, HttpConfigError> {
    let loaded = config.credentials.load()?;
    let tls = credentials::tls(&config.ca_pem, &loaded)?;
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_keepalive(Some(KEEP_ALIVE));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http1()
        .enable_http2()
        .wrap_connector(connector);
    let client = HyperClient::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(Some(KEEP_ALIVE))
        .http2_keep_alive_timeout(KEEP_ALIVE)
        .http2_keep_alive_while_idle(true)
        .build(https);
    Ok(Session { client, loaded, checked: std::time::Instant::now() })
}

async fn whole(response: http::Response<Incoming>) -> Result<(u16, Bytes), ApiError> {
    let code = response.status().as_u16();
    let collected = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
    match tokio::time::timeout(REQUEST_TIMEOUT, collected).await {
        Ok(Ok(body)) => Ok((code, body.to_bytes())),
        Ok(Err(error)) => Err(lost(error)),
        Err(_) => Err(ApiError::new(Reason::Timeout, "the server did not finish its answer in time")),
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn request(&self, request: ResourceRequest) -> Result<ResourceResponse, ApiError> {
        let (code, body) = whole(self.exchange(&request).await?).await?;
        decode::response(&request, code, &body)
    }

    async fn watch(&self, request: ResourceRequest) -> Result<WatchStream, ApiError> {
        let response = self.exchange(&request).await?;
        if !response.status().is_success() {
            let (code, body) = whole(response).await?;
            return Err(decode::failure(code, &body));
        }
        let frames = BodyStream::new(response.into_body());
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
                match frames.next().await {
                    None => return None,
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            decoder.push(&data);
                        }
                    }
                    Some(Err(error)) => return Some((Err(lost(error)), (frames, decoder, true))),
                }
            }
        });
        Ok(events.boxed())
    }
}
