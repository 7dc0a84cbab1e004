//! `serve`: etcd's puts and gets on a member's store. A put is answered when the store says that it is committed: synced by
//! a quorum and applied here. On a follower it is forwarded, as the program does.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response};
use navarch_store::{KeyRange, Op, OpKind, Store, StoreError, Txn};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::member::{Member, MemberOptions};
use crate::rpc::{self, code};
use crate::{Fallible, certs};

/// How long a put may take, as long as the program gives a request.
const DEADLINE: Duration = Duration::from_secs(34);
/// Keys in one answer where the client names no limit.
const RANGE_KEYS_MAX: usize = 10_000;
/// Requests of one connection at a time, as etcd has it by default: no bound.
const STREAMS_MAX: u32 = u32::MAX;
/// What the other side may send ahead.
const WINDOW_BYTES: u32 = 1 << 20;

/// What a member is told.
#[derive(clap::Args)]
pub struct ServeOptions {
    #[command(flatten)]
    member: MemberOptions,
    /// The port on 127.0.0.1 for clients.
    #[arg(long)]
    port: u16,
    /// The folder of `certs`.
    #[arg(long)]
    certs: PathBuf,
    /// Threads that serve clients. One is enough for one processor.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

/// What answers.
#[derive(Clone)]
struct Service {
    store: Store,
    member: u64,
    term: tokio::sync::watch::Receiver<navarch_raft_driver::Status>,
}

/// An answer's code where it is not OK.
type Refusal = u32;

fn refusal(error: &StoreError) -> Refusal {
    match error {
        StoreError::Busy | StoreError::NoSpace => code::RESOURCE_EXHAUSTED,
        StoreError::Read(_) => code::INTERNAL,
        _ => code::UNAVAILABLE,
    }
}

/// Revisions have a sign in etcd, and never come near it.
fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

impl Service {
    fn header(&self, revision: u64) -> rpc::Header {
        let raft_term = self.term.borrow().term;
        rpc::Header { cluster_id: 1, member_id: self.member, revision: signed(revision), raft_term }
    }

    async fn answer(&self, path: &str, body: Bytes) -> Result<Bytes, Refusal> {
        fn decode<M: Message + Default>(body: Bytes) -> Result<M, Refusal> {
            rpc::unframe(body).ok_or(code::INVALID_ARGUMENT)
        }
        match path {
            rpc::PUT => Ok(rpc::frame(&self.put(decode(body)?).await?)),
            rpc::RANGE => Ok(rpc::frame(&self.range(decode(body)?).await?)),
            _ => Err(code::UNIMPLEMENTED),
        }
    }

    async fn put(&self, put: rpc::PutRequest) -> Result<rpc::PutResponse, Refusal> {
        if put.key.is_empty() {
            return Err(code::INVALID_ARGUMENT);
        }
        if put.lease != 0 || put.prev_kv || put.ignore_value || put.ignore_lease {
            return Err(code::UNIMPLEMENTED);
        }
        let op = Op { kind: OpKind::Put as i32, key: put.key, value: put.value, expires_at_ms: 0 };
        let txn = Txn { compares: Vec::new(), ops: vec![op] };
        let committed = self.store.commit(txn, None, Instant::now() + DEADLINE).await;
        let committed = committed.map_err(|error| refusal(&error))?;
        Ok(rpc::PutResponse { header: Some(self.header(committed.last)) })
    }

    async fn range(&self, range: rpc::RangeRequest) -> Result<rpc::RangeResponse, Refusal> {
        if !range.serializable {
            self.store.barrier(Instant::now() + DEADLINE).await.map_err(|error| refusal(&error))?;
        }
        let at = u64::try_from(range.revision).ok().filter(|revision| *revision != 0);
        let limit = usize::try_from(range.limit).ok().filter(|limit| *limit != 0).unwrap_or(RANGE_KEYS_MAX);
        // Etcd's way to ask for one key; the first key after it ends with one byte more.
        let one = [&range.key[..], &[0]].concat();
        let end = if range.range_end.is_empty() { one.into() } else { range.range_end };
        let read = self.store.reader().range(&KeyRange { start: range.key, end }, at, limit);
        let (page, revision) = read.map_err(|error| refusal(&StoreError::Read(error)))?;
        let kvs = page.items.into_iter().map(|item| rpc::KeyValue {
            key: item.key,
            create_revision: signed(item.create_revision),
            mod_revision: signed(item.mod_revision),
            value: item.value,
        });
        let kvs: Vec<_> = kvs.collect();
        let count = signed(kvs.len() as u64);
        Ok(rpc::RangeResponse { header: Some(self.header(revision)), kvs, more: page.more, count })
    }
}

async fn respond(
    service: Service,
    request: http::Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let answer = match rpc::read(&mut body).await {
        Some(body) => service.answer(head.uri.path(), body).await,
        None => Err(code::INVALID_ARGUMENT),
    };
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static(rpc::CONTENT_TYPE));
    match answer {
        Ok(message) => {
            let mut stream = respond.send_response(response, false)?;
            stream.send_data(message, false)?;
            let mut trailers = HeaderMap::with_capacity(1);
            trailers.insert("grpc-status", HeaderValue::from(code::OK));
            stream.send_trailers(trailers)
        }
        Err(refusal) => {
            response.headers_mut().insert("grpc-status", HeaderValue::from(refusal));
            respond.send_response(response, true).map(drop)
        }
    }
}

async fn connection(service: Service, stream: TcpStream, tls: TlsAcceptor) -> Fallible<()> {
    stream.set_nodelay(true)?;
    let stream = tls.accept(stream).await?;
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(STREAMS_MAX);
    builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
    let mut connection = builder.handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, response) = request?;
        // A client that has gone does not want its answer.
        tokio::spawn(respond(service.clone(), request, response));
    }
    Ok(())
}

async fn accept(service: Service, listener: TcpListener, tls: TlsAcceptor) -> Fallible<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let (service, tls) = (service.clone(), tls.clone());
        tokio::spawn(async move {
            if let Err(error) = connection(service, stream, tls).await {
                eprintln!("storebench: a connection ended: {error}");
            }
        });
    }
}

async fn serve(options: &ServeOptions) -> Fallible<()> {
    let tls = TlsAcceptor::from(certs::server_config(&options.certs)?);
    let listener = TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), options.port)).await?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let member = Member::open(&options.member, &certs::member_pki(&options.certs, options.member.member))?;
    let service = Service { store: member.store.clone(), member: options.member.member, term: member.raft.watch() };
    let compactor = tokio::spawn(member.compactor());
    let ended = tokio::select! {
        ended = tokio::spawn(accept(service, listener, tls)) => ended?,
        ended = compactor => ended?,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    member.close().await;
    ended
}

/// Runs until it is told to stop.
pub fn run(options: &ServeOptions) -> Fallible<()> {
    let mut builder = match options.threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(options.threads.max(1)).enable_all().build()?.block_on(serve(options))
}
