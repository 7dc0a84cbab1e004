//! Who is not let in, and that nothing of what they say gets through.

use bytes::{BufMut, Bytes};
use raft::eraftpb::{Message, MessageType};

use super::fixture::{CLUSTER, Ca, End, Event, Member, hello, message, until};
use crate::peer::{
    frame::{Body, Hello, PROTOCOL, Purpose, put_message},
    hello::connect,
    wire::Ended,
};

/// Shows that nothing came before: the next that the member hears is what a true peer says.
async fn nothing_came(ca: &Ca, member: &mut Member) {
    let mut end = End::link(ca, 3, member).await;
    put_message(&message(3, member.id, 42), &mut end.writer.buffer);
    end.writer.send(Body::Ping(0)).await.unwrap();
    assert_eq!(member.told().await, Event::Message(Box::new(message(3, member.id, 42))));
}

#[tokio::test]
async fn who_is_not_the_member_it_says_is_refused() {
    let ca = Ca::new();
    let cases = [
        (Hello { member: 4, ..hello(2) }, "the certificate is not that of member 4"),
        (Hello { cluster_id: "other".into(), ..hello(2) }, "of cluster \"other\""),
        (Hello { protocol: PROTOCOL + 1, ..hello(2) }, "protocol version 2 and not 1"),
        (Hello { member: 1, ..hello(2) }, "both ends are member 1"),
        (Hello { purpose: 99, ..hello(2) }, "nothing that this version knows of"),
    ];
    let mut one = ca.member(1);
    for (hello, why) in cases {
        let mut end = End::open(&ca.tls(2, CLUSTER), &one).await.unwrap();
        let greets = Purpose::try_from(hello.purpose).is_err();
        put_hello(&mut end, hello);
        put_message(&message(2, 1, 1), &mut end.writer.buffer);
        end.writer.send(Body::Ping(0)).await.unwrap();
        if greets {
            assert!(matches!(end.reader.next().await.unwrap(), Body::Hello(_)));
        }
        let reason = end.closed().await;
        assert!(reason.contains(why), "{reason}");
    }
    nothing_came(&ca, &mut one).await;
}

fn put_hello(end: &mut End, hello: Hello) {
    crate::peer::frame::put(Body::Hello(hello), &mut end.writer.buffer);
}

#[tokio::test]
async fn a_certificate_of_another_cluster_is_refused() {
    let ca = Ca::new();
    let mut one = ca.member(1);
    let mut end = End::open(&ca.tls(2, "other"), &one).await.unwrap();
    end.writer.send(Body::Hello(hello(2))).await.unwrap();
    assert!(end.closed().await.contains("the certificate is not that of member 2"));
    nothing_came(&ca, &mut one).await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (ca, foreign) = (Ca::new(), Ca::new());
    let mut one = ca.member(1);
    // It would not trust the member itself; so it takes the right roots, and shows its own certificate.
    let (ours, theirs) = (ca.tls(2, CLUSTER), foreign.tls(2, CLUSTER));
    let mut client = rustls::ClientConfig::clone(&ours.client);
    client.client_auth_cert_resolver = theirs.client.client_auth_cert_resolver.clone();
    let tls = crate::PeerTls { client: std::sync::Arc::new(client), ..ours };
    if let Ok(mut end) = End::open(&tls, &one).await {
        // In TLS 1.3 the client is done before the server has seen its certificate.
        put_hello(&mut end, hello(2));
        put_message(&message(2, 1, 1), &mut end.writer.buffer);
        let _ = end.writer.send(Body::Ping(0)).await;
        assert!(matches!(end.reader.next().await, Err(Ended::Io(_))));
    }
    nothing_came(&ca, &mut one).await;
}

#[tokio::test]
async fn no_certificate_is_refused() {
    let ca = Ca::new();
    let mut one = ca.member(1);
    let ours = ca.tls(2, CLUSTER);
    let mut client = rustls::ClientConfig::clone(&ours.client);
    client.client_auth_cert_resolver = std::sync::Arc::new(Nobody);
    let tls = crate::PeerTls { client: std::sync::Arc::new(client), ..ours };
    if let Ok(mut end) = End::open(&tls, &one).await {
        let _ = end.writer.send(Body::Hello(hello(2))).await;
        assert!(matches!(end.reader.next().await, Err(Ended::Io(_))));
    }
    nothing_came(&ca, &mut one).await;
}

#[derive(Debug)]
struct Nobody;

impl rustls::client::ResolvesClientCert for Nobody {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<std::sync::Arc<rustls::sign::CertifiedKey>> {
        None
    }
    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_server_that_is_not_the_peer_is_not_spoken_to() {
    let (ca, foreign) = (Ca::new(), Ca::new());
    let (three, stranger) = (ca.member(3), foreign.member(2));
    let config = ca.config(1);
    for other in [&three, &stranger] {
        let connected = connect(&config, 2, &other.address(), Purpose::Link).await;
        assert!(matches!(connected.err(), Some(Ended::Io(_))));
    }
    let elsewhere = crate::PeerConfig { cluster_id: "other".into(), ..ca.config(1) };
    assert!(connect(&elsewhere, 3, &three.address(), Purpose::Link).await.is_err());
}

#[tokio::test]
async fn a_frame_beyond_the_bound_closes_the_connection() {
    let ca = Ca::new();
    let mut one = ca.member(1);
    let mut end = End::link(&ca, 2, &one).await;
    end.writer.buffer.put_u32(u32::MAX);
    end.writer.send(Body::Ping(0)).await.unwrap();
    assert!(end.closed().await.contains("more than the"));
    nothing_came(&ca, &mut one).await;
}

#[tokio::test]
async fn a_peer_speaks_for_itself_and_to_this_member() {
    let ca = Ca::new();
    let mut one = ca.member(1);
    let mut end = End::link(&ca, 2, &one).await;
    let of = |kind: MessageType, message| Message { msg_type: kind.into(), ..message };
    let refused = [
        message(3, 1, 1),
        message(2, 4, 1),
        // It comes with a state, or not at all.
        of(MessageType::MsgSnapshot, message(2, 1, 1)),
    ];
    let taken = [
        message(2, 1, 7),
        // Raft passes these on for others.
        of(MessageType::MsgReadIndex, message(3, 1, 8)),
        of(MessageType::MsgPropose, message(3, 1, 9)),
    ];
    refused.iter().chain(&taken).for_each(|message| put_message(message, &mut end.writer.buffer));
    end.writer.send(Body::Ping(0)).await.unwrap();
    for expected in taken {
        assert_eq!(one.told().await, Event::Message(Box::new(expected)));
    }
}

#[tokio::test]
async fn what_is_no_message_closes_the_connection() {
    let ca = Ca::new();
    let mut one = ca.member(1);
    let mut end = End::link(&ca, 2, &one).await;
    end.writer.send(Body::Message(Bytes::from_static(&[0xff; 9]))).await.unwrap();
    assert!(end.closed().await.contains("not a message"));
    nothing_came(&ca, &mut one).await;
}

#[tokio::test]
async fn those_who_say_nothing_do_not_keep_others_out() {
    let ca = Ca::new();
    let config =
        crate::PeerConfig { handshakes_max: 1, connect_timeout: std::time::Duration::from_millis(100), ..ca.config(1) };
    let mut one = Member::start(config);
    let silent = tokio::net::TcpStream::connect(one.peers.local_addr()).await.unwrap();
    // A connection that has to wait may be too late itself: then another one is made.
    let two = ca.member(2);
    two.link_to(1, one.address());
    until(|| two.peers.figures()[&1].connected).await;
    two.send(1, 5);
    assert_eq!(one.heard().await, 5);
    drop(silent);
}

#[tokio::test]
async fn a_member_that_was_removed_is_cut_off_and_told() {
    let ca = Ca::new();
    let (one, two) = (ca.member(1), ca.member(2));
    two.connect_to(&one).await;
    one.peers.set_removed(std::collections::BTreeSet::from([2]));
    // Its connection ends, and the next one is refused with the reason.
    two.peers.told_removed().await;
    until(|| !two.peers.figures()[&1].connected).await;
    let told = connect(&ca.config(2), 1, &one.address(), Purpose::Link).await.err().map(|ended| ended.to_string());
    assert_eq!(told.as_deref(), Some("the peer closed it: the cluster has removed this member"));
}
