//! The bounded queue between two stages of the pipeline. One producer, one consumer, who takes all there is at once.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    emptied: Condvar,
    max: usize,
}

struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(max: usize) -> Self {
        let state = State { items: VecDeque::new(), closed: false };
        Self { state: Mutex::new(state), filled: Condvar::new(), emptied: Condvar::new(), max }
    }

    /// Adds an item; waits while the queue is full. What is added after the end is dropped.
    pub(super) fn push(&self, item: T) {
        let mut state = self.state.lock();
        self.emptied.wait_while(&mut state, |state| state.items.len() >= self.max && !state.closed);
        if !state.closed {
            state.items.push_back(item);
            drop(state);
            self.filled.notify_one();
        }
    }

    /// All items; waits while there is none. `None` when the queue is closed and empty.
    pub(super) fn take(&self) -> Option<VecDeque<T>> {
        let mut state = self.state.lock();
        self.filled.wait_while(&mut state, |state| state.items.is_empty() && !state.closed);
        let items = std::mem::take(&mut state.items);
        drop(state);
        self.emptied.notify_one();
        (!items.is_empty()).then_some(items)
    }

    /// Nothing is added any more; what is there is still taken.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_all();
        self.emptied.notify_all();
    }
}
