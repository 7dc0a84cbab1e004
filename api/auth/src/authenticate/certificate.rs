//! A user from a client's certificate: the common name is the user, the organizations are the groups.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use navarch_types::UserInfo;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate whose signature was found good.
pub(super) struct Verified {
    pub(super) user: UserInfo,
    not_before: i64,
    not_after: i64,
}

impl Verified {
    /// Whether it is valid now: remembered certificates still end.
    pub(super) fn valid_at(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now.as_second())
    }
}

/// Verifies a certificate and reads the user from it.
pub(super) fn verify(verifier: &dyn ClientCertVerifier, der: &[u8], now: Timestamp) -> Result<Verified, String> {
    let seconds = u64::try_from(now.as_second()).map_err(|_| "the clock is before 1970".to_owned())?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    verifier.verify_client_cert(&CertificateDer::from(der), &[], time).map_err(|e| e.to_string())?;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
    let subject = certificate.subject();
    // With several common names the last counts, as in Go's reading.
    let name = subject.iter_common_name().last().and_then(|n| n.as_str().ok()).unwrap_or_default();
    if name.is_empty() {
        return Err("the certificate has no common name".to_owned());
    }
    let mut groups: Vec<String> =
        subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    groups.push(crate::ALL_AUTHENTICATED.to_owned());
    let mut user = UserInfo { name: name.to_owned(), groups, ..UserInfo::default() };
    let mut id = "X509SHA256=".to_owned();
    for byte in super::digest_of(der) {
        // Writing to a String does not fail.
        let _ = write!(id, "{byte:02x}");
    }
    user.extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![id]);
    let validity = certificate.validity();
    Ok(Verified { user, not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() })
}
