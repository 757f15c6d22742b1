//! What is counted of audit, under Kubernetes's names.

use super::Level;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LevelLabels {
    level: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PluginLabels {
    plugin: &'static str,
}

/// Clones count together.
#[derive(Clone, Default)]
pub struct Counts {
    events: Counter,
    levels: Family<LevelLabels, Counter>,
    errors: Family<PluginLabels, Counter>,
    rejected: Counter,
}

impl Counts {
    /// The encoder adds `_total`.
    pub fn register(self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("apiserver_audit");
        let help = "[ALPHA] Counter of audit events generated and sent to the audit backend.";
        registry.register("event", help, self.events);
        registry.register("level", "[ALPHA] Counter of policy levels for audit events (1 per request).", self.levels);
        let help = "[ALPHA] Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error.";
        registry.register("error", help, self.errors);
        let help = "[ALPHA] Counter of apiserver requests rejected due to an error in audit logging backend.";
        registry.register("requests_rejected", help, self.rejected);
    }

    pub fn event(&self) {
        self.events.inc();
    }

    pub fn level(&self, level: Level) {
        let level = match level {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        };
        self.levels.get_or_create(&LevelLabels { level }).inc();
    }

    /// One event did not get to its place.
    pub fn lost(&self, plugin: &'static str) {
        self.errors.get_or_create(&PluginLabels { plugin }).inc();
    }

    /// A request is refused, because its event did not get to its place.
    pub fn rejected(&self) {
        self.rejected.inc();
    }
}
