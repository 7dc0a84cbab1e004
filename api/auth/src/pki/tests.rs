//! What was made is kept, judged and trusted as it should be.

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

#[test]
fn the_hash_is_of_the_public_key_alone() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(directory.path()).unwrap();
    assert_eq!(pki.ca_hash().len(), 64);
    assert!(pki.ca_hash().bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    assert_eq!(ca_hash_of(pki.ca_der()).as_deref(), Ok(pki.ca_hash()));
    assert_ne!(ca_hash_of(&pki.admin().unwrap().chain().unwrap()[0]).unwrap(), pki.ca_hash());
    assert!(ca_hash_of(b"nonsense").is_err());
}

#[test]
fn a_requested_certificate_is_for_whom_the_signer_says() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(directory.path()).unwrap();
    let request = KeyRequest::new().unwrap();
    let key = RequestedKey::read(&request.request_pem).unwrap();
    let subject = Subject::agent("n1", &[IpAddr::from([10, 0, 0, 1])]);
    let certificate_pem = pki.issue_for(&key, &subject).unwrap();
    let identity = Identity { certificate_pem, key_pem: request.key_pem };
    assert!(issue::serves(&identity, &subject, pki.ca_der(), Timestamp::now(), RENEW_BEFORE_SECONDS));
    pki.client_config(&identity).unwrap();
}

#[test]
fn an_authority_with_another_s_key_is_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop((Pki::open(one.path()).unwrap(), Pki::open(two.path()).unwrap()));
    std::fs::copy(two.path().join("ca.key"), one.path().join("ca.key")).unwrap();
    let error = Pki::open(one.path()).unwrap_err().to_string();
    assert!(error.contains("ca.key is not the key of this certificate"), "{error}");
}
