//! Connections as one identity, and how it is noticed that nobody is at the other end any more.
//!
//! A server that went away without a word, or was stopped, answers neither handshakes nor HTTP/2 pings: the first have a
//! deadline, the second are sent whenever a connection was quiet for a moment. Requests and watches end with their
//! connection. A slow answer keeps nobody from answering pings. HTTP/1.1 has no pings: there the kernel gives up on a host
//! that has vanished, and tending the servers finds one that was stopped.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::HttpConfig;
use super::credentials::{self, HttpConfigError, Loaded};

/// TCP alone: a host in the same data centre answers in a millisecond, or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// TCP and TLS, whose handshake costs a busy server some time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that was quiet for so long is asked whether it lives …
const PING_AFTER: Duration = Duration::from_millis(500);
/// … and given up if nothing has come after so long: silence is noticed after two seconds at most. A busy server may be
/// slow to answer; a shorter time would break its watches, and make it busier.
const PING_TIMEOUT: Duration = Duration::from_millis(1_500);
/// The kernel gives up when sent data is not acknowledged, or nothing answers on an idle connection.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);
/// Of the kernel's own questions on an idle connection.
const TCP_PROBES_MAX: u32 = 3;
/// Files are looked at again after so long.
const RELOAD_AFTER: Duration = Duration::from_secs(30);

type Https = HyperClient<TimeoutConnector<HttpsConnector<HttpConnector>>, Full<Bytes>>;

/// Connections, made when they are needed.
pub(super) struct Session {
    pub client: Https,
    pub loaded: Loaded,
    checked: Instant,
}

impl Session {
    pub fn open(config: &HttpConfig) -> Result<Self, HttpConfigError> {
        let loaded = config.credentials.load()?;
        let tls = credentials::tls(&config.ca_pem, &loaded)?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        // In whole seconds.
        tcp.set_keepalive(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive_interval(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive_retries(Some(TCP_PROBES_MAX));
        tcp.set_tcp_user_timeout(Some(TCP_TIMEOUT));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        let mut connector = TimeoutConnector::new(https);
        connector.set_connect_timeout(Some(HANDSHAKE_TIMEOUT));
        let client = HyperClient::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_keep_alive_interval(Some(PING_AFTER))
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_keep_alive_while_idle(true)
            .build(connector);
        Ok(Self { client, loaded, checked: Instant::now() })
    }

    /// Whether the files may have changed meanwhile.
    pub fn is_stale(&self) -> bool {
        self.checked.elapsed() >= RELOAD_AFTER
    }

    /// With the same credentials as another, which are as good as new.
    pub fn renewed(&self, new: Self) -> Self {
        Self { client: self.client.clone(), loaded: new.loaded, checked: new.checked }
    }
}
