//! `/metrics`, under Kubernetes's names: requests here, the rest in the modules below.

mod access;
mod process;
mod store;
mod watches;

pub use access::Access;
pub use process::started;
pub use store::{Measured, Writes};
pub use watches::{Events, Watches};

use super::admission::Chain;
use super::flow_control::FlowControl;
use super::request::RequestInfo;
use super::respond::Reply;
use super::state::State;
use http::StatusCode;
use http_body::Body;
use parking_lot::RwLock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    component: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReplyLabels {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    component: &'static str,
    dry_run: &'static str,
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
    sizes: Histogram,
    total: HashMap<(u16, bool), Counter>,
}

pub struct Metrics {
    registry: Registry,
    total: Family<ReplyLabels, Counter>,
    duration: Histograms<RequestLabels>,
    sizes: Histograms<RequestLabels>,
    long_running: Family<RequestLabels, Gauge>,
    inflight: [Gauge; 2],
    /// By the hash of the labels.
    series: RwLock<HashMap<u64, Series>>,
    hasher: RandomState,
    pub access: Access,
    pub watches: Watches,
    pub writes: Arc<Writes>,
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

/// Bytes, as Kubernetes's buckets.
const SIZES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

const COMPONENT: &str = "apiserver";

pub(super) type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn histogram() -> Histogram {
    Histogram::new(BUCKETS.iter().copied())
}

fn sizes() -> Histogram {
    Histogram::new(SIZES.iter().copied())
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
            "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code",
            total.clone(),
        );
        let duration = Histograms::<RequestLabels>::new_with_constructor(histogram);
        registry.register(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds for each verb, group, version, resource, subresource, scope and component",
            duration.clone(),
        );
        let sizes = Histograms::<RequestLabels>::new_with_constructor(sizes);
        registry.register(
            "apiserver_response_sizes",
            "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component",
            sizes.clone(),
        );
        let long_running = Family::<RequestLabels, Gauge>::default();
        registry.register(
            "apiserver_longrunning_requests",
            "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component",
            long_running.clone(),
        );
        let inflight = Family::<InflightLabels, Gauge>::default();
        registry.register(
            "apiserver_current_inflight_requests",
            "Maximal number of currently used inflight request limit of this apiserver per request kind in last second",
            inflight.clone(),
        );
        let inflight = ["readOnly", "mutating"]
            .map(|request_kind| inflight.get_or_create(&InflightLabels { request_kind }).clone());
        let access = Access::new(&mut registry);
        let watches = Watches::new(&mut registry);
        let writes = Arc::new(Writes::new(&mut registry));
        let (series, hasher) = (RwLock::default(), RandomState::new());
        Self { registry, total, duration, sizes, long_running, inflight, series, hasher, access, watches, writes }
    }

    fn labels(info: &RequestInfo) -> RequestLabels {
        RequestLabels {
            verb: verb(info),
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            scope: scope(info),
            component: COMPONENT,
        }
    }

    pub fn begin(&self, info: &RequestInfo) -> Inflight {
        let long_running = info.is_long_running();
        let gauge = if long_running {
            self.long_running.get_or_create(&Self::labels(info)).clone()
        } else {
            let read_only = matches!(info.verb, "get" | "list" | "head" | "options");
            self.inflight[usize::from(!read_only)].clone()
        };
        gauge.inc();
        Inflight { gauge, long_running }
    }

    /// Only requests for what is served make series of their own: a client cannot fill the memory.
    pub fn end(&self, inflight: Inflight, info: &RequestInfo, dry_run: bool, reply: &Reply, elapsed: Duration) {
        let code = reply.status();
        let known = !info.is_resource || code != StatusCode::NOT_FOUND && code != StatusCode::FORBIDDEN;
        let blank;
        let info = if known && info.is_resource {
            info
        } else {
            blank = RequestInfo { verb: info.verb, is_resource: info.is_resource, ..RequestInfo::default() };
            &blank
        };
        let key = self.hasher.hash_one((
            verb(info),
            &info.group,
            &info.version,
            &info.resource,
            &info.subresource,
            scope(info),
        ));
        let which = (code.as_u16(), dry_run);
        let observe = |series: &Series| {
            if !inflight.long_running {
                series.duration.observe(elapsed.as_secs_f64());
                if let Some(size) = reply.body().size_hint().exact() {
                    series.sizes.observe(size as f64);
                }
            }
        };
        {
            let series = self.series.read();
            if let Some(series) = series.get(&key)
                && let Some(total) = series.total.get(&which)
            {
                total.inc();
                observe(series);
                return;
            }
        }
        let labels = Self::labels(info);
        let total = self.total.get_or_create(&ReplyLabels {
            verb: labels.verb,
            group: labels.group.clone(),
            version: labels.version.clone(),
            resource: labels.resource.clone(),
            subresource: labels.subresource.clone(),
            scope: labels.scope,
            component: COMPONENT,
            dry_run: if dry_run { "All" } else { "" },
            code: which.0,
        });
        total.inc();
        let mut series = self.series.write();
        let series = series.entry(key).or_insert_with(|| Series {
            duration: self.duration.get_or_create(&labels).clone(),
            sizes: self.sizes.get_or_create(&labels).clone(),
            total: HashMap::new(),
        });
        series.total.insert(which, total.clone());
        observe(series);
    }

    /// Everything, in the text format that every scraper reads.
    pub fn text(&self, state: &State) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes it");
        let mut out = plain(&text);
        for text in [crate::client::metrics::text(), crate::runtime::metrics::text()] {
            out.push_str(&plain(&text));
        }
        store::write(&*state.storage, &state.registry, &mut out);
        process::write(&mut out);
        out
    }
}

/// Counters that Kubernetes has without `_total`.
const BARE: &[&str] = &["authenticated_user_requests", "authentication_attempts"];

/// OpenMetrics as the text format 0.0.4, which has the whole name of a counter in its head.
fn plain(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::with_capacity(text.len() + 1024);
    for (at, line) in lines.iter().enumerate() {
        let name = |line: &str| line.split(' ').nth(2).unwrap_or_default().to_owned();
        let counter = |line: &str| line.starts_with("# TYPE ") && line.ends_with(" counter");
        let of_counter =
            counter(line) || lines.get(at + 1).is_some_and(|next| counter(next) && name(next) == name(line));
        match line {
            line if line.starts_with("# EOF") || line.starts_with("# UNIT ") => continue,
            line if line.starts_with("# ") => {
                let name = name(line);
                let total = of_counter && !BARE.contains(&name.as_str());
                out.push_str(&if total { line.replacen(&name, &format!("{name}_total"), 1) } else { line.to_string() });
            }
            line => match BARE.iter().find(|bare| line.starts_with(&format!("{bare}_total{{"))) {
                Some(bare) => out.push_str(&line.replacen(&format!("{bare}_total"), bare, 1)),
                None => out.push_str(line),
            },
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn counters_have_their_whole_name() {
        let text = "# HELP a_b A thing.\n# TYPE a_b counter\na_b_total{x=\"1\"} 2\n# HELP c Other.\n# TYPE c gauge\nc 1\n# EOF\n";
        expect![[r#"
            # HELP a_b_total A thing.
            # TYPE a_b_total counter
            a_b_total{x="1"} 2
            # HELP c Other.
            # TYPE c gauge
            c 1
        "#]]
        .assert_eq(&plain(text));
    }
}
