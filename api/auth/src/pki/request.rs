//! Certificate requests: reading those of others, making one's own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKey,
    PublicKeyData as _,
};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use super::PkiError;
use super::issue::failed;

/// An uncompressed point of P-256: a byte that says so, then both coordinates.
const P256_POINT_BYTES: usize = 65;

/// A new key, and a request that proves that one has it. The key stays where it was made.
pub struct KeyRequest {
    /// The request, PEM.
    pub request_pem: String,
    /// The key, PEM. Never to be sent.
    pub key_pem: String,
}

impl std::fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRequest").finish_non_exhaustive()
    }
}

impl KeyRequest {
    /// Makes both. The request says nothing of whom it is for: that is for the signer to decide.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn new() -> Result<Self, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(failed)?;
        Ok(Self { request_pem: request.pem().map_err(failed)?, key_pem: key.serialize_pem() })
    }
}

/// The key of a request whose sender has it. Nothing else is taken from a request.
#[derive(Debug)]
pub struct RequestedKey(PublicKey);

impl RequestedKey {
    /// Reads a request, PEM, and verifies its signature.
    ///
    /// # Errors
    /// If it is no request, or not with a key as all keys here are.
    pub fn read(pem: &str) -> Result<Self, String> {
        let request = CertificateSigningRequestParams::from_pem(pem).map_err(|e| e.to_string())?;
        let key = request.public_key;
        if *key.algorithm() != PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != P256_POINT_BYTES {
            return Err("the key must be ECDSA P-256".to_owned());
        }
        Ok(Self(key))
    }

    pub(super) fn public(&self) -> &PublicKey {
        &self.0
    }
}

/// The organizations (groups) that a certificate request asks for. `request` is PEM in base64, as `spec.request` of a
/// CertificateSigningRequest has it.
///
/// # Errors
/// If it is no certificate request.
pub fn organizations(request: &str) -> Result<Vec<String>, String> {
    let pem = STANDARD.decode(request).map_err(|e| e.to_string())?;
    let (_, block) = parse_x509_pem(&pem).map_err(|e| e.to_string())?;
    if block.label != "CERTIFICATE REQUEST" && block.label != "NEW CERTIFICATE REQUEST" {
        return Err("PEM block type must be CERTIFICATE REQUEST".to_owned());
    }
    let (_, parsed) = X509CertificationRequest::from_der(&block.contents).map_err(|e| e.to_string())?;
    let subject = &parsed.certification_request_info.subject;
    Ok(subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use rcgen::DnType;

    use super::*;

    #[test]
    fn a_request_gives_its_key_and_nothing_else() {
        let made = KeyRequest::new().unwrap();
        assert!(!made.request_pem.contains("PRIVATE") && !format!("{made:?}").contains("PRIVATE"));
        let key = RequestedKey::read(&made.request_pem).unwrap();
        assert_eq!(key.0.der_bytes(), rcgen::PublicKeyData::der_bytes(&KeyPair::from_pem(&made.key_pem).unwrap()));
        let mut broken = made.request_pem.clone();
        let middle = broken.len() / 2;
        broken.replace_range(middle..middle + 4, "AAAA");
        for bad in ["", "hello", &broken, &made.key_pem] {
            assert!(RequestedKey::read(bad).is_err(), "{bad}");
        }
        let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let request = CertificateParams::new(Vec::new()).unwrap().serialize_request(&other).unwrap().pem().unwrap();
        assert_eq!(RequestedKey::read(&request).unwrap_err(), "the key must be ECDSA P-256");
    }

    #[test]
    fn groups_are_read_from_a_request() {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "system:masters");
        let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        assert_eq!(organizations(&STANDARD.encode(request)).unwrap(), ["system:masters"]);
        for bad in ["", "!", "aGVsbG8="] {
            assert!(organizations(bad).is_err(), "{bad}");
        }
    }
}
