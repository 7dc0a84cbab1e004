//! The one way to the API for everything that is not the API server: a transport trait, a typed client over it, and what
//! controllers are made of (informers, work queue, leader gate).
//!
//! Imports the object model only. The binary supplies the in-process transport; the HTTP transport is here.

pub mod client;
pub mod testing;
pub mod transport;

pub use client::{Api, Client};
pub use transport::{Transport, WatchStream};
