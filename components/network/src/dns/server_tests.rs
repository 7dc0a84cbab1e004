//! Cases for `server_tests`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::*;
use crate::dns::zone::tests::{fixed, zone};

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// Another server: 192.0.2.1 for every name, over UDP and TCP. What it cannot read it leaves unanswered.
async fn other_server() -> SocketAddr {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).await.unwrap();
    fn reply(bytes: &[u8]) -> Option<Vec<u8>> {
        let request = Message::from_vec(bytes).ok()?;
        let mut answer = respond(&request);
        let name = request.queries.first()?.name().clone();
        answer.add_answer(Record::from_rdata(name, 60, RData::A(A("192.0.2.1".parse().unwrap()))));
        answer.to_vec().ok()
    }
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            if let Some(answer) = reply(&buffer[..length]) {
                udp.send_to(&answer, from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let length = stream.read_u16().await.unwrap();
            let mut bytes = vec![0; usize::from(length)];
            stream.read_exact(&mut bytes).await.unwrap();
            let answer = reply(&bytes).unwrap();
            stream
                .write_all(&[&u16::try_from(answer.len()).unwrap().to_be_bytes()[..], &answer].concat())
                .await
                .unwrap();
        }
    });
    address
}

async fn start(upstream: Vec<SocketAddr>) -> SocketAddr {
    let server = Arc::new(Server::new(zone(), fixed(), Upstream::fixed(upstream)));
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).await.unwrap();
    tokio::spawn(serve(server, udp, tcp));
    address
}

async fn udp(server: SocketAddr, bytes: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(bytes, server).await.unwrap();
    let mut buffer = [0; 4096];
    let received = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await.unwrap().unwrap();
    Message::from_vec(&buffer[..received]).unwrap()
}

async fn tcp(server: SocketAddr, message: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let bytes = message.to_vec().unwrap();
    stream.write_all(&[&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()).await.unwrap();
    let length = stream.read_u16().await.unwrap();
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

fn addresses(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

#[tokio::test]
async fn answers_over_udp_and_tcp() {
    let server = start(vec![other_server().await]).await;
    let ours = question("web.d.svc.cluster.local.", RecordType::A);
    for answer in [udp(server, &ours.to_vec().unwrap()).await, tcp(server, &ours).await] {
        assert_eq!((answer.metadata.id, answer.metadata.authoritative), (ours.metadata.id, true));
        assert!(answer.metadata.recursion_available && answer.metadata.recursion_desired);
        assert_eq!(
            (addresses(&answer), answer.queries.as_slice()),
            (vec!["10.96.0.7".into()], ours.queries.as_slice())
        );
    }
    let denied = udp(server, &question("x.d.svc.cluster.local.", RecordType::A).to_vec().unwrap()).await;
    assert_eq!((denied.metadata.response_code, denied.authorities.len()), (ResponseCode::NXDomain, 1));
    let no_data = udp(server, &question("web.d.svc.cluster.local.", RecordType::AAAA).to_vec().unwrap()).await;
    assert_eq!((no_data.metadata.response_code, no_data.authorities.len()), (ResponseCode::NoError, 1));
}

#[tokio::test]
async fn other_names_are_asked_for_elsewhere() {
    let server = start(vec![other_server().await]).await;
    let theirs = question("example.com.", RecordType::A);
    for answer in [udp(server, &theirs.to_vec().unwrap()).await, tcp(server, &theirs).await] {
        assert_eq!((answer.metadata.id, addresses(&answer)), (theirs.metadata.id, vec!["192.0.2.1".into()]));
    }
    let alias = udp(server, &question("out.d.svc.cluster.local.", RecordType::A).to_vec().unwrap()).await;
    assert_eq!(addresses(&alias), ["example.com.", "192.0.2.1"]);
}

#[tokio::test]
async fn without_others_it_fails_and_says_so() {
    // Nobody listens on a port that was just given back.
    let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for upstream in [vec![], vec![gone]] {
        let server = start(upstream).await;
        let answer = udp(server, &question("example.com.", RecordType::A).to_vec().unwrap()).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    }
}

#[tokio::test]
async fn bad_messages() {
    let server = Server::new(zone(), fixed(), Upstream::fixed(vec![]));
    let code = async |bytes: Vec<u8>| {
        server.handle(&bytes, false).await.map(|answer| Message::from_vec(&answer).unwrap().metadata.response_code)
    };
    assert_eq!(code(vec![]).await, None);
    assert_eq!(code(vec![1, 2, 3]).await, None);
    assert_eq!(
        code([vec![0; 4], vec![0, 1, 0, 0, 0, 0, 0, 0], vec![0xff; 4]].concat()).await,
        Some(ResponseCode::FormErr)
    );
    assert_eq!(code(Message::query().to_vec().unwrap()).await, Some(ResponseCode::FormErr));
    assert_eq!(code(Message::response(1, OpCode::Query).to_vec().unwrap()).await, None);
    let notify = Message::new(7, MessageType::Query, OpCode::Notify);
    assert_eq!(code(notify.to_vec().unwrap()).await, Some(ResponseCode::NotImp));
    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(chaos.to_vec().unwrap()).await, Some(ResponseCode::Refused));
}

#[test]
fn large_answers_are_cut_off_over_udp() {
    let mut message = Message::response(1, OpCode::Query);
    let name = Name::from_ascii("a.very.long.name.in.the.cluster.example.").unwrap();
    message.add_answers((0..100u8).map(|i| Record::from_rdata(name.clone(), 5, RData::A(A::new(10, 0, 0, i)))));
    let cut = Message::from_vec(&encode(&message, 512).unwrap()).unwrap();
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    assert_eq!(Message::from_vec(&encode(&message, u16::MAX).unwrap()).unwrap().answers.len(), 100);
}
