//! The workload kinds: what keeps pods running.

pub(crate) mod defaults;
