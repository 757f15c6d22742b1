//! API Priority and Fairness: which requests run now, which wait, which are refused.
//!
//! [`FlowControl::classify`] finds the FlowSchema of a request, [`Flow::enter`] takes seats of its
//! priority level; they go back when [`Entered`] is dropped. What the objects say is compiled when
//! they change; a request reads one snapshot. [`keeper`] writes conditions and keeps the default
//! objects. Levels lend each other seats only when some wait: nothing runs at idle.

mod allocation;
mod dump;
mod keeper;
mod level;
mod metrics;
mod queues;
mod retry_after;
mod rules;
mod shuffle;

pub use keeper::start;

use super::bootstrap;
use super::follow::{Following, Update, follow};
use super::request::{Query, RequestInfo};
use super::respond::{self, Reply};
use crate::api::{Fields, GroupResource, UserInfo};
use crate::storage::{Entry, Prefix, Storage};
use allocation::{Bounds, Shares};
use arc_swap::ArcSwap;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use level::{Level, Refusal, Seats};
use metrics::{Metrics, SchemaSeries};
use parking_lot::Mutex;
use queues::Queuing;
use rules::Rules;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";
const CATCH_ALL: &str = "catch-all";
const EXEMPT: &str = "exempt";

/// A quarter of a request's time is the most that it waits.
const PATIENCE: Duration = Duration::from_secs(15);

/// Seats are lent anew at most so often.
const LENDING_PERIOD: Duration = Duration::from_secs(10);

/// A list takes a seat per so many objects.
const OBJECTS_PER_SEAT: usize = 100;
const MOST_SEATS: usize = 10;

const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// `--max-requests-inflight` and `--max-mutating-requests-inflight`: their sum is what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub max_requests: u32,
    pub max_mutating: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_requests: 400, max_mutating: 200 }
    }
}

enum Distinguisher {
    None,
    User,
    Namespace,
}

/// A FlowSchema, compiled.
pub struct Schema {
    name: String,
    uid: Option<HeaderValue>,
    level_uid: Option<HeaderValue>,
    rules: Rules,
    by: Distinguisher,
    level: Arc<Level>,
    series: SchemaSeries,
}

#[derive(Default)]
struct Snapshot {
    /// In the order of precedence.
    schemas: Vec<Arc<Schema>>,
    levels: Vec<(Arc<Level>, Bounds)>,
}

/// What is stored.
#[derive(Default)]
struct Sources {
    schemas: BTreeMap<String, Value>,
    levels: BTreeMap<String, Value>,
    made: BTreeMap<String, Arc<Level>>,
}

pub struct FlowControl {
    options: Options,
    snapshot: ArcSwap<Snapshot>,
    sources: Mutex<Sources>,
    metrics: Metrics,
    /// Seats are wanting somewhere.
    wanting: Arc<Notify>,
    /// The objects are others than before.
    changed: Notify,
    following: OnceLock<[Following; 2]>,
}

/// The flow of one request.
pub struct Flow {
    schema: Arc<Schema>,
    hash: u64,
    watch: bool,
}

/// Seats of a request under way.
pub struct Entered {
    schema: Arc<Schema>,
    seats: Seats,
    watch: bool,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let series = &self.schema.series;
        series.executing.dec();
        series.seats.dec_by(i64::from(self.seats.count()));
        let histogram = if self.watch { &series.watch } else { &series.execution };
        histogram.observe(self.seats.since().elapsed().as_secs_f64());
    }
}

impl FlowControl {
    /// Follows the objects from now on; to be called on a tokio runtime.
    pub fn new(options: Options, storage: &Arc<dyn Storage>) -> Arc<Self> {
        let control = Arc::new(Self {
            options,
            snapshot: ArcSwap::default(),
            sources: Mutex::default(),
            metrics: Metrics::new(),
            wanting: Arc::default(),
            changed: Notify::new(),
            following: OnceLock::new(),
        });
        let kind = |resource: &'static str, of: fn(&mut Sources) -> &mut BTreeMap<String, Value>| {
            let control = Arc::downgrade(&control);
            follow(storage.clone(), Prefix::resource(&GroupResource::new(GROUP, resource)), move |update| {
                if let Some(control) = control.upgrade() {
                    control.apply(update, of);
                }
            })
        };
        let following = [kind(LEVELS, |sources| &mut sources.levels), kind(SCHEMAS, |sources| &mut sources.schemas)];
        // Set once, here.
        let _ = control.following.set(following);
        control
    }

    fn apply(&self, update: Update<'_>, of: fn(&mut Sources) -> &mut BTreeMap<String, Value>) {
        let mut sources = self.sources.lock();
        let objects = of(&mut sources);
        let put = |objects: &mut BTreeMap<String, Value>, entry: &Entry| {
            objects.insert(entry.key.name().to_owned(), entry.body.parse());
        };
        match update {
            Update::Reset(entries) => {
                objects.clear();
                entries.iter().for_each(|entry| put(objects, entry));
            }
            Update::Put(entry) => put(objects, entry),
            Update::Delete(key) => {
                objects.remove(key.name());
            }
        }
        self.compile(&mut sources);
        drop(sources);
        self.changed.notify_one();
    }

    fn compile(&self, sources: &mut Sources) {
        // What Kubernetes always has is there even before it is stored.
        let mandatory = |kind: &'static str| {
            let objects = bootstrap::flow_control().into_iter().map(|(_, object)| object);
            objects.filter(move |object| object["kind"] == kind).filter(|object| is_mandatory(name(object)))
        };
        let mut levels: BTreeMap<String, Value> =
            mandatory("PriorityLevelConfiguration").map(|level| (name(&level).to_owned(), level)).collect();
        levels.extend(sources.levels.clone());
        let mut schemas: BTreeMap<String, Value> =
            mandatory("FlowSchema").map(|schema| (name(&schema).to_owned(), schema)).collect();
        schemas.extend(sources.schemas.clone());

        let shares: Vec<Shares> = levels.values().map(shares).collect();
        let bounds = allocation::bounds(self.options.max_requests + self.options.max_mutating, &shares);
        sources.made.retain(|name, _| {
            levels.contains_key(name) || {
                self.metrics.forget_level(name);
                false
            }
        });
        let mut snapshot = Snapshot::default();
        for ((name, object), bounds) in levels.iter().zip(bounds) {
            let fresh = || Arc::new(Level::new(name, self.wanting.clone()));
            let level = sources.made.entry(name.clone()).or_insert_with(fresh);
            level.configure(object.at("spec").str_at("type") == "Exempt", queuing(object));
            level.set_limit(bounds.nominal);
            snapshot.levels.push((level.clone(), bounds));
        }
        for (name, object) in &schemas {
            let spec = object.at("spec");
            let level_name = spec.at("priorityLevelConfiguration").str_at("name");
            // A schema whose level is missing is about nothing.
            let Some(level) = sources.made.get(level_name) else { continue };
            snapshot.schemas.push(Arc::new(Schema {
                name: name.clone(),
                uid: uid(object),
                level_uid: levels.get(level_name).and_then(uid),
                rules: Rules::read(spec),
                by: match spec.at("distinguisherMethod").str_at("type") {
                    "ByUser" => Distinguisher::User,
                    "ByNamespace" => Distinguisher::Namespace,
                    _ => Distinguisher::None,
                },
                level: level.clone(),
                series: self.metrics.schema(name, level_name),
            }));
        }
        let precedence = |name: &str| schemas[name].at("spec").int_at("matchingPrecedence");
        snapshot.schemas.sort_by_key(|schema| (precedence(&schema.name), schema.name.clone()));
        self.snapshot.store(Arc::new(snapshot));
    }

    /// None: nothing controls it (it is long running, and not a watch).
    pub fn classify(&self, user: &UserInfo, info: &RequestInfo) -> Option<Flow> {
        if info.is_long_running() && info.verb != "watch" {
            return None;
        }
        let snapshot = self.snapshot.load();
        let found = snapshot.schemas.iter().find(|schema| schema.rules.are_about(user, info));
        let schema = found.or_else(|| snapshot.schemas.iter().find(|schema| schema.name == CATCH_ALL))?.clone();
        drop(snapshot);
        let hash = match schema.by {
            _ if schema.level.is_exempt() => 0,
            Distinguisher::None => shuffle::flow_hash(&schema.name, ""),
            Distinguisher::User => shuffle::flow_hash(&schema.name, &user.name),
            Distinguisher::Namespace => shuffle::flow_hash(&schema.name, &info.namespace),
        };
        Some(Flow { schema, hash, watch: info.verb == "watch" })
    }

    /// Seats for the request; `Err`: the 429 that it gets.
    pub async fn enter(&self, flow: &Flow, seats: impl FnOnce() -> u32) -> Result<Entered, Reply> {
        let (schema, series) = (&flow.schema, &flow.schema.series);
        let seats = if schema.level.is_exempt() { 1 } else { seats() };
        let taken = match schema.level.try_enter(seats) {
            Some(taken) => taken,
            None => self.wait(flow, seats).await.map_err(|refusal| self.refuse(flow, refusal))?,
        };
        series.dispatched.inc();
        series.executing.inc();
        series.seats.inc_by(i64::from(taken.count()));
        Ok(Entered { schema: schema.clone(), seats: taken, watch: flow.watch })
    }

    async fn wait(&self, flow: &Flow, seats: u32) -> Result<Seats, Refusal> {
        /// Counts while it lives: also when the client goes away.
        struct Waiting<'a>(&'a SchemaSeries);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.waiting.dec();
            }
        }
        let series = &flow.schema.series;
        series.waiting.inc();
        let _waiting = Waiting(series);
        let (since, mut queued) = (Instant::now(), false);
        let result = flow
            .schema
            .level
            .enter(flow.hash, seats, PATIENCE, |length| {
                queued = true;
                series.length.observe(length as f64);
            })
            .await;
        if queued {
            let histogram = if result.is_ok() { &series.waited } else { &series.gave_up };
            histogram.observe(since.elapsed().as_secs_f64());
        }
        result
    }

    fn refuse(&self, flow: &Flow, refusal: Refusal) -> Reply {
        self.metrics.rejected(&flow.schema.series, refusal.name());
        let retry_after = flow.schema.level.retry_after.refused(Instant::now());
        let mut reply = respond::text(StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n");
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after));
        reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        reply
    }

    /// Seats of those who do not need theirs go to those who wait.
    fn lend(&self) {
        let snapshot = self.snapshot.load();
        let limited: Vec<_> = snapshot.levels.iter().filter(|(level, _)| !level.is_exempt()).collect();
        let demands: Vec<(Bounds, u32)> = limited.iter().map(|(level, bounds)| (*bounds, level.demand())).collect();
        let server = self.options.max_requests + self.options.max_mutating;
        for ((level, _), seats) in limited.iter().zip(allocation::allocate(server, &demands)) {
            level.set_limit(seats);
        }
    }

    pub(super) fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.metrics.register(registry);
    }

    /// A page for who looks for what is slow.
    pub(super) fn page(&self, path: &str) -> Option<String> {
        dump::page(self, path)
    }

    /// What is counted elsewhere, before the metrics are read.
    pub(super) fn measure(&self) {
        for (level, bounds) in &self.snapshot.load().levels {
            self.metrics.level(&level.name, level.limit(), *bounds);
        }
    }
}

impl Flow {
    /// Which schema and level it was: on every reply.
    pub fn mark(&self, headers: &mut HeaderMap) {
        for (header, uid) in [(SCHEMA_UID, &self.schema.uid), (LEVEL_UID, &self.schema.level_uid)] {
            if let Some(uid) = uid {
                headers.insert(header, uid.clone());
            }
        }
    }
}

/// The seats of a request: a list takes more where it goes through many objects.
pub fn seats(storage: &dyn Storage, info: &RequestInfo, query: &Query) -> u32 {
    if info.verb != "list" {
        return 1;
    }
    let resource = GroupResource::new(&info.group, &info.resource);
    let prefix = match info.namespace.as_str() {
        "" => Prefix::resource(&resource),
        namespace => Prefix::namespace(&resource, namespace),
    };
    let stored = storage.snapshot().count(&prefix);
    let selective =
        ["labelSelector", "fieldSelector"].iter().any(|name| query.get(name).is_some_and(|s| !s.is_empty()));
    let limit = query.get("limit").and_then(|limit| limit.parse::<usize>().ok()).filter(|limit| *limit > 0);
    let objects = match limit {
        Some(limit) if !selective => limit.min(stored),
        _ => stored,
    };
    objects.div_ceil(OBJECTS_PER_SEAT).clamp(1, MOST_SEATS) as u32
}

fn is_mandatory(name: &str) -> bool {
    matches!(name, EXEMPT | CATCH_ALL)
}

fn name(object: &Value) -> &str {
    object.at("metadata").str_at("name")
}

fn uid(object: &Value) -> Option<HeaderValue> {
    let uid = object.at("metadata").str_at("uid");
    if uid.is_empty() { None } else { HeaderValue::from_str(uid).ok() }
}

fn number(object: &Value, field: &str) -> Option<u32> {
    object.optional_int(field).and_then(|number| u32::try_from(number).ok())
}

fn shares(level: &Value) -> Shares {
    let spec = level.at("spec");
    let limited = if spec.str_at("type") == "Exempt" { spec.at("exempt") } else { spec.at("limited") };
    Shares {
        shares: number(limited, "nominalConcurrencyShares").unwrap_or_default(),
        lendable_percent: number(limited, "lendablePercent").unwrap_or_default(),
        borrowing_percent: number(limited, "borrowingLimitPercent"),
    }
}

fn queuing(level: &Value) -> Option<Queuing> {
    let response = level.at("spec").at("limited").at("limitResponse");
    let queuing = response.get_set("queuing").filter(|_| response.str_at("type") == "Queue")?;
    let of = |field: &str| number(queuing, field).unwrap_or_default() as usize;
    Some(Queuing { queues: of("queues"), hand: of("handSize"), length: of("queueLengthLimit") })
}
