//! How the members of a control plane know each other: certificates of an authority that signs nothing else.
//!
//! A member's certificate names the member and the cluster, so that one of another cluster, or of a member whom the
//! caller did not mean, is refused in the handshake. No certificate of the cluster's other authority passes here.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Identity, Pki, PkiError, Subject};

/// The name that a member shows, and by which its peers ask for it.
pub fn name(member: u64, cluster_id: &str) -> String {
    format!("member-{member}.{cluster_id}.navarch.internal")
}

/// The member of this cluster that a certificate, which TLS has verified, is of.
pub fn member_of(der: &[u8], cluster_id: &str) -> Option<u64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let alternatives = certificate.subject_alternative_name().ok()??;
    alternatives.value.general_names.iter().find_map(|alternative| {
        let GeneralName::DNSName(text) = alternative else { return None };
        let member = text.strip_prefix("member-")?.split_once('.')?.0.parse().ok()?;
        (*text == name(member, cluster_id)).then_some(member)
    })
}

impl Pki {
    /// What this member shows to the others, as a server and as a client.
    ///
    /// # Errors
    /// If files cannot be read or written.
    pub fn peer(&self, member: u64, cluster_id: &str, addresses: &[IpAddr]) -> Result<Identity, PkiError> {
        // The name as a whole is too long for a common name.
        let mut subject = Subject::client(&format!("member-{member}"), &[]);
        subject.server = true;
        subject.dns = vec![name(member, cluster_id)];
        subject.addresses = addresses.to_vec();
        self.identity_of(&self.peer_ca, "peer", &subject)
    }

    /// A TLS server for members alone: who shows no certificate of a member does not get in. [`member_of`] tells which
    /// one it is.
    ///
    /// # Errors
    /// If the TLS library refuses the identity.
    pub fn peer_server_config(&self, identity: &Identity) -> Result<rustls::ServerConfig, PkiError> {
        let tls = |e: rustls::Error| PkiError::Tls(e.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(self.peer_ca.roots()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|e| PkiError::Tls(e.to_string()))?;
        rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(identity.chain()?, identity.key()?)
            .map_err(tls)
    }

    /// A TLS client that calls members. The server's name is that of [`name`], whatever its address.
    ///
    /// # Errors
    /// If the TLS library refuses the identity.
    pub fn peer_client_config(&self, identity: &Identity) -> Result<rustls::ClientConfig, PkiError> {
        let tls = |e: rustls::Error| PkiError::Tls(e.to_string());
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_root_certificates(self.peer_ca.roots()?)
            .with_client_auth_cert(identity.chain()?, identity.key()?)
            .map_err(tls)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::io::{Read, Write};

    use super::*;

    const CLUSTER: &str = "7d444840-9dc0-11d1-b245-5ffdce74fad2";

    /// A handshake in memory; `Ok` is the certificate that the server saw.
    fn handshake(
        server: rustls::ServerConfig,
        client: rustls::ClientConfig,
        name: &str,
    ) -> Result<Vec<u8>, rustls::Error> {
        let name = rustls_pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = rustls::ServerConnection::new(Arc::new(server)).unwrap();
        client.writer().write_all(b"x").unwrap();
        for _ in 0..8 {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        let mut read = [0; 1];
        server.reader().read_exact(&mut read).unwrap();
        Ok(server.peer_certificates().unwrap()[0].to_vec())
    }

    #[test]
    fn members_know_each_other_and_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path()).unwrap();
        let one = pki.peer(1, CLUSTER, &[IpAddr::from([10, 0, 0, 1])]).unwrap();
        assert_eq!(pki.peer(1, CLUSTER, &[IpAddr::from([10, 0, 0, 1])]).unwrap().certificate_pem, one.certificate_pem);
        let server = || pki.peer_server_config(&one).unwrap();
        let client = |identity: &Identity| pki.peer_client_config(identity).unwrap();
        let seen = handshake(server(), client(&one), &name(1, CLUSTER)).unwrap();
        assert_eq!(member_of(&seen, CLUSTER), Some(1));
        assert_eq!(member_of(&seen, "another"), None);
        // A member that was not meant, a member of nothing, and one of another cluster.
        assert!(handshake(server(), client(&one), &name(2, CLUSTER)).is_err());
        assert!(handshake(server(), client(&one), &name(1, "another")).is_err());
        let elsewhere = tempfile::tempdir().unwrap();
        let other = Pki::open(elsewhere.path()).unwrap();
        let foreign = other.peer_client_config(&other.peer(1, CLUSTER, &[]).unwrap()).unwrap();
        assert!(handshake(server(), foreign, &name(1, CLUSTER)).is_err());
    }

    #[test]
    fn the_cluster_s_own_certificates_do_not_pass_as_members() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path()).unwrap();
        let one = pki.peer(1, CLUSTER, &[]).unwrap();
        let mut subject = Subject::client("member-1", &[crate::PRIVILEGED_GROUP]);
        subject.server = true;
        subject.dns = vec![name(1, CLUSTER)];
        let pretender = pki.issue(&subject).unwrap();
        let server = pki.peer_server_config(&one).unwrap();
        assert!(handshake(server, pki.peer_client_config(&pretender).unwrap(), &name(1, CLUSTER)).is_err());
        let server = pki.peer_server_config(&pretender).unwrap();
        assert!(handshake(server, pki.peer_client_config(&one).unwrap(), &name(1, CLUSTER)).is_err());
        // Nobody at all.
        let server = pki.peer_server_config(&one).unwrap();
        let nameless = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(pki.peer_ca.roots().unwrap())
            .with_no_client_auth();
        assert!(handshake(server, nameless, &name(1, CLUSTER)).is_err());
        // Nor does a member pass as a client of the API.
        let server = pki.server_config(&pretender).unwrap();
        let member = pki.client_config(&one).unwrap();
        assert!(handshake(server, member, &name(1, CLUSTER)).is_err());
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path()).unwrap();
        let largest = pki.peer(u64::MAX, CLUSTER, &[]).unwrap();
        assert_eq!(member_of(&largest.chain().unwrap()[0], CLUSTER), Some(u64::MAX));
        for wrong in [format!("member-01.{CLUSTER}.navarch.internal"), format!("member-1.{CLUSTER}"), String::new()] {
            let mut subject = Subject::server("x");
            subject.dns = vec![wrong.clone()].into_iter().filter(|n| !n.is_empty()).collect();
            let certificate = pki.issue(&subject).unwrap();
            assert_eq!(member_of(&certificate.chain().unwrap()[0], CLUSTER), None, "{wrong}");
        }
        assert_eq!(member_of(b"nonsense", CLUSTER), None);
    }
}
