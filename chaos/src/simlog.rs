//! The Raft log as one file of checked records on a simulated [`Disk`].

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::BufMut;
use navarch_raft_contract::{
    Bootstrap, HardState, Index, LogBatch, LogCounters, LogEntry, LogError, LogState, LogStore, Term,
};
use navarch_storage::{
    hash,
    record::{decode_entry, encode_entry},
};
use parking_lot::Mutex;

use crate::{
    Bug,
    disk::{Disk, DiskError},
};

#[derive(Clone, Default)]
struct Contents {
    entries: Vec<LogEntry>,
    state: LogState,
}

/// What a record changes. Encoded by hand: four kinds, no reader but this.
enum Record<'a> {
    Append(&'a LogBatch),
    Begin(&'a Bootstrap),
    Prefix(Index, Term),
    Reset(Index, Term),
}

/// See the module.
pub struct SimLog {
    disk: Arc<Disk>,
    contents: Mutex<Contents>,
    bug: Option<Bug>,
    writes: AtomicU64,
    entries: AtomicU64,
}

fn cut(error: DiskError) -> LogError {
    LogError::Database(error.words().into())
}

impl SimLog {
    /// Reads the file, tolerating a torn end.
    pub fn open(disk: Arc<Disk>, bug: Option<Bug>) -> Result<Self, LogError> {
        let bytes = disk.read();
        let (mut contents, mut at) = (Contents::default(), 0);
        while let Some((payload, next)) = next_record(&bytes, at) {
            contents.replay(payload).ok_or_else(|| LogError::Corrupt(format!("record at {at}")))?;
            at = next;
        }
        disk.truncate(at);
        if bug == Some(Bug::ForgottenVote) {
            contents.state.hard_state = contents.state.hard_state.map(|state| HardState { vote: 0, ..state });
        }
        let contents = Mutex::new(contents);
        Ok(Self { disk, contents, bug, writes: AtomicU64::new(0), entries: AtomicU64::new(0) })
    }

    fn write(&self, record: &Record<'_>, sync: bool) -> Result<(), LogError> {
        let payload = record.encode();
        let mut bytes = Vec::new();
        bytes.put_u32(payload.len() as u32);
        bytes.put_u64(hash::share(b"", 0, &payload));
        bytes.extend_from_slice(&payload);
        self.disk.append(&bytes).map_err(cut)?;
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        if sync && !(self.bug == Some(Bug::SkippedSync) && number % 3 == 2) {
            self.disk.sync().map_err(cut)?;
        }
        self.contents.lock().replay(&payload).ok_or_else(|| LogError::Corrupt("own record".into()))
    }
}

fn next_record(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let header = bytes.get(at..at + 12)?;
    let length = u32::from_be_bytes(header[..4].try_into().ok()?) as usize;
    let check = u64::from_be_bytes(header[4..].try_into().ok()?);
    let payload = bytes.get(at + 12..at + 12 + length)?;
    (hash::share(b"", 0, payload) == check).then_some((payload, at + 12 + length))
}

impl Record<'_> {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Append(batch) => {
                out.put_u8(0);
                let hard_state = batch.hard_state.map_or([0; 3], |state| [state.term, state.vote, state.commit]);
                hard_state.iter().for_each(|field| out.put_u64(*field));
                for entry in &batch.entries {
                    let bytes = encode_entry(entry);
                    out.put_u64(entry.index);
                    out.put_u32(bytes.len() as u32);
                    out.extend_from_slice(&bytes);
                }
            }
            Self::Begin(bootstrap) => {
                out.put_u8(1);
                out.put_u64(bootstrap.member);
                let voters = bootstrap.members.iter().flat_map(|members| &members.voters);
                let voters: Vec<u64> = voters.copied().collect();
                out.put_u32(voters.len() as u32);
                voters.iter().for_each(|voter| out.put_u64(*voter));
                out.extend_from_slice(bootstrap.cluster_id.as_bytes());
            }
            Self::Prefix(index, term) | Self::Reset(index, term) => {
                out.put_u8(if matches!(self, Self::Prefix(..)) { 2 } else { 3 });
                out.put_u64(*index);
                out.put_u64(*term);
            }
        }
        out
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }
    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.bytes(8)?.try_into().ok()?))
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(4)?.try_into().ok()?))
    }
}

impl Contents {
    fn replay(&mut self, payload: &[u8]) -> Option<()> {
        let mut reader = Reader(payload);
        match reader.bytes(1)?[0] {
            0 => {
                let (term, vote, commit) = (reader.u64()?, reader.u64()?, reader.u64()?);
                if term != 0 {
                    self.state.hard_state = Some(HardState { term, vote, commit });
                }
                while !reader.0.is_empty() {
                    let index = reader.u64()?;
                    let length = reader.u32()? as usize;
                    let entry = decode_entry(index, reader.bytes(length)?.to_vec())?;
                    self.entries.retain(|old| old.index < index);
                    self.entries.push(entry);
                    self.state.last_index = index;
                }
            }
            1 => {
                let member = reader.u64()?;
                let count = reader.u32()?;
                let voters = (0..count).map(|_| reader.u64()).collect::<Option<Vec<_>>>()?;
                let members = navarch_raft_contract::ConfState { voters, ..Default::default() };
                let cluster_id = String::from_utf8(reader.0.to_vec()).ok()?;
                self.state.bootstrap = Some(Bootstrap { cluster_id, member, members: Some(members) });
            }
            kind => {
                (self.state.prefix_index, self.state.prefix_term) = (reader.u64()?, reader.u64()?);
                let prefix = self.state.prefix_index;
                if kind == 2 {
                    self.entries.retain(|entry| entry.index > prefix);
                } else {
                    self.entries.clear();
                    self.state.last_index = prefix;
                }
            }
        }
        Some(())
    }
}

impl LogStore for SimLog {
    fn state(&self) -> Result<LogState, LogError> {
        Ok(self.contents.lock().state.clone())
    }

    fn entries(&self, low: Index, high: Index, max_bytes: usize) -> Result<Vec<LogEntry>, LogError> {
        let contents = self.contents.lock();
        let mut bytes = 0;
        let mut found = Vec::new();
        for entry in contents.entries.iter().filter(|entry| (low..high).contains(&entry.index)) {
            bytes += entry.size();
            if !found.is_empty() && bytes > max_bytes {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: Index) -> Result<Option<Term>, LogError> {
        let contents = self.contents.lock();
        if index == contents.state.prefix_index {
            return Ok(Some(contents.state.prefix_term));
        }
        Ok(contents.entries.iter().find(|entry| entry.index == index).map(|entry| entry.term))
    }

    fn bootstrap(&self, bootstrap: &Bootstrap) -> Result<(), LogError> {
        self.write(&Record::Begin(bootstrap), true)
    }

    fn append(&self, batch: &LogBatch) -> Result<(), LogError> {
        self.write(&Record::Append(batch), true)?;
        self.entries.fetch_add(batch.entries.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn compact(&self, index: Index) -> Result<(), LogError> {
        let Some(term) = self.term(index)? else { return Ok(()) };
        self.write(&Record::Prefix(index, term), false)
    }

    fn reset(&self, index: Index, term: Term) -> Result<(), LogError> {
        self.write(&Record::Reset(index, term), true)
    }

    fn counters(&self) -> LogCounters {
        let syncs = self.writes.load(Ordering::Relaxed);
        LogCounters { syncs, entries: self.entries.load(Ordering::Relaxed), bytes: 0 }
    }
}
