//! One request to a server that is trusted for nothing but the hash in a token.
//!
//! Servers show the cluster's authority behind their own certificate. The handshake fails unless one of what they show has
//! the hash, and the server's certificate is signed by it, for the address that was called. So the token, and everything
//! else, is sent only to a server of the cluster that the token is of.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use navarch_auth::JoinToken;
use navarch_auth::pki::ca_hash_of;
use navarch_types::error::Status;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;

use super::JoinError;

/// The server's own deadline is 60 s; past this the answer is lost.
const TIMEOUT: Duration = Duration::from_secs(65);
/// A server that takes longer to be reached is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// An answer holds a few certificates.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const HTTPS_PORT: u16 = 443;

/// Where a server is: `https://host:port`, and nothing behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    text: String,
    /// `host:port`, as in the text.
    authority: String,
    host: String,
    port: u16,
}

impl ServerUrl {
    /// Where to connect to.
    pub fn target(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for ServerUrl {
    type Err = JoinError;

    fn from_str(text: &str) -> Result<Self, JoinError> {
        let wrong = || JoinError::Url(text.to_owned());
        let uri: http::Uri = text.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let bare = uri.scheme_str() == Some("https") && matches!(uri.path(), "" | "/") && uri.query().is_none();
        if !bare || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(HTTPS_PORT);
        Ok(Self { text: text.trim_end_matches('/').to_owned(), authority: authority.to_string(), host, port })
    }
}

/// Trusts the authority with one hash.
#[derive(Debug)]
struct Pinned {
    ca_hash: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates.iter().find(|shown| ca_hash_of(shown).as_deref() == Ok(&self.ca_hash));
        let pinned = pinned.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn config(ca_hash: &str) -> Result<rustls::ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Pinned { ca_hash: ca_hash.to_owned(), provider: Arc::clone(&provider) };
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// Sends one request with the token to the server, once it has shown that it is the right one.
pub(super) async fn post(url: &ServerUrl, token: &JoinToken, path: &str, body: &Value) -> Result<Value, JoinError> {
    let timeout = || JoinError::Broken { server: url.text.clone(), why: "no answer in time".to_owned() };
    tokio::time::timeout(TIMEOUT, exchange(url, token, path, body)).await.map_err(|_| timeout())?
}

fn untrusted(url: &ServerUrl, error: &std::io::Error) -> JoinError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let why = match tls {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its CA is not the one that the token names (another cluster, or somebody in between)".to_owned()
        }
        Some(Error::InvalidCertificate(error)) => format!("its certificate: {error}"),
        _ => error.to_string(),
    };
    JoinError::Untrusted { server: url.text.clone(), why }
}

async fn exchange(url: &ServerUrl, token: &JoinToken, path: &str, body: &Value) -> Result<Value, JoinError> {
    let server = || url.text.clone();
    let broken = |why: String| JoinError::Broken { server: server(), why };
    let name = ServerName::try_from(url.host.clone()).map_err(|_| JoinError::Url(server()))?;
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config(token.ca_hash()).map_err(|e| broken(e.to_string()))?));
    let connecting = tokio::net::TcpStream::connect((url.host.as_str(), url.port));
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
    let stream = connected
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        .map_err(|source| JoinError::Unreachable { server: server(), source })?;
    let stream = tls.connect(name, stream).await.map_err(|error| untrusted(url, &error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|e| broken(e.to_string()))?;
    let mut bearer = http::HeaderValue::from_str(&format!("Bearer {}", token.token().bearer()))
        .map_err(|_| broken("the token cannot be sent".to_owned()))?;
    bearer.set_sensitive(true);
    let request = hyper::Request::post(path)
        .header("host", &url.authority)
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .header("user-agent", concat!("navarch/", env!("CARGO_PKG_VERSION")))
        .header("authorization", bearer)
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|e| broken(e.to_string()))?;
    // It ends the connection by dropping the sender; a server that closes it after its answer is no failure.
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|e| broken(e.to_string()))?;
        let code = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let body = body.await.map_err(|e| broken(e.to_string()))?.to_bytes();
        read(code, &body)
    };
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}

fn read(code: u16, body: &[u8]) -> Result<Value, JoinError> {
    match (code, serde_json::from_slice::<Value>(body)) {
        (200..=299, Ok(value)) => Ok(value),
        (401, _) => Err(JoinError::Token),
        (_, Ok(value)) => Err(match serde_json::from_value::<Status>(value) {
            Ok(status) => JoinError::Refused(Box::new(status)),
            Err(_) => JoinError::Answer(format!("it is no Status (code {code})")),
        }),
        (_, Err(_)) => Err(JoinError::Answer(format!("it is no JSON (code {code})"))),
    }
}

#[cfg(test)]
mod tests;
