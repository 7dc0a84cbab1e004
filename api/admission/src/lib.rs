//! Admission: what is done to an object, and asked of it, between authorization and storage.
//!
//! [`plugins`] is the table of all plugins in the order they run; each is a file. Plugins read the cluster through
//! [`navarch_auth::ObjectView`], decide about one request, and write nothing.

mod attributes;
mod chain;
mod plugin;
pub mod plugins;

pub use attributes::{AdmissionAttributes, Operation};
pub use chain::AdmissionChain;
pub use plugin::{Environment, Plugin, Verdict};
