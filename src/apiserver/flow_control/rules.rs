//! Which requests a FlowSchema is about: its rules, read once, matched without allocation.

use crate::api::{Fields, UserInfo};
use crate::apiserver::request::RequestInfo;
use serde_json::Value;

/// `*`, or these.
enum Names {
    Any,
    These(Vec<String>),
}

impl Names {
    fn read(rule: &Value, field: &str) -> Self {
        let names: Vec<String> = rule.strs_at(field).map(str::to_owned).collect();
        if names.iter().any(|name| name == "*") { Self::Any } else { Self::These(names) }
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(names) => names.iter().any(|known| known == name),
        }
    }

    /// `pods`, `pods/status`
    fn has_resource(&self, info: &RequestInfo) -> bool {
        if info.subresource.is_empty() {
            return self.has(&info.resource);
        }
        match self {
            Self::Any => true,
            Self::These(names) => names.iter().any(|name| {
                name.split_once('/')
                    .is_some_and(|(resource, rest)| resource == info.resource && rest == info.subresource)
            }),
        }
    }

    /// `/healthz`, `/healthz/*`
    fn has_path(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(names) => names.iter().any(|name| match name.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => name == path,
            }),
        }
    }
}

enum Subject {
    User(String),
    Group(String),
    /// The whole user name.
    ServiceAccount(String),
    /// All of a namespace, by the head of their user names.
    ServiceAccounts(String),
}

impl Subject {
    fn read(subject: &Value) -> Option<Self> {
        let name = |field: &str| subject.at(field).str_at("name").to_owned();
        Some(match subject.str_at("kind") {
            "User" => Self::User(name("user")),
            "Group" => Self::Group(name("group")),
            "ServiceAccount" => {
                let (account, namespace) = (name("serviceAccount"), subject.at("serviceAccount").str_at("namespace"));
                match account.as_str() {
                    "*" => Self::ServiceAccounts(format!("system:serviceaccount:{namespace}:")),
                    account => Self::ServiceAccount(format!("system:serviceaccount:{namespace}:{account}")),
                }
            }
            _ => return None,
        })
    }

    fn is(&self, user: &UserInfo) -> bool {
        match self {
            Self::User(name) => name == "*" || *name == user.name,
            Self::Group(name) => name == "*" || user.groups.contains(name),
            Self::ServiceAccount(name) => *name == user.name,
            Self::ServiceAccounts(head) => user.name.starts_with(head.as_str()),
        }
    }
}

struct ResourceRule {
    verbs: Names,
    groups: Names,
    resources: Names,
    namespaces: Names,
    cluster_scope: bool,
}

struct UrlRule {
    verbs: Names,
    urls: Names,
}

struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    urls: Vec<UrlRule>,
}

pub struct Rules(Vec<Rule>);

impl Rules {
    /// Of a `FlowSchemaSpec`.
    pub fn read(spec: &Value) -> Self {
        let resource = |rule: &Value| ResourceRule {
            verbs: Names::read(rule, "verbs"),
            groups: Names::read(rule, "apiGroups"),
            resources: Names::read(rule, "resources"),
            namespaces: Names::read(rule, "namespaces"),
            cluster_scope: rule.bool_at("clusterScope"),
        };
        let url =
            |rule: &Value| UrlRule { verbs: Names::read(rule, "verbs"), urls: Names::read(rule, "nonResourceURLs") };
        let rule = |rule: &Value| Rule {
            subjects: rule.list_at("subjects").iter().filter_map(Subject::read).collect(),
            resources: rule.list_at("resourceRules").iter().map(resource).collect(),
            urls: rule.list_at("nonResourceRules").iter().map(url).collect(),
        };
        Self(spec.list_at("rules").iter().map(rule).collect())
    }

    pub fn are_about(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        self.0.iter().any(|rule| {
            rule.subjects.iter().any(|subject| subject.is(user))
                && if info.is_resource {
                    rule.resources.iter().any(|rule| resource_is(rule, info))
                } else {
                    rule.urls.iter().any(|rule| rule.verbs.has(info.verb) && rule.urls.has_path(&info.path))
                }
        })
    }
}

fn resource_is(rule: &ResourceRule, info: &RequestInfo) -> bool {
    rule.verbs.has(info.verb)
        && rule.groups.has(&info.group)
        && rule.resources.has_resource(info)
        && if info.namespace.is_empty() { rule.cluster_scope } else { rule.namespaces.has(&info.namespace) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::request::Query;
    use serde_json::json;

    fn check(rule: Value, user: &str, request: &str, wanted: bool) {
        let rules = Rules::read(&json!({ "rules": [rule] }));
        let (method, uri) = request.split_once(' ').expect("a method and a URI");
        let (method, uri) = (method.parse().expect("a method"), uri.parse().expect("a URI"));
        let info = RequestInfo::parse(&method, &uri, &Query::parse(&uri));
        let user = UserInfo::new(user, &["team"]);
        assert_eq!(rules.are_about(&user, &info), wanted, "{} {request}", user.name);
    }

    #[test]
    fn subjects_verbs_resources_and_paths() {
        let all = json!([{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true }]);
        let of = |subject: Value| json!({ "subjects": [subject], "resourceRules": all });
        check(of(json!({"kind": "User", "user": {"name": "ann"}})), "ann", "GET /api/v1/nodes", true);
        check(of(json!({"kind": "User", "user": {"name": "ann"}})), "bob", "GET /api/v1/nodes", false);
        check(of(json!({"kind": "Group", "group": {"name": "team"}})), "bob", "GET /api/v1/nodes", true);
        check(of(json!({"kind": "Group", "group": {"name": "team"}})), "bob", "GET /version", false);
        let account = json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": "*"}});
        check(of(account.clone()), "system:serviceaccount:a:x", "GET /api/v1/nodes", true);
        check(of(account), "system:serviceaccount:ab:x", "GET /api/v1/nodes", false);

        let anyone = json!([{"kind": "Group", "group": {"name": "*"}}]);
        let leases = json!({
            "subjects": anyone,
            "resourceRules": [{"verbs": ["get", "update"], "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases", "leases/status"], "namespaces": ["kube-system"]}],
        });
        let path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x";
        check(leases.clone(), "ann", &format!("GET {path}"), true);
        check(leases.clone(), "ann", &format!("PUT {path}/status"), true);
        check(leases.clone(), "ann", &format!("PUT {path}/scale"), false);
        check(leases.clone(), "ann", &format!("DELETE {path}"), false);
        check(leases.clone(), "ann", "GET /apis/coordination.k8s.io/v1/namespaces/other/leases/x", false);
        check(leases, "ann", "GET /apis/coordination.k8s.io/v1/leases", false);

        let urls = json!({
            "subjects": anyone,
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/apis/*"]}],
        });
        check(urls.clone(), "ann", "GET /healthz", true);
        check(urls.clone(), "ann", "GET /healthz/ping", false);
        check(urls.clone(), "ann", "GET /apis/apps", true);
        check(urls, "ann", "POST /apis/apps", false);
    }
}
