//! FlowSchema: which requests belong to which priority level.

use super::status::Status;
use crate::api::value::same;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, names};
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells};
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        status: true,
        generation: true,
        subresources: vec![Subresource::status()],
        columns: Column::strings(&["PriorityLevel", "MatchingPrecedence", "DistinguisherMethod", "Age", "MissingPL"]),
        strategy: Arc::new(FlowSchema),
        ..Resource::new("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema", "flowschemas")
    }
}

struct FlowSchema;

const SPEC: Path<'static> = Path::new("spec");
const PRECEDENCE: i64 = 1000;
const PRECEDENCE_LIMIT: i64 = 10000;
const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";
const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const KINDS: &[&str] = &["Group", "ServiceAccount", "User"];

/// Those that are always there, and as they are.
static FIXED: LazyLock<[(&str, Value); 2]> = LazyLock::new(|| {
    let spec = |precedence: i64, level: &str, method: Value, groups: &[&str]| {
        let subjects: Vec<Value> =
            groups.iter().map(|group| json!({ "kind": "Group", "group": { "name": group } })).collect();
        let any = json!(["*"]);
        let resources =
            json!({ "verbs": any, "apiGroups": any, "resources": any, "clusterScope": true, "namespaces": any });
        json!({
            "matchingPrecedence": precedence,
            "priorityLevelConfiguration": { "name": level },
            "distinguisherMethod": method,
            "rules": [{
                "subjects": subjects,
                "resourceRules": [resources],
                "nonResourceRules": [{ "verbs": any, "nonResourceURLs": any }],
            }],
        })
    };
    let everybody = &["system:unauthenticated", "system:authenticated"];
    [
        (EXEMPT, spec(1, EXEMPT, Value::Null, &["system:masters"])),
        (CATCH_ALL, spec(PRECEDENCE_LIMIT, CATCH_ALL, json!({ "type": "ByUser" }), everybody)),
    ]
});

impl Strategy for FlowSchema {
    fn checks_metadata_change(&self) -> bool {
        false
    }

    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        object.object_mut("spec").set_default_int("matchingPrecedence", PRECEDENCE);
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set("status", json!({}));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let (name, spec) = (object.at("metadata").str_at("name"), object.at("spec"));
        validate(name, spec, &mut errors);
        if let Some((_, fixed)) = FIXED.iter().find(|(known, _)| *known == name)
            && !same(spec, fixed)
        {
            errors.invalid(&SPEC, spec.clone(), format!("spec of '{name}' must equal the fixed value"));
        }
        errors
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let spec = object.at("spec");
        let conditions = object.at("status").list_at("conditions").iter();
        let dangling = conditions.filter(|condition| condition.str_at("type") == "Dangling").next_back();
        Some(vec![
            cells::name(object),
            spec.at("priorityLevelConfiguration").str_at("name").into(),
            spec.int_at("matchingPrecedence").into(),
            cells::or_none(spec.at("distinguisherMethod").str_at("type")).into(),
            cells::age(object, now),
            dangling.map_or("?", |condition| condition.str_at("status")).into(),
        ])
    }
}

fn validate(name: &str, spec: &Value, errors: &mut ErrorList) {
    let (path, precedence) = (SPEC.child("matchingPrecedence"), spec.int_at("matchingPrecedence"));
    if precedence <= 0 {
        errors.invalid(&path, precedence, "must be a positive value");
    }
    if precedence > PRECEDENCE_LIMIT {
        errors.invalid(&path, precedence, format!("must not be greater than {PRECEDENCE_LIMIT}"));
    }
    if precedence == 1 && name != EXEMPT {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.invalid(&path, precedence, detail);
    }
    if let Some(method) = spec.get_set("distinguisherMethod") {
        let (path, kind) = (SPEC.child("distinguisherMethod.type"), method.str_at("type"));
        let known = &["ByNamespace", "ByUser"];
        if !known.contains(&kind) {
            // Kubernetes shows all of the method.
            errors.not_supported(&path, json!({ "Type": kind }), known);
        }
    }
    let path = SPEC.child("priorityLevelConfiguration.name");
    match spec.at("priorityLevelConfiguration").str_at("name") {
        "" => errors.required(&path, "must reference a priority level"),
        level => errors.check(&path, level, names::dns_subdomain(level)),
    }
    let list = SPEC.child("rules");
    for (index, rule) in spec.list_at("rules").iter().enumerate() {
        self::rule(rule, &list.index(index), errors);
    }
}

fn rule(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.child("subjects");
    if rule.list_at("subjects").is_empty() {
        errors.required(&list, "subjects must contain at least one value");
    }
    for (index, subject) in rule.list_at("subjects").iter().enumerate() {
        self::subject(subject, &list.index(index), errors);
    }
    if rule.list_at("resourceRules").is_empty() && rule.list_at("nonResourceRules").is_empty() {
        errors.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    let list = path.child("resourceRules");
    for (index, rule) in rule.list_at("resourceRules").iter().enumerate() {
        resource_rule(rule, &list.index(index), errors);
    }
    let list = path.child("nonResourceRules");
    for (index, rule) in rule.list_at("nonResourceRules").iter().enumerate() {
        let path = list.index(index);
        verbs(rule, &path, errors);
        let urls = ("nonResourceURLs", "nonResourceURLs must contain at least one value", "non-resource URLs");
        list_or_star(rule, urls, &path, errors);
        for (index, url) in rule.strs_at("nonResourceURLs").enumerate().filter(|(_, url)| *url != "*") {
            self::url(url, &path.child("nonResourceURLs").index(index), errors);
        }
    }
}

fn url(url: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if url.is_empty() {
        return errors.invalid(path, url, "must not be empty");
    }
    if url == "/" {
        return;
    }
    if !url.starts_with('/') {
        return errors.invalid(path, url, "must start with slash");
    }
    if url.contains(' ') {
        return errors.invalid(path, url, "must not contain white-space");
    }
    if url.contains("//") {
        return errors.invalid(path, url, "must not contain double slash");
    }
    if url.trim_end_matches('*').contains('*') || (url.ends_with('*') && !url.ends_with("/*")) {
        errors.invalid(path, url, "wildcard can only do suffix matching");
    }
}

fn subject(subject: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let fields = [("User", "user"), ("Group", "group"), ("ServiceAccount", "serviceAccount")];
    let kind = subject.str_at("kind");
    let Some((_, field)) = fields.iter().find(|(known, _)| *known == kind) else {
        return errors.not_supported(&path.child("kind"), kind, KINDS);
    };
    let at = path.child(field);
    match subject.get_set(field) {
        None => errors.required(&at, format!("{field} is required when subject kind is '{kind}'")),
        Some(account) if kind == "ServiceAccount" => {
            match account.str_at("name") {
                "" => errors.required(&at.child("name"), ""),
                "*" => {}
                name => errors.check(&at.child("name"), name, names::dns_subdomain(name)),
            }
            match account.str_at("namespace") {
                "" => errors.required(&at.child("namespace"), "must specify namespace for service account"),
                name => errors.check(&at.child("namespace"), name, names::dns_label(name)),
            }
        }
        Some(named) => {
            if named.str_at("name").is_empty() {
                errors.required(&at.child("name"), "");
            }
        }
    }
    for (other, field) in fields.iter().filter(|(other, field)| *other != kind && subject.has(field)) {
        errors.forbidden(&path.child(field), format!("{field} is forbidden when subject kind is not '{other}'"));
    }
}

fn verbs(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let path = path.child("verbs");
    let verbs: Vec<&str> = rule.strs_at("verbs").collect();
    if verbs.is_empty() {
        errors.required(&path, "verbs must contain at least one value");
    } else if verbs.contains(&"*") {
        if verbs.len() > 1 {
            errors.invalid(&path, rule.at("verbs").clone(), "if '*' is present, must not specify other verbs");
        }
    } else if verbs.iter().any(|verb| !VERBS.contains(verb)) {
        errors.not_supported(&path, rule.at("verbs").clone(), VERBS);
    }
}

/// `field`, what is said when it is empty, what its elements are called.
fn list_or_star(rule: &Value, (field, empty, what): (&str, &str, &str), path: &Path<'_>, errors: &mut ErrorList) {
    let list = rule.list_at(field);
    if list.is_empty() {
        errors.required(&path.child(field), empty);
    } else if list.len() > 1 && list.iter().any(|item| item == "*") {
        let detail = format!("if '*' is present, must not specify other {what}");
        errors.invalid(&path.child(field), rule.at(field).clone(), detail);
    }
}

fn resource_rule(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    verbs(rule, path, errors);
    let groups = ("apiGroups", "resource rules must supply at least one api group", "api groups");
    list_or_star(rule, groups, path, errors);
    let resources = ("resources", "resource rules must supply at least one resource", "resources");
    list_or_star(rule, resources, path, errors);
    let list = path.child("namespaces");
    let namespaces: Vec<&str> = rule.strs_at("namespaces").collect();
    if namespaces.is_empty() && !rule.bool_at("clusterScope") {
        let detail = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.required(&list, detail);
    } else if namespaces.contains(&"*") {
        if namespaces.len() > 1 {
            let detail = "if '*' is present, must not specify other namespaces";
            errors.invalid(&list, rule.at("namespaces").clone(), detail);
        }
    } else {
        for (index, name) in namespaces.iter().enumerate() {
            for message in names::dns_label(name) {
                let detail = format!("each member of this list must be '*' or a DNS-1123 label; {message}");
                errors.invalid(&list.index(index), *name, detail);
            }
        }
    }
}
