//! Opening a connection, from either side: TCP, TLS, and the first frame both ways, after which each knows who the other
//! is. A certificate of the peers' authority is not enough: it must be the one of the member that the other claims to be.

use std::io;

use rustls::{
    client::verify_server_name,
    pki_types::{CertificateDer, ServerName},
    server::ParsedCertificate,
};
use tokio::{
    io::{ReadHalf, WriteHalf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{
    PeerConfig,
    frame::{Body, Hello, PROTOCOL, Purpose},
    net::Inner,
    server_name,
    wire::{Ended, FrameReader, FrameWriter, goodbye},
};

/// Bound of a frame as long as it is not known who speaks.
const HELLO_BYTES_MAX: usize = 4 << 10;

/// What a member is told that is one no more.
pub(super) const REMOVED: &str = "the cluster has removed this member";

/// An open connection.
pub(super) struct Connection {
    /// The other end.
    pub(super) member: u64,
    pub(super) purpose: Purpose,
    pub(super) reader: FrameReader<ReadHalf<TlsStream<TcpStream>>>,
    pub(super) writer: FrameWriter<WriteHalf<TlsStream<TcpStream>>>,
}

impl Connection {
    fn new(config: &PeerConfig, stream: TlsStream<TcpStream>) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            member: 0,
            purpose: Purpose::Unknown,
            reader: FrameReader::new(reader, HELLO_BYTES_MAX, config.connect_timeout),
            writer: FrameWriter::new(writer),
        }
    }

    pub(super) async fn goodbye(&mut self, reason: Option<String>) {
        goodbye(&mut self.reader, &mut self.writer, reason).await;
    }
}

fn timed_out() -> Ended {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

/// Opens a connection to a member.
pub(super) async fn connect(
    config: &PeerConfig,
    member: u64,
    address: &str,
    purpose: Purpose,
) -> Result<Connection, Ended> {
    let open = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = name_of(config, member)?;
        let connector = TlsConnector::from(config.tls.load().client.clone());
        let stream = connector.connect(name, stream).await?;
        let mut connection = Connection::new(config, TlsStream::Client(stream));
        connection.writer.send(Body::Hello(hello(config, purpose))).await?;
        let theirs = expect_hello(&mut connection).await?;
        if theirs.member != member {
            return Err(Ended::here(format!("it is member {}", theirs.member)));
        }
        agree(config, &theirs)?;
        (connection.member, connection.purpose) = (member, purpose);
        connection.reader.set_bounds(config.frame_bytes_max, config.silence_max);
        Ok(connection)
    };
    timeout(config.connect_timeout, open).await.map_err(|_| timed_out())?
}

/// Answers a connection that was accepted. Who is refused is told why, if it has a certificate of the authority.
pub(super) async fn accept(inner: &Inner, stream: TcpStream) -> Result<Connection, Ended> {
    let config = &inner.config;
    let open = async {
        stream.set_nodelay(true)?;
        let acceptor = TlsAcceptor::from(config.tls.load().server.clone());
        let stream = acceptor.accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
        Ok::<_, Ended>((Connection::new(config, TlsStream::Server(stream)), certificate))
    };
    let (mut connection, certificate) = timeout(config.connect_timeout, open).await.map_err(|_| timed_out())??;
    let greet = async {
        let theirs = expect_hello(&mut connection).await?;
        agree(config, &theirs)?;
        if !certificate.is_some_and(|certificate| is_of(config, theirs.member, &certificate)) {
            return Err(Ended::here(format!("the certificate is not that of member {}", theirs.member)));
        }
        // Its certificate is good for longer than its membership.
        if inner.removed.load().contains(&theirs.member) {
            return Err(Ended::here(REMOVED));
        }
        (connection.member, connection.purpose) = (theirs.member, theirs.purpose());
        connection.writer.send(Body::Hello(hello(config, theirs.purpose()))).await
    };
    match timeout(config.connect_timeout, greet).await.map_err(|_| timed_out())? {
        Ok(()) => {
            connection.reader.set_bounds(config.frame_bytes_max, config.silence_max);
            Ok(connection)
        }
        Err(ended) => {
            if let Ended::Here(reason) = &ended {
                connection.goodbye(Some(reason.clone())).await;
            }
            Err(ended)
        }
    }
}

fn hello(config: &PeerConfig, purpose: Purpose) -> Hello {
    Hello { protocol: PROTOCOL, cluster_id: config.cluster_id.clone(), member: config.member, purpose: purpose.into() }
}

async fn expect_hello(connection: &mut Connection) -> Result<Hello, Ended> {
    match connection.reader.next().await? {
        Body::Hello(hello) => Ok(hello),
        Body::Close(reason) => Err(Ended::There(reason)),
        _ => Err(Ended::here("the first frame is no hello")),
    }
}

fn agree(config: &PeerConfig, theirs: &Hello) -> Result<(), Ended> {
    if theirs.protocol != PROTOCOL {
        return Err(Ended::here(format!("protocol version {} and not {PROTOCOL}", theirs.protocol)));
    }
    if theirs.cluster_id != config.cluster_id {
        return Err(Ended::here(format!("of cluster {:?} and not {:?}", theirs.cluster_id, config.cluster_id)));
    }
    if theirs.member == config.member {
        return Err(Ended::here(format!("both ends are member {}", config.member)));
    }
    Ok(())
}

fn name_of(config: &PeerConfig, member: u64) -> Result<ServerName<'static>, Ended> {
    ServerName::try_from(server_name(member, &config.cluster_id)).map_err(|error| Ended::here(error.to_string()))
}

/// Whether a certificate, whose chain TLS has verified, is the one of a member.
fn is_of(config: &PeerConfig, member: u64, certificate: &CertificateDer<'_>) -> bool {
    let Ok(name) = name_of(config, member) else { return false };
    ParsedCertificate::try_from(certificate).is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
}
