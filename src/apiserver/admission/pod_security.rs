//! PodSecurity: pods keep to the level that their namespace's labels ask for.
//!
//! `enforce` refuses, `warn` warns, `audit` annotates the audit event (for pods and what makes pods).
//! Source: "Pod Security Standards", and `k8s.io/pod-security-admission`.

mod checks;
mod policy;
mod settings;

use super::{Attributes, Operation, Plugin, Sources, is_core, items, text};
use crate::api::field::go_quote;
use crate::api::{FieldError, GroupResource, GroupVersionResource, Status};
use crate::apiserver::audit;
use crate::apiserver::follow::{Projection, parse_json};
use crate::storage::{Key, Prefix, Storage};
use async_trait::async_trait;
use policy::{Level, LevelVersion, Policy};
use serde::Deserialize;
use serde_json::Value;
pub use settings::Settings;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Annotations of the audit event.
const ENFORCED: &str = "pod-security.kubernetes.io/enforce-policy";
const VIOLATIONS: &str = "pod-security.kubernetes.io/audit-violations";
const EXEMPT: &str = "pod-security.kubernetes.io/exempt";
const ERROR: &str = "pod-security.kubernetes.io/error";

/// Of a namespace whose level becomes stricter.
const MAX_CHECKED_PODS: usize = 3000;

pub struct PodSecurity {
    storage: Arc<dyn Storage>,
    namespaces: Projection<Namespace>,
    settings: Settings,
}

/// The labels of a namespace.
struct Namespace {
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct StoredNamespace {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl PodSecurity {
    pub fn new(sources: &Sources) -> Self {
        let parse = |bytes: &[u8]| {
            let stored: StoredNamespace = parse_json(bytes)?;
            let labels = stored.metadata.labels.into_iter().filter(|(name, _)| name.starts_with(policy::PREFIX));
            Some(Namespace { labels: labels.collect() })
        };
        Self {
            storage: sources.storage.clone(),
            namespaces: Projection::new(parse),
            settings: sources.configuration.pod_security.clone(),
        }
    }

    fn policy(&self, namespace: &str) -> Option<(Policy, Errors)> {
        let key = Key::new(&GroupResource::new("", "namespaces"), "", namespace);
        let namespace = self.namespaces.get(&*self.storage, &key)?;
        Some(policy::of(&namespace.labels, &self.settings.defaults))
    }

    /// Whether nothing is asked of it; the audit event says why.
    fn is_exempt(&self, attributes: &Attributes<'_>) -> bool {
        let reason = if self.settings.exempts_namespace(attributes.namespace) {
            "namespace"
        } else if self.settings.exempts_user(&attributes.user.name) {
            "user"
        } else {
            return false;
        };
        audit::annotate(EXEMPT, reason);
        true
    }

    fn validate_pod(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(pod) = attributes.object.as_deref() else { return Ok(()) };
        if self.is_exempt(attributes) {
            return Ok(());
        }
        let Some((policy, errors)) = self.policy(attributes.namespace) else {
            let reason = format!("failed to lookup namespace {}", go_quote(attributes.namespace));
            audit::annotate(ERROR, reason.as_str());
            return Err(Status::internal(reason));
        };
        if errors.is_empty() && policy.is_privileged() {
            audit::annotate(ENFORCED, LevelVersion::default().to_string());
            return Ok(());
        }
        if attributes.operation == Operation::Update
            && attributes.old_object.is_some_and(|old| !is_significant(&pod["spec"], &old["spec"]))
        {
            return Ok(());
        }
        if self.tell(&errors, &pod["spec"]) {
            return Ok(());
        }
        audit::annotate(ENFORCED, policy.enforce.to_string());
        record(policy.audit, &pod["metadata"], &pod["spec"]);
        let found = checks::evaluate(policy.enforce, &pod["metadata"], &pod["spec"]);
        if !found.is_empty() {
            let reason =
                format!("violates PodSecurity {}: {}", go_quote(&policy.enforce.to_string()), checks::details(&found));
            return Err(Status::forbidden(&attributes.group_resource(), attributes.name, &reason));
        }
        let warning = violation(policy.warn, &pod["metadata"], &pod["spec"]);
        attributes.warnings.extend(warning);
        Ok(())
    }

    /// What the audit event says before a pod is looked at; whether its runtime class is exempt.
    fn tell(&self, errors: &Errors, spec: &Value) -> bool {
        if self.settings.exempts_runtime_class(spec) {
            audit::annotate(EXEMPT, "runtimeClass");
            return true;
        }
        if !errors.is_empty() {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let all = if let [one] = texts.as_slice() { one.clone() } else { format!("[{}]", texts.join(", ")) };
            audit::annotate(ERROR, format!("Failed to parse policy: {all}"));
        }
        false
    }

    /// What makes pods is never refused, but its user should know.
    fn tell_of_template(&self, attributes: &mut Attributes<'_>) {
        if self.is_exempt(attributes) {
            return;
        }
        let Some((policy, errors)) = self.policy(attributes.namespace) else { return };
        if errors.is_empty() && policy.warn.level == Level::Privileged && policy.audit.level == Level::Privileged {
            return;
        }
        let Some(object) = attributes.object.as_deref() else { return };
        let template = match attributes.resource.resource.as_str() {
            "podtemplates" => &object["template"],
            "cronjobs" => &object["spec"]["jobTemplate"]["spec"]["template"],
            _ => &object["spec"]["template"],
        };
        if template["spec"].is_object() && !self.tell(&errors, &template["spec"]) {
            record(policy.audit, &template["metadata"], &template["spec"]);
            let warning = violation(policy.warn, &template["metadata"], &template["spec"]);
            attributes.warnings.extend(warning);
        }
    }

    fn validate_namespace(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(object) = attributes.object.as_deref() else { return Ok(()) };
        let given = labels(object);
        let (new, errors) = policy::of(&given, &self.settings.defaults);
        let (old, old_errors) = match attributes.old_object {
            Some(old) => policy::of(&labels(old), &self.settings.defaults),
            None => (Policy::default(), Vec::new()),
        };
        let created = attributes.operation == Operation::Create;
        if !errors.is_empty() && (created || errors != old_errors) {
            return Err(Status::invalid(attributes.kind, attributes.name, &errors));
        }
        let stricter = new.enforce != old.enforce
            && new.enforce.level != Level::Privileged
            && (new.enforce.version != old.enforce.version || new.enforce.level > old.enforce.level);
        if self.settings.exempts_namespace(attributes.name) {
            if created || stricter {
                attributes.warnings.extend(self.is_ignored(attributes.name, &new, &given));
            }
        } else if !created && stricter {
            let warnings = self.violations(attributes.name, new.enforce);
            attributes.warnings.extend(warnings);
        }
        Ok(())
    }

    /// The warning of labels that an exempt namespace has for nothing.
    fn is_ignored(&self, namespace: &str, policy: &Policy, labels: &BTreeMap<String, String>) -> Option<String> {
        if policy.is_privileged() || *policy == self.settings.defaults {
            return None;
        }
        let mut policy = *policy;
        let labelled = |name: &str| labels.contains_key(&format!("{}{name}", policy::PREFIX));
        let modes = policy::MODES.iter().filter_map(|(mode, field)| {
            let asked: LevelVersion = *field(&mut policy);
            let set = labelled(mode) || labelled(&format!("{mode}-version"));
            (set && asked.level != Level::Privileged).then(|| format!("{mode}={asked}"))
        });
        let modes: Vec<String> = modes.collect();
        Some(format!(
            "namespace {} is exempt from Pod Security, and the policy ({}) will be ignored",
            go_quote(namespace),
            modes.join(", ")
        ))
    }

    /// Pods that are there already and would not be let in any more.
    fn violations(&self, namespace: &str, enforce: LevelVersion) -> Vec<String> {
        let snapshot = self.storage.snapshot();
        let prefix = Prefix::namespace(&GroupResource::new("", "pods"), namespace);
        let mut total = snapshot.count(&prefix);
        let mut controllers = HashSet::new();
        // By reason: the first pod's name, and how many there are. One pod per controller first.
        let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
        let mut check = |pod: &Value| {
            let results = checks::evaluate(enforce, &pod["metadata"], &pod["spec"]);
            if results.is_empty() {
                return;
            }
            let name = text(pod, "/metadata/name");
            let entry = found.entry(checks::reasons(&results)).or_insert_with(|| (name.to_owned(), 0));
            entry.1 += 1;
            if name < entry.0.as_str() {
                entry.0 = name.to_owned();
            }
        };
        let mut siblings = Vec::new();
        let mut checked = 0;
        for entry in snapshot.range(&prefix, None) {
            let pod = entry.body.parse();
            if self.settings.exempts_runtime_class(&pod["spec"]) {
                total -= 1;
                continue;
            }
            let controller =
                items(&pod["metadata"]["ownerReferences"]).iter().find(|owner| owner["controller"] == true);
            if controller.is_some_and(|owner| !controllers.insert(text(owner, "/uid").to_owned())) {
                siblings.push(entry.clone());
            } else if checked < MAX_CHECKED_PODS {
                check(&pod);
                checked += 1;
            }
        }
        for entry in siblings.iter().take(MAX_CHECKED_PODS - checked) {
            check(&entry.body.parse());
            checked += 1;
        }
        let mut warnings = Vec::new();
        if checked < total {
            warnings.push(format!(
                "new PodSecurity enforce level only checked against the first {checked} of {total} existing pods"
            ));
        }
        if !found.is_empty() {
            warnings.push(format!(
                "existing pods in namespace {} violate the new PodSecurity enforce level {}",
                go_quote(namespace),
                go_quote(&enforce.to_string())
            ));
        }
        let mut pods: Vec<String> = found
            .into_iter()
            .map(|(reasons, (name, count))| match count {
                1 => format!("{name}: {reasons}"),
                2 => format!("{name} (and 1 other pod): {reasons}"),
                more => format!("{name} (and {} other pods): {reasons}", more - 1),
            })
            .collect();
        pods.sort_unstable();
        warnings.extend(pods);
        warnings
    }
}

/// What the audit event of the request says of a pod.
fn record(level: LevelVersion, metadata: &Value, spec: &Value) {
    if audit::is_recorded()
        && let Some(text) = violation(level, metadata, spec)
    {
        audit::annotate(VIOLATIONS, text);
    }
}

fn violation(level: LevelVersion, metadata: &Value, spec: &Value) -> Option<String> {
    let found = checks::evaluate(level, metadata, spec);
    (!found.is_empty())
        .then(|| format!("would violate PodSecurity {}: {}", go_quote(&level.to_string()), checks::details(&found)))
}

fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object["metadata"]["labels"].as_object();
    labels.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Containers came or changed their image: all else of what is checked cannot change.
fn is_significant(spec: &Value, old: &Value) -> bool {
    let images = |spec: &Value, list: &str| -> Vec<String> {
        items(&spec[list]).iter().map(|container| text(container, "/image").to_owned()).collect()
    };
    if ["containers", "initContainers"].iter().any(|list| images(spec, list) != images(old, list)) {
        return true;
    }
    items(&spec["ephemeralContainers"]).iter().any(|container| {
        let same = |known: &&Value| text(known, "/name") == text(container, "/name");
        let known = items(&old["ephemeralContainers"]).iter().find(same);
        known.is_none_or(|known| text(known, "/image") != text(container, "/image"))
    })
}

/// Subresources of pods that do not change what runs.
const IGNORED: &[&str] = &["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

const TEMPLATES: &[(&str, &str)] = &[
    ("", "podtemplates"),
    ("", "replicationcontrollers"),
    ("apps", "daemonsets"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("batch", "cronjobs"),
    ("batch", "jobs"),
];

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        if !matches!(operation, Operation::Create | Operation::Update) {
            return false;
        }
        if is_core(resource, "pods") {
            return !IGNORED.contains(&subresource);
        }
        let template = || TEMPLATES.contains(&(resource.group.as_str(), resource.resource.as_str()));
        subresource.is_empty() && (is_core(resource, "namespaces") || template())
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if attributes.is_core("pods") {
            self.validate_pod(attributes)
        } else if attributes.is_core("namespaces") {
            self.validate_namespace(attributes)
        } else {
            self.tell_of_template(attributes);
            Ok(())
        }
    }
}

type Errors = Vec<FieldError>;
