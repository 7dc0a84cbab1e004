//! The whole state as a stream of bytes (see [`crate::stream`]), and back.
//!
//! The records are those of the state database, whatever keeps them, so a stream can be read on any machine.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Read, Write},
    sync::Arc,
};

use navarch_raft_contract::{Index, SnapshotError, SnapshotMeta, SnapshotSink, SnapshotSource};
use parking_lot::Mutex;

use super::decode_meta;
use crate::{
    check::{END, describe, verify},
    keys,
    kv::{Cursor, Kv, KvError, KvView, WriteSet},
    record::Meta,
    stream::{BLOCK_BYTES, Decoder, Encoder, put_record, records},
};

/// States that were received and verified, by their last entry. A second one may arrive while the first is about to be
/// installed.
pub(super) type Staged<K> = Arc<Mutex<BTreeMap<Index, Waiting<K>>>>;

/// A state that may be installed.
pub(super) struct Waiting<K> {
    meta: Meta,
    kv: K,
    /// How often it was received, and is not refused yet.
    times: usize,
}

/// One that was received is not wanted. It may have been received another time, and be wanted then.
pub(super) fn refuse<K>(staged: &Staged<K>, index: Index) {
    let mut lock = staged.lock();
    let Some(waiting) = lock.get_mut(&index) else { return };
    waiting.times -= 1;
    let dropped = if waiting.times == 0 { lock.remove(&index) } else { None };
    // To drop it deletes its files: nobody waits for that.
    drop(lock);
    drop(dropped);
}

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

/// Takes the staged state after `index`, which must not be behind what is applied. Older ones are dropped.
pub(super) fn take_staged<K>(staged: &Staged<K>, index: Index, applied: Index) -> Result<(Meta, K), SnapshotError> {
    let mut staged = staged.lock();
    if index < applied {
        return Err(damaged(format!("it is of entry {index}, and {applied} is applied")));
    }
    let found = staged.remove(&index).ok_or_else(|| damaged(format!("none of entry {index} is staged")));
    staged.retain(|other, _| *other > index);
    found.map(|Waiting { meta, kv, .. }| (meta, kv))
}

/// Reads a frozen state as a stream.
pub(super) struct Source<K> {
    kv: K,
    meta: SnapshotMeta,
    /// Where the next block begins; `None` after the last.
    next: Option<Vec<u8>>,
    ready: VecDeque<u8>,
    encoder: Encoder,
}

impl<K: Kv> Source<K> {
    pub(super) fn new(kv: K) -> Result<Self, SnapshotError> {
        let meta = decode_meta(kv.get(keys::META).map_err(failed)?).map_err(damaged)?;
        let mut encoder = Encoder::default();
        let ready = encoder.begin().into();
        Ok(Self { kv, meta: describe(&meta), next: Some(Vec::new()), ready, encoder })
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
                put_record(&mut block, key, value)?;
                cursor.advance().map_err(failed)?;
            }
        };
        if !block.is_empty() {
            self.ready.extend(self.encoder.block(&block)?);
        }
        if self.next.is_none() {
            self.ready.extend(self.encoder.end());
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

/// Writes a stream into an empty keeper.
pub(crate) struct Receiver<K> {
    kv: K,
    decoder: Decoder,
}

impl<K: Kv> Receiver<K> {
    pub(crate) fn new(kv: K) -> Self {
        Self { kv, decoder: Decoder::default() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let kv = &self.kv;
        self.decoder.push(bytes, |block| {
            let mut set = WriteSet::default();
            records(block, |key, value| {
                set.put(key.to_vec(), value.to_vec());
                Ok(())
            })?;
            kv.write(set).map_err(failed)
        })
    }

    /// All bytes are here: what was summed on the way is proved to be a state, on the disk.
    pub(crate) fn finish(self) -> Result<(SnapshotMeta, K), SnapshotError> {
        self.decoder.finish()?;
        self.kv.flush().map_err(failed)?;
        let described = verify(&self.kv, &mut |_| true)?;
        Ok((described, self.kv))
    }
}

/// A state on its way to be staged.
pub(super) struct Sink<K> {
    receiver: Receiver<K>,
    staged: Staged<K>,
}

impl<K: Kv> Sink<K> {
    pub(super) fn new(kv: K, staged: Staged<K>) -> Self {
        Self { receiver: Receiver::new(kv), staged }
    }
}

impl<K: Kv> Write for Sink<K> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.receiver.push(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<K: Kv + 'static> SnapshotSink for Sink<K> {
    fn finish(self: Box<Self>) -> Result<SnapshotMeta, SnapshotError> {
        let (described, kv) = self.receiver.finish()?;
        let meta = decode_meta(kv.get(keys::META).map_err(failed)?).map_err(damaged)?;
        let mut staged = self.staged.lock();
        let times = 1 + staged.get(&meta.index).map_or(0, |before| before.times);
        staged.insert(meta.index, Waiting { meta, kv, times });
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
    fn one_that_came_twice_is_refused_twice() {
        let from = state();
        put(&from, 1, "k", vec![1]);
        for refused in [1, 2] {
            let to = state();
            receive(&to, &stream(&from), 99).unwrap();
            receive(&to, &stream(&from), 99).unwrap();
            (0..refused).for_each(|_| to.unstage(1));
            assert_eq!(to.install(1).is_ok(), refused == 1);
        }
    }

    #[test]
    fn several_wait_their_turn_and_no_more_than_a_few() {
        let (from, to) = (state(), state());
        for index in 1..=4 {
            put(&from, index, "k", vec![index as u8]);
            let received = receive(&to, &stream(&from), 99);
            assert_eq!(received.is_ok(), index <= 3, "{received:?}");
        }
        to.unstage(3);
        receive(&to, &stream(&from), 99).unwrap();
        assert_eq!(to.install(2).unwrap().index, 2);
        assert!(to.install(1).is_err() && to.install(3).is_err());
        assert_eq!(to.install(4).unwrap().index, 4);
        assert_eq!(to.get(b"k", None).unwrap().unwrap().value, Bytes::from(vec![4]));
    }

    #[test]
    fn a_flipped_bit_in_a_value_is_found_by_the_scan() {
        let state = state();
        put(&state, 1, "a", vec![1; 40]);
        put(&state, 2, "b", vec![2; 40]);
        assert_eq!(verify(&*state.kv(), &mut |_| true).unwrap().index, 2);
        let key = keys::version(b"b", state.revision());
        let mut value = state.kv().get(&key).unwrap().unwrap();
        *value.last_mut().unwrap() ^= 1;
        let mut set = WriteSet::default();
        set.put(key, value);
        state.kv().write(set).unwrap();
        let error = verify(&*state.kv(), &mut |_| true).unwrap_err().to_string();
        assert_eq!(error, "snapshot is damaged: the value of b at 3 is not what was written");
        assert_eq!(state.get(b"a", None).unwrap().unwrap().value, Bytes::from(vec![1; 40]));
    }
}
