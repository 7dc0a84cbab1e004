//! Generic operations on stored objects, one a file. All are methods of [`crate::Registry`].
//!
//! They take values that are decoded and refused or pruned already, and never see media types or paths.

pub mod binding;
pub mod collection;
pub mod create;
pub mod delete;
pub mod eviction;
pub mod finalize;
pub mod get;
pub mod list;
pub mod patch;
pub mod review;
pub mod scale;
pub mod update;
pub mod watch;
