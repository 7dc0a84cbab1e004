//! The table of every served resource, the behaviour that all share, and what is peculiar to each kind.
//!
//! `strategy` is the seam: generic code calls it, `kinds` implements it. [`Registry`] carries out generic operations on
//! the store. Nothing here knows HTTP, authorization or admission plugins; the server calls it after authorizing, and
//! hands its admission chain down as [`call::Admission`].

pub mod allocate;
pub mod call;
pub mod convert;
pub mod field_value;
pub mod kinds;
pub mod meta;
pub mod openapi;
pub mod ops;
pub mod registry;
pub mod resource;
pub mod select;
pub mod strategy;

pub use call::{Admission, Call, Operation, Review};
pub use registry::Registry;
pub use resource::{Resource, Table};
pub use strategy::{Column, Context, SelectableField, Strategy};
