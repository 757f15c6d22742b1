//! Where kinds keep the spec of their pods.

use crate::api::Fields;
use crate::client::Kind;
use serde_json::Value;

const TEMPLATE: &[&str] = &["spec", "template"];

/// Group, kind, and the path to the template; a Pod is its own.
const TEMPLATES: &[(&str, &str, &[&str])] = &[
    ("", "Pod", &[]),
    ("", "ReplicationController", TEMPLATE),
    ("apps", "Deployment", TEMPLATE),
    ("apps", "DaemonSet", TEMPLATE),
    ("apps", "StatefulSet", TEMPLATE),
    ("apps", "ReplicaSet", TEMPLATE),
    ("batch", "Job", TEMPLATE),
    ("batch", "CronJob", &["spec", "jobTemplate", "spec", "template"]),
];

/// The path of a kind's pod template.
fn path(kind: &Kind) -> Option<&'static [&'static str]> {
    TEMPLATES.iter().find(|(group, name, _)| *group == kind.group && *name == kind.kind).map(|(_, _, path)| *path)
}

/// The pod template of an object, for change.
pub fn template_mut<'a>(kind: &Kind, object: &'a mut Value) -> Option<&'a mut Value> {
    path(kind)?.iter().try_fold(object, |value, step| value.get_mut(*step))
}

/// The spec of the object's pods, for change.
pub fn spec_mut<'a>(kind: &Kind, object: &'a mut Value) -> Option<&'a mut Value> {
    template_mut(kind, object)?.get_mut("spec")
}

/// The spec of the object's pods.
pub fn spec<'a>(kind: &Kind, object: &'a Value) -> Option<&'a Value> {
    Some(path(kind)?.iter().fold(object, |value, step| value.at(step)).at("spec"))
}
