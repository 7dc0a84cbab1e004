//! Asking whether a member lives.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::fixture::{CLUSTER, Ca};
use crate::peer::{Found, PeerConfig, probe};

#[tokio::test]
async fn a_member_is_told_from_somebody_and_from_nobody() {
    let ca = Ca::new();
    let one = ca.member(1);
    let config = ca.config(2);
    assert_eq!(probe(&config, 1, &one.address(), None).await, Found::Member);
    // It was asked and not disturbed: again.
    assert_eq!(probe(&config, 1, &one.address(), None).await, Found::Member);
    // Another group, as after a recovery; another member; and what is no member at all but holds on to connections.
    let tls = Arc::new(ArcSwap::from_pointee(ca.tls(2, "other")));
    let mut other = PeerConfig::new(2, "other", config.listen, tls);
    other.connect_timeout = Duration::from_secs(60);
    assert!(matches!(probe(&other, 1, &one.address(), None).await, Found::Somebody(_)));
    assert!(matches!(probe(&config, 3, &one.address(), None).await, Found::Somebody(_)));
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let tls = Arc::new(ArcSwap::from_pointee(ca.tls(2, CLUSTER)));
    let hasty =
        PeerConfig { connect_timeout: Duration::from_millis(200), ..PeerConfig::new(2, CLUSTER, config.listen, tls) };
    assert!(matches!(probe(&hasty, 1, &address, None).await, Found::Somebody(_)));
    drop(silent);
    assert!(matches!(probe(&config, 1, &address, None).await, Found::Nobody(_)));
}

/// A paused process takes no connections, and its kernel only so many for it.
async fn full() -> (tokio::net::TcpListener, Vec<tokio::net::TcpStream>) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(address)).await
    {
        held.push(stream);
    }
    (listener, held)
}

#[tokio::test]
async fn a_member_whose_port_is_full_may_live_if_another_of_its_ports_does() {
    let ca = Ca::new();
    let config = PeerConfig { connect_timeout: Duration::from_millis(200), ..ca.config(2) };
    let (paused, _held) = full().await;
    let address = paused.local_addr().unwrap().to_string();
    assert!(matches!(probe(&config, 1, &address, None).await, Found::Nobody(_)));
    let api = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = api.local_addr().unwrap().port();
    assert!(matches!(probe(&config, 1, &address, Some(("127.0.0.1", port))).await, Found::Somebody(_)));
    // So may one that takes its peers' connections elsewhere now.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    assert!(matches!(probe(&config, 1, &closed, None).await, Found::Nobody(_)));
    assert!(matches!(probe(&config, 1, &closed, Some(("127.0.0.1", port))).await, Found::Somebody(_)));
    drop(api);
    assert!(matches!(probe(&config, 1, &address, Some(("127.0.0.1", port))).await, Found::Nobody(_)));
}
