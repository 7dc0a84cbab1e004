//! A token is shown to the server of its own cluster and to nobody else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{IpAddr, SocketAddr};

use navarch_auth::pki::{ServingNames, Subject};
use navarch_auth::{BootstrapToken, Pki};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::*;

struct World {
    pki: Pki,
    token: JoinToken,
    _folder: tempfile::TempDir,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::open(folder.path()).unwrap();
    let token = JoinToken::new(pki.ca_hash(), BootstrapToken::generate().unwrap()).unwrap();
    World { pki, token, _folder: folder }
}

/// A TLS server for one connection; what it was sent behind the handshake is what it returns.
async fn listen(config: rustls::ServerConfig, answer: &'static str) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let recorded = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        let Ok(mut stream) = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return got };
        let mut bytes = [0; 4096];
        // A client that broke the handshake off ends the stream.
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            got.extend_from_slice(&bytes[..count]);
            let text = String::from_utf8_lossy(&got).into_owned();
            if text.contains("\r\n\r\n") && text.ends_with('}') {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
        got
    });
    (address, recorded)
}

fn serving(pki: &Pki) -> rustls::ServerConfig {
    pki.server_config(&pki.apiserver_serving(&ServingNames::default()).unwrap()).unwrap()
}

async fn call(token: &JoinToken, address: SocketAddr) -> Result<Value, JoinError> {
    post(&format!("https://{address}").parse().unwrap(), token, "/x", &json!({"a": 1})).await
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 11\r\nconnection: close\r\n\r\n{\"ok\":true}";

#[tokio::test]
async fn the_right_server_gets_the_request() {
    let world = world();
    let (address, recorded) = listen(serving(&world.pki), OK).await;
    assert_eq!(call(&world.token, address).await.unwrap(), json!({"ok": true}));
    let got = String::from_utf8(recorded.await.unwrap()).unwrap();
    assert!(got.starts_with("POST /x HTTP/1.1\r\n") && got.ends_with("{\"a\":1}"), "{got}");
    assert!(got.contains(&format!("authorization: Bearer {}", world.token.token().bearer())), "{got}");
    assert!(!got.contains(world.token.ca_hash()), "{got}");
}

#[tokio::test]
async fn no_other_server_gets_anything() {
    let (own, other) = (world(), world());
    // A whole cluster of somebody else.
    let (address, recorded) = listen(serving(&other.pki), OK).await;
    let error = call(&own.token, address).await.unwrap_err().to_string();
    assert!(error.contains("nothing was sent") && error.contains("not the one that the token names"), "{error}");
    assert_eq!(recorded.await.unwrap(), b"");
    // Somebody who shows the right authority behind a certificate that it did not sign.
    let fake = other.pki.apiserver_serving(&ServingNames::default()).unwrap();
    let mut chain = fake.chain().unwrap();
    chain.push(own.pki.ca_der().clone());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, fake.key().unwrap())
        .unwrap();
    let (address, recorded) = listen(config, OK).await;
    assert!(matches!(call(&own.token, address).await, Err(JoinError::Untrusted { .. })));
    assert_eq!(recorded.await.unwrap(), b"");
    // Somebody of the cluster who is no server at this address: a client, and another machine.
    let mut elsewhere = Subject::server("kube-apiserver");
    elsewhere.addresses = vec![IpAddr::from([10, 0, 0, 1])];
    for subject in [Subject::client("system:node:n1", &[]), elsewhere] {
        let config = own.pki.server_config(&own.pki.issue(&subject).unwrap()).unwrap();
        let (address, recorded) = listen(config, OK).await;
        assert!(matches!(call(&own.token, address).await, Err(JoinError::Untrusted { .. })), "{subject:?}");
        assert_eq!(recorded.await.unwrap(), b"");
    }
}

#[test]
fn answers_are_told_apart() {
    assert!(matches!(read(401, b"x"), Err(JoinError::Token)));
    assert!(matches!(read(502, b"<html>"), Err(JoinError::Answer(_))));
    let status = navarch_types::ApiError::bad_request("no");
    let error = read(400, serde_json::to_string(status.status()).unwrap().as_bytes()).unwrap_err().to_string();
    assert_eq!(error, "the cluster refused (400): no");
}

#[test]
fn urls_are_of_servers() {
    for (text, host, port) in [
        ("https://first:6443", "first", 6443),
        ("https://10.0.0.1:6443/", "10.0.0.1", 6443),
        ("https://[fd00::1]:6443", "fd00::1", 6443),
        ("https://first", "first", 443),
    ] {
        let url: ServerUrl = text.parse().unwrap();
        assert_eq!((url.host.as_str(), url.port), (host, port), "{text}");
    }
    for bad in ["", "first:6443", "http://first:6443", "https://first:6443/api", "https://a@first", "https://first?x"] {
        assert!(bad.parse::<ServerUrl>().is_err(), "{bad}");
    }
}
