//! The work queue of a controller: keys, each at most once, each with at most one worker.
//!
//! A key that comes while it is worked on is handed out again afterwards. Failing keys wait longer each time. The number of
//! different keys is bounded; keys beyond it are refused and the queue says that it is incomplete, so that its owner adds
//! all keys anew: nothing is lost, because keys carry no data.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Different keys that may wait. Each takes some hundred bytes: a few dozen megabytes at worst.
const KEYS_MAX: usize = 250_000;

/// The waits of a failing key.
const RETRY_MIN: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_secs(120);

struct Inner<K> {
    ready: VecDeque<K>,
    /// Keys in `ready`, and keys to hand out again when their worker is done.
    wanted: HashSet<K>,
    working: HashSet<K>,
    later: BinaryHeap<Reverse<(Instant, u64)>>,
    /// When a key is due, and the entry of `later` that says so; others are stale.
    due: HashMap<K, (Instant, u64)>,
    due_keys: HashMap<u64, K>,
    failures: HashMap<K, u32>,
    ticket: u64,
    incomplete: bool,
    shut: bool,
    added: u64,
}

/// The queue. Clones are the same one.
pub struct WorkQueue<K> {
    inner: Arc<Mutex<Inner<K>>>,
    wake: Arc<Notify>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), wake: Arc::clone(&self.wake) }
    }
}

impl<K: Clone + Eq + Hash> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    /// Empty.
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                ready: VecDeque::new(),
                wanted: HashSet::new(),
                working: HashSet::new(),
                later: BinaryHeap::new(),
                due: HashMap::new(),
                due_keys: HashMap::new(),
                failures: HashMap::new(),
                ticket: 0,
                incomplete: false,
                shut: false,
                added: 0,
            })),
            wake: Arc::default(),
        }
    }

    /// Wants a key to be worked on. Does nothing if it already waits.
    pub fn add(&self, key: K) {
        let mut inner = self.inner.lock();
        inner.add(key);
        drop(inner);
        self.wake.notify_one();
    }

    /// Wants a key after a while. The earliest of several wishes counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + delay;
        let mut inner = self.inner.lock();
        if inner.shut || inner.due.get(&key).is_some_and(|(due, _)| *due <= at) {
            return;
        }
        if inner.due.len() >= KEYS_MAX {
            inner.incomplete = true;
            return;
        }
        inner.ticket += 1;
        let ticket = inner.ticket;
        if let Some((_, old)) = inner.due.insert(key.clone(), (at, ticket)) {
            inner.due_keys.remove(&old);
        }
        inner.due_keys.insert(ticket, key);
        inner.later.push(Reverse((at, ticket)));
        drop(inner);
        self.wake.notify_one();
    }

    /// Wants a key that failed again, later each time.
    pub fn add_rate_limited(&self, key: K) {
        let failures = {
            let mut inner = self.inner.lock();
            let failures = inner.failures.entry(key.clone()).or_insert(0);
            *failures = failures.saturating_add(1);
            *failures - 1
        };
        let factor = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.add_after(key, RETRY_MIN.saturating_mul(factor).min(RETRY_MAX));
    }

    /// How often a key failed since it was forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        self.inner.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// The key succeeded: its next failure is its first.
    pub fn forget(&self, key: &K) {
        self.inner.lock().failures.remove(key);
    }

    /// The next key, when there is one; `None` once the queue is shut. Call [`WorkQueue::done`] with it afterwards.
    /// Cancel-safe.
    pub async fn get(&self) -> Option<K> {
        loop {
            let notified = self.wake.notified();
            let wait = {
                let mut inner = self.inner.lock();
                if inner.shut {
                    return None;
                }
                inner.ripen(Instant::now());
                if let Some(key) = inner.ready.pop_front() {
                    inner.wanted.remove(&key);
                    inner.working.insert(key.clone());
                    let more = !inner.ready.is_empty();
                    drop(inner);
                    if more {
                        self.wake.notify_one();
                    }
                    return Some(key);
                }
                inner.later.peek().map(|Reverse((at, _))| *at)
            };
            match wait {
                Some(at) => tokio::select! {
                    () = notified => {}
                    () = tokio::time::sleep_until(at.into()) => {}
                },
                None => notified.await,
            }
        }
    }

    /// Ends the work on a key. If it was wanted meanwhile it waits again.
    pub fn done(&self, key: &K) {
        let mut inner = self.inner.lock();
        inner.working.remove(key);
        if inner.wanted.contains(key) {
            inner.ready.push_back(key.clone());
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// Whether keys were refused since the last call. If so, all keys have to be added anew.
    pub fn take_incomplete(&self) -> bool {
        std::mem::take(&mut self.inner.lock().incomplete)
    }

    /// Keys that wait to be worked on now.
    pub fn len(&self) -> usize {
        self.inner.lock().ready.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing waits, is due later, or is worked on.
    pub fn is_idle(&self) -> bool {
        let inner = self.inner.lock();
        inner.ready.is_empty() && inner.working.is_empty() && inner.due.is_empty()
    }

    /// Keys added so far, repetitions left out.
    pub fn added(&self) -> u64 {
        self.inner.lock().added
    }

    /// Ends every [`WorkQueue::get`], now and later.
    pub fn shut_down(&self) {
        self.inner.lock().shut = true;
        self.wake.notify_waiters();
        self.wake.notify_one();
    }
}

impl<K: Clone + Eq + Hash> Inner<K> {
    fn add(&mut self, key: K) {
        if self.shut || self.wanted.contains(&key) {
            return;
        }
        if self.wanted.len() >= KEYS_MAX {
            self.incomplete = true;
            return;
        }
        self.added += 1;
        self.wanted.insert(key.clone());
        if !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// Moves what is due to what is ready.
    fn ripen(&mut self, now: Instant) {
        while let Some(Reverse((at, ticket))) = self.later.peek().copied() {
            let Some(key) = self.due_keys.get(&ticket) else {
                self.later.pop();
                continue;
            };
            if at > now {
                return;
            }
            let key = key.clone();
            self.later.pop();
            self.due_keys.remove(&ticket);
            self.due.remove(&key);
            self.add(key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[tokio::test]
    async fn each_key_once_and_one_worker_a_key() {
        let queue = WorkQueue::new();
        for key in ["a", "b", "a"] {
            queue.add(key);
        }
        assert_eq!(queue.get().await, Some("a"));
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.get().await, Some("b"));
        assert!(queue.is_empty(), "a is being worked on");
        queue.done(&"a");
        assert_eq!(queue.get().await, Some("a"));
        queue.done(&"a");
        queue.done(&"b");
        assert!(queue.is_idle());
        queue.shut_down();
        assert_eq!(queue.get().await, None);
    }

    #[tokio::test]
    async fn the_earliest_wish_counts_and_failures_wait_longer() {
        let queue = WorkQueue::new();
        queue.add_after("x", Duration::from_millis(50));
        queue.add_after("x", Duration::from_millis(1));
        queue.add_after("x", Duration::from_millis(90));
        assert_eq!(queue.get().await, Some("x"));
        queue.done(&"x");
        assert!(queue.is_idle(), "one wish, not three");
        for expected in 1..5 {
            queue.add_rate_limited("y");
            assert_eq!(queue.failures(&"y"), expected);
            assert_eq!(queue.get().await, Some("y"));
            queue.done(&"y");
        }
        queue.forget(&"y");
        assert_eq!(queue.failures(&"y"), 0);
    }

    #[tokio::test]
    async fn many_workers_lose_nothing() {
        let queue = WorkQueue::new();
        let seen: Arc<Mutex<Vec<u32>>> = Arc::default();
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let (queue, seen) = (queue.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    while let Some(key) = queue.get().await {
                        tokio::task::yield_now().await;
                        seen.lock().push(key);
                        queue.done(&key);
                    }
                })
            })
            .collect();
        for key in 0..500 {
            queue.add_after(key, Duration::from_millis(u64::from(key % 5)));
        }
        while seen.lock().len() < 500 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        queue.shut_down();
        for worker in workers {
            worker.await.unwrap();
        }
        seen.lock().sort_unstable();
        assert_eq!(*seen.lock(), (0..500).collect::<Vec<_>>());
    }
}
