//! Certificates, members, and ends of connections for the tests.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read, Write},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use navarch_raft_contract::{Outcome, SnapshotError, SnapshotMeta, SnapshotSink, SnapshotSource};
use parking_lot::Mutex;
use raft::eraftpb::{Message, MessageType};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore,
    pki_types::{PrivatePkcs8KeyDer, ServerName},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{ReadHalf, WriteHalf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::super::{
    Local, PeerConfig, PeerTls, Peers,
    frame::{Body, Hello, PROTOCOL, Purpose},
    server_name,
    wire::{FrameReader, FrameWriter},
};
use crate::{shell::ProposeError, transport::Transport};

pub(super) const CLUSTER: &str = "c0ffee";
/// Only what hangs takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// An authority.
pub(super) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    roots: Arc<RootCertStore>,
}

impl Ca {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        Self { issuer: Issuer::new(params, key), roots: Arc::new(roots) }
    }

    pub(super) fn tls(&self, member: u64, cluster: &str) -> PeerTls {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![server_name(member, cluster)]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider.clone()).build().unwrap();
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key().into())
            .unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(chain, key.into())
            .unwrap();
        PeerTls { server: Arc::new(server), client: Arc::new(client) }
    }

    pub(super) fn config(&self, member: u64) -> PeerConfig {
        let tls = Arc::new(ArcSwap::from_pointee(self.tls(member, CLUSTER)));
        let mut config = PeerConfig::new(member, CLUSTER, "127.0.0.1:0".parse().unwrap(), tls);
        // A machine under load is not a peer that is gone.
        (config.connect_timeout, config.silence_max) = (PATIENCE, PATIENCE);
        config
    }

    pub(super) fn member(&self, member: u64) -> Member {
        Member::start(self.config(member))
    }
}

/// What a member was told.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    Message(Box<Message>),
    Proposed(Bytes),
    Lost(u64),
    Unreachable(u64),
    SnapshotSent(u64, bool),
    StageBegan,
    Staged(Vec<u8>),
    /// What was staged is not wanted.
    Unstaged(u64),
    SinkDropped,
}

/// Where snapshots go wrong, if they do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Fault {
    #[default]
    None,
    NoSource,
    OtherSource,
    SourceFails,
    SourceStalls,
    NoSink,
    SinkFails,
    FinishFails,
    OtherState,
}

/// A member that notes what it is told.
pub(super) struct Noting {
    events: mpsc::UnboundedSender<Event>,
    pub(super) snapshot: Mutex<(u64, Vec<u8>)>,
    pub(super) fault: Mutex<Fault>,
}

impl Local for Noting {
    fn message(&self, message: Message) {
        self.events.send(Event::Message(Box::new(message))).ok();
    }
    /// What is proposed says what is answered.
    fn propose(&self, command: Bytes) -> BoxFuture<'static, Result<Outcome, ProposeError>> {
        self.events.send(Event::Proposed(command.clone())).ok();
        match command.as_ref() {
            b"done" => async { Ok(Outcome::Done { index: 7, first: 3, last: 4 }) }.boxed(),
            b"conflict" => async { Ok(Outcome::Conflict { index: 8, compare: 2, actual: 5 }) }.boxed(),
            b"elsewhere" => async { Err(ProposeError::NotLeader { leader: Some(9) }) }.boxed(),
            b"panic" => async { panic!("told to") }.boxed(),
            _ => futures::future::pending().boxed(),
        }
    }
    fn lost(&self, member: u64) {
        self.events.send(Event::Lost(member)).ok();
    }
    fn unreachable(&self, member: u64) {
        self.events.send(Event::Unreachable(member)).ok();
    }
    fn snapshot(&self, index: u64) -> Option<Box<dyn SnapshotSource>> {
        let (fault, (held, bytes)) = (*self.fault.lock(), self.snapshot.lock().clone());
        let index = if fault == Fault::OtherSource { index + 1 } else { index };
        let meta = SnapshotMeta { index, ..SnapshotMeta::default() };
        (index >= held && fault != Fault::NoSource)
            .then(|| Box::new(Source { meta, bytes: Cursor::new(bytes), fault }) as Box<dyn SnapshotSource>)
    }
    fn snapshot_sent(&self, to: u64, ok: bool) {
        self.events.send(Event::SnapshotSent(to, ok)).ok();
    }
    fn unstage(&self, index: u64) {
        self.events.send(Event::Unstaged(index)).ok();
    }
    fn stage(&self) -> Result<Box<dyn SnapshotSink>, SnapshotError> {
        let fault = *self.fault.lock();
        if fault == Fault::NoSink {
            return Err(SnapshotError::Database("no room".into()));
        }
        let index = self.snapshot.lock().0;
        self.events.send(Event::StageBegan).ok();
        Ok(Box::new(Sink { events: self.events.clone(), bytes: Vec::new(), index, fault, finished: false }))
    }
}

struct Source {
    meta: SnapshotMeta,
    bytes: Cursor<Vec<u8>>,
    fault: Fault,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let half = self.bytes.get_ref().len() as u64 / 2;
        match self.fault {
            Fault::SourceFails if self.bytes.position() > half => Err(std::io::Error::other("the disk is gone")),
            // For ever more of it: it is ended from outside.
            Fault::SourceStalls if self.bytes.position() > half => {
                buffer.fill(0);
                Ok(buffer.len())
            }
            _ => self.bytes.read(buffer),
        }
    }
}

impl SnapshotSource for Source {
    fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }
}

struct Sink {
    events: mpsc::UnboundedSender<Event>,
    bytes: Vec<u8>,
    index: u64,
    fault: Fault,
    finished: bool,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.fault == Fault::SinkFails && self.bytes.len() > 1 << 20 {
            return Err(std::io::Error::other("the disk is full"));
        }
        if self.fault != Fault::SourceStalls {
            self.bytes.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl SnapshotSink for Sink {
    fn finish(mut self: Box<Self>) -> Result<SnapshotMeta, SnapshotError> {
        if self.fault == Fault::FinishFails {
            return Err(SnapshotError::Damaged("a byte is wrong".into()));
        }
        self.finished = true;
        self.events.send(Event::Staged(std::mem::take(&mut self.bytes))).ok();
        let index = if self.fault == Fault::OtherState { self.index + 1 } else { self.index };
        Ok(SnapshotMeta { index, ..SnapshotMeta::default() })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if !self.finished {
            self.events.send(Event::SinkDropped).ok();
        }
    }
}

/// A member with its network.
pub(super) struct Member {
    pub(super) id: u64,
    pub(super) peers: Peers,
    pub(super) local: Arc<Noting>,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Member {
    pub(super) fn start(config: PeerConfig) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let local = Arc::new(Noting { events: sender, snapshot: Mutex::default(), fault: Mutex::default() });
        let (id, peers) = (config.member, Peers::bind(config).unwrap());
        peers.serve(local.clone()).unwrap();
        Self { id, peers, local, events }
    }

    pub(super) fn address(&self) -> String {
        self.peers.local_addr().to_string()
    }

    pub(super) fn link_to(&self, member: u64, address: String) {
        self.peers.set_peers(BTreeMap::from([(member, address)]));
    }

    /// Links to another member and waits for the connection.
    pub(super) async fn connect_to(&self, other: &Member) {
        self.link_to(other.id, other.address());
        self.connected(other.id).await;
    }

    pub(super) async fn connected(&self, member: u64) {
        until(|| self.peers.figures()[&member].connected).await;
    }

    pub(super) fn send(&self, to: u64, index: u64) {
        self.peers.send(vec![message(self.id, to, index)]);
    }

    /// What it is told next.
    pub(super) async fn told(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("nothing happens").unwrap()
    }

    /// Waits until it is told this; what comes before is forgotten.
    pub(super) async fn told_of(&mut self, event: Event) {
        while self.told().await != event {}
    }

    /// Whether it was told this meanwhile; what came before is forgotten.
    pub(super) fn told_already(&mut self, event: &Event) -> bool {
        while let Ok(told) = self.events.try_recv() {
            if told == *event {
                return true;
            }
        }
        false
    }

    /// The position in the next message, which must be what it is told next but for messages lost.
    pub(super) async fn heard(&mut self) -> u64 {
        loop {
            match self.told().await {
                Event::Message(message) => return message.index,
                Event::Unreachable(_) => {}
                other => panic!("{other:?} and no message"),
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.peers.shutdown_blocking();
    }
}

/// Waits for something that nobody tells of.
pub(super) async fn until(reached: impl Fn() -> bool) {
    let mut look = tokio::time::interval(Duration::from_millis(1));
    let looking = async {
        while !reached() {
            look.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("it does not come to that");
}

pub(super) fn message(from: u64, to: u64, index: u64) -> Message {
    Message { msg_type: MessageType::MsgAppend.into(), from, to, index, ..Message::default() }
}

/// An end of a connection that the test plays.
pub(super) struct End {
    pub(super) reader: FrameReader<ReadHalf<TlsStream<TcpStream>>>,
    pub(super) writer: FrameWriter<WriteHalf<TlsStream<TcpStream>>>,
}

impl End {
    fn new(stream: TlsStream<TcpStream>) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self { reader: FrameReader::new(reader, 64 << 20, PATIENCE), writer: FrameWriter::new(writer) }
    }

    /// Connects to a member; TLS is done, and nothing said.
    pub(super) async fn open(tls: &PeerTls, to: &Member) -> std::io::Result<Self> {
        let stream = TcpStream::connect(to.peers.local_addr()).await?;
        let name = ServerName::try_from(server_name(to.id, CLUSTER)).unwrap();
        let stream = TlsConnector::from(tls.client.clone()).connect(name, stream).await?;
        Ok(Self::new(TlsStream::Client(stream)))
    }

    /// As a member's link connects, hello included.
    pub(super) async fn link(ca: &Ca, from: u64, to: &Member) -> Self {
        let mut end = Self::open(&ca.tls(from, CLUSTER), to).await.unwrap();
        end.writer.send(Body::Hello(hello(from))).await.unwrap();
        assert!(matches!(end.reader.next().await.unwrap(), Body::Hello(hello) if hello.member == to.id));
        end
    }

    /// Accepts the connection of a member's link.
    pub(super) async fn accept(listener: &TcpListener, tls: &PeerTls, as_member: u64) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = TlsAcceptor::from(tls.server.clone()).accept(stream).await.unwrap();
        let mut end = Self::new(TlsStream::Server(stream));
        assert!(matches!(end.reader.next().await.unwrap(), Body::Hello(_)));
        end.writer.send(Body::Hello(hello(as_member))).await.unwrap();
        end
    }

    /// Reads until the other end says that it closes, and why.
    pub(super) async fn closed(&mut self) -> String {
        loop {
            match self.reader.next().await.unwrap() {
                Body::Close(reason) => return reason,
                Body::Ping(_) | Body::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

pub(super) fn hello(member: u64) -> Hello {
    Hello { protocol: PROTOCOL, cluster_id: CLUSTER.into(), member, purpose: Purpose::Link.into() }
}
