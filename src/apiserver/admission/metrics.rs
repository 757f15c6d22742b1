//! The series of admission, under Kubernetes's names.

use super::Operation;
use crate::api::Status;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Codes of webhooks above this are one.
const MAX_CODE: u16 = 600;

/// One set of labels for all series: each has few of its own.
type Labels = Vec<(&'static str, Cow<'static, str>)>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Admit,
    Validate,
}

impl Step {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validate",
        }
    }

    /// As the series of webhooks have it.
    fn of_webhooks(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validating",
        }
    }
}

/// A counter whose name does not end in `_total`.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl TypedMetric for Count {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Count {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        // The encoder of counters adds the ending.
        encoder.encode_gauge(&self.0.load(Ordering::Relaxed))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// How a call of a webhook ended.
pub enum Outcome<'a> {
    Allowed,
    Rejected(&'a Status),
    /// It could not be called; the code of what stood in the way.
    Failed {
        code: u16,
        fail_open: bool,
    },
}

pub struct Metrics {
    steps: Histograms,
    controllers: Histograms,
    webhooks: Histograms,
    webhook_requests: Family<Labels, Counter>,
    webhook_rejections: Family<Labels, Count>,
    webhook_fail_open: Family<Labels, Count>,
    validating_checks: Family<Labels, Counter>,
    validating_durations: Histograms,
    mutating_checks: Family<Labels, Counter>,
    mutating_durations: Histograms,
}

fn plugin_histogram() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.5, 1.0, 2.5])
}

fn webhook_histogram() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0])
}

fn policy_histogram() -> Histogram {
    Histogram::new([0.000_000_5, 0.001, 0.01, 0.1, 1.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let of = |make: fn() -> Histogram| Histograms::new_with_constructor(make);
        Self {
            steps: of(plugin_histogram),
            controllers: of(plugin_histogram),
            webhooks: of(webhook_histogram),
            webhook_requests: Family::default(),
            webhook_rejections: Family::default(),
            webhook_fail_open: Family::default(),
            validating_checks: Family::default(),
            validating_durations: of(policy_histogram),
            mutating_checks: Family::default(),
            mutating_durations: of(policy_histogram),
        }
    }
}

fn flag(value: bool) -> Cow<'static, str> {
    if value { "true".into() } else { "false".into() }
}

/// What a failed validation is counted as.
fn error_type(message: &str) -> &'static str {
    if message.starts_with("compilation") {
        "compile_error"
    } else if message.starts_with("validation failed due to running out of cost budget") {
        "out_of_budget"
    } else {
        "invalid_error"
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "apiserver_admission_step_admission_duration_seconds",
            "[STABLE] Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).",
            self.steps.clone(),
        );
        registry.register(
            "apiserver_admission_controller_admission_duration_seconds",
            "[STABLE] Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
            self.controllers.clone(),
        );
        registry.register(
            "apiserver_admission_webhook_admission_duration_seconds",
            "[STABLE] Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
            self.webhooks.clone(),
        );
        // The encoder adds `_total`.
        registry.register(
            "apiserver_admission_webhook_request",
            "[ALPHA] Admission webhook request total, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify whether the request was rejected or not and an HTTP status code. Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
            self.webhook_requests.clone(),
        );
        registry.register(
            "apiserver_admission_webhook_rejection_count",
            "[ALPHA] Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify an error type (calling_webhook_error or apiserver_internal_error if an error occurred; no_error otherwise) and optionally a non-zero rejection code if the webhook rejects the request with an HTTP status code (honored by the apiserver when the code is greater or equal to 400). Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
            self.webhook_rejections.clone(),
        );
        registry.register(
            "apiserver_admission_webhook_fail_open_count",
            "[ALPHA] Admission webhook fail open count, identified by name and broken out for each admission type (validating or admit).",
            self.webhook_fail_open.clone(),
        );
        registry.register(
            "apiserver_validating_admission_policy_check",
            "[BETA] Validation admission policy check total, labeled by policy and further identified by binding and enforcement action taken.",
            self.validating_checks.clone(),
        );
        registry.register(
            "apiserver_validating_admission_policy_check_duration_seconds",
            "[BETA] Validation admission latency for individual validation expressions in seconds, labeled by policy and further including binding and enforcement action taken.",
            self.validating_durations.clone(),
        );
        registry.register(
            "apiserver_mutating_admission_policy_check",
            "[ALPHA] Mutation admission policy check total, labeled by policy and further identified by binding.",
            self.mutating_checks.clone(),
        );
        registry.register(
            "apiserver_mutating_admission_policy_check_duration_seconds",
            "[ALPHA] Mutation admission latency for individual mutation expressions in seconds, labeled by policy and binding.",
            self.mutating_durations.clone(),
        );
    }

    /// The series of one plugin (None: of the whole chain), for writes that end so.
    pub fn plugin(&self, name: Option<&'static str>, step: Step, operation: Operation, rejected: bool) -> Histogram {
        let mut labels: Labels = name.map(|name| ("name", name.into())).into_iter().collect();
        labels.extend([
            ("type", step.as_str().into()),
            ("operation", operation.as_str().into()),
            ("rejected", flag(rejected)),
        ]);
        let family = if name.is_some() { &self.controllers } else { &self.steps };
        family.get_or_create(&labels).clone()
    }

    pub fn webhook(&self, name: &str, step: Step, operation: Operation, started: Instant, outcome: &Outcome<'_>) {
        let name: Cow<'static, str> = name.to_owned().into();
        let (kind, operation) = (step.of_webhooks(), operation.as_str());
        let (code, rejected, error) = match outcome {
            Outcome::Allowed => (200, false, None),
            Outcome::Rejected(status) => (status.code, true, Some("no_error")),
            Outcome::Failed { code, fail_open: true } => (*code, false, None),
            Outcome::Failed { code, fail_open: false } => (*code, true, Some("calling_webhook_error")),
        };
        let code: Cow<'static, str> = code.min(MAX_CODE).to_string().into();
        let common =
            || -> Labels { vec![("name", name.clone()), ("type", kind.into()), ("operation", operation.into())] };
        let mut labels = common();
        labels.push(("rejected", flag(rejected)));
        self.webhooks.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
        let mut labels = common();
        labels.extend([("code", code.clone()), ("rejected", flag(rejected))]);
        self.webhook_requests.get_or_create(&labels).inc();
        if let Some(error) = error {
            let mut labels = common();
            labels.extend([("error_type", error.into()), ("rejection_code", code)]);
            self.webhook_rejections.get_or_create(&labels).0.fetch_add(1, Ordering::Relaxed);
        }
        if let Outcome::Failed { fail_open: true, .. } = outcome {
            let labels = vec![("name", name), ("type", kind.into())];
            self.webhook_fail_open.get_or_create(&labels).0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One validation of a policy that did not hold, and what was done about it.
    pub fn validation(&self, policy: &str, binding: &str, message: &str, action: &'static str, started: Instant) {
        let labels: Labels = vec![
            ("policy", policy.to_owned().into()),
            ("policy_binding", binding.to_owned().into()),
            ("error_type", error_type(message).into()),
            ("enforcement_action", action.into()),
        ];
        self.validating_checks.get_or_create(&labels).inc();
        self.validating_durations.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
    }

    /// The mutations of a policy; `error`: why they were not made.
    pub fn mutation(&self, policy: &str, binding: &str, error: Option<&str>, started: Instant) {
        let labels: Labels = vec![
            ("policy", policy.to_owned().into()),
            ("policy_binding", binding.to_owned().into()),
            ("error_type", error.map_or("no_error", error_type).into()),
        ];
        self.mutating_checks.get_or_create(&labels).inc();
        self.mutating_durations.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
    }
}
