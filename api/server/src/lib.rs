//! The API server: one pipeline on its own request type, and two thin adapters to it, HTTP and in-process.
//!
//! The order is that of the design: panic guard, request info, deadline, authentication, authorization, decoding,
//! defaults, admission, strategy, transaction. What an adapter does is translate; it decides nothing. Nothing here holds
//! state of its own: objects are in the store and in the caches.

pub mod admission;
pub mod decode;
pub mod discovery;
pub mod http;
pub mod in_process;
pub mod info;
pub mod join;
pub mod listener;
pub mod metrics;
pub mod openapi;
pub mod pipeline;
pub mod probes;
pub mod server;
pub mod service;
pub mod streaming;
pub mod upgrade;

pub use in_process::InProcess;
pub use pipeline::{Answer, Pipeline};
pub use server::{ApiServer, Handle, ServerConfig, StartError};
