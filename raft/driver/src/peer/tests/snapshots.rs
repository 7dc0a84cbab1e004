//! Snapshots: the state arrives whole before its message, or nothing does and the sender knows.

use raft::eraftpb::{Message, MessageType, Snapshot, SnapshotMetadata};

use super::fixture::{CLUSTER, Ca, End, Event, Fault, Member, hello, message};
use crate::{
    peer::frame::{Body, Hello, Purpose, put_message},
    transport::Transport,
};

const INDEX: u64 = 100;

fn snapshot(from: u64, to: u64) -> Message {
    let metadata = SnapshotMetadata { index: INDEX, ..SnapshotMetadata::default() };
    let snapshot = Snapshot { metadata: Some(metadata), ..Snapshot::default() };
    Message {
        msg_type: MessageType::MsgSnapshot.into(),
        from,
        to,
        term: 3,
        snapshot: Some(snapshot),
        ..Message::default()
    }
}

fn state(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 31 % 251) as u8).collect()
}

/// Two members, the first of which has a state to send, linked.
async fn members(ca: &Ca, bytes: usize) -> (Member, Member) {
    let (one, two) = (ca.member(1), ca.member(2));
    *one.local.snapshot.lock() = (INDEX, state(bytes));
    two.local.snapshot.lock().0 = INDEX;
    one.connect_to(&two).await;
    (one, two)
}

#[tokio::test]
async fn a_state_arrives_and_then_its_message() {
    let ca = Ca::new();
    for bytes in [5 << 20, 256 << 10, 3, 0] {
        let (mut one, mut two) = members(&ca, bytes).await;
        one.peers.send(vec![snapshot(1, 2)]);
        assert_eq!(two.told().await, Event::StageBegan);
        assert_eq!(two.told().await, Event::Staged(state(bytes)));
        assert_eq!(two.told().await, Event::Message(Box::new(snapshot(1, 2))));
        assert_eq!(one.told().await, Event::SnapshotSent(2, true));
        assert_eq!(one.peers.figures()[&2].snapshots_sent, 1);
    }
}

#[tokio::test]
async fn messages_pass_a_snapshot_that_is_on_its_way() {
    let ca = Ca::new();
    let (mut one, mut two) = members(&ca, 4 << 20).await;
    // The state has no end, so the message cannot wait for it.
    *one.local.fault.lock() = Fault::SourceStalls;
    *two.local.fault.lock() = Fault::SourceStalls;
    one.peers.send(vec![snapshot(1, 2)]);
    one.send(2, 1);
    two.told_of(Event::Message(Box::new(message(1, 2, 1)))).await;
    // One that is given meanwhile is not sent as well.
    one.peers.send(vec![snapshot(1, 2)]);
    // The end of the receiver is the end of it.
    drop(two);
    one.told_of(Event::SnapshotSent(2, false)).await;
}

#[tokio::test]
async fn a_sender_that_is_gone_leaves_nothing_behind() {
    let ca = Ca::new();
    let (one, mut two) = members(&ca, 4 << 20).await;
    let mut end = End::open(&ca.tls(3, CLUSTER), &two).await.unwrap();
    end.writer.send(Body::Hello(Hello { purpose: Purpose::Snapshot.into(), ..hello(3) })).await.unwrap();
    put_message(&snapshot(3, 2), &mut end.writer.buffer);
    end.writer.send(Body::Chunk(state(1000).into())).await.unwrap();
    // A connection that is reset takes with it what was not read yet.
    assert_eq!(two.told().await, Event::StageBegan);
    drop(end);
    assert_eq!(two.told().await, Event::SinkDropped);
    one.send(2, 1);
    assert_eq!(two.heard().await, 1);
}

#[tokio::test]
async fn a_newer_snapshot_takes_the_place_of_one_under_way() {
    let ca = Ca::new();
    let (one, mut two) = members(&ca, 1 << 20).await;
    let mut end = End::open(&ca.tls(3, CLUSTER), &two).await.unwrap();
    end.writer.send(Body::Hello(Hello { purpose: Purpose::Snapshot.into(), ..hello(3) })).await.unwrap();
    put_message(&Message { term: 2, ..snapshot(3, 2) }, &mut end.writer.buffer);
    end.writer.send(Body::Chunk(state(1000).into())).await.unwrap();
    assert!(matches!(end.reader.next().await.unwrap(), Body::Hello(_)));
    assert_eq!(two.told().await, Event::StageBegan);
    one.peers.send(vec![snapshot(1, 2)]);
    assert!(end.closed().await.contains("another snapshot takes its place"));
    assert_eq!(two.told().await, Event::SinkDropped);
    assert_eq!(two.told().await, Event::StageBegan);
    assert_eq!(two.told().await, Event::Staged(state(1 << 20)));
    assert_eq!(two.told().await, Event::Message(Box::new(snapshot(1, 2))));
}

#[tokio::test]
async fn a_snapshot_that_fails_delivers_nothing() {
    let ca = Ca::new();
    let at_sender = [Fault::NoSource, Fault::OtherSource, Fault::SourceFails];
    let at_receiver = [Fault::NoSink, Fault::SinkFails, Fault::FinishFails, Fault::OtherState];
    for fault in at_sender.into_iter().chain(at_receiver) {
        let (mut one, mut two) = members(&ca, 4 << 20).await;
        let at = if at_sender.contains(&fault) { &one } else { &two };
        *at.local.fault.lock() = fault;
        one.peers.send(vec![snapshot(1, 2)]);
        assert_eq!(one.told().await, Event::SnapshotSent(2, false), "{fault:?}");
        one.send(2, 1);
        let mut unstaged = false;
        loop {
            match two.told().await {
                Event::Message(heard) => break assert_eq!(*heard, message(1, 2, 1), "{fault:?}"),
                Event::StageBegan | Event::SinkDropped | Event::Staged(_) => {}
                Event::Unstaged(_) => unstaged = true,
                other => panic!("{fault:?}: {other:?}"),
            }
        }
        assert_eq!(unstaged, fault == Fault::OtherState, "{fault:?}: whatever is staged is told of, or goes");
        // The next one can be sent.
        (*one.local.fault.lock(), *two.local.fault.lock()) = (Fault::None, Fault::None);
        one.peers.send(vec![snapshot(1, 2)]);
        assert_eq!(one.told().await, Event::SnapshotSent(2, true), "{fault:?}");
    }
}

#[tokio::test]
async fn a_snapshot_to_nobody_has_failed() {
    let mut one = Ca::new().member(1);
    one.peers.send(vec![snapshot(1, 2)]);
    assert_eq!(one.told().await, Event::SnapshotSent(2, false));
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    one.link_to(2, nobody.to_string());
    one.peers.send(vec![snapshot(1, 2)]);
    one.told_of(Event::SnapshotSent(2, false)).await;
}

#[tokio::test]
async fn a_peer_that_is_no_more_gets_no_snapshot() {
    let ca = Ca::new();
    let (mut one, two) = members(&ca, 4 << 20).await;
    *one.local.fault.lock() = Fault::SourceStalls;
    *two.local.fault.lock() = Fault::SourceStalls;
    one.peers.send(vec![snapshot(1, 2)]);
    one.peers.set_peers(Default::default());
    one.told_of(Event::SnapshotSent(2, false)).await;
}

#[tokio::test]
async fn bytes_that_are_missing_are_noticed() {
    let ca = Ca::new();
    let two = ca.member(2);
    two.local.snapshot.lock().0 = INDEX;
    let mut end = End::open(&ca.tls(1, CLUSTER), &two).await.unwrap();
    end.writer.send(Body::Hello(Hello { purpose: Purpose::Snapshot.into(), ..hello(1) })).await.unwrap();
    assert!(matches!(end.reader.next().await.unwrap(), Body::Hello(_)));
    put_message(&snapshot(1, 2), &mut end.writer.buffer);
    end.writer.send(Body::Chunk(state(10).into())).await.unwrap();
    end.writer.send(Body::End(11)).await.unwrap();
    assert!(end.closed().await.contains("10 bytes came and not 11"));
}
