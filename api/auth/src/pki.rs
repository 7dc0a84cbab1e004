//! The cluster's certificate authorities, the certificates made by them, and the key of the service-account issuer.
//!
//! There are two authorities: one of the cluster, by which clients, API servers and agents know each other, and one of
//! its control-plane members ([`peer`]), which signs nothing else. A certificate of one is never taken for the other's.
//! All keys are ECDSA P-256. Files are written with mode 0600 into one directory, complete or not at all. A certificate is
//! made anew when it is missing, near its end, from another authority, or for other names; the authority and the issuer's
//! key are never replaced while they can be read.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::token::SigningKey;

mod authority;
mod files;
mod issue;
mod kubeconfig;
mod member;
pub mod peer;
mod request;

use authority::Authority;
pub use authority::hash_of as ca_hash_of;
pub use files::write as write_private;
pub use issue::Subject;
pub use kubeconfig::{Kubeconfig, write as write_kubeconfig};
pub use member::MemberSecrets;
pub use request::{KeyRequest, RequestedKey, organizations as request_organizations};

/// The names of every API server.
pub const SERVING_NAMES: [&str; 5] =
    ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"];

/// How long before its end a certificate is replaced.
const RENEW_BEFORE_SECONDS: i64 = 60 * 24 * 60 * 60;

/// What can go wrong with certificates and keys. Giving up is the only answer: none of it passes by itself.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds something else than it should.
    #[error("{path}: {why}")]
    Content {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Issue(String),
    /// The TLS library refuses the configuration.
    #[error("TLS configuration: {0}")]
    Tls(String),
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Identity {
    /// The certificate chain.
    pub certificate_pem: String,
    /// The private key. Never to be logged.
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// The chain for rustls.
    ///
    /// # Errors
    /// If the text is no certificate.
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| PkiError::Tls(e.to_string()))
    }

    /// The key for rustls.
    ///
    /// # Errors
    /// If the text is no key.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, PkiError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|e| PkiError::Tls(e.to_string()))
    }
}

/// What an API server's certificate is for.
#[derive(Clone, Debug, Default)]
pub struct ServingNames {
    /// Host names, beside those that every API server has.
    pub dns: Vec<String>,
    /// Addresses of the machine, and the first one of the service range.
    pub addresses: Vec<IpAddr>,
}

/// The certificate authorities and what they have made, in a directory.
pub struct Pki {
    directory: PathBuf,
    ca: Authority,
    peer_ca: Authority,
    service_account_key: Arc<SigningKey>,
    now: Timestamp,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Pki {
    /// Loads the authorities and the issuer's key from a directory, or makes them.
    ///
    /// # Errors
    /// If files cannot be read or written, or hold something else.
    pub fn open(directory: &Path) -> Result<Self, PkiError> {
        Self::open_at(directory, Timestamp::now())
    }

    /// [`Pki::open`] at a time of choice.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn open_at(directory: &Path, now: Timestamp) -> Result<Self, PkiError> {
        files::make_directory(directory)?;
        let ca = Authority::open(directory, "ca", "kubernetes", now)?;
        let peer_ca = Authority::open(directory, "peer-ca", "navarch-members", now)?;
        let key_path = directory.join("sa.key");
        let key_pem = files::load_or_make_text(&key_path, issue::new_key)?;
        let bad_key = |why: String| PkiError::Content { path: key_path.clone(), why };
        let der = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| bad_key(e.to_string()))?;
        let signing = SigningKey::from_pkcs8(der.secret_der()).map_err(|_| bad_key("no P-256 key".to_owned()))?;
        Ok(Self { directory: directory.to_owned(), ca, peer_ca, service_account_key: Arc::new(signing), now })
    }

    /// The authority's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.ca.pem
    }

    /// What tokens pin: see [`ca_hash_of`].
    pub fn ca_hash(&self) -> &str {
        &self.ca.hash
    }

    /// The authority's certificate, for rustls.
    pub fn ca_der(&self) -> &CertificateDer<'static> {
        &self.ca.der
    }

    /// Where the files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The service-account issuer's key.
    pub fn service_account_key(&self) -> &Arc<SigningKey> {
        &self.service_account_key
    }

    /// The certificate in `{name}.crt`, if it still serves; otherwise a new one.
    ///
    /// # Errors
    /// If files cannot be read or written.
    pub fn identity(&self, name: &str, subject: &Subject) -> Result<Identity, PkiError> {
        self.identity_of(&self.ca, name, subject)
    }

    fn identity_of(&self, authority: &Authority, name: &str, subject: &Subject) -> Result<Identity, PkiError> {
        if let Some(present) = files::load(&self.directory, name)?
            && issue::serves(&present, subject, &authority.der, self.now, RENEW_BEFORE_SECONDS)
        {
            return Ok(present);
        }
        let made = issue::leaf(subject, &authority.issuer, self.now)?;
        files::store(&self.directory, name, &made)?;
        Ok(made)
    }

    /// A new certificate that is not kept here, for a node that joins or for tests.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn issue(&self, subject: &Subject) -> Result<Identity, PkiError> {
        issue::leaf(subject, &self.ca.issuer, self.now)
    }

    /// A new certificate for a key that never was here, PEM. What it is for comes from the caller, not from the request.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn issue_for(&self, key: &RequestedKey, subject: &Subject) -> Result<String, PkiError> {
        issue::certificate(subject, key.public(), &self.ca.issuer, self.now)
    }

    /// What the API server shows to clients.
    ///
    /// # Errors
    /// If files cannot be read or written.
    pub fn apiserver_serving(&self, names: &ServingNames) -> Result<Identity, PkiError> {
        let mut subject = Subject::server("kube-apiserver");
        subject.dns = SERVING_NAMES.iter().map(|n| (*n).to_owned()).chain(names.dns.iter().cloned()).collect();
        subject.addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        subject.addresses.extend(&names.addresses);
        self.identity("apiserver", &subject)
    }

    /// What the API server shows to kubelets. Its user is bound to `system:kubelet-api-admin`.
    ///
    /// # Errors
    /// If files cannot be read or written.
    pub fn apiserver_kubelet_client(&self) -> Result<Identity, PkiError> {
        self.identity("apiserver-kubelet-client", &Subject::client(KUBELET_CLIENT_USER, &[]))
    }

    /// The administrator's certificate.
    ///
    /// # Errors
    /// If files cannot be read or written.
    pub fn admin(&self) -> Result<Identity, PkiError> {
        self.identity("admin", &Subject::client("kubernetes-admin", &[crate::PRIVILEGED_GROUP]))
    }

    /// What a node's agent shows to the API server.
    ///
    /// # Errors
    /// If files cannot be read or written.
    pub fn node_client(&self, node: &str) -> Result<Identity, PkiError> {
        let user = format!("{}{node}", crate::NODE_USER_PREFIX);
        self.identity(&format!("kubelet-client-{node}"), &Subject::client(&user, &[crate::NODES_GROUP]))
    }

    /// What a node's agent shows to those who call it.
    ///
    /// # Errors
    /// If files cannot be read or written.
    pub fn kubelet_serving(&self, node: &str, addresses: &[IpAddr]) -> Result<Identity, PkiError> {
        let mut subject = Subject::server(&format!("{}{node}", crate::NODE_USER_PREFIX));
        subject.groups = vec![crate::NODES_GROUP.to_owned()];
        subject.dns = vec![node.to_owned()];
        subject.addresses = addresses.to_vec();
        self.identity(&format!("kubelet-serving-{node}"), &subject)
    }

    /// What an agent on another machine shows to the API server and to those who call it: one certificate for both. It is
    /// not kept here.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn agent(&self, node: &str, addresses: &[IpAddr]) -> Result<Identity, PkiError> {
        self.issue(&Subject::agent(node, addresses))
    }

    /// The authority as the only root of trust.
    ///
    /// # Errors
    /// If the TLS library does not take it.
    pub fn roots(&self) -> Result<RootCertStore, PkiError> {
        self.ca.roots()
    }

    /// Verifies clients' certificates against the authority; clients without one pass, to show a token.
    ///
    /// # Errors
    /// If the TLS library does not take the authority.
    pub fn client_verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|e| PkiError::Tls(e.to_string()))
    }

    /// A TLS server that asks clients for certificates of the authority. The caller sets the protocols. It shows the
    /// authority's certificate too: a machine that joins knows only its hash.
    ///
    /// # Errors
    /// If the TLS library refuses the identity.
    pub fn server_config(&self, identity: &Identity) -> Result<rustls::ServerConfig, PkiError> {
        let tls = |e: rustls::Error| PkiError::Tls(e.to_string());
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_client_cert_verifier(self.client_verifier()?)
            .with_single_cert(self.ca.chain_of(identity)?, identity.key()?)
            .map_err(tls)
    }

    /// A TLS client that trusts the authority alone and shows an identity.
    ///
    /// # Errors
    /// If the TLS library refuses the identity.
    pub fn client_config(&self, identity: &Identity) -> Result<rustls::ClientConfig, PkiError> {
        let tls = |e: rustls::Error| PkiError::Tls(e.to_string());
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(identity.chain()?, identity.key()?)
            .map_err(tls)
    }
}

/// The user that the API server is to kubelets.
pub const KUBELET_CLIENT_USER: &str = "kube-apiserver-kubelet-client";

#[cfg(test)]
mod tests;
