//! What is wrong with bytes or with an object. The texts quote neither.

use crate::name::Str;

/// Why bytes are no object. The texts are upstream's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There is nothing: no data, or no body after the prefix.
    #[error("empty {0}")]
    Empty(&'static str),
    /// Something else than an envelope.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    /// The bytes end inside a field.
    #[error("unexpected EOF")]
    End,
    /// A number of more than 64 bits.
    #[error("proto: integer overflow")]
    Overflow,
    /// A field that cannot be.
    #[error("proto: illegal tag {0} (wire type {1})")]
    Tag(i32, u8),
    /// Groups that do not match.
    #[error("proto: unexpected end of group")]
    Group,
    /// A field that is sent as another type.
    #[error("proto: wrong wireType = {0} for field {1}")]
    Wire(u8, Str),
    /// A field with a value that JSON cannot have: what, and which.
    #[error("proto: {0} in field {1}")]
    Value(&'static str, Str),
    /// JSON inside a field.
    #[error("proto: field {0}: {1}")]
    Json(Str, String),
    /// Messages in messages without end.
    #[error("proto: exceeded max depth")]
    Deep,
}

/// Why an object is not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A kind that has no protobuf form.
    #[error("{0} has no protobuf form")]
    Kind(Str),
    /// A field that is not of its type.
    #[error("field {0} does not fit its type")]
    Field(Str),
}
