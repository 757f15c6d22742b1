//! The plugins that run, one after the other, each step timed.

use super::metrics::{Metrics, Step};
use super::{ABSENT, GATED};
use super::{Attributes, Operation, PLUGINS, Plugin, Row, Sources, Steps, device_admin_access, role_escalation};
use crate::api::{GroupVersionResource, Status};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// The chain of an API server; empty by default.
#[derive(Default)]
pub struct Chain {
    links: Vec<Link>,
    steps: Durations,
    metrics: Arc<Metrics>,
}

struct Link {
    name: &'static str,
    steps: Steps,
    plugin: Arc<dyn Plugin>,
    durations: Durations,
}

/// The histograms of both steps, four operations, let through or rejected: each found once.
#[derive(Default)]
struct Durations([OnceLock<Histogram>; 16]);

impl Durations {
    fn get(
        &self,
        metrics: &Metrics,
        name: Option<&'static str>,
        step: Step,
        operation: Operation,
        rejected: bool,
    ) -> &Histogram {
        let at = (operation as usize) << 2 | usize::from(step == Step::Validate) << 1 | usize::from(rejected);
        self.0[at].get_or_init(|| metrics.plugin(name, step, operation, rejected))
    }
}

impl Link {
    fn new(name: &'static str, steps: Steps, plugin: Arc<dyn Plugin>) -> Self {
        Self { name, steps, plugin, durations: Durations::default() }
    }

    fn has(&self, step: Step) -> bool {
        match self.steps {
            Steps::Both => true,
            Steps::Admits => step == Step::Admit,
            Steps::Validates => step == Step::Validate,
        }
    }
}

impl Chain {
    /// `Err`: a name that is not known, or one that cannot be switched on.
    pub fn new(sources: &Sources, enable: &[String], disable: &[String]) -> Result<Self, String> {
        let known = |name: &str| PLUGINS.iter().any(|row| row.name == name) || GATED.contains(&name);
        let unknown = |flag: &str, name: &str| {
            let names: Vec<&str> = PLUGINS.iter().map(|row| row.name).collect();
            Err(format!("{flag}: {name} is not known; there are {}", names.join(", ")))
        };
        for name in enable {
            if disable.contains(name) {
                return Err(format!("admission plugin {name} is both enabled and disabled"));
            }
            if !known(name) {
                return unknown("enable-admission-plugins", name);
            }
        }
        if let Some(name) = disable.iter().find(|name| !known(name) && !ABSENT.contains(&name.as_str())) {
            return unknown("disable-admission-plugins", name);
        }
        let named = |list: &[String], row: &Row| list.iter().any(|name| name == row.name);
        let rows = PLUGINS.iter().filter(|row| (row.on || named(enable, row)) && !named(disable, row));
        // Nobody may hand out rights that he does not have, whatever is switched off.
        let escalation = Arc::new(role_escalation::RoleEscalation::new(sources));
        let devices = Arc::new(device_admin_access::DeviceAdminAccess::new(sources));
        let mut links = vec![
            Link::new("RoleEscalation", Steps::Admits, escalation),
            Link::new("DeviceAdminAccess", Steps::Validates, devices),
        ];
        links.extend(rows.map(|row| Link::new(row.name, row.steps, (row.make)(sources))));
        Ok(Self { links, steps: Durations::default(), metrics: sources.metrics.clone() })
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.links.iter().map(|link| link.name)
    }

    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Whether any plugin cares: where none does, nothing is prepared for it.
    pub fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        self.links.iter().any(|link| link.plugin.handles(operation, resource, subresource))
    }

    /// The mutating half; a second round where something changed what others had seen.
    pub async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let started = Instant::now();
        let mut result = self.step(Step::Admit, attributes).await;
        if result.is_ok() && attributes.reinvocation.needed {
            attributes.reinvocation.again = true;
            result = self.step(Step::Admit, attributes).await;
        }
        self.observe(Step::Admit, attributes.operation, started, result)
    }

    /// The validating half.
    pub async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let started = Instant::now();
        let result = self.step(Step::Validate, attributes).await;
        self.observe(Step::Validate, attributes.operation, started, result)
    }

    fn observe(
        &self,
        step: Step,
        operation: Operation,
        started: Instant,
        result: Result<(), Status>,
    ) -> Result<(), Status> {
        let durations = self.steps.get(&self.metrics, None, step, operation, result.is_err());
        durations.observe(started.elapsed().as_secs_f64());
        result
    }

    async fn step(&self, step: Step, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let operation = attributes.operation;
        for link in self.links.iter().filter(|link| link.has(step)) {
            if !link.plugin.handles(operation, attributes.resource, attributes.subresource) {
                continue;
            }
            let started = Instant::now();
            let result = match step {
                Step::Admit => link.plugin.admit(attributes).await,
                Step::Validate => link.plugin.validate(attributes).await,
            };
            let durations = link.durations.get(&self.metrics, Some(link.name), step, operation, result.is_err());
            durations.observe(started.elapsed().as_secs_f64());
            result?;
        }
        Ok(())
    }
}
