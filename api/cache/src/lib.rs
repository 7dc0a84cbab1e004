//! The watch cache: for each resource one ordered view of the latest objects and one window of recent events.
//!
//! Fed on the applier's thread before any writer is answered, so whoever was answered finds its write here. Reads and
//! watches are function calls on shared structures; there is no queue per watcher. Objects are shared, never re-parsed.

pub mod caches;
pub mod event;
mod history;
pub mod resource;
#[cfg(test)]
mod tests;
pub mod watcher;
mod window;

pub use caches::{CacheLimits, Caches, IndexedField};
pub use event::CacheEvent;
pub use resource::{Page, ResourceCache};
pub use watcher::{Expired, Scope, WatchError, Watcher};
