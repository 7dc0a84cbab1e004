//! The cluster's certificate authority, the certificates made by it, and the key of the service-account issuer.
//!
//! All keys are ECDSA P-256. Files are written with mode 0600 into one directory, complete or not at all. A certificate is
//! made anew when it is missing, near its end, from another authority, or for other names; the authority and the issuer's
//! key are never replaced while they can be read.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rcgen::{Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::token::SigningKey;

mod files;
mod issue;
mod kubeconfig;
mod request;

pub use issue::Subject;
pub use kubeconfig::{Kubeconfig, write as write_kubeconfig};
pub use request::organizations as request_organizations;

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

/// The certificate authority and what it has made, in a directory.
pub struct Pki {
    directory: PathBuf,
    ca_pem: String,
    ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    service_account_key: Arc<SigningKey>,
    now: Timestamp,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Pki {
    /// Loads the authority and the issuer's key from a directory, or makes them.
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
        let ca = files::load_or_make(directory, "ca", || issue::authority(now))?;
        let broken = |why: String| PkiError::Content { path: directory.join("ca.crt"), why };
        let key = KeyPair::from_pem(&ca.key_pem).map_err(|e| broken(e.to_string()))?;
        let issuer = Issuer::from_ca_cert_pem(&ca.certificate_pem, key).map_err(|e| broken(e.to_string()))?;
        let certificate = ca.chain()?.into_iter().next().ok_or_else(|| broken("no certificate".to_owned()))?;
        if issue::seconds_left(&certificate, now).is_none_or(|left| left <= 0) {
            return Err(broken("the certificate authority has expired or is no certificate".to_owned()));
        }
        let key_path = directory.join("sa.key");
        let key_pem = files::load_or_make_text(&key_path, issue::new_key)?;
        let bad_key = |why: String| PkiError::Content { path: key_path.clone(), why };
        let der = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| bad_key(e.to_string()))?;
        let signing = SigningKey::from_pkcs8(der.secret_der()).map_err(|_| bad_key("no P-256 key".to_owned()))?;
        Ok(Self {
            directory: directory.to_owned(),
            ca_pem: ca.certificate_pem,
            ca: certificate,
            issuer,
            service_account_key: Arc::new(signing),
            now,
        })
    }

    /// The authority's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The authority's certificate, for rustls.
    pub fn ca_der(&self) -> &CertificateDer<'static> {
        &self.ca
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
        if let Some(present) = files::load(&self.directory, name)?
            && issue::serves(&present, subject, &self.ca, self.now, RENEW_BEFORE_SECONDS)
        {
            return Ok(present);
        }
        let made = issue::leaf(subject, &self.issuer, self.now)?;
        files::store(&self.directory, name, &made)?;
        Ok(made)
    }

    /// A new certificate that is not kept here, for a node that joins or for tests.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn issue(&self, subject: &Subject) -> Result<Identity, PkiError> {
        issue::leaf(subject, &self.issuer, self.now)
    }

    /// What the API server shows to clients.
    ///
    /// # Errors
    /// If files cannot be read or written.
    pub fn apiserver_serving(&self, names: &ServingNames) -> Result<Identity, PkiError> {
        let mut subject = Subject::server("kube-apiserver");
        let own = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
        ];
        subject.dns = own.iter().map(|n| (*n).to_owned()).chain(names.dns.iter().cloned()).collect();
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
        let mut subject = Subject::client(&format!("{}{node}", crate::NODE_USER_PREFIX), &[crate::NODES_GROUP]);
        subject.server = true;
        subject.dns = vec![node.to_owned()];
        subject.addresses = addresses.to_vec();
        self.issue(&subject)
    }

    /// The authority as the only root of trust.
    ///
    /// # Errors
    /// If the TLS library does not take it.
    pub fn roots(&self) -> Result<RootCertStore, PkiError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).map_err(|e| PkiError::Tls(e.to_string()))?;
        Ok(roots)
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

    /// A TLS server that asks clients for certificates of the authority. The caller sets the protocols.
    ///
    /// # Errors
    /// If the TLS library refuses the identity.
    pub fn server_config(&self, identity: &Identity) -> Result<rustls::ServerConfig, PkiError> {
        let tls = |e: rustls::Error| PkiError::Tls(e.to_string());
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_client_cert_verifier(self.client_verifier()?)
            .with_single_cert(identity.chain()?, identity.key()?)
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::os::unix::fs::PermissionsExt;

    use jiff::SignedDuration;

    use super::*;

    fn later(now: Timestamp, days: i64) -> Timestamp {
        now.checked_add(SignedDuration::from_hours(24 * days)).unwrap()
    }

    #[test]
    fn what_was_made_is_found_again_until_it_nears_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let first = Pki::open_at(directory.path(), now).unwrap();
        let admin = first.admin().unwrap();
        let again = Pki::open_at(directory.path(), now).unwrap();
        assert_eq!(again.ca_pem(), first.ca_pem());
        assert_eq!(again.service_account_key().id(), first.service_account_key().id());
        assert_eq!(again.admin().unwrap().certificate_pem, admin.certificate_pem);
        let near = Pki::open_at(directory.path(), later(now, 320)).unwrap();
        assert_eq!(near.ca_pem(), first.ca_pem());
        assert_ne!(near.admin().unwrap().certificate_pem, admin.certificate_pem);
    }

    #[test]
    fn other_names_need_another_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path()).unwrap();
        let mut names = ServingNames::default();
        let first = pki.apiserver_serving(&names).unwrap();
        assert_eq!(pki.apiserver_serving(&names).unwrap().certificate_pem, first.certificate_pem);
        names.addresses.push(IpAddr::from([10, 96, 0, 1]));
        assert_ne!(pki.apiserver_serving(&names).unwrap().certificate_pem, first.certificate_pem);
    }

    #[test]
    fn nobody_else_reads_the_files() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(&directory.path().join("pki")).unwrap();
        pki.admin().unwrap();
        for entry in std::fs::read_dir(pki.directory()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        }
    }

    #[test]
    fn damage_is_told_and_nothing_replaced() {
        let directory = tempfile::tempdir().unwrap();
        drop(Pki::open(directory.path()).unwrap());
        std::fs::write(directory.path().join("sa.key"), "no key").unwrap();
        let error = Pki::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("sa.key") && !error.contains("no key"), "{error}");
        std::fs::remove_file(directory.path().join("ca.key")).unwrap();
        assert!(Pki::open(directory.path()).is_err(), "half an authority is not completed");
    }

    #[test]
    fn a_foreign_authority_s_certificate_is_not_kept() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let foreign = Pki::open(one.path()).unwrap().admin().unwrap();
        let pki = Pki::open(two.path()).unwrap();
        files::store(two.path(), "admin", &foreign).unwrap();
        assert_ne!(pki.admin().unwrap().certificate_pem, foreign.certificate_pem);
    }

    #[test]
    fn tls_takes_what_was_made() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path()).unwrap();
        pki.server_config(&pki.apiserver_serving(&ServingNames::default()).unwrap()).unwrap();
        pki.client_config(&pki.node_client("n1").unwrap()).unwrap();
        pki.kubelet_serving("n1", &[IpAddr::from([10, 0, 0, 1])]).unwrap();
    }
}
