//! The table of every served resource, the behaviour that all share, and what is peculiar to each kind.
//!
//! `strategy` is the seam: generic code calls it, `kinds` implements it.

pub mod kinds;
pub mod strategy;

pub use strategy::{Column, Context, SelectableField, Strategy};
