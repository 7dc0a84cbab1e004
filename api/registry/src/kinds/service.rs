//! Services.

pub(crate) mod defaults;
