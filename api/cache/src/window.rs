//! Recent events of a resource, in order of revision, bounded in number and in bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::CacheEvent;

/// All events after `base` are here.
pub(crate) struct Window {
    events: VecDeque<Arc<CacheEvent>>,
    bytes: usize,
    base: u64,
    max_events: usize,
    max_bytes: usize,
}

impl Window {
    pub(crate) fn new(base: u64, max_events: usize, max_bytes: usize) -> Self {
        Self { events: VecDeque::new(), bytes: 0, base, max_events, max_bytes }
    }

    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    pub(crate) fn push(&mut self, event: Arc<CacheEvent>) {
        self.bytes += event.object.stored().len();
        self.events.push_back(event);
        while self.events.len() > self.max_events || (self.bytes > self.max_bytes && self.events.len() > 1) {
            if let Some(oldest) = self.events.pop_front() {
                self.bytes -= oldest.object.stored().len();
                self.base = oldest.revision;
            }
        }
    }

    /// The events after `revision`, or `None` if some of them are no longer here.
    pub(crate) fn after(&self, revision: u64) -> Option<impl Iterator<Item = &Arc<CacheEvent>>> {
        if revision < self.base {
            return None;
        }
        let start = self.events.partition_point(|event| event.revision <= revision);
        Some(self.events.range(start..))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use navarch_types::Object;
    use serde_json::json;

    use super::*;

    fn event(revision: u64) -> Arc<CacheEvent> {
        let object = Arc::new(Object::from_value(&json!({"metadata": {"name": "a"}}), revision).unwrap());
        Arc::new(CacheEvent { revision, key: "a".into(), object, previous: None, deleted: false })
    }

    #[test]
    fn holds_the_newest_and_says_when_something_is_gone() {
        let mut window = Window::new(5, 3, 1 << 20);
        assert_eq!(window.after(5).unwrap().count(), 0);
        assert!(window.after(4).is_none());
        for revision in [7, 9, 12, 13] {
            window.push(event(revision));
        }
        assert!(window.after(6).is_none(), "7 has fallen out");
        let revisions: Vec<u64> = window.after(7).unwrap().map(|e| e.revision).collect();
        assert_eq!(revisions, [9, 12, 13]);
        assert_eq!(window.after(10).unwrap().count(), 2);
    }

    #[test]
    fn is_bounded_in_bytes_and_keeps_one() {
        let mut window = Window::new(0, 100, 1);
        window.push(event(1));
        window.push(event(2));
        assert_eq!(window.after(1).unwrap().count(), 1);
        assert!(window.after(0).is_none());
    }
}
