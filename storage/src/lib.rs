//! The log and the state on the disk: bytes and revisions, not Kubernetes.
//!
//! The only crate that knows RocksDB. Two databases in one data folder: the log, written with a sync before anything is
//! acknowledged, and the state, written without a log of its own, because every change of it can be applied again from
//! the Raft log. [`keys`] knows every key encoding; [`machine`] knows what a transaction means and is generic over
//! [`kv::Kv`], so that simulations run the same rules over memory; [`rocks`] puts both on RocksDB.
//!
//! Never here: clocks, randomness, Raft, anything that knows what a key or a value stands for.

pub mod archive;
pub mod check;
pub mod damage;
pub mod folder;
pub mod hash;
pub mod keys;
pub mod kv;
pub mod machine;
pub mod memory;
pub mod rebase;
pub mod record;
pub mod recovery;
pub mod rocks;
pub mod space;
pub mod stream;

pub use folder::{DataFolder, FolderError};
pub use machine::Machine;
pub use rocks::{RocksConfig, RocksKv, RocksLog};
pub use space::{Space, SpaceConfig};

/// The state on RocksDB.
pub type StateDb = Machine<RocksKv>;
