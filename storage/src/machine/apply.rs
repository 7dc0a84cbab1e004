//! Applying entries: decides what changes, in memory; nothing is written before the whole run is decided.

use std::collections::HashMap;

use bytes::Bytes;
use navarch_raft_contract::{
    AppliedBatch, ApplyError, Batch, Command, CommandBody, CommittedEntry, Compact, Compare, Event, EventKind, Expire,
    Op, OpKind, Outcome, Payload, PrefixFloor, Revision, Sighting, Txn,
};

use super::{corrupt, encode_meta, failed, set_members};
use crate::{
    hash, keys,
    kv::{Kv, WriteSet},
    record::{Change, Latest, Meta, Version},
};

/// A key as the run sees it: what is stored, with the run's own changes on top.
#[derive(Clone)]
struct Live {
    latest: Latest,
    /// The value, if this run wrote it; otherwise it is where `latest.modified` says.
    value: Option<Bytes>,
}

/// A run of entries that becomes one write.
pub(super) struct Run<'k, K> {
    kv: &'k K,
    meta: Meta,
    set: WriteSet,
    touched: HashMap<Bytes, Option<Live>>,
    events: Vec<Event>,
    sightings: Vec<Sighting>,
    floors_raised: bool,
}

/// What a run came to.
pub(super) struct Finished {
    pub(super) meta: Meta,
    pub(super) set: WriteSet,
    pub(super) batch: AppliedBatch,
    pub(super) sightings: Vec<Sighting>,
    pub(super) floors_raised: bool,
}

impl<'k, K: Kv> Run<'k, K> {
    pub(super) fn new(kv: &'k K, meta: Meta) -> Self {
        Self {
            kv,
            meta,
            set: WriteSet::default(),
            touched: HashMap::new(),
            events: Vec::new(),
            sightings: Vec::new(),
            floors_raised: false,
        }
    }

    /// Applies one entry. After an error the run must be thrown away.
    pub(super) fn entry(&mut self, entry: &CommittedEntry) -> Result<Vec<Outcome>, ApplyError> {
        if entry.index != self.meta.index + 1 {
            return Err(ApplyError::OutOfOrder { applied: self.meta.index, got: entry.index });
        }
        self.meta.index = entry.index;
        self.meta.term = entry.term;
        match &entry.payload {
            Payload::Empty => Ok(Vec::new()),
            Payload::Members(members) => {
                set_members(&mut self.meta, members);
                Ok(Vec::new())
            }
            Payload::Commands(data) => {
                let batch = Batch::from_bytes(data.clone())
                    .map_err(|error| ApplyError::Malformed { index: entry.index, reason: error.to_string() })?;
                let commands = batch.commands.iter().enumerate();
                commands.map(|(position, command)| self.command(entry, position, command)).collect()
            }
        }
    }

    fn command(&mut self, entry: &CommittedEntry, position: usize, command: &Command) -> Result<Outcome, ApplyError> {
        let unknown = ApplyError::Unknown { index: entry.index, position };
        // Checked before the fence, so that whether a member stops never depends on the fence.
        let Some(body) = &command.body else { return Err(unknown) };
        if command.fence_term != 0 && command.fence_term != entry.term {
            return Ok(Outcome::Fenced { term: entry.term });
        }
        let first = self.meta.revision + 1;
        match body {
            CommandBody::Txn(txn) => {
                if let Some((compare, actual)) = self.failed_compare(&txn.compares)? {
                    return Ok(Outcome::Conflict { index: entry.index, compare, actual });
                }
                self.transaction(txn, unknown)?;
            }
            CommandBody::Compact(compact) => self.raise_floor(compact),
            CommandBody::Expire(expire) => self.expire(expire)?,
            CommandBody::Check(_) => {
                self.sightings.push(Sighting::Check { index: entry.index, hash: self.meta.hash });
            }
            CommandBody::Witness(witness) => self.sightings.push(Sighting::Witness(*witness)),
        }
        self.close_transaction(first);
        Ok(Outcome::Done { index: entry.index, first, last: self.meta.revision })
    }

    fn failed_compare(&mut self, compares: &[Compare]) -> Result<Option<(usize, Revision)>, ApplyError> {
        for (position, compare) in compares.iter().enumerate() {
            let actual = self.live(&compare.key)?.map_or(0, |live| live.latest.modified);
            if actual != compare.mod_revision {
                return Ok(Some((position, actual)));
            }
        }
        Ok(None)
    }

    fn transaction(&mut self, txn: &Txn, unknown: ApplyError) -> Result<(), ApplyError> {
        for op in &txn.ops {
            match OpKind::try_from(op.kind) {
                Ok(OpKind::Put) => self.put(op)?,
                Ok(OpKind::Delete) => self.delete(&op.key, &op.value)?,
                Err(_) => return Err(unknown),
            }
        }
        Ok(())
    }

    fn raise_floor(&mut self, compact: &Compact) {
        let before = (self.meta.floor, self.meta.floors.clone());
        self.meta.floor = self.meta.floor.max(compact.floor.min(self.meta.revision));
        for PrefixFloor { prefix, floor } in &compact.prefixes {
            let floor = (*floor).min(self.meta.revision);
            let floors = &mut self.meta.floors;
            match floors.binary_search_by(|at| at.prefix.cmp(prefix)) {
                Ok(at) => floors[at].floor = floors[at].floor.max(floor),
                Err(at) => floors.insert(at, PrefixFloor { prefix: prefix.clone(), floor }),
            }
        }
        // What the floor of all has reached needs none of its own.
        let floor = self.meta.floor;
        self.meta.floors.retain(|at| at.floor > floor);
        self.floors_raised |= before != (floor, self.meta.floors.clone());
    }

    fn expire(&mut self, expire: &Expire) -> Result<(), ApplyError> {
        for key in &expire.keys {
            let unchanged = self.live(&key.key)?.is_some_and(|live| live.latest.modified == key.mod_revision);
            if unchanged {
                self.delete(&key.key, &Bytes::new())?;
            }
        }
        Ok(())
    }

    fn live(&mut self, key: &Bytes) -> Result<Option<Live>, ApplyError> {
        if let Some(live) = self.touched.get(key) {
            return Ok(live.clone());
        }
        let Some(record) = self.kv.get(&keys::latest(key)).map_err(failed)? else { return Ok(None) };
        let latest = Latest::decode(&record).ok_or_else(|| corrupt("latest record"))?;
        Ok(Some(Live { latest, value: None }))
    }

    fn put(&mut self, op: &Op) -> Result<(), ApplyError> {
        let old = self.live(&op.key)?.map(|live| live.latest);
        self.meta.revision += 1;
        let modified = self.meta.revision;
        let created = old.map_or(modified, |old| old.created);
        let hash = hash::share(&op.key, modified, &op.value);
        let latest = Latest { modified, created, expires_at_ms: op.expires_at_ms, hash };
        self.forget(&op.key, old);
        self.meta.hash = self.meta.hash.wrapping_add(hash);
        self.set.put(keys::latest(&op.key), latest.encode());
        if op.expires_at_ms != 0 {
            self.set.put(keys::expiry(op.expires_at_ms, &op.key), modified.to_be_bytes().to_vec());
        }
        self.touched.insert(op.key.clone(), Some(Live { latest, value: Some(op.value.clone()) }));
        let event = Event {
            revision: modified,
            key: op.key.clone(),
            kind: EventKind::Put,
            value: op.value.clone(),
            create_revision: created,
            prev_revision: old.map_or(0, |old| old.modified),
        };
        self.record(event, false);
        Ok(())
    }

    fn delete(&mut self, key: &Bytes, last_value: &Bytes) -> Result<(), ApplyError> {
        let Some(live) = self.live(key)? else { return Ok(()) };
        let as_before = last_value.is_empty();
        let value = match (as_before, live.value) {
            (false, _) => last_value.clone(),
            (true, Some(value)) => value,
            (true, None) => self.stored_value(key, live.latest.modified)?,
        };
        self.meta.revision += 1;
        self.forget(key, Some(live.latest));
        self.set.delete(keys::latest(key));
        self.touched.insert(key.clone(), None);
        let event = Event {
            revision: self.meta.revision,
            key: key.clone(),
            kind: EventKind::Delete,
            value,
            create_revision: live.latest.created,
            prev_revision: live.latest.modified,
        };
        self.record(event, as_before);
        Ok(())
    }

    fn stored_value(&self, key: &[u8], revision: Revision) -> Result<Bytes, ApplyError> {
        let record = self.kv.get(&keys::version(key, revision)).map_err(failed)?;
        let record = record.ok_or_else(|| corrupt("a living value is missing"))?;
        let version = Version::decode(&record).ok_or_else(|| corrupt("value record"))?;
        version.value.map(Bytes::copy_from_slice).ok_or_else(|| corrupt("a living value is none"))
    }

    /// Takes back what the key's present state has in the indexes and in the hash.
    fn forget(&mut self, key: &[u8], old: Option<Latest>) {
        let Some(old) = old else { return };
        self.meta.hash = self.meta.hash.wrapping_sub(old.hash);
        if old.expires_at_ms != 0 {
            self.set.delete(keys::expiry(old.expires_at_ms, key));
        }
    }

    /// Notes a change at the present revision. The value is not stored another time if it is that of the change before.
    fn record(&mut self, event: Event, as_before: bool) {
        let value = (!as_before).then_some(event.value.as_ref());
        let version = Version { kind: event.kind, created: event.create_revision, value };
        self.set.put(keys::version(&event.key, event.revision), version.encode());
        self.events.push(event);
    }

    /// Writes the index by revision for the transaction that began at `first`: only now is its last change known.
    fn close_transaction(&mut self, first: Revision) {
        let changes = (self.meta.revision + 1 - first) as usize;
        let from = self.events.len() - changes;
        for event in &self.events[from..] {
            let change = Change {
                kind: event.kind,
                more: event.revision < self.meta.revision,
                created: event.create_revision,
                previous: event.prev_revision,
                key: &event.key,
            };
            self.set.put(keys::change(event.revision), change.encode());
        }
    }

    pub(super) fn finish(mut self) -> Finished {
        self.set.put(keys::META.to_vec(), encode_meta(&self.meta));
        let batch = AppliedBatch {
            index: self.meta.index,
            term: self.meta.term,
            revision: self.meta.revision,
            compacted: self.meta.floor,
            events: std::mem::take(&mut self.events),
        };
        let Self { meta, set, sightings, floors_raised, .. } = self;
        Finished { meta, set, batch, sightings, floors_raised }
    }
}
