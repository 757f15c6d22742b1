//! Roles and their bindings, of a namespace and of the cluster.

use super::page::{Page, line};
use super::{Lists, go_strings};
use crate::api::Fields;
use serde_json::Value;

/// A rule about one resource or one path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rule {
    resource: String,
    group: String,
    names: Vec<String>,
    paths: Vec<String>,
    verbs: Vec<String>,
}

pub(super) fn print_role(role: &Value, _: &Lists, page: &mut Page) {
    let metadata = role.at("metadata");
    line!(page, 0, "Name:\t{}", metadata.str_at("name"));
    page.labels("Labels", metadata.at("labels"));
    page.annotations("Annotations", metadata.at("annotations"));
    line!(page, 0, "PolicyRule:");
    line!(page, 1, "Resources\tNon-Resource URLs\tResource Names\tVerbs");
    line!(page, 1, "---------\t-----------------\t--------------\t-----");
    for rule in compact(role.list_at("rules")) {
        let list = |items: &[String]| go_strings(items.iter().map(String::as_str));
        let (paths, names, verbs) = (list(&rule.paths), list(&rule.names), list(&rule.verbs));
        line!(page, 1, "{}\t{paths}\t{names}\t{verbs}", rule.title());
    }
}

impl Rule {
    /// `deployments.apps/scale`
    fn title(&self) -> String {
        let (resource, subresource) = match self.resource.split_once('/') {
            Some((resource, subresource)) => (resource, format!("/{subresource}")),
            None => (self.resource.as_str(), String::new()),
        };
        if self.group.is_empty() {
            format!("{resource}{subresource}")
        } else {
            format!("{resource}.{}{subresource}", self.group)
        }
    }

    fn order(&self) -> String {
        let list = |items: &[String]| go_strings(items.iter().map(String::as_str));
        let one = |text: &str, list: bool| if list { format!("[{text}]") } else { "[]".to_owned() };
        let resource = !self.resource.is_empty();
        format!(
            "Verbs:{},APIGroups:{},Resources:{},ResourceNames:{},NonResourceURLs:{}",
            list(&self.verbs),
            one(&self.group, resource),
            one(&self.resource, resource),
            list(&self.names),
            list(&self.paths)
        )
    }
}

/// A rule per resource, with the verbs of all rules about it.
fn compact(rules: &[Value]) -> Vec<Rule> {
    let mut all: Vec<Rule> = Vec::new();
    let mut add = |rule: Rule| {
        let same = |other: &&mut Rule| {
            (&other.resource, &other.group, &other.names, &other.paths)
                == (&rule.resource, &rule.group, &rule.names, &rule.paths)
        };
        // Paths stay as they are.
        match all.iter_mut().filter(|_| rule.paths.is_empty()).find(same) {
            Some(other) => other.verbs.extend(rule.verbs),
            None => all.push(rule),
        }
    };
    for rule in rules {
        let verbs: Vec<String> = rule.strs_at("verbs").map(str::to_owned).collect();
        for group in rule.strs_at("apiGroups") {
            for resource in rule.strs_at("resources") {
                let one = Rule {
                    resource: resource.to_owned(),
                    group: group.to_owned(),
                    verbs: verbs.clone(),
                    ..Rule::default()
                };
                if rule.list_at("resourceNames").is_empty() {
                    add(one.clone());
                }
                for name in rule.strs_at("resourceNames") {
                    add(Rule { names: vec![name.to_owned()], ..one.clone() });
                }
            }
        }
        for path in rule.strs_at("nonResourceURLs") {
            add(Rule { paths: vec![path.to_owned()], verbs: verbs.clone(), ..Rule::default() });
        }
    }
    all.sort_by_cached_key(Rule::order);
    all
}

pub(super) fn print_binding(binding: &Value, _: &Lists, page: &mut Page) {
    let metadata = binding.at("metadata");
    line!(page, 0, "Name:\t{}", metadata.str_at("name"));
    page.labels("Labels", metadata.at("labels"));
    page.annotations("Annotations", metadata.at("annotations"));
    line!(page, 0, "Role:");
    line!(page, 1, "Kind:\t{}", binding.at("roleRef").str_at("kind"));
    line!(page, 1, "Name:\t{}", binding.at("roleRef").str_at("name"));
    line!(page, 0, "Subjects:");
    line!(page, 1, "Kind\tName\tNamespace");
    line!(page, 1, "----\t----\t---------");
    for subject in binding.list_at("subjects") {
        let (kind, name) = (subject.str_at("kind"), subject.str_at("name"));
        line!(page, 1, "{kind}\t{name}\t{}", subject.str_at("namespace"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_told_by_resource() {
        let rules = json!([
            {"apiGroups": ["", "apps"], "resources": ["pods", "deployments/scale"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a", "b"], "verbs": ["get"]},
            {"nonResourceURLs": ["/healthz", "/livez"], "verbs": ["get"]},
        ]);
        let lines: Vec<String> = compact(rules.items())
            .iter()
            .map(|rule| format!("{}{:?}{:?} {:?}", rule.title(), rule.names, rule.paths, rule.verbs))
            .collect();
        assert_eq!(
            lines,
            [
                r#"pods[][] ["get", "list"]"#,
                r#"[]["/healthz"] ["get"]"#,
                r#"[]["/livez"] ["get"]"#,
                r#"deployments/scale[][] ["get"]"#,
                r#"secrets["a"][] ["get"]"#,
                r#"secrets["b"][] ["get"]"#,
                r#"deployments.apps/scale[][] ["get"]"#,
                r#"pods.apps[][] ["get"]"#,
            ]
        );
    }
}
