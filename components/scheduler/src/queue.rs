//! The pods that wait: ready ones by priority and age, those that back off, those that fit nowhere until something
//! happens, and those held back by gates. Pure: the caller brings the time.
//!
//! Every pod is in one place. The heaps may hold stale entries; an entry counts only with its pod's present ticket.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::framework::{ClusterEvent, Framework, PluginSet};
use crate::pod::PodInfo;

/// The first wait after a failure.
pub const BACKOFF_INITIAL: Duration = Duration::from_secs(1);
/// The longest wait after a failure.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A pod that fits nowhere is tried again after this long even if nothing happens: a net below the hints.
pub const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(300);

/// Where a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Ready.
    Active,
    /// Ready at this time; after an error not earlier even if nothing else is to do.
    Backoff { until: Instant, after_error: bool },
    /// Waits for something to happen.
    Unschedulable { since: Instant },
    /// Held back.
    Gated,
    /// In a cycle, or on its way to its node.
    InFlight,
}

/// A pod in the queue.
#[derive(Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    place: Place,
    ticket: u64,
    /// When it last came into the queue.
    since: Instant,
    attempts: u32,
    refused_by: PluginSet,
}

/// A pod handed out for a cycle.
#[derive(Clone, Debug)]
pub struct Popped {
    /// The pod.
    pub pod: Arc<PodInfo>,
    /// How often it was tried, this time included.
    pub attempts: u32,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Ready {
    priority: i32,
    since: Reverse<Instant>,
    ticket: Reverse<u64>,
    key: Key,
}

type Key = Arc<str>;

/// How many pods wait where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Ready.
    pub active: usize,
    /// Backing off.
    pub backoff: usize,
    /// Fit nowhere.
    pub unschedulable: usize,
    /// Held back by gates.
    pub gated: usize,
    /// In a cycle or being bound.
    pub in_flight: usize,
}

/// See the module.
#[derive(Default)]
pub struct Queue {
    entries: HashMap<Key, Entry>,
    active: BinaryHeap<Ready>,
    backoff: BinaryHeap<Reverse<(Instant, u64, Key)>>,
    tickets: u64,
    /// Those that wait for something to happen: an event looks at no others.
    pool: HashSet<Key>,
}

impl Queue {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// A pod without a node came or changed.
    pub fn set(&mut self, framework: &Framework, pod: Arc<PodInfo>, now: Instant) {
        let gated = framework.plugins().any(|p| p.pre_enqueue(&pod).is_err());
        let Some(entry) = self.entries.get_mut(pod.uid()) else {
            let key: Key = pod.uid().into();
            let place = if gated { Place::Gated } else { Place::Active };
            let refused_by = PluginSet::default();
            let entry = Entry { pod, place, ticket: 0, since: now, attempts: 0, refused_by };
            self.entries.insert(Arc::clone(&key), entry);
            self.put(&key, place, now);
            return;
        };
        let old = std::mem::replace(&mut entry.pod, pod);
        let (pod, key, place) = (Arc::clone(&entry.pod), Key::from(old.uid()), entry.place);
        match place {
            Place::Gated if !gated => self.put(&key, Place::Active, now),
            Place::Active | Place::Backoff { .. } | Place::Unschedulable { .. } if gated => {
                self.put(&key, Place::Gated, now);
            }
            // Its priority may have changed.
            Place::Active => self.put(&key, Place::Active, entry_since(&self.entries, &key, now)),
            Place::Unschedulable { .. } => {
                let event = ClusterEvent::PodUpdated { old: &old, new: &pod };
                if self.may_help(framework, &key, &event) {
                    self.release(&key, now);
                }
            }
            Place::Gated | Place::Backoff { .. } | Place::InFlight => {}
        }
    }

    /// A pod went, or has its node.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        self.pool.remove(uid);
        self.entries.remove(uid).map(|entry| entry.pod)
    }

    /// Whether a pod is known.
    pub fn get(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.entries.get(uid).map(|entry| &entry.pod)
    }

    /// All pods.
    pub fn uids(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(AsRef::as_ref)
    }

    fn put(&mut self, key: &Key, place: Place, since: Instant) {
        self.pool.remove(key);
        self.tickets += 1;
        let ticket = self.tickets;
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.place = place;
        entry.ticket = ticket;
        match place {
            Place::Active => {
                entry.since = since;
                let priority = entry.pod.priority();
                self.active.push(Ready {
                    priority,
                    since: Reverse(since),
                    ticket: Reverse(ticket),
                    key: Arc::clone(key),
                });
            }
            Place::Backoff { until, .. } => self.backoff.push(Reverse((until, ticket, Arc::clone(key)))),
            Place::Unschedulable { .. } => drop(self.pool.insert(Arc::clone(key))),
            Place::Gated | Place::InFlight => {}
        }
    }

    /// Takes the pod to try next. With nothing ready, one that still backs off, unless after an error: waiting for it
    /// helps nobody.
    pub fn pop(&mut self, now: Instant) -> Option<Popped> {
        self.ripen(now);
        while let Some(ready) = self.active.pop() {
            if self.entries.get(&ready.key).is_some_and(|e| e.ticket == ready.ticket.0 && e.place == Place::Active) {
                return self.take(&ready.key);
            }
        }
        while let Some(Reverse((_, ticket, key))) = self.backoff.peek() {
            let (ticket, key) = (*ticket, Arc::clone(key));
            match self.entries.get(&key).filter(|e| e.ticket == ticket).map(|e| e.place) {
                Some(Place::Backoff { after_error: false, .. }) => {
                    self.backoff.pop();
                    return self.take(&key);
                }
                Some(Place::Backoff { after_error: true, .. }) => return None,
                _ => drop(self.backoff.pop()),
            }
        }
        None
    }

    fn take(&mut self, key: &Key) -> Option<Popped> {
        let entry = self.entries.get_mut(key)?;
        entry.place = Place::InFlight;
        entry.attempts = entry.attempts.saturating_add(1);
        Some(Popped { pod: Arc::clone(&entry.pod), attempts: entry.attempts })
    }

    /// Those whose time has come become ready.
    fn ripen(&mut self, now: Instant) {
        while let Some(Reverse((until, ticket, key))) = self.backoff.peek() {
            if *until > now {
                return;
            }
            let (ticket, key) = (*ticket, Arc::clone(key));
            self.backoff.pop();
            if self.entries.get(&key).is_some_and(|e| e.ticket == ticket && matches!(e.place, Place::Backoff { .. })) {
                self.put(&key, Place::Active, now);
            }
        }
    }

    /// When the next pod becomes ready by itself.
    pub fn next_due(&self) -> Option<Instant> {
        self.backoff.peek().map(|Reverse((until, ..))| *until)
    }

    /// A cycle found no node: the pod waits for something to happen.
    pub fn unschedulable(&mut self, uid: &str, refused_by: PluginSet, now: Instant) {
        let key = Key::from(uid);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.refused_by = refused_by;
            entry.since = now;
            self.put(&key, Place::Unschedulable { since: now }, now);
        }
    }

    /// An error stopped a pod on its way: it is tried again after a wait.
    pub fn failed(&mut self, uid: &str, now: Instant) {
        let key = Key::from(uid);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.refused_by = PluginSet::default();
            entry.since = now;
            let until = now + backoff(entry.attempts);
            self.put(&key, Place::Backoff { until, after_error: true }, now);
        }
    }

    /// Pods that were handed out and whose fate is lost come back, after a wait: one of them may be what broke.
    pub fn recover(&mut self, is_on_its_way: impl Fn(&PodInfo) -> bool, now: Instant) {
        let lost = |e: &&Entry| e.place == Place::InFlight && !is_on_its_way(&e.pod);
        let keys: Vec<Key> = self.entries.values().filter(lost).map(|e| Key::from(e.pod.uid())).collect();
        for key in keys {
            self.failed(&key, now);
        }
    }

    fn may_help(&self, framework: &Framework, key: &str, event: &ClusterEvent<'_>) -> bool {
        self.entries.get(key).is_some_and(|e| e.refused_by.is_empty() || framework.hint(e.refused_by, &e.pod, event))
    }

    /// Lets a pod out of the pool: at once if it has waited long enough, else when it has.
    fn release(&mut self, key: &Key, now: Instant) {
        let Some(entry) = self.entries.get(key) else { return };
        let until = entry.since + backoff(entry.attempts);
        let place = if until <= now { Place::Active } else { Place::Backoff { until, after_error: false } };
        self.put(key, place, now);
    }

    /// Something happened: those that it may help are let out. Returns how many.
    pub fn on_event(&mut self, framework: &Framework, event: &ClusterEvent<'_>, now: Instant) -> usize {
        let keys: Vec<Key> =
            self.pool.iter().filter(|key| self.may_help(framework, key, event)).map(Arc::clone).collect();
        for key in &keys {
            self.release(key, now);
        }
        keys.len()
    }

    /// Lets out those that have been in the pool for [`UNSCHEDULABLE_MAX`].
    pub fn flush(&mut self, now: Instant) {
        let old = |e: &&Entry| match e.place {
            Place::Unschedulable { since } => now.saturating_duration_since(since) >= UNSCHEDULABLE_MAX,
            _ => false,
        };
        let keys: Vec<Key> =
            self.pool.iter().filter(|key| self.entries.get(*key).as_ref().is_some_and(old)).map(Arc::clone).collect();
        for key in &keys {
            self.release(key, now);
        }
    }

    /// How many pods wait where.
    pub fn depth(&self) -> Depth {
        let mut depth = Depth::default();
        for entry in self.entries.values() {
            *match entry.place {
                Place::Active => &mut depth.active,
                Place::Backoff { .. } => &mut depth.backoff,
                Place::Unschedulable { .. } => &mut depth.unschedulable,
                Place::Gated => &mut depth.gated,
                Place::InFlight => &mut depth.in_flight,
            } += 1;
        }
        depth
    }
}

fn entry_since(entries: &HashMap<Key, Entry>, key: &str, now: Instant) -> Instant {
    entries.get(key).map_or(now, |e| e.since)
}

/// How long a pod waits that was tried so often.
fn backoff(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    BACKOFF_INITIAL.saturating_mul(1 << doublings).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests;
