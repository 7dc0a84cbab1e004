//! One certificate authority: its certificate, its key, and what is derived from them.

use std::fmt::Write as _;
use std::path::Path;

use jiff::Timestamp;
use rcgen::{Issuer, KeyPair};
use ring::digest;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Identity, PkiError, files, issue};

/// An authority that is loaded and whole.
pub(super) struct Authority {
    pub(super) pem: String,
    pub(super) der: CertificateDer<'static>,
    pub(super) hash: String,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Loads `{name}.crt` and `{name}.key`, or makes them. What is there is never replaced.
    pub(super) fn open(directory: &Path, name: &str, common_name: &str, now: Timestamp) -> Result<Self, PkiError> {
        let identity = files::load_or_make(directory, name, || issue::authority(common_name, now))?;
        let broken = |why: String| PkiError::Content { path: directory.join(format!("{name}.crt")), why };
        let key = KeyPair::from_pem(&identity.key_pem).map_err(|e| broken(e.to_string()))?;
        let certificate = first(&identity.certificate_pem).map_err(broken)?;
        if issue::seconds_left(&certificate, now).is_none_or(|left| left <= 0) {
            return Err(broken("the certificate authority has expired or is no certificate".to_owned()));
        }
        if public_point(&certificate).as_deref() != Some(key.public_key_raw()) {
            return Err(broken(format!("{name}.key is not the key of this certificate")));
        }
        let hash = hash_of(&certificate).map_err(broken)?;
        let issuer = Issuer::from_ca_cert_pem(&identity.certificate_pem, key).map_err(|e| broken(e.to_string()))?;
        Ok(Self { pem: identity.certificate_pem, der: certificate, hash, issuer })
    }

    /// This authority as the only root of trust.
    pub(super) fn roots(&self) -> Result<RootCertStore, PkiError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).map_err(|e| PkiError::Tls(e.to_string()))?;
        Ok(roots)
    }

    /// An identity's chain up to and with the authority.
    pub(super) fn chain_of(&self, identity: &Identity) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        let mut chain = identity.chain()?;
        chain.push(self.der.clone());
        Ok(chain)
    }
}

fn first(pem: &str) -> Result<CertificateDer<'static>, String> {
    let mut all = CertificateDer::pem_slice_iter(pem.as_bytes());
    all.next().ok_or_else(|| "no certificate".to_owned())?.map_err(|e| e.to_string())
}

fn public_point(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.public_key().subject_public_key.data.to_vec())
}

/// What pins an authority: SHA-256 of its certificate's public key with algorithm (SubjectPublicKeyInfo), in hexadecimal
/// digits. The same as kubeadm's `discovery-token-ca-cert-hash` behind `sha256:`.
///
/// # Errors
/// If it is no certificate.
pub fn hash_of(der: &[u8]) -> Result<String, String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
    let mut text = String::with_capacity(64);
    for byte in digest::digest(&digest::SHA256, certificate.public_key().raw).as_ref() {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}
