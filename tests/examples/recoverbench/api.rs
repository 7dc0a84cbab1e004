//! The server's API for its administrator, as any client has it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Client, Method};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use crate::Fallible;

/// A full list is large.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A client with connections of its own.
#[derive(Clone)]
pub struct Api {
    client: Client,
    base: String,
}

/// The bytes behind a name that ends with `-data` in a kubeconfig.
fn data(kubeconfig: &str, name: &str) -> Fallible<Vec<u8>> {
    let lines = kubeconfig.lines().map(str::trim_start);
    let found = lines.filter_map(|line| line.strip_prefix(name)).find_map(|rest| rest.strip_prefix(':'));
    let text = found.ok_or_else(|| format!("the kubeconfig has no {name}"))?;
    Ok(BASE64_STANDARD.decode(text.trim().trim_matches('"'))?)
}

impl Api {
    /// Of the server at this port, with the kubeconfig that it wrote.
    pub fn open(kubeconfig: &Path, port: u16) -> Fallible<Self> {
        let text = std::fs::read_to_string(kubeconfig)?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&data(&text, "certificate-authority-data")?)?)?;
        let chain =
            CertificateDer::pem_slice_iter(&data(&text, "client-certificate-data")?).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&data(&text, "client-key-data")?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = builder.with_root_certificates(roots).with_client_auth_cert(chain, key)?;
        let client = Client::builder().use_preconfigured_tls(tls).timeout(TIMEOUT).tcp_nodelay(true).build()?;
        Ok(Self { client, base: format!("https://127.0.0.1:{port}") })
    }

    /// The code and body of an answer.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Fallible<(u16, bytes::Bytes)> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await?;
        Ok((response.status().as_u16(), response.bytes().await?))
    }

    /// An answer that must be of success.
    ///
    /// # Errors
    /// If it is not, with what the server says.
    pub async fn must(&self, method: Method, path: &str, body: Option<&Value>) -> Fallible<bytes::Bytes> {
        let (code, answer) = self.ask(method.clone(), path, body).await?;
        if (200..300).contains(&code) {
            return Ok(answer);
        }
        Err(format!("{method} {path}: {code} {}", String::from_utf8_lossy(&answer)).into())
    }
}
