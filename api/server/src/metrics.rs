//! What the server counts about its requests, under upstream's names.

use std::time::Duration;

use navarch_telemetry::Metrics;
use navarch_telemetry::prometheus_client::encoding::EncodeLabelSet;
use navarch_telemetry::prometheus_client::metrics::counter::Counter;
use navarch_telemetry::prometheus_client::metrics::family::Family;
use navarch_telemetry::prometheus_client::metrics::gauge::Gauge;
use navarch_telemetry::prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    resource: String,
    code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabels {
    verb: &'static str,
}

fn buckets() -> Histogram {
    // From a quarter of a millisecond to about eight seconds.
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

/// Counters of requests over HTTP.
#[derive(Clone)]
pub struct RequestMetrics {
    total: Family<RequestLabels, Counter>,
    seconds: Family<VerbLabels, Histogram, fn() -> Histogram>,
    /// Watches that are open.
    pub watches: Gauge,
    /// Handlers that panicked.
    pub panics: Counter,
}

impl RequestMetrics {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        let this = Self {
            total: Family::default(),
            seconds: Family::new_with_constructor(buckets),
            watches: Gauge::default(),
            panics: Counter::default(),
        };
        metrics.register(|registry| {
            registry.register("apiserver_request", "Requests answered, by verb, resource and code", this.total.clone());
            registry.register(
                "apiserver_request_duration_seconds",
                "Time to the head of the answer, by verb",
                this.seconds.clone(),
            );
            registry.register("apiserver_longrunning_requests", "Watches that are open", this.watches.clone());
            registry.register("navarch_apiserver_handler_panics", "Handlers that panicked", this.panics.clone());
        });
        this
    }

    /// Counts one answer. `resource` is one that is served, or empty: labels are bounded.
    pub fn observe(&self, verb: &'static str, resource: &str, code: u16, took: Duration) {
        let labels = RequestLabels { verb, resource: resource.to_owned(), code: code.into() };
        self.total.get_or_create(&labels).inc();
        self.seconds.get_or_create(&VerbLabels { verb }).observe(took.as_secs_f64());
    }
}
