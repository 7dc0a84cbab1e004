//! Logs and metrics of the whole program.
//!
//! Logs go to standard error by `tracing`. Metrics are registered in one [`Metrics`] and written as OpenMetrics text.
//! Neither may ever hold a secret.

mod logs;
mod metrics;

pub use logs::{LogError, init};
pub use metrics::Metrics;
pub use prometheus_client;
