//! The only door to consensus.
//!
//! Transactions go in, linearizable points in time come out, history is read through [`StateReader`]. Knows how objects'
//! keys are made and nothing else about Kubernetes. Called by `api/cache`, `api/registry` and the upkeep loops here.

pub mod consensus;
pub mod error;
pub mod key;
pub mod progress;
pub mod raft;
pub mod store;
pub mod upkeep;

pub use consensus::{Consensus, ConsensusError};
pub use error::StoreError;
pub use navarch_raft_contract::{Compare, KeyRange, KeyValue, Op, OpKind, ReadError, Revision, StateReader, Txn};
pub use progress::Progress;
pub use raft::Raft;
pub use store::{Committed, Store};
