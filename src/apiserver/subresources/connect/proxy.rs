//! `pods/proxy`, `services/proxy` and `nodes/proxy`: HTTP to what is behind, through the dialer.

use super::links::Links;
use super::location::{Locator, text};
use super::pages::{Coding, rewritten};
use super::relay::{is_upgrade, relay};
use crate::api::Status;
use crate::api::field::go_quote;
use crate::apiserver::respond::Reply;
use crate::apiserver::subresources::Handler;
use crate::apiserver::verbs::Call;
use crate::client::dialer::{Connection, Destination};
use async_trait::async_trait;
use axum::body::Body;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Pod,
    Service,
    Node,
}

pub struct Proxy {
    pub locator: Arc<Locator>,
    pub target: Target,
}

/// `web`, `web:8080`, `https:web:8443`
#[derive(Debug, PartialEq, Eq)]
struct Id<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

fn split(id: &str) -> Option<Id<'_>> {
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts[..] {
        [name] => ("", name, ""),
        [name, port] => ("", name, port),
        [scheme, name, port] => (scheme, name, port),
        _ => return None,
    };
    (!name.is_empty() && matches!(scheme, "" | "http" | "https")).then_some(Id { scheme, name, port })
}

#[async_trait]
impl Handler for Proxy {
    async fn handle(&self, call: Call<'_>) -> Result<Reply, Status> {
        let options = match self.target {
            Target::Pod => "PodProxyOptions",
            Target::Service => "ServiceProxyOptions",
            Target::Node => "NodeProxyOptions",
        };
        super::admission::admit(call.state, call.row, call.user, call.info, call.query, options).await?;
        let request = &call.request;
        let query = request.uri().query();
        let rest = path_behind(request.uri().path(), call.row.namespaced);
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        if rest.is_empty() && read && !is_upgrade(request.headers()) {
            // Relative links of a page need the slash.
            return Ok(redirect(request.uri().path(), query));
        }
        let path = if rest.is_empty() { "/" } else { rest };
        let (connection, host) = self.connect(&call.info.namespace, &call.info.name).await?;
        let target = match query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let url_path = call.request.uri().path();
        let links = Links {
            prefix: url_path[..url_path.len() - rest.len()].to_owned(),
            asked: asked(&call.request).unwrap_or_else(|| host.clone()),
            behind: host,
        };
        let forwarded = HeaderValue::from_str(&format!("{}{path}", links.prefix));
        let mut request = call.request;
        request.headers_mut().extend(forwarded.ok().map(|uri| (HeaderName::from_static("x-forwarded-uri"), uri)));
        let read_body = request.method() != Method::HEAD;
        let answer = relay(connection, request, &target, &links.asked).await?;
        Ok(through(answer, links, read_body))
    }

    fn passes_on(&self) -> bool {
        true
    }
}

/// The host as the client knows it.
fn asked(request: &Request<Body>) -> Option<String> {
    let header = request.headers().get(HOST).and_then(|host| host.to_str().ok().map(str::to_owned));
    header.or_else(|| request.uri().authority().map(ToString::to_string))
}

/// Leave of who else may read the page, which is the API server's affair.
const CROSS_ORIGIN: &[&str] = &[
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
];

/// The answer with its links through the proxy.
fn through(mut answer: Reply, links: Links, read_body: bool) -> Reply {
    let headers = answer.headers_mut();
    for name in CROSS_ORIGIN {
        headers.remove(*name);
    }
    if let Some(location) = headers.get(LOCATION) {
        let target = location.to_str().ok().and_then(|location| links.rewrite(location));
        if let Some(target) = target.and_then(|target| HeaderValue::from_str(&target).ok()) {
            headers.insert(LOCATION, target);
        }
        return answer;
    }
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_page = text(CONTENT_TYPE).split(';').next().is_some_and(|kind| kind.trim() == "text/html");
    let coding = match text(CONTENT_ENCODING) {
        "" => Coding::Plain,
        "gzip" => Coding::Gzip,
        "deflate" => Coding::Deflate,
        // Nobody can read it here.
        _ => return answer,
    };
    if !is_page || !read_body {
        return answer;
    }
    headers.remove(CONTENT_LENGTH);
    answer.map(|body| rewritten(body, links, coding))
}

/// What follows `/proxy`, as it was sent: `/api/v1/namespaces/<ns>/pods/<id>/proxy/…`.
fn path_behind(path: &str, namespaced: bool) -> &str {
    let slashes = if namespaced { 7 } else { 5 };
    path.match_indices('/').nth(slashes).map_or("", |(at, _)| &path[at..])
}

fn redirect(path: &str, query: Option<&str>) -> Reply {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let target = match query {
        Some(query) => format!("{path}/?{query}"),
        None => format!("{path}/"),
    };
    if let Ok(value) = HeaderValue::from_str(&target) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

impl Proxy {
    async fn connect(&self, namespace: &str, name: &str) -> Result<(Connection, String), Status> {
        let what = match self.target {
            Target::Pod => "pod",
            Target::Service => "service",
            Target::Node => "node",
        };
        let invalid = || Status::bad_request(format!("invalid {what} request {}", go_quote(name)));
        let id = split(name).ok_or_else(invalid)?;
        let destination = match self.target {
            Target::Node => {
                let node = self.locator.node(id.name)?;
                let port = number(id.port, node.address.port()).ok_or_else(invalid)?;
                if port == node.address.port() {
                    let host = node.name.clone();
                    return Ok((self.locator.connect_kubelet(&node).await?, host));
                }
                let address = SocketAddr::new(node.address.ip(), port);
                Destination { node: Some(node.name), address }
            }
            Target::Pod => self.pod(namespace, &id)?,
            Target::Service => self.locator.service_endpoint(namespace, id.name, id.port)?,
        };
        let host = destination.address.to_string();
        let connection = self.locator.connect(&destination).await?;
        if id.scheme == "https" {
            let tls = crate::net::tls::unverified(connection, destination.address).await;
            let connection = tls.map_err(|error| super::location::dial_error(destination.address, &error))?;
            return Ok((Box::new(connection), host));
        }
        Ok((connection, host))
    }

    fn pod(&self, namespace: &str, id: &Id<'_>) -> Result<Destination, Status> {
        let pod = self.locator.get("pods", namespace, id.name)?;
        let ip: Option<IpAddr> = text(&pod, "/status/podIP").parse().ok();
        let ip = ip.filter(|ip| !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast());
        let Some(ip) = ip else { return Err(Status::bad_request("address not allowed")) };
        let first = pod["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|container| container["ports"][0]["containerPort"].as_u64())
            .and_then(|port| u16::try_from(port).ok());
        let fallback = first.unwrap_or(if id.scheme == "https" { 443 } else { 80 });
        let port = number(id.port, fallback)
            .ok_or_else(|| Status::bad_request(format!("invalid pod request {}", go_quote(id.port))))?;
        let node = text(&pod, "/spec/nodeName");
        Ok(Destination { node: (!node.is_empty()).then(|| node.to_owned()), address: SocketAddr::new(ip, port) })
    }
}

fn number(port: &str, default: u16) -> Option<u16> {
    if port.is_empty() { Some(default) } else { port.parse().ok().filter(|&port| port > 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_have_a_scheme_and_a_port() {
        assert_eq!(split("web"), Some(Id { scheme: "", name: "web", port: "" }));
        assert_eq!(split("web:80"), Some(Id { scheme: "", name: "web", port: "80" }));
        assert_eq!(split("https:web:"), Some(Id { scheme: "https", name: "web", port: "" }));
        for wrong in ["", ":80", "ftp:web:80", "a:b:c:d"] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_path_behind_is_kept_as_it_is() {
        let pod = "/api/v1/namespaces/a/pods/web:80/proxy";
        assert_eq!(path_behind(pod, true), "");
        assert_eq!(path_behind(&format!("{pod}/"), true), "/");
        assert_eq!(path_behind(&format!("{pod}/a%2Fb/proxy/c"), true), "/a%2Fb/proxy/c");
        assert_eq!(path_behind("/api/v1/namespaces/proxy/pods/proxy/proxy/x", true), "/x");
        assert_eq!(path_behind("/api/v1/nodes/n1/proxy/metrics", false), "/metrics");
    }
}
