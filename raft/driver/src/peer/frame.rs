//! What is said between members: frames, each a protobuf message behind its length. Nothing here does I/O.
//!
//! A frame of a kind that is not known is skipped, so a newer member may say more; [`PROTOCOL`] is raised only when an
//! older one could not follow.

use bytes::{BufMut, Bytes, BytesMut};
use navarch_raft_contract::Outcome;
use prost::Message as _;
use raft::eraftpb;

use crate::shell::ProposeError;

/// The version of this protocol. Members of different versions do not talk.
pub(super) const PROTOCOL: u32 = 1;
/// Bytes of the length in front of a frame.
pub(super) const HEADER_BYTES: usize = 4;
/// More than a frame takes beside the message, command or chunk in it.
pub(super) const OVERHEAD_BYTES: usize = 64;
/// The key of [`Body::Message`], field 2 and length-delimited, as it is encoded.
const MESSAGE_KEY: u8 = (2 << 3) | 2;

/// One frame.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Frame {
    #[prost(oneof = "Body", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub(super) body: Option<Body>,
}

/// The kinds of frame.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Body {
    /// The first frame, both ways.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// A Raft message, in raft-rs's own encoding.
    #[prost(bytes = "bytes", tag = "2")]
    Message(Bytes),
    /// Are you there? The number comes back in the answer, and means something to the asker only.
    #[prost(uint64, tag = "3")]
    Ping(u64),
    /// Yes.
    #[prost(uint64, tag = "4")]
    Pong(u64),
    /// A forwarded proposal.
    #[prost(message, tag = "5")]
    Proposal(Proposal),
    /// What a forwarded proposal came to.
    #[prost(message, tag = "6")]
    Answer(Answer),
    /// The next bytes of a snapshot.
    #[prost(bytes = "bytes", tag = "7")]
    Chunk(Bytes),
    /// All chunks were sent; how many bytes they have together.
    #[prost(uint64, tag = "8")]
    End(u64),
    /// The snapshot is taken over (empty), or why not.
    #[prost(string, tag = "9")]
    Stored(String),
    /// The sender closes the connection on purpose, and why.
    #[prost(string, tag = "10")]
    Close(String),
}

/// Who speaks, and what for.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Hello {
    #[prost(uint32, tag = "1")]
    pub(super) protocol: u32,
    #[prost(string, tag = "2")]
    pub(super) cluster_id: String,
    #[prost(uint64, tag = "3")]
    pub(super) member: u64,
    #[prost(enumeration = "Purpose", tag = "4")]
    pub(super) purpose: i32,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Purpose {
    /// Not said.
    Unknown = 0,
    /// Messages, pings, proposals and their answers, for as long as both live.
    Link = 1,
    /// One snapshot.
    Snapshot = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Proposal {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) command: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Answer {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(oneof = "Answered", tags = "2, 3, 4, 5, 6, 7, 8, 9")]
    pub(super) answered: Option<Answered>,
}

/// An [`Outcome`] or a [`ProposeError`].
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Answered {
    #[prost(message, tag = "2")]
    Done(Done),
    #[prost(message, tag = "3")]
    Conflict(Conflict),
    /// The entry's term.
    #[prost(uint64, tag = "4")]
    Fenced(u64),
    /// The leader, 0 if it is not known.
    #[prost(uint64, tag = "5")]
    NotLeader(u64),
    #[prost(message, tag = "6")]
    Busy(Nothing),
    #[prost(message, tag = "7")]
    TooLarge(TooLarge),
    #[prost(message, tag = "8")]
    Unknown(Nothing),
    #[prost(message, tag = "9")]
    Stopped(Nothing),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Nothing {}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Done {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    first: u64,
    #[prost(uint64, tag = "3")]
    last: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Conflict {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    compare: u64,
    #[prost(uint64, tag = "3")]
    actual: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct TooLarge {
    #[prost(uint64, tag = "1")]
    bytes: u64,
    #[prost(uint64, tag = "2")]
    max: u64,
}

impl Answer {
    pub(super) fn new(id: u64, result: Result<Outcome, ProposeError>) -> Self {
        let answered = match result {
            Ok(Outcome::Done { index, first, last }) => Answered::Done(Done { index, first, last }),
            Ok(Outcome::Conflict { index, compare, actual }) => {
                Answered::Conflict(Conflict { index, compare: compare as u64, actual })
            }
            Ok(Outcome::Fenced { term }) => Answered::Fenced(term),
            Err(ProposeError::NotLeader { leader }) => Answered::NotLeader(leader.unwrap_or_default()),
            Err(ProposeError::Busy) => Answered::Busy(Nothing {}),
            Err(ProposeError::TooLarge { bytes, max }) => {
                Answered::TooLarge(TooLarge { bytes: bytes as u64, max: max as u64 })
            }
            // Changes of members are not forwarded.
            Err(ProposeError::Unknown | ProposeError::Members(_)) => Answered::Unknown(Nothing {}),
            Err(ProposeError::Stopped) => Answered::Stopped(Nothing {}),
        };
        Self { id, answered: Some(answered) }
    }

    /// An answer of a kind that is not known here leaves the outcome unknown.
    pub(super) fn result(self) -> Result<Outcome, ProposeError> {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        match self.answered {
            Some(Answered::Done(Done { index, first, last })) => Ok(Outcome::Done { index, first, last }),
            Some(Answered::Conflict(Conflict { index, compare, actual })) => {
                Ok(Outcome::Conflict { index, compare: size(compare), actual })
            }
            Some(Answered::Fenced(term)) => Ok(Outcome::Fenced { term }),
            Some(Answered::NotLeader(leader)) => {
                Err(ProposeError::NotLeader { leader: (leader != 0).then_some(leader) })
            }
            Some(Answered::Busy(_)) => Err(ProposeError::Busy),
            Some(Answered::TooLarge(TooLarge { bytes, max })) => {
                Err(ProposeError::TooLarge { bytes: size(bytes), max: size(max) })
            }
            Some(Answered::Stopped(_)) => Err(ProposeError::Stopped),
            Some(Answered::Unknown(_)) | None => Err(ProposeError::Unknown),
        }
    }
}

/// Appends a frame. A frame that is too long for its header is left out: bounds are kept far below that.
pub(super) fn put(body: Body, buffer: &mut BytesMut) {
    let frame = Frame { body: Some(body) };
    if let Ok(length) = u32::try_from(frame.encoded_len()) {
        buffer.put_u32(length);
        // A `BytesMut` grows: there is always room.
        let _ = frame.encode(buffer);
    }
}

/// As [`put`] of a [`Body::Message`], without a copy of the message's encoding in between.
pub(super) fn put_message(message: &eraftpb::Message, buffer: &mut BytesMut) {
    use prost11::Message as _;
    let bytes = message.encoded_len();
    let Ok(length) = u32::try_from(1 + prost::length_delimiter_len(bytes) + bytes) else { return };
    buffer.put_u32(length);
    buffer.put_u8(MESSAGE_KEY);
    let _ = prost::encode_length_delimiter(bytes, buffer);
    let _ = message.encode(buffer);
}

/// A Raft message's size as it is sent.
pub(super) fn message_bytes(message: &eraftpb::Message) -> usize {
    prost11::Message::encoded_len(message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn answers_come_out_as_they_went_in() {
        let cases = [
            Ok(Outcome::Done { index: 7, first: 3, last: 4 }),
            Ok(Outcome::Done { index: 7, first: 4, last: 3 }),
            Ok(Outcome::Conflict { index: 9, compare: 0, actual: 0 }),
            Ok(Outcome::Conflict { index: 9, compare: 2, actual: 11 }),
            Ok(Outcome::Fenced { term: 0 }),
            Ok(Outcome::Fenced { term: 5 }),
            Err(ProposeError::NotLeader { leader: None }),
            Err(ProposeError::NotLeader { leader: Some(3) }),
            Err(ProposeError::Busy),
            Err(ProposeError::TooLarge { bytes: 9, max: 8 }),
            Err(ProposeError::Unknown),
            Err(ProposeError::Stopped),
        ];
        for case in cases {
            let bytes = Answer::new(1, case.clone()).encode_to_vec();
            assert_eq!(Answer::decode(bytes.as_slice()).unwrap().result(), case);
        }
    }

    #[test]
    fn an_answer_of_no_known_kind_is_an_unknown_outcome() {
        assert_eq!(Answer { id: 1, answered: None }.result(), Err(ProposeError::Unknown));
    }

    #[test]
    fn a_message_put_directly_is_the_frame_it_would_be() {
        for size in [0, 1, 100, 200, 20_000, 3_000_000] {
            let message = eraftpb::Message { to: 1, from: 2, context: vec![7; size], ..Default::default() };
            let (mut direct, mut plain) = (BytesMut::new(), BytesMut::new());
            put_message(&message, &mut direct);
            put(Body::Message(prost11::Message::encode_to_vec(&message).into()), &mut plain);
            assert_eq!(direct, plain);
            assert!(direct.len() <= message_bytes(&message) + OVERHEAD_BYTES);
        }
    }
}
