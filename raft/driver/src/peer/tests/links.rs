//! Messages, and links that come, go and come back.

use std::{collections::BTreeMap, time::Duration};

use raft::eraftpb::Message;
use tokio::net::TcpListener;

use super::fixture::{CLUSTER, Ca, End, Event, Member, message, until};
use crate::{
    peer::{Peers, frame::Body},
    transport::Transport,
};

#[tokio::test]
async fn messages_arrive_in_order() {
    let ca = Ca::new();
    let (one, mut two) = (ca.member(1), ca.member(2));
    one.connect_to(&two).await;
    for index in (0..1000).step_by(10) {
        one.peers.send((index..index + 10).map(|index| message(1, 2, index)).collect());
    }
    for index in 0..1000 {
        assert_eq!(two.heard().await, index);
    }
    until(|| one.peers.figures()[&2].messages_sent == 1000).await;
    until(|| one.peers.figures()[&2].round_trip.is_some()).await;
    assert_eq!(one.peers.figures()[&2].messages_dropped, 0);
}

#[tokio::test]
async fn a_large_message_arrives_whole() {
    let ca = Ca::new();
    let (one, mut two) = (ca.member(1), ca.member(2));
    one.connect_to(&two).await;
    let large = Message { context: (0..6_000_000u32).map(|i| i as u8).collect(), ..message(1, 2, 1) };
    one.peers.send(vec![large.clone()]);
    assert_eq!(two.told().await, Event::Message(Box::new(large)));
}

#[tokio::test]
async fn messages_that_do_not_fit_a_frame_are_lost_and_said_to_be() {
    let ca = Ca::new();
    let mut two = ca.member(2);
    let mut one =
        Member::start(crate::PeerConfig { frame_bytes_max: 1 << 20, snapshot_chunk_bytes: 1 << 10, ..ca.config(1) });
    one.connect_to(&two).await;
    one.peers.send(vec![Message { context: vec![0; 1 << 20], ..message(1, 2, 1) }]);
    one.told_of(Event::Unreachable(2)).await;
    one.send(2, 2);
    assert_eq!(two.heard().await, 2);
}

#[tokio::test]
async fn without_a_connection_messages_are_lost_and_said_to_be() {
    let mut one = Ca::new().member(1);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    one.link_to(2, nobody.to_string());
    one.send(2, 1);
    one.told_of(Event::Unreachable(2)).await;
    assert!(!one.peers.figures()[&2].connected);
    assert_eq!(one.peers.figures()[&2].messages_dropped, 1);
}

#[tokio::test]
async fn a_peer_that_is_gone_is_lost_and_found_again() {
    let ca = Ca::new();
    let (mut one, two) = (ca.member(1), ca.member(2));
    one.connect_to(&two).await;
    let address = two.peers.local_addr();
    drop(two);
    one.told_of(Event::Lost(2)).await;
    until(|| !one.peers.figures()[&2].connected).await;

    let mut two = Member::start(crate::PeerConfig { listen: address, ..ca.config(2) });
    one.connected(2).await;
    one.send(2, 5);
    assert_eq!(two.heard().await, 5);
    assert_eq!(one.peers.figures()[&2].connections, 2);
}

#[tokio::test]
async fn whoever_connected_here_is_lost_when_it_is_gone() {
    let ca = Ca::new();
    let (one, mut two) = (ca.member(1), ca.member(2));
    one.connect_to(&two).await;
    drop(one);
    assert_eq!(two.told().await, Event::Lost(1));
}

#[tokio::test]
async fn a_peer_that_is_no_more_is_told_goodbye() {
    let ca = Ca::new();
    let (mut one, mut two) = (ca.member(1), ca.member(2));
    one.connect_to(&two).await;
    one.peers.set_peers(BTreeMap::new());
    assert!(one.peers.figures().is_empty());
    one.send(2, 1);

    // Played by the test, the other end sees why.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    one.link_to(3, listener.local_addr().unwrap().to_string());
    let mut end = End::accept(&listener, &ca.tls(3, CLUSTER), 3).await;
    one.connected(3).await;
    one.peers.set_peers(BTreeMap::new());
    assert!(end.closed().await.contains("no peer any more"));

    // Neither took the other for dead, and what was sent meanwhile is gone.
    one.connect_to(&two).await;
    one.send(2, 2);
    assert_eq!(two.heard().await, 2);
    two.connect_to(&one).await;
    two.send(1, 3);
    assert_eq!(one.heard().await, 3);
}

#[tokio::test]
async fn a_peer_that_moved_is_found_where_it_is() {
    let ca = Ca::new();
    let (one, old, mut new) = (ca.member(1), ca.member(2), ca.member(2));
    one.connect_to(&old).await;
    one.link_to(2, new.address());
    one.connected(2).await;
    one.send(2, 1);
    assert_eq!(new.heard().await, 1);
}

#[tokio::test]
async fn no_member_links_to_itself() {
    let one = Ca::new().member(1);
    one.link_to(1, one.address());
    assert!(one.peers.figures().is_empty());
}

#[tokio::test]
async fn a_peer_that_does_not_read_takes_no_memory() {
    let ca = Ca::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut one = Member::start(crate::PeerConfig { messages_max: 8, ..ca.config(1) });
    one.link_to(2, listener.local_addr().unwrap().to_string());
    let _end = End::accept(&listener, &ca.tls(2, CLUSTER), 2).await;
    one.connected(2).await;
    // Until nothing more is written, for all that waits.
    let large = Message { context: vec![0; 1 << 20], ..message(1, 2, 1) };
    let (mut sent, mut same, mut told) = (0u64, 0, false);
    while same < 200 || !told {
        let before = one.peers.figures()[&2].messages_sent;
        one.peers.send(vec![large.clone()]);
        sent += 1;
        told |= one.told_already(&Event::Unreachable(2));
        tokio::task::yield_now().await;
        same = if one.peers.figures()[&2].messages_sent == before { same + 1 } else { 0 };
    }
    let figures = &one.peers.figures()[&2];
    assert!(figures.messages_dropped > 0);
    // In the queue, and in the one write that does not end.
    assert!(sent - figures.messages_dropped - figures.messages_sent <= 8 + 1, "{figures:?} of {sent}");
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_connected_to_anew() {
    let ca = Ca::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (keepalive, silence_max) = (Duration::from_millis(5), Duration::from_millis(20));
    let one = Member::start(crate::PeerConfig { keepalive, silence_max, ..ca.config(1) });
    one.link_to(2, listener.local_addr().unwrap().to_string());
    let tls = ca.tls(2, CLUSTER);
    let mut first = End::accept(&listener, &tls, 2).await;
    assert!(first.closed().await.contains("nothing heard"));
    let _second = End::accept(&listener, &tls, 2).await;
}

#[tokio::test]
async fn of_two_connections_of_a_member_the_newer_counts() {
    let ca = Ca::new();
    let mut one = ca.member(1);
    let mut first = End::link(&ca, 2, &one).await;
    let mut second = End::link(&ca, 2, &one).await;
    assert!(first.closed().await.contains("newer"));
    second.writer.send(Body::Ping(77)).await.unwrap();
    assert_eq!(second.reader.next().await.unwrap(), Body::Pong(77));
    drop(second);
    assert_eq!(one.told().await, Event::Lost(2));
}

#[tokio::test]
async fn certificates_change_while_it_runs() {
    let (old, new) = (Ca::new(), Ca::new());
    let config = old.config(1);
    let tls = config.tls.clone();
    let one = Member::start(config);
    End::link(&old, 2, &one).await;
    tls.store(std::sync::Arc::new(new.tls(1, CLUSTER)));
    End::link(&new, 2, &one).await;
    assert!(End::open(&old.tls(2, CLUSTER), &one).await.is_err());
}

#[tokio::test]
async fn a_port_in_use_is_told_at_once_and_free_after_the_end() {
    let ca = Ca::new();
    let one = Peers::bind(ca.config(1)).unwrap();
    let config = crate::PeerConfig { listen: one.local_addr(), ..ca.config(2) };
    assert_eq!(Peers::bind(config.clone()).err().unwrap().kind(), std::io::ErrorKind::AddrInUse);
    one.shutdown().await;
    let two = Peers::bind(config).unwrap();
    two.shutdown().await;
}

#[test]
fn settings_must_fit_together() {
    type Change = fn(&mut crate::PeerConfig);
    let changes: [Change; 8] = [
        |config| config.member = 0,
        |config| config.cluster_id = "not a name".into(),
        |config| config.message_bytes_max = 1,
        |config| config.proposal_bytes_max = 1,
        |config| config.snapshot_chunk_bytes = config.frame_bytes_max,
        |config| config.snapshot_chunk_bytes = 0,
        |config| config.silence_max = config.keepalive,
        |config| config.proposals_max = 0,
    ];
    let ca = Ca::new();
    for (number, change) in changes.iter().enumerate() {
        let mut config = ca.config(1);
        change(&mut config);
        assert_eq!(Peers::bind(config).err().unwrap().kind(), std::io::ErrorKind::InvalidInput, "{number}");
    }
}
