//! Chaos on real clusters: members in network namespaces, each with a disk of its own, under load, while processes are
//! killed and paused, links cut, disks slowed and filled. What clients and watchers came across is written down and judged
//! afterwards by [`navarch_chaos::check`], which knows nothing of navarch.
//!
//! Used by tests and by `make chaos`. Never imported by anything.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod api;
pub mod cluster;
pub mod failover;
pub mod faults;
pub mod load;
pub mod run;
pub mod verdict;
pub mod watchers;
