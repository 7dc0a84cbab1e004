//! The form in which a whole state travels: from member to member, and into files.
//!
//! ```text
//! "NAVARCH2"
//! blocks:  length (u32), its complement (u32), bytes, the first 8 bytes of the SHA-256 of everything before them
//! end:     length 0, its complement, the SHA-256 of everything before it
//! ```
//! The blocks put together are records in order of their keys: length of the key, length of the value (u32 each), key,
//! value. Numbers are big-endian. Every block carries a checksum of its own, so that damage is told by its place, and none
//! of a damaged block is used.

use std::io;

use navarch_raft_contract::SnapshotError;
use sha2::{Digest, Sha256};

const NAME: &[u8; 7] = b"NAVARCH";
/// The form that is written, and the only one that is read.
pub const FORM: u8 = b'2';
/// A block is filled up to this; one record may make it larger.
pub const BLOCK_BYTES: usize = 256 << 10;
/// The largest block that is taken: a record is far smaller than the largest request.
const BLOCK_BYTES_MAX: usize = 64 << 20;
const SUM_BYTES: usize = 32;
/// Enough to find what happens by accident; the sum at the end is for the rest.
const BLOCK_SUM_BYTES: usize = 8;

fn damaged(what: impl Into<String>) -> SnapshotError {
    SnapshotError::Damaged(what.into())
}

/// Writes a stream.
#[derive(Default)]
pub struct Encoder {
    sum: Sha256,
}

impl Encoder {
    fn give(&mut self, out: &mut Vec<u8>, bytes: &[u8]) {
        self.sum.update(bytes);
        out.extend_from_slice(bytes);
    }

    fn length(&mut self, out: &mut Vec<u8>, length: u32) {
        self.give(out, &length.to_be_bytes());
        self.give(out, &(!length).to_be_bytes());
    }

    /// The beginning.
    pub fn begin(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(NAME.len() + 1);
        self.give(&mut out, NAME);
        self.give(&mut out, &[FORM]);
        out
    }

    /// A block, which is not empty.
    ///
    /// # Errors
    /// If it is too large.
    pub fn block(&mut self, block: &[u8]) -> Result<Vec<u8>, SnapshotError> {
        let length = u32::try_from(block.len()).ok().filter(|_| block.len() <= BLOCK_BYTES_MAX);
        let length = length.ok_or_else(|| damaged(format!("a block of {} bytes", block.len())))?;
        let mut out = Vec::with_capacity(block.len() + 2 * BLOCK_SUM_BYTES);
        self.length(&mut out, length);
        self.give(&mut out, block);
        let sum = self.sum.clone().finalize();
        self.give(&mut out, &sum[..BLOCK_SUM_BYTES]);
        Ok(out)
    }

    /// The end.
    pub fn end(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + SUM_BYTES);
        self.length(&mut out, 0);
        out.extend(std::mem::take(&mut self.sum).finalize());
        out
    }
}

/// Appends a record to a block.
///
/// # Errors
/// If a part is too large.
pub fn put_record(block: &mut Vec<u8>, key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
    for part in [key, value] {
        let length = u32::try_from(part.len()).map_err(|_| damaged("a record of more than 4 GiB"))?;
        block.extend_from_slice(&length.to_be_bytes());
    }
    block.extend_from_slice(key);
    block.extend_from_slice(value);
    Ok(())
}

/// Calls `each` with the records of a block.
///
/// # Errors
/// If it does not divide into such, and what `each` says.
pub fn records(
    mut block: &[u8],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    fn take<'b>(block: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = block.split_at_checked(length)?;
        *block = rest;
        Some(taken)
    }
    fn one<'b>(block: &mut &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        let mut length = || take(block, 4)?.try_into().ok().map(|four| u32::from_be_bytes(four) as usize);
        let (key, value) = (length()?, length()?);
        Some((take(block, key)?, take(block, value)?))
    }
    while !block.is_empty() {
        let (key, value) = one(&mut block).ok_or_else(|| damaged("a block's records"))?;
        each(key, value)?;
    }
    Ok(())
}

/// How far a decoder is.
#[derive(Clone, Copy)]
enum Expect {
    Magic,
    Length,
    Block(usize),
    BlockSum(usize),
    Sum,
    Nothing,
}

/// Reads a stream, handed in piece by piece.
pub struct Decoder {
    expect: Expect,
    buffer: Vec<u8>,
    block: Vec<u8>,
    sum: Sha256,
    /// Bytes before those in the buffer.
    offset: u64,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { expect: Expect::Magic, buffer: Vec::new(), block: Vec::new(), sum: Sha256::new(), offset: 0 }
    }
}

impl Decoder {
    /// Takes bytes; calls `take` with each block that is here whole and as it was written.
    ///
    /// # Errors
    /// What is wrong, and where; what `take` says.
    pub fn push(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        self.buffer.extend_from_slice(bytes);
        while self.step(&mut take)? {}
        Ok(())
    }

    /// All bytes are here.
    ///
    /// # Errors
    /// If some are missing.
    pub fn finish(&self) -> Result<(), SnapshotError> {
        match self.expect {
            Expect::Nothing => Ok(()),
            _ => Err(damaged(format!("it ends early, after {} bytes", self.offset + self.buffer.len() as u64))),
        }
    }

    /// The next piece, if it is here whole.
    fn piece(&mut self, length: usize) -> Option<Vec<u8>> {
        if self.buffer.len() < length {
            return None;
        }
        let rest = self.buffer.split_off(length);
        self.offset += length as u64;
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    /// Takes one piece. `false` if it is not here yet.
    fn step(&mut self, take: &mut impl FnMut(&[u8]) -> Result<(), SnapshotError>) -> Result<bool, SnapshotError> {
        let wanted = match self.expect {
            Expect::Magic => NAME.len() + 1,
            Expect::Length => 8,
            Expect::Block(length) => length,
            Expect::BlockSum(_) => BLOCK_SUM_BYTES,
            Expect::Sum => SUM_BYTES,
            Expect::Nothing if self.buffer.is_empty() => return Ok(false),
            Expect::Nothing => return Err(damaged(format!("there are bytes after its end, at byte {}", self.offset))),
        };
        let at = self.offset;
        let Some(piece) = self.piece(wanted) else { return Ok(false) };
        let before = self.sum.clone();
        self.sum.update(&piece);
        self.expect = match self.expect {
            Expect::Magic => {
                begins(&piece)?;
                Expect::Length
            }
            Expect::Length => match length(&piece).ok_or_else(|| damaged(format!("a length at byte {at}")))? {
                0 => Expect::Sum,
                length => Expect::Block(length),
            },
            Expect::Block(length) => {
                self.block = piece;
                Expect::BlockSum(length)
            }
            Expect::BlockSum(length) => {
                if before.finalize()[..BLOCK_SUM_BYTES] != piece {
                    let from = at - length as u64;
                    return Err(damaged(format!("between byte {from} and byte {}", at + BLOCK_SUM_BYTES as u64)));
                }
                take(&std::mem::take(&mut self.block))?;
                Expect::Length
            }
            Expect::Sum if before.finalize()[..] == piece => Expect::Nothing,
            Expect::Sum => return Err(damaged(format!("the checksum at its end, at byte {at}"))),
            Expect::Nothing => Expect::Nothing,
        };
        Ok(true)
    }
}

fn length(piece: &[u8]) -> Option<usize> {
    let (length, complement) = piece.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length);
    (length == !u32::from_be_bytes(complement.try_into().ok()?) && length as usize <= BLOCK_BYTES_MAX)
        .then_some(length as usize)
}

fn begins(piece: &[u8]) -> Result<(), SnapshotError> {
    match piece.strip_prefix(NAME) {
        Some([FORM]) => Ok(()),
        Some(other) => Err(SnapshotError::Io(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "it is of form {:?}, and this version reads form {:?}",
                String::from_utf8_lossy(other),
                char::from(FORM)
            ),
        ))),
        None => Err(damaged("it does not begin as one")),
    }
}
