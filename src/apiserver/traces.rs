//! Traces of requests by W3C's headers: taken from who is trusted, passed on to webhooks, extension
//! servers and kubelets, and recorded as spans where a [`Tracer`] is configured.
//!
//! A caller in `system:masters` or `system:monitoring` goes on with its own trace; of any other the
//! header is dropped, and a recorded span is linked to it. Without a tracer and a header nothing is done.

mod configuration;
mod context;
mod export;
mod otlp;

pub use configuration::Configuration;
pub use export::Tracer;

use super::request::RequestInfo;
use super::respond::Reply;
use crate::api::user::SYSTEM_MASTERS;
use crate::api::{Status, UserInfo};
use context::{Context, TRACEPARENT, TRACESTATE};
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, Method, Request};
use std::sync::Arc;
use std::time::SystemTime;

const SYSTEM_MONITORING: &str = "system:monitoring";

tokio::task_local! {
    /// Of the request that the task serves.
    static CURRENT: Arc<Current>;
}

struct Current {
    context: Context,
    tracer: Option<Arc<Tracer>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Server = 2,
    Client = 3,
}

/// What is recorded of one piece of work.
struct Span {
    context: Context,
    parent: Option<[u8; 8]>,
    /// A trace that it has to do with, but is no part of.
    link: Option<Context>,
    name: String,
    kind: Kind,
    start: SystemTime,
    end: SystemTime,
    attributes: Vec<(&'static str, Value)>,
    failed: bool,
}

enum Value {
    Text(String),
    Number(i64),
}

/// A request whose trace is followed.
pub struct Followed {
    current: Arc<Current>,
    span: Option<Box<Span>>,
}

/// To be called once it is known who asks. None: there is nothing to follow.
pub fn begin<B>(
    tracer: Option<&Arc<Tracer>>,
    user: &UserInfo,
    info: &RequestInfo,
    request: &mut Request<B>,
    audit_id: &HeaderValue,
) -> Option<Followed> {
    let told = Context::of(request.headers());
    if tracer.is_none() && told.is_none() {
        return None;
    }
    let trusted = user.groups.iter().any(|group| group == SYSTEM_MASTERS || group == SYSTEM_MONITORING);
    if !trusted {
        request.headers_mut().remove(TRACEPARENT);
        request.headers_mut().remove(TRACESTATE);
    }
    let (parent, link) = if trusted { (told, None) } else { (None, told) };
    let Some(tracer) = tracer else {
        let current = Current { context: parent?, tracer: None };
        return Some(Followed { current: Arc::new(current), span: None });
    };
    let context = match &parent {
        Some(parent) => parent.child(),
        None => Context::root(|trace| tracer.samples(trace)),
    };
    let span = context.is_sampled().then(|| {
        let target = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let mut attributes = vec![
            ("http.request.method", Value::Text(request.method().to_string())),
            ("url.path", Value::Text(request.uri().path().to_owned())),
            ("url.scheme", Value::Text("https".to_owned())),
            ("http.target", Value::Text(target)),
            ("audit-id", Value::Text(audit_id.to_str().unwrap_or_default().to_owned())),
        ];
        if let Some(agent) = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok()) {
            attributes.push(("user_agent.original", Value::Text(agent.to_owned())));
        }
        Box::new(Span {
            context: context.clone(),
            parent: parent.map(|parent| parent.span),
            link,
            name: name_of(info, request.method()),
            kind: Kind::Server,
            start: SystemTime::now(),
            end: SystemTime::UNIX_EPOCH,
            attributes,
            failed: false,
        })
    });
    let current = Current { context, tracer: Some(tracer.clone()) };
    Some(Followed { current: Arc::new(current), span })
}

impl Followed {
    /// What is called meanwhile belongs to its trace.
    pub async fn follow(self, serve: impl Future<Output = Result<Reply, Status>>) -> Result<Reply, Status> {
        let result = CURRENT.scope(self.current.clone(), serve).await;
        if let (Some(mut span), Some(tracer)) = (self.span, &self.current.tracer) {
            let code = result.as_ref().map_or_else(|status| status.code, |reply| reply.status().as_u16());
            span.close(code);
            tracer.record(span);
        }
        result
    }
}

/// A call that a request makes; it is recorded when it goes out of scope.
pub struct Call {
    /// None: it is recorded.
    span: Option<Box<Span>>,
    tracer: Arc<Tracer>,
}

/// Puts the trace of the present request, if it has one, into the headers of a call that it makes.
pub fn call(headers: &mut HeaderMap, method: &Method, server: &str) -> Option<Call> {
    let current = CURRENT.try_with(Arc::clone).ok()?;
    let Some(tracer) = current.tracer.as_ref().filter(|_| current.context.is_sampled()) else {
        current.context.put(headers);
        return None;
    };
    let context = current.context.child();
    context.put(headers);
    let span = Box::new(Span {
        context,
        parent: Some(current.context.span),
        link: None,
        name: format!("HTTP {method}"),
        kind: Kind::Client,
        start: SystemTime::now(),
        end: SystemTime::UNIX_EPOCH,
        attributes: vec![
            ("http.request.method", Value::Text(method.to_string())),
            ("server.address", Value::Text(server.to_owned())),
        ],
        // Until it is answered.
        failed: true,
    });
    Some(Call { span: Some(span), tracer: tracer.clone() })
}

impl Call {
    pub fn answered(&mut self, code: u16) {
        if let Some(span) = &mut self.span {
            span.failed = false;
            span.close(code);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(mut span) = self.span.take() {
            span.end = SystemTime::now();
            self.tracer.record(span);
        }
    }
}

impl Span {
    fn close(&mut self, code: u16) {
        self.end = SystemTime::now();
        self.attributes.push(("http.response.status_code", Value::Number(code.into())));
        self.failed |= code >= 500;
    }
}

/// As Kubernetes names it: `GET /api/v1/namespaces/{:namespace}/pods/{:name}`.
fn name_of(info: &RequestInfo, method: &Method) -> String {
    if !info.is_resource {
        return method.to_string();
    }
    let mut name = match info.group.as_str() {
        "" => format!("{method} /api/{}", info.version),
        group => format!("{method} /apis/{group}/{}", info.version),
    };
    if !info.namespace.is_empty() {
        name.push_str("/namespaces/{:namespace}");
    }
    name.push('/');
    name.push_str(&info.resource);
    if !info.name.is_empty() {
        name.push_str("/{:name}");
    }
    if !info.subresource.is_empty() {
        name.push('/');
        name.push_str(&info.subresource);
    }
    name
}
