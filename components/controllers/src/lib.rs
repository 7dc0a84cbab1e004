//! The built-in controllers: each brings one kind of object closer to what it should be.
//!
//! A controller is one actor in one folder, a line in [`registry`], and pure functions that decide. It reads shared
//! informers and writes as its own service account, fenced with the leader's term. An activation carries a key and no data.

mod clusterroleaggregation;
mod controller;
mod deployment;
mod endpoint;
mod endpoints;
mod endpointslice;
mod garbagecollector;
mod namespace;
mod nodeipam;
mod nodelifecycle;
mod owners;
mod perns;
mod podgc;
mod pods;
pub mod registry;
mod replicaset;
mod serviceaccounttoken;
mod sources;
#[cfg(test)]
mod testbed;
mod tokencleaner;

pub use registry::{Config, ControllersContext, Discover, ServedResource, specs};
