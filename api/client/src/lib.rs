//! The one way to the API for everything that is not the API server: a transport trait, a typed client over it, and what
//! controllers are made of (informers, work queue, leader gate).
//!
//! Imports the object model only. The binary supplies the in-process transport; the HTTP transport is here.

pub mod client;
pub mod expectations;
pub mod follow;
pub mod http;
pub mod informer;
pub mod kubeconfig;
pub mod leader;
pub mod queue;
pub mod recorder;
pub mod store;
pub mod testing;
pub mod transport;

pub use client::{Api, Client, DeleteOptions, Resource};
pub use expectations::Expectations;
pub use follow::{Step, follow};
pub use informer::{Informer, InformerFactory, Subscription};
pub use leader::{LeaderGate, LeaderSwitch};
pub use queue::WorkQueue;
pub use recorder::{EventRecorder, EventType};
pub use store::{Change, Item, ObjectKey, Partial, Store};
pub use transport::{Transport, WatchStream};
