//! The API through the in-process adapter, over a real store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod http;
mod protobuf;
mod protobuf_answers;
mod reads;
mod requests;
mod services;
mod walk;
mod watches;
mod world;
mod writes;
