//! What is wrong with members, as all of them know: records in the replicated store, one a member that has an alarm.
//!
//! A member writes its own and takes it back by itself when the cause is gone. The records are few and small, and are
//! written from the space that is reserved, since the most important one says that there is no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use navarch_raft_contract::{
    AppliedBatch, ApplySink, Compare, KeyRange, Op, OpKind, ReadError, Room, RoomLevel, StateReader, Txn,
};
use navarch_raft_driver::Peers;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// What keys of records begin with. No object's key does.
const PREFIX: &[u8] = b"navarch/alarms/";

/// What can be wrong with a member. The names of etcd's alarms, where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AlarmKind {
    /// Its disk is nearly full: the cluster takes nothing new (low) or deletes only (critical).
    #[serde(rename = "NOSPACE")]
    NoSpace,
    /// Its state is not what it should be.
    #[serde(rename = "CORRUPT")]
    Corrupt,
    /// The last snapshot that it was to take failed.
    #[serde(rename = "SNAPSHOT")]
    Snapshot,
}

impl AlarmKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NoSpace, Self::Corrupt, Self::Snapshot];

    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSpace => "NOSPACE",
            Self::Corrupt => "CORRUPT",
            Self::Snapshot => "SNAPSHOT",
        }
    }
}

/// Something that is wrong with a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alarm {
    /// The member.
    pub member: u64,
    /// What.
    pub kind: AlarmKind,
    /// For people.
    pub message: String,
}

/// A member's record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    alarms: Vec<Alarm>,
    /// How full the disk is: `low` or `critical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    room: Option<String>,
}

impl Record {
    fn room(&self) -> RoomLevel {
        match self.room.as_deref() {
            Some("critical") => RoomLevel::Critical,
            Some(_) => RoomLevel::Low,
            None => RoomLevel::Ample,
        }
    }
}

/// How a level is shown.
pub fn room_name(level: RoomLevel) -> &'static str {
    match level {
        RoomLevel::Ample => "ample",
        RoomLevel::Low => "low",
        RoomLevel::Critical => "critical",
    }
}

fn key(member: u64) -> Bytes {
    Bytes::from([PREFIX, format!("{member:020}").as_bytes()].concat())
}

type Records = BTreeMap<u64, (Record, u64)>;

/// Follows the records, and holds this member's alarms until they are in one.
pub struct Alarms {
    member: u64,
    reader: Arc<dyn StateReader>,
    records: ArcSwap<Records>,
    own: Mutex<BTreeMap<AlarmKind, String>>,
}

impl Alarms {
    /// Starts with the records that are there.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn new(member: u64, reader: Arc<dyn StateReader>) -> Result<Arc<Self>, ReadError> {
        let records = ArcSwap::from_pointee(read(&*reader)?);
        Ok(Arc::new(Self { member, reader, records, own: Mutex::default() }))
    }

    /// Raises an alarm of this member, or takes it back.
    pub fn set(&self, kind: AlarmKind, message: Option<String>) {
        let mut own = self.own.lock();
        let before = own.get(&kind);
        if before.is_none() && message.is_some() || before.is_some() && message.is_none() {
            tracing::warn!(
                alarm = kind.as_str(),
                message,
                "an alarm was {}",
                if before.is_none() { "raised" } else { "cleared" }
            );
        }
        match message {
            Some(message) => own.insert(kind, message),
            None => own.remove(&kind),
        };
    }

    fn own(&self) -> Vec<Alarm> {
        let own = self.own.lock();
        own.iter().map(|(kind, message)| Alarm { member: self.member, kind: *kind, message: message.clone() }).collect()
    }

    /// All alarms: this member's as they are, others' as they said.
    pub fn all(&self) -> Vec<Alarm> {
        let records = self.records.load();
        let others = records.iter().filter(|(member, _)| **member != self.member);
        let others = others.flat_map(|(_, (record, _))| record.alarms.clone());
        let mut all: Vec<Alarm> = self.own().into_iter().chain(others).collect();
        all.sort_by_key(|alarm| (alarm.member, alarm.kind));
        all
    }

    /// The transaction that makes this member's record say what is true, if it does not.
    pub fn to_write(&self, room: RoomLevel) -> Option<Txn> {
        let room = (room != RoomLevel::Ample).then(|| room_name(room).to_owned());
        let wanted = Record { alarms: self.own(), room };
        let records = self.records.load();
        let present = records.get(&self.member);
        let (key, revision) = (key(self.member), present.map_or(0, |(_, revision)| *revision));
        let kind = match present {
            None if wanted == Record::default() => return None,
            Some((record, _)) if *record == wanted => return None,
            Some(_) if wanted == Record::default() => OpKind::Delete,
            _ => OpKind::Put,
        };
        // It holds nothing that cannot be encoded.
        let value = Bytes::from(serde_json::to_vec(&wanted).unwrap_or_default());
        let value = if kind == OpKind::Put { value } else { Bytes::new() };
        Some(Txn {
            compares: vec![Compare { key: key.clone(), mod_revision: revision }],
            ops: vec![Op { kind: kind as i32, key, value, expires_at_ms: 0 }],
        })
    }

    /// The records of members that are none any more, to be deleted.
    pub fn to_forget(&self, members: &BTreeSet<u64>) -> Option<Txn> {
        let records = self.records.load();
        let (member, (_, revision)) = records.iter().find(|(member, _)| !members.contains(member))?;
        let key = key(*member);
        Some(Txn {
            compares: vec![Compare { key: key.clone(), mod_revision: *revision }],
            ops: vec![Op { kind: OpKind::Delete as i32, key, value: Bytes::new(), expires_at_ms: 0 }],
        })
    }

    fn reload(&self) {
        match read(&*self.reader) {
            Ok(records) => self.records.store(Arc::new(records)),
            Err(error) => tracing::error!(%error, "the members' alarms cannot be read"),
        }
    }
}

fn read(reader: &dyn StateReader) -> Result<Records, ReadError> {
    let (page, _) = reader.range(&KeyRange::prefix(PREFIX), None, usize::MAX)?;
    let records = page.items.iter().filter_map(|item| {
        let member = std::str::from_utf8(item.key.get(PREFIX.len()..)?).ok()?.parse().ok()?;
        // One of a version that knows other alarms must not keep this one from starting.
        let record = serde_json::from_slice(&item.value).unwrap_or_default();
        Some((member, (record, item.mod_revision)))
    });
    Ok(records.collect())
}

impl ApplySink for Alarms {
    fn applied(&self, batch: &AppliedBatch) {
        // They change so seldom that reading all of them is nothing.
        if batch.events.iter().any(|event| event.key.starts_with(PREFIX)) {
            self.reload();
        }
    }

    fn replaced(&self) {
        self.reload();
    }
}

/// The room of the whole cluster: what one of its members has no room for, none can take, since each has to write it.
pub struct ClusterRoom {
    pub own: Arc<dyn Room>,
    pub alarms: Arc<Alarms>,
    pub peers: Peers,
}

impl Room for ClusterRoom {
    fn level(&self) -> RoomLevel {
        let own = self.own.level();
        let records = self.alarms.records.load();
        if records.is_empty() {
            return own;
        }
        // One that is not there does not write, either, and cannot take its alarm back.
        let links = self.peers.figures();
        let present = |member: &u64| links.get(member).is_some_and(|link| link.connected);
        let others = records.iter().filter(|(member, _)| **member != self.alarms.member && present(member));
        others.map(|(_, (record, _))| record.room()).fold(own, RoomLevel::max)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use navarch_raft_contract::{Event, Expiry, KeyValue, RangePage, Revision};

    use super::*;

    /// One key at most.
    #[derive(Default)]
    struct One(Mutex<Option<KeyValue>>);

    impl StateReader for One {
        fn revision(&self) -> Revision {
            9
        }
        fn applied_index(&self) -> u64 {
            9
        }
        fn compacted(&self) -> Revision {
            0
        }
        fn get(&self, _: &[u8], _: Option<Revision>) -> Result<Option<KeyValue>, ReadError> {
            Ok(None)
        }
        fn range(&self, _: &KeyRange, _: Option<Revision>, _: usize) -> Result<(RangePage, Revision), ReadError> {
            Ok((RangePage { items: self.0.lock().iter().cloned().collect(), more: false }, 9))
        }
        fn count(&self, _: &KeyRange) -> Result<u64, ReadError> {
            Ok(0)
        }
        fn events(&self, _: &KeyRange, _: Revision, _: usize) -> Result<(Vec<Event>, Revision), ReadError> {
            Ok((vec![], 9))
        }
        fn expired(&self, _: u64, _: usize) -> Result<Vec<Expiry>, ReadError> {
            Ok(vec![])
        }
    }

    #[test]
    fn a_member_writes_what_is_true_and_takes_it_back() {
        let store = Arc::new(One::default());
        let alarms = Alarms::new(2, store.clone()).unwrap();
        assert_eq!(alarms.to_write(RoomLevel::Ample), None);
        alarms.set(AlarmKind::NoSpace, Some("full".into()));
        let txn = alarms.to_write(RoomLevel::Critical).unwrap();
        assert_eq!((txn.compares[0].mod_revision, txn.ops[0].kind), (0, OpKind::Put as i32));
        let written = KeyValue {
            key: txn.ops[0].key.clone(),
            value: txn.ops[0].value.clone(),
            create_revision: 5,
            mod_revision: 5,
        };
        *store.0.lock() = Some(written);
        alarms.replaced();
        assert_eq!(alarms.to_write(RoomLevel::Critical), None);
        assert_eq!(alarms.all().len(), 1, "not twice");
        let other = Alarms::new(1, store.clone()).unwrap();
        assert_eq!(other.all(), [Alarm { member: 2, kind: AlarmKind::NoSpace, message: "full".into() }]);
        assert_eq!(other.to_forget(&[1, 2].into()), None);
        assert_eq!(other.to_forget(&[1].into()).unwrap().compares[0].mod_revision, 5);
        alarms.set(AlarmKind::NoSpace, None);
        let txn = alarms.to_write(RoomLevel::Ample).unwrap();
        assert_eq!((txn.compares[0].mod_revision, txn.ops[0].kind), (5, OpKind::Delete as i32));
    }
}
