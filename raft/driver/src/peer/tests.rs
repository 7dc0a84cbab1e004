//! Members over loopback, and one end of a connection played by the test where a member would not do what is tried.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fixture;
mod links;
mod probes;
mod proposals;
mod refusals;
mod snapshots;
