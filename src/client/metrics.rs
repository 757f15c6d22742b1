//! What the clients of this process have asked: the `rest_client_` series.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::sync::LazyLock;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    code: u16,
    host: &'static str,
    method: &'static str,
}

/// The components of this process reach its API server without a socket.
const HOST: &str = "in-process";

static REQUESTS: LazyLock<Family<Labels, Counter>> = LazyLock::new(Family::default);

/// A request of a component that was answered.
pub(super) fn answered(method: &http::Method, code: http::StatusCode) {
    const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE"];
    let method = METHODS.iter().find(|known| **known == method.as_str()).copied().unwrap_or("other");
    REQUESTS.get_or_create(&Labels { code: code.as_u16(), host: HOST, method }).inc();
}

/// OpenMetrics.
pub fn text() -> String {
    let mut registry = Registry::default();
    registry.register(
        "rest_client_requests",
        "Number of HTTP requests, partitioned by status code, method, and host.",
        REQUESTS.clone(),
    );
    let mut out = String::new();
    encode(&mut out, &registry).expect("a String takes it");
    out
}
