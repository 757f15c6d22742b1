//! What the clients of this process have asked: the `rest_client_` series.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::LazyLock;
use std::time::Duration;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    code: u16,
    host: &'static str,
    method: &'static str,
}

/// The components of this process reach its API server without a socket.
const HOST: &str = "in-process";

static REQUESTS: LazyLock<Family<Labels, Counter>> = LazyLock::new(Family::default);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DurationLabels {
    host: &'static str,
    verb: &'static str,
}

/// Seconds, as Kubernetes's buckets.
const DURATIONS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

type Histograms = Family<DurationLabels, Histogram, fn() -> Histogram>;

static LATENCIES: LazyLock<Histograms> =
    LazyLock::new(|| Family::new_with_constructor(|| Histogram::new(DURATIONS.iter().copied())));

/// A request of a component that was answered.
pub(super) fn answered(method: &http::Method, code: http::StatusCode, elapsed: Duration) {
    const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE"];
    let method = METHODS.iter().find(|known| **known == method.as_str()).copied().unwrap_or("other");
    REQUESTS.get_or_create(&Labels { code: code.as_u16(), host: HOST, method }).inc();
    LATENCIES.get_or_create(&DurationLabels { host: HOST, verb: method }).observe(elapsed.as_secs_f64());
}

/// OpenMetrics.
pub fn text() -> String {
    let mut registry = Registry::default();
    registry.register(
        "rest_client_requests",
        "[ALPHA] Number of HTTP requests, partitioned by status code, method, and host.",
        REQUESTS.clone(),
    );
    registry.register(
        "rest_client_request_duration_seconds",
        "[ALPHA] Request latency in seconds. Broken down by verb, and host.",
        LATENCIES.clone(),
    );
    let mut out = String::new();
    encode(&mut out, &registry).expect("a String takes it");
    out
}
