//! What the two kinds of bindings share: subjects and the role they are given.

use crate::api::value::same;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, names};
use crate::resources::cells;
use serde_json::Value;

const GROUP: &str = "rbac.authorization.k8s.io";
const ROLE: Path<'static> = Path::new("roleRef");
const SUBJECTS: Path<'static> = Path::new("subjects");

pub fn default(binding: &mut Value) {
    binding.object_mut("roleRef").set_default_str("apiGroup", GROUP);
    for subject in binding.items_mut("subjects") {
        if ["User", "Group"].contains(&subject.str_at("kind")) {
            subject.set_default_str("apiGroup", GROUP);
        }
    }
}

/// `roles`: kinds that may be given. `namespaced`: a service account may leave out its namespace.
pub fn validate(binding: &Value, roles: &[&str], namespaced: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let role = binding.at("roleRef");
    errors.one_of(&ROLE.child("apiGroup"), role.str_at("apiGroup"), &[GROUP]);
    errors.one_of(&ROLE.child("kind"), role.str_at("kind"), roles);
    match role.str_at("name") {
        "" => errors.required(&ROLE.child("name"), ""),
        name => errors.check(&ROLE.child("name"), name, names::path_segment(name)),
    }
    for (index, subject) in binding.list_at("subjects").iter().enumerate() {
        self::subject(subject, namespaced, &SUBJECTS.index(index), &mut errors);
    }
    errors
}

fn subject(subject: &Value, namespaced: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let (name, group) = (subject.str_at("name"), subject.str_at("apiGroup"));
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    match subject.str_at("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                errors.check(&path.child("name"), name, names::dns_subdomain(name));
            }
            if !group.is_empty() {
                errors.not_supported(&path.child("apiGroup"), group, &[""]);
            }
            if !namespaced && subject.str_at("namespace").is_empty() {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" => errors.one_of(&path.child("apiGroup"), group, &[GROUP]),
        kind => errors.not_supported(&path.child("kind"), kind, &["ServiceAccount", "User", "Group"]),
    }
}

/// The role of a binding stays.
pub fn same_role(binding: &Value, old: &Value, errors: &mut ErrorList) {
    if !same(binding.at("roleRef"), old.at("roleRef")) {
        errors.invalid(&ROLE, binding.at("roleRef").clone(), "cannot change roleRef");
    }
}

pub fn cells(binding: &Value, now: &cells::Clock) -> Vec<Value> {
    let role = binding.at("roleRef");
    let named = |kind: &str| -> String {
        let subjects = binding.list_at("subjects").iter().filter(|subject| subject.str_at("kind") == kind);
        let names = subjects.map(|subject| match (kind, subject.str_at("namespace")) {
            ("ServiceAccount", namespace) if !namespace.is_empty() => {
                format!("{namespace}/{}", subject.str_at("name"))
            }
            _ => subject.str_at("name").to_owned(),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    vec![
        cells::name(binding),
        format!("{}/{}", role.str_at("kind"), role.str_at("name")).into(),
        cells::age(binding, now),
        named("User").into(),
        named("Group").into(),
        named("ServiceAccount").into(),
    ]
}
