//! Requests to the members, as a stranger with a certificate makes them: nothing of navarch's own client.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use navarch_tests::members::Members;
use parking_lot::RwLock;
use reqwest::{Client, Method};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

/// What it costs to find out that a member does not answer.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// A request that takes longer has no answer.
const TIMEOUT: Duration = Duration::from_secs(4);

/// How a request ended.
#[derive(Debug)]
pub enum Reply {
    /// The server's answer.
    Answer(u16, Value),
    /// It never left.
    NotSent,
    /// It left, and there was no answer.
    Silence(String),
}

/// The members of a cluster as its clients know them. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    client: Client,
    streams: Client,
    servers: Arc<RwLock<Vec<String>>>,
}

fn tls(members: &Members) -> rustls::ClientConfig {
    let text = members.kubectl(0, &["config", "view", "--raw", "-o", "json"]).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    let pem = |path: &str| BASE64_STANDARD.decode(config.pointer(path).and_then(Value::as_str).unwrap()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(&pem("/clusters/0/cluster/certificate-authority-data")).unwrap();
    roots.add(ca).unwrap();
    let certificate = CertificateDer::from_pem_slice(&pem("/users/0/user/client-certificate-data")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&pem("/users/0/user/client-key-data")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots).with_client_auth_cert(vec![certificate], key).unwrap()
}

impl Api {
    /// As the administrator of a running cluster.
    ///
    /// # Panics
    /// If its kubeconfig cannot be used.
    pub fn of(members: &Members) -> Self {
        let tls = tls(members);
        let client = |tls: rustls::ClientConfig| {
            Client::builder().use_preconfigured_tls(tls).connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).http1_only()
        };
        Self {
            client: client(tls.clone()).timeout(TIMEOUT).build().unwrap(),
            // A watch lasts; silence on it is the watcher's to notice.
            streams: client(tls).build().unwrap(),
            servers: Arc::default(),
        }
    }

    /// The members are these from now on.
    pub fn set_servers(&self, addresses: impl IntoIterator<Item = String>) {
        *self.servers.write() = addresses.into_iter().map(|address| format!("https://{address}:6443")).collect();
    }

    /// One of the members, by any number.
    pub fn server(&self, number: usize) -> String {
        let servers = self.servers.read();
        servers[number % servers.len()].clone()
    }

    /// Asks a member.
    pub async fn ask(&self, server: &str, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let mut request = self.client.request(method, format!("{server}{path}"));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = async {
            let response = request.send().await?;
            let code = response.status().as_u16();
            Ok::<_, reqwest::Error>((code, response.bytes().await?))
        };
        match answer.await {
            Ok((code, body)) => Reply::Answer(code, serde_json::from_slice(&body).unwrap_or(Value::Null)),
            Err(error) if error.is_connect() => Reply::NotSent,
            Err(error) => Reply::Silence(error.to_string()),
        }
    }

    /// Begins a request whose answer is a stream.
    ///
    /// # Errors
    /// If there is no answer in time.
    pub async fn stream(&self, server: &str, path: &str) -> Result<reqwest::Response, String> {
        let request = self.streams.get(format!("{server}{path}")).send();
        match tokio::time::timeout(TIMEOUT, request).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        }
    }
}

/// The revision that an object or a list carries.
pub fn revision(object: &Value) -> Option<u64> {
    object.pointer("/metadata/resourceVersion")?.as_str()?.parse().ok()
}
