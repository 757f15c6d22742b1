//! `/metrics`, under Kubernetes's names: requests here, the rest in the modules below.

mod access;
mod process;
mod services;
mod store;
mod watches;

pub use access::Access;
pub use process::started;
pub use store::{Measured, Writes};
pub use watches::{Events, Watches};

use super::admission::Chain;
use super::audit::{self, Audit};
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
use std::cell::Cell;
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
struct DurationLabels {
    verb: &'static str,
    dry_run: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    component: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DeprecatedLabels {
    group: String,
    version: String,
    resource: String,
    subresource: String,
    removed_release: &'static str,
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
    /// What the server's own work took; None: of a dry run.
    own: Option<Histogram>,
    /// Of what reads.
    sizes: Option<Histogram>,
    total: HashMap<u16, Counter>,
}

/// What came of a request.
pub struct Outcome<'a> {
    pub reply: &'a Reply,
    /// A resource or a page was asked: what is not routed makes no series, so that a client cannot fill the memory.
    pub routed: bool,
    pub dry_run: bool,
    pub apply: bool,
    pub elapsed: Duration,
    /// Of it, for seats and for webhooks.
    pub waited: Duration,
}

tokio::task_local! {
    static WAITED: Cell<Duration>;
}

/// The request that is being handled has waited for somebody else.
pub fn waited(time: Duration) {
    // Outside of a request nobody counts it.
    let _ = WAITED.try_with(|waited| waited.set(waited.get() + time));
}

/// Handle a request; also how long it waited.
pub async fn waiting<F: Future>(work: F) -> (F::Output, Duration) {
    let work = async {
        let output = work.await;
        (output, WAITED.with(Cell::get))
    };
    WAITED.scope(Cell::default(), work).await
}

pub struct Metrics {
    registry: Registry,
    total: Family<ReplyLabels, Counter>,
    duration: Histograms<DurationLabels>,
    own: Histograms<RequestLabels>,
    sizes: Histograms<RequestLabels>,
    deprecated: Family<DeprecatedLabels, Gauge>,
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

/// The same of the server's own work.
const OWN_BUCKETS: &[f64] = BUCKETS.split_at(2).1;

/// Bytes, as Kubernetes's buckets.
const SIZES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

const COMPONENT: &str = "apiserver";

pub(super) type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn histogram() -> Histogram {
    Histogram::new(BUCKETS.iter().copied())
}

fn own() -> Histogram {
    Histogram::new(OWN_BUCKETS.iter().copied())
}

fn sizes() -> Histogram {
    Histogram::new(SIZES.iter().copied())
}

fn scope(info: &RequestInfo) -> &'static str {
    // A list of one name is a list.
    let one = match info.verb {
        "create" => true,
        "list" | "watch" | "deletecollection" => false,
        _ => !info.name.is_empty(),
    };
    match (info.is_resource, !one, info.namespace.is_empty()) {
        (false, ..) => "",
        (true, false, _) => "resource",
        (true, true, false) => "namespace",
        (true, true, true) => "cluster",
    }
}

/// Pages that are counted, by the name they have there.
fn page(path: &str) -> Option<&'static str> {
    const COUNTED: &[&str] = &["/healthz", "/livez", "/readyz"];
    match path {
        "/openapi/v3" => Some("openapi/v3"),
        path if path.starts_with("/openapi/v3/") => Some("openapi/v3/"),
        path => COUNTED.iter().find(|known| **known == path).copied(),
    }
}

fn verb(info: &RequestInfo, apply: bool) -> &'static str {
    match (info.verb, info.subresource.as_str()) {
        (_, "exec" | "attach" | "portforward" | "proxy" | "log") => "CONNECT",
        ("patch", _) if apply => "APPLY",
        ("create" | "post", _) => "POST",
        ("update" | "put", _) => "PUT",
        ("get", _) => "GET",
        ("list", _) => "LIST",
        ("watch", _) => "WATCH",
        ("patch", _) => "PATCH",
        ("delete" | "deletecollection", _) => "DELETE",
        ("head", _) => "HEAD",
        _ => "other",
    }
}

impl Metrics {
    pub fn new(flow_control: &FlowControl, admission: &Chain, audit: Option<&Audit>) -> Self {
        let mut registry = Registry::default();
        flow_control.register(&mut registry);
        admission.register(&mut registry);
        audit::Counts::register(audit.map(Audit::counts).unwrap_or_default(), &mut registry);
        let total = Family::<ReplyLabels, Counter>::default();
        // The encoder adds `_total`.
        registry.register(
            "apiserver_request",
            "[STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
            total.clone(),
        );
        let duration = Histograms::<DurationLabels>::new_with_constructor(histogram);
        registry.register(
            "apiserver_request_duration_seconds",
            "[STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
            duration.clone(),
        );
        let own = Histograms::<RequestLabels>::new_with_constructor(own);
        registry.register(
            "apiserver_request_sli_duration_seconds",
            "[ALPHA] Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.",
            own.clone(),
        );
        let deprecated = Family::<DeprecatedLabels, Gauge>::default();
        registry.register(
            "apiserver_requested_deprecated_apis",
            "[STABLE] Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.",
            deprecated.clone(),
        );
        let sizes = Histograms::<RequestLabels>::new_with_constructor(sizes);
        registry.register(
            "apiserver_response_sizes",
            "[STABLE] Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.",
            sizes.clone(),
        );
        let long_running = Family::<RequestLabels, Gauge>::default();
        registry.register(
            "apiserver_longrunning_requests",
            "[STABLE] Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.",
            long_running.clone(),
        );
        let inflight = Family::<InflightLabels, Gauge>::default();
        registry.register(
            "apiserver_current_inflight_requests",
            "[STABLE] Maximal number of currently used inflight request limit of this apiserver per request kind in last second.",
            inflight.clone(),
        );
        let inflight = ["readOnly", "mutating"]
            .map(|request_kind| inflight.get_or_create(&InflightLabels { request_kind }).clone());
        let access = Access::new(&mut registry);
        let watches = Watches::new(&mut registry);
        let writes = Arc::new(Writes::new(&mut registry));
        let (series, hasher) = (RwLock::default(), RandomState::new());
        Self {
            registry,
            total,
            duration,
            own,
            sizes,
            deprecated,
            long_running,
            inflight,
            series,
            hasher,
            access,
            watches,
            writes,
        }
    }

    fn labels(info: &RequestInfo, apply: bool) -> RequestLabels {
        let page = if info.is_resource { None } else { page(&info.path) };
        RequestLabels {
            verb: verb(info, apply),
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: page.map_or_else(|| info.subresource.clone(), str::to_owned),
            scope: scope(info),
            component: if page.is_some() { "" } else { COMPONENT },
        }
    }

    /// `known`: the resource is served; others make no series of their own.
    pub fn begin(&self, info: &RequestInfo, known: impl FnOnce() -> bool) -> Inflight {
        let long_running = info.is_long_running();
        let gauge = if long_running {
            let blank = RequestInfo { verb: info.verb, is_resource: info.is_resource, ..RequestInfo::default() };
            let info = if known() { info } else { &blank };
            self.long_running.get_or_create(&Self::labels(info, false)).clone()
        } else {
            let read_only = matches!(info.verb, "get" | "list" | "head" | "options");
            self.inflight[usize::from(!read_only)].clone()
        };
        gauge.inc();
        Inflight { gauge, long_running }
    }

    /// A version or a kind that is on its way out was asked for.
    pub fn deprecated(&self, info: &RequestInfo) {
        let labels = DeprecatedLabels {
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            removed_release: "",
        };
        self.deprecated.get_or_create(&labels).set(1);
    }

    pub fn end(&self, inflight: Inflight, info: &RequestInfo, outcome: &Outcome<'_>) {
        let code = outcome.reply.status();
        // What no route took, by its path, its verb or its form, was nobody's request.
        let unrouted = match code {
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_ACCEPTABLE => true,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => info.verb == "patch",
            _ => false,
        };
        if unrouted || !outcome.routed || !info.is_resource && page(&info.path).is_none() {
            return;
        }
        let key = self.hasher.hash_one((
            verb(info, outcome.apply),
            &info.group,
            &info.version,
            &info.resource,
            &info.subresource,
            if info.is_resource { None } else { page(&info.path) },
            scope(info),
            outcome.dry_run,
        ));
        let observe = |series: &Series| {
            if !inflight.long_running {
                series.duration.observe(outcome.elapsed.as_secs_f64());
                if let Some(own) = &series.own {
                    own.observe(outcome.elapsed.saturating_sub(outcome.waited).as_secs_f64());
                }
                if let (Some(sizes), Some(size)) = (&series.sizes, outcome.reply.body().size_hint().exact()) {
                    sizes.observe(size as f64);
                }
            }
        };
        {
            let series = self.series.read();
            if let Some(series) = series.get(&key)
                && let Some(total) = series.total.get(&code.as_u16())
            {
                total.inc();
                observe(series);
                return;
            }
        }
        let labels = Self::labels(info, outcome.apply);
        let dry_run = if outcome.dry_run { "All" } else { "" };
        let total = self.total.get_or_create(&ReplyLabels {
            verb: labels.verb,
            group: labels.group.clone(),
            version: labels.version.clone(),
            resource: labels.resource.clone(),
            subresource: labels.subresource.clone(),
            scope: labels.scope,
            component: labels.component,
            dry_run,
            code: code.as_u16(),
        });
        total.inc();
        let mut series = self.series.write();
        let series = series.entry(key).or_insert_with(|| Series {
            duration: self
                .duration
                .get_or_create(&DurationLabels {
                    verb: labels.verb,
                    dry_run,
                    group: labels.group.clone(),
                    version: labels.version.clone(),
                    resource: labels.resource.clone(),
                    subresource: labels.subresource.clone(),
                    scope: labels.scope,
                    component: labels.component,
                })
                .clone(),
            own: (!outcome.dry_run && !inflight.long_running).then(|| self.own.get_or_create(&labels).clone()),
            sizes: matches!(labels.verb, "GET" | "LIST").then(|| self.sizes.get_or_create(&labels).clone()),
            total: HashMap::new(),
        });
        series.total.insert(code.as_u16(), total.clone());
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
        services::write(&*state.storage, &mut out);
        process::write(&mut out);
        out
    }
}

/// Counters that Kubernetes has without `_total`.
const BARE: &[&str] = &[
    "authenticated_user_requests",
    "authentication_attempts",
    "apiserver_admission_webhook_fail_open_count",
    "apiserver_admission_webhook_rejection_count",
];

/// OpenMetrics as the text format 0.0.4, which has the whole name of a counter in its head; what a
/// family is for is told without the point that the encoder puts behind it.
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
                let line = if line.starts_with("# HELP ") { line.strip_suffix('.').unwrap_or(line) } else { line };
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
            # HELP a_b_total A thing
            # TYPE a_b_total counter
            a_b_total{x="1"} 2
            # HELP c Other
            # TYPE c gauge
            c 1
        "#]]
        .assert_eq(&plain(text));
    }
}
