//! The whole state as a stream of bytes, and back.
//!
//! ```text
//! "NAVARCH1"  then blocks: length (u32, big-endian), bytes   then length 0, SHA-256 of all bytes before it
//! ```
//! The blocks put together are records in order of their keys: length of the key, length of the value (u32 each), key,
//! value. The records are those of the state database, whatever keeps them, so a stream can be read on any machine.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Read, Write},
    sync::Arc,
};

use navarch_raft_contract::{Index, SnapshotError, SnapshotMeta, SnapshotSink, SnapshotSource};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::decode_meta;
use crate::{
    hash, keys,
    kv::{Cursor, Kv, KvError, KvView, WriteSet},
    record::{Latest, Meta, Version},
};

const MAGIC: &[u8; 8] = b"NAVARCH1";
/// A block is filled up to this; one record may make it larger.
const BLOCK_BYTES: usize = 256 << 10;
/// The largest block that is taken: a record is far smaller than the largest request.
const BLOCK_BYTES_MAX: usize = 64 << 20;
/// The first key after all records.
const END: &[u8] = &[0xff];

/// States that were received and verified, by their last entry. A second one may arrive while the first is about to be
/// installed.
pub(super) type Staged<K> = Arc<Mutex<BTreeMap<Index, (Meta, K)>>>;

/// More are not received before one of them is installed.
const STAGED_MAX: usize = 3;

/// Makes room for another one: what is behind the present state is of no use any more.
pub(super) fn make_room<K>(staged: &Staged<K>, applied: Index) -> Result<(), SnapshotError> {
    let mut staged = staged.lock();
    staged.retain(|index, _| *index > applied);
    if staged.len() < STAGED_MAX {
        return Ok(());
    }
    Err(SnapshotError::Io(io::Error::new(io::ErrorKind::ResourceBusy, "other states wait to be installed")))
}

pub(super) fn failed(error: KvError) -> SnapshotError {
    SnapshotError::Database(error.0)
}

fn damaged(what: impl Into<String>) -> SnapshotError {
    SnapshotError::Damaged(what.into())
}

fn describe(meta: &Meta) -> SnapshotMeta {
    SnapshotMeta {
        index: meta.index,
        term: meta.term,
        revision: meta.revision,
        members: meta.members.clone().unwrap_or_default(),
    }
}

/// Takes the staged state after `index`, which must not be behind what is applied. Older ones are dropped.
pub(super) fn take_staged<K>(staged: &Staged<K>, index: Index, applied: Index) -> Result<(Meta, K), SnapshotError> {
    let mut staged = staged.lock();
    if index < applied {
        return Err(damaged(format!("it is of entry {index}, and {applied} is applied")));
    }
    let found = staged.remove(&index).ok_or_else(|| damaged(format!("none of entry {index} is staged")));
    staged.retain(|other, _| *other > index);
    found
}

/// Recomputes the state's hash from values, and checks what must hold of every record on the way.
///
/// # Errors
/// What is wrong with which record, or that the sum differs.
pub fn verify<K: Kv>(kv: &K) -> Result<SnapshotMeta, SnapshotError> {
    let view = kv.view();
    let meta = decode_meta(view.get(keys::META).map_err(failed)?).map_err(damaged)?;
    let (mut sum, mut cursor) = (0u64, view.cursor(keys::latest(b""), keys::latest_end()).map_err(failed)?);
    while let Some((encoded, record)) = cursor.entry() {
        let key = keys::latest_key(encoded).ok_or_else(|| damaged("a latest key"))?;
        let shown = || String::from_utf8_lossy(key).into_owned();
        let latest = Latest::decode(record).ok_or_else(|| damaged(format!("latest record of {}", shown())))?;
        let stored = view.get(&keys::version(key, latest.modified)).map_err(failed)?;
        let stored = stored.ok_or_else(|| damaged(format!("the value of {} is missing", shown())))?;
        let version = Version::decode(&stored).ok_or_else(|| damaged(format!("value record of {}", shown())))?;
        let share = hash::share(key, latest.modified, version.value);
        if share != latest.hash {
            return Err(damaged(format!("the value of {} at {} is not what was written", shown(), latest.modified)));
        }
        sum = sum.wrapping_add(share);
        cursor.advance().map_err(failed)?;
    }
    if sum != meta.hash {
        return Err(damaged(format!("the hash of what lives is {sum:016x}, must be {:016x}", meta.hash)));
    }
    Ok(describe(&meta))
}

/// Reads a frozen state as a stream.
pub(super) struct Source<K> {
    kv: K,
    meta: SnapshotMeta,
    /// Where the next block begins; `None` after the last.
    next: Option<Vec<u8>>,
    ready: VecDeque<u8>,
    sum: Sha256,
}

impl<K: Kv> Source<K> {
    pub(super) fn new(kv: K) -> Result<Self, SnapshotError> {
        let meta = decode_meta(kv.get(keys::META).map_err(failed)?).map_err(damaged)?;
        let mut this =
            Self { kv, meta: describe(&meta), next: Some(Vec::new()), ready: VecDeque::new(), sum: Sha256::new() };
        this.give(MAGIC);
        Ok(this)
    }

    fn give(&mut self, bytes: &[u8]) {
        self.sum.update(bytes);
        self.ready.extend(bytes);
    }

    /// One block more, or the end.
    fn refill(&mut self, from: Vec<u8>) -> Result<(), SnapshotError> {
        let mut block = Vec::with_capacity(BLOCK_BYTES + 4096);
        self.next = {
            let view = self.kv.view();
            let mut cursor = view.cursor(from, END.to_vec()).map_err(failed)?;
            loop {
                let Some((key, value)) = cursor.entry() else { break None };
                if block.len() >= BLOCK_BYTES {
                    break Some(key.to_vec());
                }
                for part in [key, value] {
                    let length = u32::try_from(part.len()).map_err(|_| damaged("a record of more than 4 GiB"))?;
                    block.extend_from_slice(&length.to_be_bytes());
                }
                block.extend_from_slice(key);
                block.extend_from_slice(value);
                cursor.advance().map_err(failed)?;
            }
        };
        let length = u32::try_from(block.len()).map_err(|_| damaged("a block of more than 4 GiB"))?;
        if length > 0 {
            self.give(&length.to_be_bytes());
            self.give(&block);
        }
        if self.next.is_none() {
            self.give(&[0; 4]);
            let sum = std::mem::take(&mut self.sum).finalize();
            self.ready.extend(sum);
        }
        Ok(())
    }
}

impl<K: Kv> Read for Source<K> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty()
            && let Some(from) = self.next.take()
        {
            self.refill(from).map_err(io::Error::other)?;
        }
        self.ready.read(into)
    }
}

impl<K: Kv> SnapshotSource for Source<K> {
    fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }
}

/// How far a sink is.
enum Expect {
    Magic,
    Length,
    Block(usize),
    Sum,
    Nothing,
}

/// Writes a stream into an empty keeper.
pub(super) struct Sink<K> {
    kv: K,
    staged: Staged<K>,
    expect: Expect,
    buffer: Vec<u8>,
    sum: Sha256,
}

impl<K: Kv> Sink<K> {
    pub(super) fn new(kv: K, staged: Staged<K>) -> Self {
        Self { kv, staged, expect: Expect::Magic, buffer: Vec::new(), sum: Sha256::new() }
    }

    /// The next piece, if it is here whole.
    fn piece(&mut self, length: usize) -> Option<Vec<u8>> {
        if self.buffer.len() < length {
            return None;
        }
        let rest = self.buffer.split_off(length);
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    /// Takes one piece. `false` if it is not here yet.
    fn step(&mut self) -> Result<bool, SnapshotError> {
        let wanted = match self.expect {
            Expect::Magic => MAGIC.len(),
            Expect::Length => 4,
            Expect::Block(length) => length,
            Expect::Sum => 32,
            Expect::Nothing if self.buffer.is_empty() => return Ok(false),
            Expect::Nothing => return Err(damaged("bytes after its end")),
        };
        let Some(piece) = self.piece(wanted) else { return Ok(false) };
        let next = match self.expect {
            Expect::Magic if piece == MAGIC => Expect::Length,
            Expect::Magic => return Err(damaged("it does not begin as one")),
            Expect::Length => match piece.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)) {
                0 => Expect::Sum,
                length if length <= BLOCK_BYTES_MAX => Expect::Block(length),
                length => return Err(damaged(format!("a block of {length} bytes"))),
            },
            Expect::Block(_) => {
                self.kv.write(records(&piece).ok_or_else(|| damaged("a block's records"))?).map_err(failed)?;
                Expect::Length
            }
            Expect::Sum if self.sum.clone().finalize()[..] == piece => Expect::Nothing,
            Expect::Sum => return Err(damaged("its checksum differs")),
            Expect::Nothing => return Ok(false),
        };
        if !matches!(next, Expect::Nothing) {
            self.sum.update(&piece);
        }
        self.expect = next;
        Ok(true)
    }
}

/// The records of a block; `None` if it does not divide into such.
fn records(mut block: &[u8]) -> Option<WriteSet> {
    fn take<'b>(block: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = block.split_at_checked(length)?;
        *block = rest;
        Some(taken)
    }
    let mut set = WriteSet::default();
    while !block.is_empty() {
        let mut length = || take(&mut block, 4)?.try_into().ok().map(|four| u32::from_be_bytes(four) as usize);
        let (key, value) = (length()?, length()?);
        let key = take(&mut block, key)?.to_vec();
        set.put(key, take(&mut block, value)?.to_vec());
    }
    Some(set)
}

impl<K: Kv> Write for Sink<K> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        while self.step().map_err(io::Error::other)? {}
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<K: Kv + 'static> SnapshotSink for Sink<K> {
    fn finish(self: Box<Self>) -> Result<SnapshotMeta, SnapshotError> {
        if !matches!(self.expect, Expect::Nothing) {
            return Err(damaged("it ends early"));
        }
        self.kv.flush().map_err(failed)?;
        // What was summed on the way is not yet proved to be a state.
        let described = verify(&self.kv)?;
        let meta = decode_meta(self.kv.get(keys::META).map_err(failed)?).map_err(damaged)?;
        self.staged.lock().insert(meta.index, (meta, self.kv));
        Ok(described)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use bytes::Bytes;
    use navarch_raft_contract::{
        Batch, Command, CommandBody, CommittedEntry, Op, OpKind, Payload, StateMachine, StateReader, Txn,
    };

    use super::*;
    use crate::{Machine, memory::MemoryHome, memory::MemoryKv};

    fn state() -> Machine<MemoryKv> {
        Machine::open(MemoryKv::default(), Arc::new(MemoryHome)).unwrap()
    }

    fn put(state: &Machine<MemoryKv>, index: u64, key: &str, value: Vec<u8>) {
        let op = Op { kind: OpKind::Put as i32, key: key.to_owned().into(), value: value.into(), expires_at_ms: 0 };
        let txn = Txn { compares: vec![], ops: vec![op] };
        let data = Batch { commands: vec![Command { fence_term: 0, body: Some(CommandBody::Txn(txn)) }] }.to_bytes();
        state.apply(&[CommittedEntry { index, term: 1, payload: Payload::Commands(data) }]).unwrap();
    }

    fn stream(state: &Machine<MemoryKv>) -> Vec<u8> {
        let mut bytes = Vec::new();
        state.snapshot().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn receive(state: &Machine<MemoryKv>, bytes: &[u8], piece: usize) -> Result<SnapshotMeta, SnapshotError> {
        let mut sink = state.stage()?;
        for piece in bytes.chunks(piece) {
            sink.write_all(piece)?;
        }
        sink.finish()
    }

    #[test]
    fn a_state_arrives_as_it_was_in_pieces_of_any_size() {
        let from = state();
        for index in 1..=300 {
            put(&from, index, &format!("key-{}", index % 70), vec![index as u8; (index * 37 % 5000) as usize]);
        }
        let source = from.snapshot().unwrap();
        let meta = source.meta().clone();
        assert_eq!((meta.index, meta.term, meta.revision), (300, 1, from.revision()));
        let bytes = stream(&from);
        // What is applied after it was taken is not in it.
        put(&from, 301, "later", vec![1]);
        for piece in [1, 7, 4096, bytes.len()] {
            let to = state();
            put(&to, 1, "gone", vec![9]);
            assert_eq!(receive(&to, &bytes, piece).unwrap(), meta);
            assert!(to.get(b"gone", None).unwrap().is_some(), "only staged");
            assert_eq!(to.install(300).unwrap().index, 300);
            assert_eq!((to.revision(), to.applied_index(), to.durable()), (from.revision() - 1, 300, 300));
            assert!(to.get(b"gone", None).unwrap().is_none() && to.get(b"later", None).unwrap().is_none());
            put(&to, 301, "later", vec![1]);
            assert_eq!((to.hash(), stream(&to).len()), (from.hash(), stream(&from).len()));
            assert_eq!(
                to.get(b"key-3", Some(100)).unwrap(),
                from.get(b"key-3", Some(100)).unwrap(),
                "with its history"
            );
            assert!(to.install(300).is_err(), "only once");
        }
    }

    #[test]
    fn a_wrong_byte_or_a_missing_one_is_noticed_wherever_it_is() {
        let from = state();
        for index in 1..=8 {
            put(&from, index, "k", vec![index as u8; 9]);
        }
        let bytes = stream(&from);
        for at in 0..bytes.len() {
            let to = state();
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x10;
            assert!(receive(&to, &wrong, 64).is_err(), "byte {at}");
            assert!(receive(&to, &bytes[..at], 64).is_err(), "cut at {at}");
            assert!(to.install(8).is_err());
            assert_eq!(to.applied_index(), 0);
        }
        let to = state();
        assert!(receive(&to, &[bytes.as_slice(), b"x"].concat(), 64).is_err(), "a byte too much");
    }

    #[test]
    fn what_is_behind_or_other_than_wanted_is_not_installed() {
        let from = state();
        put(&from, 1, "k", vec![1]);
        let bytes = stream(&from);
        let to = state();
        receive(&to, &bytes, 99).unwrap();
        assert!(to.install(2).is_err());
        for index in 1..=3 {
            put(&to, index, "k", vec![2]);
        }
        receive(&to, &bytes, 99).unwrap();
        assert!(to.install(1).is_err(), "nothing that was applied is taken back");
        assert_eq!(to.applied_index(), 3);
    }

    #[test]
    fn several_wait_their_turn_and_no_more_than_a_few() {
        let (from, to) = (state(), state());
        for index in 1..=4 {
            put(&from, index, "k", vec![index as u8]);
            let received = receive(&to, &stream(&from), 99);
            assert_eq!(received.is_ok(), index <= 3, "{received:?}");
        }
        assert_eq!(to.install(2).unwrap().index, 2);
        assert!(to.install(1).is_err());
        receive(&to, &stream(&from), 99).unwrap();
        assert_eq!(to.install(4).unwrap().index, 4);
        assert_eq!(to.get(b"k", None).unwrap().unwrap().value, Bytes::from(vec![4]));
    }

    #[test]
    fn a_flipped_bit_in_a_value_is_found_by_the_scan() {
        let state = state();
        put(&state, 1, "a", vec![1; 40]);
        put(&state, 2, "b", vec![2; 40]);
        assert_eq!(verify(&*state.kv()).unwrap().index, 2);
        let key = keys::version(b"b", state.revision());
        let mut value = state.kv().get(&key).unwrap().unwrap();
        *value.last_mut().unwrap() ^= 1;
        let mut set = WriteSet::default();
        set.put(key, value);
        state.kv().write(set).unwrap();
        let error = verify(&*state.kv()).unwrap_err().to_string();
        assert_eq!(error, "snapshot is damaged: the value of b at 3 is not what was written");
        assert_eq!(state.get(b"a", None).unwrap().unwrap().value, Bytes::from(vec![1; 40]));
    }
}
