//! Who asks, and whom to trust.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderValue;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// What the configuration got wrong. Names files, never what is in them.
#[derive(Debug, thiserror::Error)]
pub enum HttpConfigError {
    /// No server, or one that is no `https://host:port`.
    #[error("no valid server address: {0:?} (want https://host:port)")]
    Server(String),
    /// A name that cannot stand in a header.
    #[error("no valid user agent: {0:?}")]
    UserAgent(String),
    /// A file that cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// PEM that holds no certificate or no key.
    #[error("no valid {0} in the PEM given")]
    Pem(&'static str),
    /// A token that cannot stand in a header.
    #[error("the token is malformed")]
    Token,
    /// Certificates and key that TLS refuses.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Who asks.
#[derive(Clone)]
pub enum Credentials {
    /// Nobody in particular.
    Anonymous,
    /// Whoever this bearer token says.
    Token(String),
    /// The same, from a file that is renewed.
    TokenFile(PathBuf),
    /// Whoever this certificate says, PEM.
    Certificate {
        /// The certificate and its chain.
        certificate: Vec<u8>,
        /// Its key.
        key: Vec<u8>,
    },
    /// The same, from files that are renewed.
    CertificateFiles {
        /// The certificate and its chain.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Token(_) => "Token(…)",
            Self::TokenFile(_) => "TokenFile(…)",
            Self::Certificate { .. } => "Certificate(…)",
            Self::CertificateFiles { .. } => "CertificateFiles(…)",
        })
    }
}

/// Credentials as they were read. Equal ones need no new connections.
#[derive(PartialEq, Eq, Default)]
pub(super) struct Loaded {
    pub token: Option<HeaderValue>,
    certificate: Option<(Vec<u8>, Vec<u8>)>,
}

fn read(path: &PathBuf) -> Result<Vec<u8>, HttpConfigError> {
    std::fs::read(path).map_err(|source| HttpConfigError::File { path: path.clone(), source })
}

fn bearer(token: &str) -> Result<HeaderValue, HttpConfigError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(|_| HttpConfigError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

impl Credentials {
    pub(super) fn load(&self) -> Result<Loaded, HttpConfigError> {
        let certificate = |certificate, key| Loaded { token: None, certificate: Some((certificate, key)) };
        Ok(match self {
            Self::Anonymous => Loaded::default(),
            Self::Token(token) => Loaded { token: Some(bearer(token)?), certificate: None },
            Self::TokenFile(path) => {
                let token = String::from_utf8(read(path)?).map_err(|_| HttpConfigError::Token)?;
                Loaded { token: Some(bearer(&token)?), certificate: None }
            }
            Self::Certificate { certificate: pem, key } => certificate(pem.clone(), key.clone()),
            Self::CertificateFiles { certificate: path, key } => certificate(read(path)?, read(key)?),
        })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, HttpConfigError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok().filter(|c| !c.is_empty()).ok_or(HttpConfigError::Pem("certificate"))
}

pub(super) fn tls(ca_pem: &[u8], loaded: &Loaded) -> Result<ClientConfig, HttpConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem)? {
        roots.add(certificate)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    Ok(match &loaded.certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| HttpConfigError::Pem("private key"))?;
            builder.with_client_auth_cert(certificates(certificate)?, key)?
        }
    })
}
