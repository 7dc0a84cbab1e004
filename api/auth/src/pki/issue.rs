//! Makes certificates, and judges whether one that is there still serves.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Identity, PkiError};

const YEAR_SECONDS: i64 = 365 * 24 * 60 * 60;
/// Clocks of a cluster's machines differ; a new certificate is valid on all of them.
const BACKDATE_SECONDS: i64 = 300;

/// Whom a certificate is for, and for what.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The common name: the user.
    pub user: String,
    /// The organizations: the groups.
    pub groups: Vec<String>,
    /// Host names.
    pub dns: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether a server shows it.
    pub server: bool,
    /// Whether a client shows it.
    pub client: bool,
}

impl Subject {
    /// A client.
    pub fn client(user: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|g| (*g).to_owned()).collect();
        Self { user: user.to_owned(), groups, client: true, ..Self::default() }
    }

    /// A server; set its names and addresses.
    pub fn server(user: &str) -> Self {
        Self { user: user.to_owned(), server: true, ..Self::default() }
    }

    /// A node's agent: one certificate for what it shows to the API server and to those who call it.
    pub fn agent(node: &str, addresses: &[IpAddr]) -> Self {
        let mut subject = Self::client(&format!("{}{node}", crate::NODE_USER_PREFIX), &[crate::NODES_GROUP]);
        subject.server = true;
        subject.dns = vec![node.to_owned()];
        subject.addresses = addresses.to_vec();
        subject
    }
}

pub(super) fn failed(error: rcgen::Error) -> PkiError {
    PkiError::Issue(error.to_string())
}

pub(super) fn new_key() -> Result<String, PkiError> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?.serialize_pem())
}

fn at(seconds: i64) -> Result<OffsetDateTime, PkiError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|e| PkiError::Issue(e.to_string()))
}

/// A new authority, for ten years.
pub(super) fn authority(name: &str, now: Timestamp) -> Result<Identity, PkiError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = at(now.as_second() - BACKDATE_SECONDS)?;
    params.not_after = at(now.as_second() + 10 * YEAR_SECONDS)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

/// A new certificate, for one year.
pub(super) fn leaf(subject: &Subject, issuer: &Issuer<'static, KeyPair>, now: Timestamp) -> Result<Identity, PkiError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let certificate_pem = certificate(subject, &key, issuer, now)?;
    Ok(Identity { certificate_pem, key_pem: key.serialize_pem() })
}

/// A new certificate of somebody's key, for one year, PEM.
pub(super) fn certificate(
    subject: &Subject,
    key: &impl PublicKeyData,
    issuer: &Issuer<'static, KeyPair>,
    now: Timestamp,
) -> Result<String, PkiError> {
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    for group in &subject.groups {
        params.distinguished_name.push(DnType::OrganizationName, group.as_str());
    }
    params.distinguished_name.push(DnType::CommonName, subject.user.as_str());
    for name in &subject.dns {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(failed)?));
    }
    params.subject_alt_names.extend(subject.addresses.iter().map(|a| SanType::IpAddress(*a)));
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let usages =
        [(subject.server, ExtendedKeyUsagePurpose::ServerAuth), (subject.client, ExtendedKeyUsagePurpose::ClientAuth)];
    params.extended_key_usages = usages.into_iter().filter_map(|(wanted, usage)| wanted.then_some(usage)).collect();
    params.not_before = at(now.as_second() - BACKDATE_SECONDS)?;
    params.not_after = at(now.as_second() + YEAR_SECONDS)?;
    Ok(params.signed_by(key, issuer).map_err(failed)?.pem())
}

/// Seconds until a certificate ends; `None` if it is no certificate.
pub(super) fn seconds_left(der: &CertificateDer<'_>, now: Timestamp) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.validity().not_after.timestamp() - now.as_second())
}

/// Whether an identity is still what [`leaf`] would make: this authority's, for this subject, with its key, for long.
pub(super) fn serves(
    identity: &Identity,
    subject: &Subject,
    ca: &CertificateDer<'_>,
    now: Timestamp,
    margin_seconds: i64,
) -> bool {
    let Ok(chain) = identity.chain() else { return false };
    let Some(der) = chain.first() else { return false };
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    let Ok((_, authority)) = X509Certificate::from_der(ca) else { return false };
    let Ok(key) = KeyPair::from_pem(&identity.key_pem) else { return false };
    let own_key = certificate.public_key().subject_public_key.data == key.public_key_raw();
    let issued = certificate.verify_signature(Some(authority.public_key())).is_ok();
    let long = seconds_left(der, now).is_some_and(|left| left > margin_seconds);
    own_key && issued && long && same_subject(&certificate, subject)
}

fn same_subject(certificate: &X509Certificate<'_>, subject: &Subject) -> bool {
    let names = certificate.subject();
    let user = names.iter_common_name().next().and_then(|n| n.as_str().ok());
    let groups: BTreeSet<_> = names.iter_organization().filter_map(|o| o.as_str().ok()).collect();
    let mut dns = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            match name {
                GeneralName::DNSName(name) => drop(dns.insert(*name)),
                GeneralName::IPAddress(bytes) => drop(addresses.insert(bytes.to_vec())),
                _ => return false,
            }
        }
    }
    let wanted_addresses: BTreeSet<_> = subject
        .addresses
        .iter()
        .map(|a| match a {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        })
        .collect();
    user == Some(subject.user.as_str())
        && groups == subject.groups.iter().map(String::as_str).collect()
        && dns == subject.dns.iter().map(String::as_str).collect()
        && addresses == wanted_addresses
}
