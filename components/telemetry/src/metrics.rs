//! The registry of all metrics.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// All metrics of the process. Cheap to clone; each component registers its own at start.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// Registers metrics.
    pub fn register(&self, with: impl FnOnce(&mut Registry)) {
        with(&mut self.0.lock());
    }

    /// All metrics as OpenMetrics text.
    ///
    /// # Errors
    /// If a metric cannot be written, which none of the library's own types do.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        encode(&mut out, &self.0.lock())?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn what_is_registered_is_written() -> fmt::Result {
        let metrics = Metrics::default();
        let counter: Counter = Counter::default();
        metrics.register(|registry| registry.register("navarch_things", "Things", counter.clone()));
        counter.inc_by(3);
        assert!(metrics.text()?.contains("navarch_things_total 3"));
        Ok(())
    }
}
