//! Certificates in files, as etcd wants them, and the TLS configurations that both ends make of them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use navarch_auth::Pki;
use navarch_auth::pki::{Identity, Subject};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::Fallible;

/// gRPC is HTTP/2 alone.
const PROTOCOL: &[u8] = b"h2";

/// Where certificates are made.
#[derive(clap::Args)]
pub struct CertsOptions {
    /// The folder for them.
    #[arg(long)]
    pub certs: PathBuf,
    /// For so many members.
    #[arg(long, default_value_t = 3)]
    pub members: u64,
}

/// The folder of what a member needs for its peers.
pub fn member_pki(certs: &Path, member: u64) -> PathBuf {
    certs.join(format!("member-{member}"))
}

/// Makes whatever is missing: the authority, one certificate for all servers (etcd's show theirs to each other as clients
/// too), one for the client, and the folders of navarch's members.
pub fn make(certs: &Path, members: u64) -> Fallible<()> {
    let pki = Pki::open(&certs.join("pki"))?;
    let write = |name: &str, identity: &Identity| {
        std::fs::write(certs.join(format!("{name}.crt")), &identity.certificate_pem)?;
        std::fs::write(certs.join(format!("{name}.key")), &identity.key_pem)
    };
    std::fs::write(certs.join("ca.crt"), pki.ca_pem())?;
    let server = Subject {
        client: true,
        dns: vec!["localhost".to_owned()],
        addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        ..Subject::server("storebench-server")
    };
    write("server", &pki.issue(&server)?)?;
    write("client", &pki.issue(&Subject::client("storebench-client", &[]))?)?;
    let secrets = pki.member_secrets()?;
    for member in 1..=members {
        Pki::import(&member_pki(certs, member), &secrets)?;
    }
    Ok(())
}

struct Files {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn read(certs: &Path, name: &str) -> Fallible<Files> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certs.join("ca.crt"))?)?;
    let chain = CertificateDer::pem_file_iter(certs.join(format!("{name}.crt")))?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(certs.join(format!("{name}.key")))?;
    Ok(Files { roots: Arc::new(roots), chain, key })
}

/// A server that lets nobody in without a certificate.
pub fn server_config(certs: &Path) -> Fallible<Arc<ServerConfig>> {
    let Files { roots, chain, key } = read(certs, "server")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build()?;
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

/// A client that shows its certificate.
pub fn client_config(certs: &Path) -> Fallible<Arc<ClientConfig>> {
    let Files { roots, chain, key } = read(certs, "client")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}
