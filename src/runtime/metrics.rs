//! What the work queues of this process do: the `workqueue_` series, by the controller's name.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::LazyLock;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    name: &'static str,
}

#[derive(Default)]
struct Families {
    adds: Family<Labels, Counter>,
    depth: Family<Labels, Gauge>,
    retries: Family<Labels, Counter>,
    work: Work,
}

struct Work(Family<Labels, Histogram, fn() -> Histogram>);

impl Default for Work {
    fn default() -> Self {
        // From ten microseconds to a hundred seconds.
        Self(Family::new_with_constructor(|| Histogram::new((-5..=2).map(|power| 10_f64.powi(power)))))
    }
}

static FAMILIES: LazyLock<Families> = LazyLock::new(Families::default);

/// The series of one queue.
pub(super) struct Series {
    pub adds: Counter,
    pub depth: Gauge,
    pub retries: Counter,
    pub work: Histogram,
}

impl Series {
    pub fn of(name: &'static str) -> Self {
        let labels = Labels { name };
        Self {
            adds: FAMILIES.adds.get_or_create(&labels).clone(),
            depth: FAMILIES.depth.get_or_create(&labels).clone(),
            retries: FAMILIES.retries.get_or_create(&labels).clone(),
            work: FAMILIES.work.0.get_or_create(&labels).clone(),
        }
    }
}

/// OpenMetrics.
pub fn text() -> String {
    let Families { adds, depth, retries, work } = &*FAMILIES;
    let mut registry = Registry::default();
    registry.register("workqueue_adds", "Total number of adds handled by workqueue", adds.clone());
    registry.register("workqueue_depth", "Current depth of workqueue", depth.clone());
    registry.register("workqueue_retries", "Total number of retries handled by workqueue", retries.clone());
    registry.register(
        "workqueue_work_duration_seconds",
        "How long in seconds processing an item from workqueue takes.",
        work.0.clone(),
    );
    let mut out = String::new();
    encode(&mut out, &registry).expect("a String takes it");
    out
}
