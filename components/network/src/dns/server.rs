//! The DNS server: UDP and TCP on one address. Bad messages get an error or nothing, and cost nobody else anything.

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::DNSClass;
use ipnet::Ipv4Net;
use navarch_client::InformerFactory;
use navarch_supervision::{TaskContext, fault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::dns::records::{InformerRecords, Records};
use crate::dns::upstream::Upstream;
use crate::dns::zone::{Answer, Zone};
use crate::settings::NetworkSettings;

/// Questions to others in flight; more are answered with a failure at once.
const FORWARDS_MAX: usize = 512;
/// Open TCP connections.
const CONNECTIONS_MAX: usize = 128;
/// How long a TCP connection may be silent.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// The largest UDP answer that is not fragmented on any link worth mention.
const UDP_BYTES_MAX: u16 = 1232;
const UDP_BYTES_MIN: u16 = 512;
/// While the address is not there yet.
const BIND_RETRY: Duration = Duration::from_millis(200);

/// Answers messages.
pub struct Server<R> {
    zone: Zone,
    records: R,
    upstream: Upstream,
    forwards: Semaphore,
}

/// What to do with a message.
enum Step {
    /// Send this.
    Send(Message),
    /// Ask others with the message as it came.
    Forward,
    /// Ask others for the alias' target and add what they say.
    Chase(Message, Query),
    /// Nothing: it is no question.
    Ignore,
}

fn failure(request: &Message, code: ResponseCode) -> Message {
    let mut message = respond(request);
    message.metadata.response_code = code;
    message
}

fn respond(request: &Message) -> Message {
    let mut message = Message::response(request.metadata.id, request.metadata.op_code);
    message.metadata.recursion_desired = request.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.add_queries(request.queries.iter().cloned());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES_MAX);
        message.set_edns(edns);
    }
    message
}

impl<R: Records> Server<R> {
    /// Over records and other servers.
    pub fn new(zone: Zone, records: R, upstream: Upstream) -> Self {
        Self { zone, records, upstream, forwards: Semaphore::new(FORWARDS_MAX) }
    }

    fn decide(&self, request: &Message) -> Step {
        if request.metadata.message_type != MessageType::Query {
            return Step::Ignore;
        }
        if request.metadata.op_code != OpCode::Query {
            return Step::Send(failure(request, ResponseCode::NotImp));
        }
        let [query] = request.queries.as_slice() else { return Step::Send(failure(request, ResponseCode::FormErr)) };
        if query.query_class() != DNSClass::IN {
            return Step::Send(failure(request, ResponseCode::Refused));
        }
        let mut message = respond(request);
        message.metadata.authoritative = true;
        match self.zone.answer(query.name(), query.query_type(), &self.records) {
            Answer::Records(answers, besides) => {
                message.add_answers(answers);
                message.add_additionals(besides);
            }
            Answer::Alias(record, target) => {
                message.add_answer(record);
                return Step::Chase(message, Query::query(target, query.query_type()));
            }
            Answer::NoData(soa) => drop(message.add_authority(soa)),
            Answer::Denied(soa) => {
                message.add_authority(soa);
                message.metadata.response_code = ResponseCode::NXDomain;
            }
            Answer::Elsewhere => return Step::Forward,
        }
        Step::Send(message)
    }

    /// Answers one message; `None` sends nothing.
    pub async fn handle(&self, bytes: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let Ok(request) = Message::from_vec(bytes) else {
            // Enough of a header to say so: the id, and that it is no answer itself.
            let id = u16::from_be_bytes(*bytes.first_chunk::<2>()?);
            if bytes.len() < 12 || bytes[2] & 0x80 != 0 {
                return None;
            }
            return Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok();
        };
        let limit = match (over_tcp, &request.edns) {
            (true, _) => u16::MAX,
            (false, Some(edns)) => edns.max_payload().clamp(UDP_BYTES_MIN, UDP_BYTES_MAX),
            (false, None) => UDP_BYTES_MIN,
        };
        match self.decide(&request) {
            Step::Ignore => None,
            Step::Send(message) => encode(&message, limit),
            Step::Forward => match self.forward(bytes, over_tcp).await {
                Some(answer) => Some(answer),
                None => encode(&failure(&request, ResponseCode::ServFail), limit),
            },
            Step::Chase(message, target) => encode(&self.chase(message, target, over_tcp).await, limit),
        }
    }

    async fn forward(&self, query: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let _permit = self.forwards.try_acquire().ok()?;
        self.upstream.ask(query, over_tcp).await
    }

    /// Adds an alias' records. Within the cluster they are at hand; an alias of an alias is left to the client.
    async fn chase(&self, mut message: Message, target: Query, over_tcp: bool) -> Message {
        match self.zone.answer(target.name(), target.query_type(), &self.records) {
            Answer::Records(answers, _) => drop(message.add_answers(answers)),
            Answer::Elsewhere => {
                let mut query = Message::query();
                query.metadata.recursion_desired = true;
                query.add_query(target);
                let Ok(bytes) = query.to_vec() else { return message };
                let answer = self.forward(&bytes, over_tcp).await.and_then(|bytes| Message::from_vec(&bytes).ok());
                match answer {
                    Some(answer) => {
                        message.metadata.authoritative = false;
                        message.metadata.response_code = answer.metadata.response_code;
                        message.add_answers(answer.answers);
                    }
                    None => message.metadata.response_code = ResponseCode::ServFail,
                }
            }
            _ => {}
        }
        message
    }
}

fn encode(message: &Message, limit: u16) -> Option<Vec<u8>> {
    let bytes = message.to_vec().ok()?;
    if bytes.len() <= usize::from(limit) { Some(bytes) } else { message.truncate().to_vec().ok() }
}

async fn serve_udp<R: Records + Send + Sync + 'static>(server: Arc<Server<R>>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; 4096];
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = tasks.join_next() => {}
            received = socket.recv_from(&mut buffer) => {
                // A client that is gone already shows here as an error of a later receive: not of interest.
                let Ok((length, from)) = received else { continue };
                if tasks.len() >= FORWARDS_MAX * 2 {
                    continue;
                }
                let (server, socket, bytes) = (Arc::clone(&server), Arc::clone(&socket), buffer[..length].to_vec());
                tasks.spawn(async move {
                    if let Some(answer) = server.handle(&bytes, false).await {
                        let _ = socket.send_to(&answer, from).await;
                    }
                });
            }
        }
    }
}

async fn serve_connection<R: Records>(server: &Server<R>, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let length = tokio::time::timeout(SILENT_MAX, stream.read_u16()).await.map_err(std::io::Error::other)??;
        let mut bytes = vec![0; usize::from(length)];
        tokio::time::timeout(SILENT_MAX, stream.read_exact(&mut bytes)).await.map_err(std::io::Error::other)??;
        let Some(answer) = server.handle(&bytes, true).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        tokio::time::timeout(SILENT_MAX, stream.write_all(&framed)).await.map_err(std::io::Error::other)??;
    }
}

async fn serve_tcp<R: Records + Send + Sync + 'static>(server: Arc<Server<R>>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    let server = Arc::clone(&server);
                    // How a connection ends is the client's affair.
                    connections.spawn(async move { drop(serve_connection(&server, stream).await) });
                }
                // Out of descriptors, most likely: do not spin.
                Err(_) => tokio::time::sleep(BIND_RETRY).await,
            },
        }
    }
}

/// Serves on bound sockets until dropped.
pub async fn serve<R: Records + Send + Sync + 'static>(server: Arc<Server<R>>, udp: UdpSocket, tcp: TcpListener) {
    tokio::join!(serve_udp(Arc::clone(&server), Arc::new(udp)), serve_tcp(server, tcp));
}

/// What the task works with.
#[derive(Clone)]
pub(crate) struct DnsTask {
    informers: InformerFactory,
    listen: SocketAddrV4,
    domain: String,
    ranges: Vec<Ipv4Net>,
    resolv_conf: std::path::PathBuf,
}

impl DnsTask {
    pub(crate) fn new(informers: InformerFactory, listen: SocketAddrV4, settings: &NetworkSettings) -> Self {
        let ranges = settings.cluster_ranges.iter().chain(&settings.service_ranges).copied().collect();
        let (domain, resolv_conf) = (settings.cluster_domain.clone(), settings.resolv_conf.clone());
        Self { informers, listen, domain, ranges, resolv_conf }
    }
}

async fn bind(listen: SocketAddr) -> std::io::Result<(UdpSocket, TcpListener)> {
    Ok((UdpSocket::bind(listen).await?, TcpListener::bind(listen).await?))
}

/// The task.
pub(crate) async fn run(task: DnsTask, ctx: TaskContext) -> Result<(), String> {
    fault::point("network/dns");
    let listen = SocketAddr::V4(task.listen);
    let zone = Zone::new(&task.domain, task.ranges, *task.listen.ip())?;
    let records = InformerRecords::new(&task.informers);
    let start = async {
        // An incomplete zone would deny names that exist.
        records.synced().await;
        let mut warned = false;
        loop {
            match bind(listen).await {
                Ok(bound) => return bound,
                Err(error) => {
                    if !std::mem::replace(&mut warned, true) {
                        tracing::warn!(%listen, %error, "DNS cannot listen yet");
                    }
                    tokio::time::sleep(BIND_RETRY).await;
                }
            }
        }
    };
    let (udp, tcp) = tokio::select! {
        () = ctx.stopped() => return Ok(()),
        bound = start => bound,
    };
    let server = Arc::new(Server::new(zone, records, Upstream::new(&task.resolv_conf, listen)));
    tokio::select! {
        () = ctx.stopped() => Ok(()),
        () = serve(server, udp, tcp) => Ok(()),
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
