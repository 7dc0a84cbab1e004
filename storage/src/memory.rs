//! Records in memory, with a durable copy as of the last flush: what simulations crash.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use crate::kv::{Cursor, Home, Kv, KvError, KvView, WriteSet};

type Map = Arc<BTreeMap<Vec<u8>, Vec<u8>>>;

/// See the module.
#[derive(Default)]
pub struct MemoryKv {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    now: Map,
    durable: Map,
}

impl MemoryKv {
    /// What is left after a crash: the records as of the last flush.
    pub fn crashed(&self) -> Self {
        let durable = self.inner.lock().durable.clone();
        Self { inner: Mutex::new(Inner { now: durable.clone(), durable }) }
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.inner.lock().now.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Kv for MemoryKv {
    type View<'a> = MemoryView;

    fn view(&self) -> MemoryView {
        MemoryView { map: self.inner.lock().now.clone() }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.inner.lock().now.get(key).cloned())
    }

    fn write(&self, set: WriteSet) -> Result<(), KvError> {
        let mut inner = self.inner.lock();
        let map = Arc::make_mut(&mut inner.now);
        for (key, value) in set.changes {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), KvError> {
        let mut inner = self.inner.lock();
        inner.durable = inner.now.clone();
        Ok(())
    }
}

impl Clone for MemoryKv {
    fn clone(&self) -> Self {
        let inner = self.inner.lock();
        Self { inner: Mutex::new(Inner { now: inner.now.clone(), durable: inner.durable.clone() }) }
    }
}

/// The home of states in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryHome;

impl Home for MemoryHome {
    type Kv = MemoryKv;

    fn copy(&self, of: &MemoryKv) -> Result<MemoryKv, KvError> {
        Ok(of.clone())
    }

    fn fresh(&self) -> Result<MemoryKv, KvError> {
        Ok(MemoryKv::default())
    }

    fn adopt(&self, staged: MemoryKv) -> Result<MemoryKv, KvError> {
        Ok(staged)
    }

    fn retire(&self, _: MemoryKv) {}
}

/// Records as of one moment.
pub struct MemoryView {
    map: Map,
}

impl KvView for MemoryView {
    type Cursor<'a> = MemoryCursor<'a>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.map.get(key).cloned())
    }

    fn cursor(&self, lower: Vec<u8>, upper: Vec<u8>) -> Result<MemoryCursor<'_>, KvError> {
        let mut cursor = MemoryCursor { map: &self.map, lower, upper, at: None };
        let lower = cursor.lower.clone();
        cursor.seek(&lower)?;
        Ok(cursor)
    }
}

/// Walks the records of a view.
pub struct MemoryCursor<'a> {
    map: &'a BTreeMap<Vec<u8>, Vec<u8>>,
    lower: Vec<u8>,
    upper: Vec<u8>,
    at: Option<(&'a [u8], &'a [u8])>,
}

impl MemoryCursor<'_> {
    fn settle(&mut self, from: std::ops::Bound<&[u8]>) {
        let next = self.map.range::<[u8], _>((from, std::ops::Bound::Unbounded)).next();
        self.at = next.filter(|(key, _)| **key < self.upper).map(|(key, value)| (key.as_slice(), value.as_slice()));
    }
}

impl Cursor for MemoryCursor<'_> {
    fn entry(&self) -> Option<(&[u8], &[u8])> {
        self.at
    }

    fn advance(&mut self) -> Result<(), KvError> {
        if let Some((key, _)) = self.at {
            self.settle(std::ops::Bound::Excluded(key));
        }
        Ok(())
    }

    fn seek(&mut self, key: &[u8]) -> Result<(), KvError> {
        let from = if key < self.lower.as_slice() { self.lower.clone() } else { key.to_vec() };
        self.settle(std::ops::Bound::Included(&from));
        Ok(())
    }
}
