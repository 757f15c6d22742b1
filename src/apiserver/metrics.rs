//! `/metrics`, under Kubernetes's names.

use super::admission::Chain;
use super::flow_control::FlowControl;
use super::request::RequestInfo;
use http::StatusCode;
use parking_lot::RwLock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::HashMap;
use std::time::Duration;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReplyLabels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InflightLabels {
    request_kind: &'static str,
}

/// The series of one kind of request, found by one lookup.
#[derive(Clone)]
struct Series {
    duration: Histogram,
    total: HashMap<u16, Counter>,
}

type SeriesKey = (&'static str, String, String, String, String, &'static str);

pub struct Metrics {
    registry: Registry,
    total: Family<ReplyLabels, Counter>,
    duration: Family<RequestLabels, Histogram>,
    long_running: Family<RequestLabels, Gauge>,
    inflight: Family<InflightLabels, Gauge>,
    series: RwLock<HashMap<SeriesKey, Series>>,
}

/// A request under way.
pub struct Inflight {
    gauge: Gauge,
    long_running: bool,
}

impl Drop for Inflight {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// Seconds, as Kubernetes's buckets.
const BUCKETS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS.iter().copied())
}

fn scope(info: &RequestInfo) -> &'static str {
    match (info.is_resource, info.name.is_empty(), info.namespace.is_empty()) {
        (false, ..) => "",
        (true, false, _) => "resource",
        (true, true, false) => "namespace",
        (true, true, true) => "cluster",
    }
}

fn verb(info: &RequestInfo) -> &'static str {
    match (info.verb, info.subresource.as_str()) {
        (_, "exec" | "attach" | "portforward" | "proxy") => "CONNECT",
        ("create" | "post", _) => "POST",
        ("update" | "put", _) => "PUT",
        ("get", _) => "GET",
        ("list", _) => "LIST",
        ("watch", _) => "WATCH",
        ("patch", _) => "PATCH",
        ("delete", _) => "DELETE",
        ("deletecollection", _) => "DELETECOLLECTION",
        ("head", _) => "HEAD",
        _ => "other",
    }
}

impl Metrics {
    pub fn new(flow_control: &FlowControl, admission: &Chain) -> Self {
        let mut registry = Registry::default();
        flow_control.register(&mut registry);
        admission.register(&mut registry);
        let total = Family::<ReplyLabels, Counter>::default();
        // The encoder adds `_total`.
        registry.register(
            "apiserver_request",
            "Counter of apiserver requests broken out for each verb, group, version, resource, scope and HTTP response code",
            total.clone(),
        );
        let duration = Family::<RequestLabels, Histogram>::new_with_constructor(histogram as fn() -> Histogram);
        registry.register(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds for each verb, group, version, resource, subresource and scope",
            duration.clone(),
        );
        let long_running = Family::<RequestLabels, Gauge>::default();
        registry.register(
            "apiserver_longrunning_requests",
            "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource and scope",
            long_running.clone(),
        );
        let inflight = Family::<InflightLabels, Gauge>::default();
        registry.register(
            "apiserver_current_inflight_requests",
            "Maximal number of currently used inflight request limit of this apiserver per request kind in last second",
            inflight.clone(),
        );
        Self { registry, total, duration, long_running, inflight, series: RwLock::default() }
    }

    fn labels(info: &RequestInfo) -> RequestLabels {
        RequestLabels {
            verb: verb(info).to_owned(),
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            scope: scope(info),
        }
    }

    pub fn begin(&self, info: &RequestInfo) -> Inflight {
        let long_running = info.is_long_running();
        let gauge = if long_running {
            self.long_running.get_or_create(&Self::labels(info)).clone()
        } else {
            let read_only = matches!(info.verb, "get" | "list" | "head" | "options");
            let request_kind = if read_only { "readOnly" } else { "mutating" };
            self.inflight.get_or_create(&InflightLabels { request_kind }).clone()
        };
        gauge.inc();
        Inflight { gauge, long_running }
    }

    /// Only requests for what is served make series of their own: a client cannot fill the memory.
    pub fn end(&self, inflight: Inflight, info: &RequestInfo, code: StatusCode, elapsed: Duration) {
        let known = !info.is_resource || code != StatusCode::NOT_FOUND && code != StatusCode::FORBIDDEN;
        let blank = RequestInfo { verb: info.verb, is_resource: info.is_resource, ..RequestInfo::default() };
        let info = if known && info.is_resource { info } else { &blank };
        let key: SeriesKey = (
            verb(info),
            info.group.clone(),
            info.version.clone(),
            info.resource.clone(),
            info.subresource.clone(),
            scope(info),
        );
        {
            let series = self.series.read();
            if let Some(series) = series.get(&key)
                && let Some(total) = series.total.get(&code.as_u16())
            {
                total.inc();
                if !inflight.long_running {
                    series.duration.observe(elapsed.as_secs_f64());
                }
                return;
            }
        }
        let labels = Self::labels(info);
        let reply = ReplyLabels {
            verb: labels.verb.clone(),
            group: labels.group.clone(),
            version: labels.version.clone(),
            resource: labels.resource.clone(),
            subresource: labels.subresource.clone(),
            scope: labels.scope,
            code: code.as_u16(),
        };
        let total = self.total.get_or_create(&reply).clone();
        total.inc();
        let duration = self.duration.get_or_create(&labels).clone();
        if !inflight.long_running {
            duration.observe(elapsed.as_secs_f64());
        }
        let mut series = self.series.write();
        let series = series.entry(key).or_insert_with(|| Series { duration, total: HashMap::new() });
        series.total.insert(code.as_u16(), total);
    }

    pub fn text(&self) -> String {
        let mut out = String::new();
        encode(&mut out, &self.registry).expect("a String takes it");
        out
    }
}
