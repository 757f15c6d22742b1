//! What a request asks: verb, group, version, namespace, resource, name, subresource, or the path
//! of a non-resource request. As `k8s.io/apiserver/pkg/endpoints/request` reads it.

use crate::api::selector::FieldSelector;
use http::{Method, Uri};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// The coordinates of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    pub is_resource: bool,
    /// As authorization and metrics name it; for a non-resource request the lower-case method.
    pub verb: &'static str,
    pub path: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// What follows the subresource: the path behind `proxy/`.
    pub rest: String,
    /// A deprecated `/watch/` path: its name is a selector.
    pub watch_prefix: bool,
}

/// The parameters behind `?`, decoded.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(uri: &Uri) -> Self {
        let Some(query) = uri.query().filter(|query| !query.is_empty()) else { return Self::default() };
        Self(form_urlencoded::parse(query.as_bytes()).map(|(k, v)| (k.into_owned(), v.into_owned())).collect())
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Anything but `false` and `0` is true, as Kubernetes reads it.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| !(value.eq_ignore_ascii_case("false") || value == "0"))
    }
}

const NAMESPACE_SUBRESOURCES: &[&str] = &["status", "finalize"];

impl RequestInfo {
    pub fn parse(method: &Method, uri: &Uri, query: &Query) -> Self {
        let path = match percent_decode_str(uri.path()).decode_utf8() {
            Ok(path) => path,
            Err(_) => Cow::Borrowed(uri.path()),
        };
        let verb = match method.as_str() {
            "POST" => "create",
            "GET" | "HEAD" => "get",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => "",
        };
        let mut info = Self {
            verb: match method.as_str() {
                "GET" => "get",
                "HEAD" => "head",
                "POST" => "post",
                "PUT" => "put",
                "PATCH" => "patch",
                "DELETE" => "delete",
                "OPTIONS" => "options",
                _ => "",
            },
            path: path.to_string(),
            ..Self::default()
        };
        // At most: api, group, version, watch, namespaces, <ns>, resource, name, subresource, rest.
        let trimmed = path.trim_matches('/');
        let mut parts = trimmed.split('/').filter(|part| !part.is_empty()).peekable();
        let legacy = match parts.next() {
            Some("api") => true,
            Some("apis") => false,
            _ => return info,
        };
        if !legacy {
            let Some(group) = parts.next() else { return info };
            info.group = group.to_owned();
        }
        let Some(version) = parts.next().map(str::to_owned) else { return Self { group: String::new(), ..info } };
        if parts.peek().is_none() {
            // `/api/v1`, `/apis/apps/v1`: discovery.
            return Self { group: String::new(), ..info };
        }
        info.version = version;
        info.is_resource = true;
        info.verb = verb;
        if parts.peek() == Some(&"watch") {
            parts.next();
            info.watch_prefix = true;
            info.verb = "watch";
        }
        let mut parts: Vec<&str> = parts.collect();
        if parts.first() == Some(&"namespaces") && parts.len() > 1 {
            info.namespace = parts[1].to_owned();
            if parts.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&parts[2]) {
                parts.drain(..2);
            }
        }
        info.resource = parts.first().copied().unwrap_or_default().to_owned();
        info.name = parts.get(1).copied().unwrap_or_default().to_owned();
        info.subresource = parts.get(2).copied().unwrap_or_default().to_owned();
        if parts.len() > 3 {
            info.rest = parts[3..].join("/");
            // A trailing slash is part of what is proxied.
            if path.ends_with('/') {
                info.rest.push('/');
            }
        }
        if info.name.is_empty() {
            match info.verb {
                "get" => {
                    info.verb = if query.flag("watch") == Some(true) { "watch" } else { "list" };
                    info.name_from_selector(query);
                }
                "delete" => info.verb = "deletecollection",
                _ => {}
            }
        }
        info
    }

    /// A list of one name is authorized as a request for it.
    fn name_from_selector(&mut self, query: &Query) {
        let selector = query.get("fieldSelector").and_then(|text| FieldSelector::parse(text).ok());
        if let Some(name) = selector.as_ref().and_then(|selector| selector.exact("metadata.name"))
            && !name.is_empty()
            && !name.contains(['/', '%'])
            && !matches!(name, "." | "..")
        {
            self.name = name.to_owned();
        }
    }

    /// No deadline holds for these: they go on until one side ends them.
    pub fn is_long_running(&self) -> bool {
        self.verb == "watch" || matches!(self.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy")
    }

    /// `pods/status`, as metrics and forbidden messages name it.
    pub fn full_resource(&self) -> Cow<'_, str> {
        if self.subresource.is_empty() {
            Cow::Borrowed(&self.resource)
        } else {
            Cow::Owned(format!("{}/{}", self.resource, self.subresource))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(method: &str, uri: &str, expect: Expect) {
        let uri: Uri = uri.parse().expect("a URI");
        let query = Query::parse(&uri);
        let info = RequestInfo::parse(&method.parse().expect("a method"), &uri, &query);
        let text = if info.is_resource {
            format!(
                "{} g={} v={} ns={} r={} n={} s={} rest={}",
                info.verb,
                info.group,
                info.version,
                info.namespace,
                info.resource,
                info.name,
                info.subresource,
                info.rest
            )
        } else {
            format!("{} {}", info.verb, info.path)
        };
        expect.assert_eq(&text);
    }

    #[test]
    fn paths_are_read_as_kubernetes_does() {
        check("GET", "/api/v1/namespaces", expect!["list g= v=v1 ns= r=namespaces n= s= rest="]);
        check("GET", "/api/v1/namespaces/a", expect!["get g= v=v1 ns=a r=namespaces n=a s= rest="]);
        check("PUT", "/api/v1/namespaces/a/finalize", expect!["update g= v=v1 ns=a r=namespaces n=a s=finalize rest="]);
        check("GET", "/api/v1/namespaces/a/pods?watch=1", expect!["watch g= v=v1 ns=a r=pods n= s= rest="]);
        check(
            "GET",
            "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dx",
            expect!["list g= v=v1 ns=a r=pods n=x s= rest="],
        );
        check(
            "DELETE",
            "/apis/apps/v1/namespaces/a/deployments",
            expect!["deletecollection g=apps v=v1 ns=a r=deployments n= s= rest="],
        );
        check(
            "POST",
            "/api/v1/namespaces/a/pods/p/exec?command=ls",
            expect!["create g= v=v1 ns=a r=pods n=p s=exec rest="],
        );
        check(
            "GET",
            "/api/v1/namespaces/a/services/http:s:80/proxy/x/y/",
            expect!["get g= v=v1 ns=a r=services n=http:s:80 s=proxy rest=x/y/"],
        );
        check("GET", "/api/v1/watch/namespaces/a/pods/p", expect!["watch g= v=v1 ns=a r=pods n=p s= rest="]);
        check(
            "GET",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            expect!["get g=rbac.authorization.k8s.io v=v1 ns= r=clusterroles n=system:node s= rest="],
        );
        for path in ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/version", "/healthz/ping"] {
            let uri: Uri = path.parse().expect("a URI");
            let info = RequestInfo::parse(&Method::GET, &uri, &Query::default());
            assert_eq!((info.is_resource, info.verb, info.path.as_str()), (false, "get", path));
        }
    }
}
