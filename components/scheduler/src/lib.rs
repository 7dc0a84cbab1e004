//! The scheduler: gives every pod without a node the best node that fits.
//!
//! [`queue`] holds the pods that wait, [`cache`] what is known of nodes and the pods on them, [`cycle`] decides, and
//! [`state`] ties them together; all are pure. [`framework`] is how plugins take part and [`plugins`] the table of them.
//! [`spec`] is the part that acts: it follows the API server, runs cycles, binds, and tells users why a pod fits nowhere.
//! Talks to the API server through the client only, and keeps no state that it could not read again.

mod binder;
pub mod cache;
pub mod counts;
pub mod cycle;
mod feed;
pub mod fit_error;
pub mod framework;
pub mod node;
pub mod plugins;
pub mod pod;
pub mod queue;
mod report;
pub mod resource;
mod run;
pub mod selector;
mod shared;
pub mod state;
#[cfg(test)]
mod testing;
pub mod workloads;

pub use run::{SchedulerContext, spec};
pub use shared::Figures;
