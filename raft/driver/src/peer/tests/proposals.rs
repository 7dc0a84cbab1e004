//! Forwarded proposals: each is answered, whatever happens to the connection.

use bytes::Bytes;
use navarch_raft_contract::Outcome;
use tokio::net::TcpListener;

use super::fixture::{CLUSTER, Ca, End, Event, Member, hello};
use crate::{
    peer::frame::{Body, OVERHEAD_BYTES, Proposal},
    shell::ProposeError,
};

const NOT_LEADER: Result<Outcome, ProposeError> = Err(ProposeError::NotLeader { leader: None });

fn waits() -> Bytes {
    Bytes::from_static(b"waits")
}

#[tokio::test]
async fn proposals_get_the_peers_answer() {
    let ca = Ca::new();
    let (one, two) = (ca.member(1), ca.member(2));
    one.connect_to(&two).await;
    let cases = [
        ("done", Ok(Outcome::Done { index: 7, first: 3, last: 4 })),
        ("conflict", Ok(Outcome::Conflict { index: 8, compare: 2, actual: 5 })),
        ("elsewhere", Err(ProposeError::NotLeader { leader: Some(9) })),
    ];
    let answers = cases.iter().map(|(command, _)| one.peers.propose(2, Bytes::from_static(command.as_bytes())));
    let answers = futures::future::join_all(answers).await;
    assert_eq!(answers, cases.map(|(_, answer)| answer));
    assert_eq!(one.peers.figures()[&2].proposals, 0);
}

#[tokio::test]
async fn a_proposal_that_was_never_sent_did_not_happen() {
    let one = Ca::new().member(1);
    assert_eq!(one.peers.propose(2, waits()).await, NOT_LEADER);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    one.link_to(2, nobody.to_string());
    assert_eq!(one.peers.propose(2, waits()).await, NOT_LEADER);
    one.peers.shutdown().await;
    assert_eq!(one.peers.propose(2, waits()).await, Err(ProposeError::Stopped));
}

#[tokio::test]
async fn a_proposal_whose_connection_ends_has_an_unknown_outcome() {
    let ca = Ca::new();
    type End = fn(&Member, Member);
    let ends: [End; 3] =
        [|_, two| drop(two), |one, _| one.peers.set_peers(Default::default()), |one, _| one.peers.shutdown_blocking()];
    for end in ends {
        let (one, mut two) = (ca.member(1), ca.member(2));
        one.connect_to(&two).await;
        let peers = one.peers.clone();
        let answer = tokio::spawn(async move { peers.propose(2, waits()).await });
        two.told_of(Event::Proposed(waits())).await;
        end(&one, two);
        assert_eq!(answer.await.unwrap(), Err(ProposeError::Unknown));
    }
}

#[tokio::test]
async fn proposals_beyond_the_bounds_are_refused() {
    let ca = Ca::new();
    let mut two = ca.member(2);
    let one = Member::start(crate::PeerConfig { proposals_max: 1, ..ca.config(1) });
    one.connect_to(&two).await;
    let peers = one.peers.clone();
    let first = tokio::spawn(async move { peers.propose(2, waits()).await });
    two.told_of(Event::Proposed(waits())).await;
    assert_eq!(one.peers.propose(2, waits()).await, Err(ProposeError::Busy));
    let max = ca.config(1).frame_bytes_max - OVERHEAD_BYTES;
    let large = one.peers.propose(2, vec![0; max + 1].into()).await;
    assert_eq!(large, Err(ProposeError::TooLarge { bytes: max + 1, max }));
    drop(two);
    assert_eq!(first.await.unwrap(), Err(ProposeError::Unknown));
}

#[tokio::test]
async fn a_member_refuses_what_a_peer_proposes_beyond_the_bound() {
    let ca = Ca::new();
    let one = Member::start(crate::PeerConfig { proposals_max: 1, ..ca.config(1) });
    let mut end = End::link(&ca, 2, &one).await;
    for id in [1, 2] {
        end.writer.send(Body::Proposal(Proposal { id, command: waits() })).await.unwrap();
    }
    let Body::Answer(answer) = end.reader.next().await.unwrap() else { panic!("no answer") };
    assert_eq!((answer.id, answer.result()), (2, Err(ProposeError::Busy)));
}

#[tokio::test]
async fn a_panic_costs_the_connection_and_no_more() {
    let ca = Ca::new();
    let (one, two) = (ca.member(1), ca.member(2));
    one.connect_to(&two).await;
    assert_eq!(one.peers.propose(2, Bytes::from_static(b"panic")).await, Err(ProposeError::Unknown));
    let done = async {
        loop {
            match one.peers.propose(2, Bytes::from_static(b"done")).await {
                Err(ProposeError::NotLeader { leader: None }) => one.connected(2).await,
                answer => return answer,
            }
        }
    };
    assert!(done.await.is_ok());
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_ignored() {
    let ca = Ca::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let one = ca.member(1);
    one.link_to(2, listener.local_addr().unwrap().to_string());
    let mut end = End::accept(&listener, &ca.tls(2, CLUSTER), 2).await;
    one.connected(2).await;
    let answer = crate::peer::frame::Answer::new(99, Err(ProposeError::Busy));
    end.writer.send(Body::Answer(answer)).await.unwrap();
    let Body::Ping(number) = end.reader.next().await.unwrap() else { panic!("no ping") };
    end.writer.send(Body::Pong(number)).await.unwrap();
    // A second hello is out of place, and says that everything before it was read.
    end.writer.send(Body::Hello(hello(2))).await.unwrap();
    assert!(end.closed().await.contains("does not belong"));
    assert!(one.peers.figures()[&2].round_trip.is_some());
}
