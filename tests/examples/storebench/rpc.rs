//! What is spoken: the messages of etcd's KV service that are needed here, with the field numbers of its `rpc.proto`, and
//! gRPC's frame around a message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

/// The path of a put.
pub const PUT: &str = "/etcdserverpb.KV/Put";
/// The path of a get.
pub const RANGE: &str = "/etcdserverpb.KV/Range";
/// The type of every body.
pub const CONTENT_TYPE: &str = "application/grpc";
/// In front of a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// A message that is larger is refused, as etcd does by default.
pub const MESSAGE_BYTES_MAX: usize = 1_572_864;

/// Codes of gRPC.
pub mod code {
    pub const OK: u32 = 0;
    pub const INVALID_ARGUMENT: u32 = 3;
    pub const RESOURCE_EXHAUSTED: u32 = 8;
    pub const UNIMPLEMENTED: u32 = 12;
    pub const INTERNAL: u32 = 13;
    pub const UNAVAILABLE: u32 = 14;
}

/// `ResponseHeader`
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Header {
    #[prost(uint64, tag = "1")]
    pub cluster_id: u64,
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    #[prost(int64, tag = "3")]
    pub revision: i64,
    #[prost(uint64, tag = "4")]
    pub raft_term: u64,
}

/// `PutRequest`
#[derive(Clone, PartialEq, Message)]
pub struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
    #[prost(int64, tag = "3")]
    pub lease: i64,
    #[prost(bool, tag = "4")]
    pub prev_kv: bool,
    #[prost(bool, tag = "5")]
    pub ignore_value: bool,
    #[prost(bool, tag = "6")]
    pub ignore_lease: bool,
}

/// `PutResponse`
#[derive(Clone, PartialEq, Message)]
pub struct PutResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<Header>,
}

/// `RangeRequest`, as far as it is understood.
#[derive(Clone, PartialEq, Message)]
pub struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
    #[prost(int64, tag = "3")]
    pub limit: i64,
    #[prost(int64, tag = "4")]
    pub revision: i64,
    #[prost(bool, tag = "7")]
    pub serializable: bool,
}

/// `mvccpb.KeyValue`, without the count of changes, which navarch does not keep.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(int64, tag = "2")]
    pub create_revision: i64,
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub value: Bytes,
}

/// `RangeResponse`
#[derive(Clone, PartialEq, Message)]
pub struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<Header>,
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<KeyValue>,
    #[prost(bool, tag = "3")]
    pub more: bool,
    #[prost(int64, tag = "4")]
    pub count: i64,
}

/// A message in its frame.
pub fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + length);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // A buffer of bytes grows by itself: there is nothing that could fail.
    let _ = message.encode(&mut framed);
    framed.freeze()
}

/// The message of a body that holds one frame; nothing if it holds anything else.
pub fn unframe<M: Message + Default>(mut body: Bytes) -> Option<M> {
    if body.len() < PREFIX_BYTES || body.get_u8() != 0 || body.get_u32() as usize != body.len() {
        return None;
    }
    M::decode(body).ok()
}

/// Reads a body to its end. Nothing if it is too large or breaks off.
pub async fn read(stream: &mut h2::RecvStream) -> Option<Bytes> {
    let mut whole = Bytes::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk.ok()?;
        stream.flow_control().release_capacity(chunk.len()).ok()?;
        if whole.len() + chunk.len() > MESSAGE_BYTES_MAX + PREFIX_BYTES {
            return None;
        }
        // Nearly always it comes in one piece, and sometimes with an empty one after it.
        whole = match (whole.is_empty(), chunk.is_empty()) {
            (true, _) => chunk,
            (false, true) => whole,
            (false, false) => [whole, chunk].concat().into(),
        };
    }
    Some(whole)
}
