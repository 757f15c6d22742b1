//! The series of flow control, under Kubernetes's names. A schema holds its own, found once.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct LevelLabels {
    pub priority_level: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SchemaLabels {
    priority_level: String,
    flow_schema: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ExecutionLabels {
    priority_level: String,
    flow_schema: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WaitLabels {
    priority_level: String,
    flow_schema: String,
    execute: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RejectLabels {
    priority_level: String,
    flow_schema: String,
    reason: &'static str,
}

/// Seconds.
const DURATIONS: &[f64] = &[0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
const LENGTHS: &[f64] = &[0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn durations<L: Clone + std::hash::Hash + Eq>() -> Histograms<L> {
    Family::new_with_constructor(|| Histogram::new(DURATIONS.iter().copied()))
}

/// All series.
pub struct Metrics {
    rejected: Family<RejectLabels, Counter>,
    dispatched: Family<SchemaLabels, Counter>,
    waiting: Family<SchemaLabels, Gauge>,
    executing: Family<SchemaLabels, Gauge>,
    execution: Histograms<ExecutionLabels>,
    wait: Histograms<WaitLabels>,
    length: Histograms<SchemaLabels>,
    seats: Family<SchemaLabels, Gauge>,
    nominal: Family<LevelLabels, Gauge>,
    lower: Family<LevelLabels, Gauge>,
    upper: Family<LevelLabels, Gauge>,
    current: Family<LevelLabels, Gauge>,
}

/// Of one schema and its level.
#[derive(Clone)]
pub struct SchemaSeries {
    level: String,
    schema: String,
    pub dispatched: Counter,
    pub waiting: Gauge,
    pub executing: Gauge,
    pub seats: Gauge,
    pub execution: Histogram,
    /// Of the beginning of a watch.
    pub watch: Histogram,
    pub waited: Histogram,
    pub gave_up: Histogram,
    pub length: Histogram,
}

impl Metrics {
    pub fn new() -> Self {
        Self {
            rejected: Family::default(),
            dispatched: Family::default(),
            waiting: Family::default(),
            executing: Family::default(),
            execution: durations(),
            wait: durations(),
            length: Family::new_with_constructor(|| Histogram::new(LENGTHS.iter().copied())),
            seats: Family::default(),
            nominal: Family::default(),
            lower: Family::default(),
            upper: Family::default(),
            current: Family::default(),
        }
    }

    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("apiserver_flowcontrol");
        // The encoder adds `_total`.
        registry.register(
            "rejected_requests",
            "Number of requests rejected by API Priority and Fairness subsystem",
            self.rejected.clone(),
        );
        registry.register(
            "dispatched_requests",
            "[BETA] Number of requests executed by API Priority and Fairness subsystem",
            self.dispatched.clone(),
        );
        registry.register(
            "current_inqueue_requests",
            "[BETA] Number of requests currently pending in queues of the API Priority and Fairness subsystem",
            self.waiting.clone(),
        );
        registry.register(
            "current_executing_requests",
            "[BETA] Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem",
            self.executing.clone(),
        );
        registry.register(
            "request_execution_seconds",
            "[ALPHA] Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API Priority and Fairness subsystem",
            self.execution.clone(),
        );
        registry.register(
            "request_wait_duration_seconds",
            "[BETA] Length of time a request spent waiting in its queue",
            self.wait.clone(),
        );
        registry.register(
            "request_queue_length_after_enqueue",
            "[ALPHA] Length of queue in the API Priority and Fairness subsystem, as seen by each request after it is enqueued",
            self.length.clone(),
        );
        registry.register(
            "current_executing_seats",
            "[BETA] Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem",
            self.seats.clone(),
        );
        registry.register(
            "nominal_limit_seats",
            "[BETA] Nominal number of execution seats configured for each priority level",
            self.nominal.clone(),
        );
        registry.register(
            "lower_limit_seats",
            "[ALPHA] Configured lower bound on number of execution seats available to each priority level",
            self.lower.clone(),
        );
        registry.register(
            "upper_limit_seats",
            "[ALPHA] Configured upper bound on number of execution seats available to each priority level",
            self.upper.clone(),
        );
        registry.register(
            "current_limit_seats",
            "[ALPHA] current derived number of execution seats available to each priority level",
            self.current.clone(),
        );
    }

    pub fn schema(&self, schema: &str, level: &str) -> SchemaSeries {
        let labels = SchemaLabels { priority_level: level.to_owned(), flow_schema: schema.to_owned() };
        let wait = |execute| {
            let SchemaLabels { priority_level, flow_schema } = labels.clone();
            self.wait.get_or_create(&WaitLabels { priority_level, flow_schema, execute }).clone()
        };
        let execution = |r#type| {
            let SchemaLabels { priority_level, flow_schema } = labels.clone();
            self.execution.get_or_create(&ExecutionLabels { priority_level, flow_schema, r#type }).clone()
        };
        SchemaSeries {
            level: level.to_owned(),
            schema: schema.to_owned(),
            dispatched: self.dispatched.get_or_create(&labels).clone(),
            waiting: self.waiting.get_or_create(&labels).clone(),
            executing: self.executing.get_or_create(&labels).clone(),
            seats: self.seats.get_or_create(&labels).clone(),
            execution: execution("regular"),
            watch: execution("watch"),
            waited: wait("true"),
            gave_up: wait("false"),
            length: self.length.get_or_create(&labels).clone(),
        }
    }

    pub fn rejected(&self, series: &SchemaSeries, reason: &'static str) {
        let labels = RejectLabels { priority_level: series.level.clone(), flow_schema: series.schema.clone(), reason };
        self.rejected.get_or_create(&labels).inc();
    }

    /// What a level has: seats now, nominal, at least, at most.
    pub fn level(&self, level: &str, limit: u32, bounds: super::allocation::Bounds) {
        let labels = LevelLabels { priority_level: level.to_owned() };
        let series = [
            (&self.current, limit),
            (&self.nominal, bounds.nominal),
            (&self.lower, bounds.lower),
            (&self.upper, bounds.upper),
        ];
        for (family, value) in series {
            family.get_or_create(&labels).set(i64::from(value));
        }
    }

    /// A level that is gone.
    pub fn forget_level(&self, level: &str) {
        let labels = LevelLabels { priority_level: level.to_owned() };
        for family in [&self.current, &self.nominal, &self.lower, &self.upper] {
            family.remove(&labels);
        }
    }
}
