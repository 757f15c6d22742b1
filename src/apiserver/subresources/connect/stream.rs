//! `pods/exec`, `pods/attach` and `pods/portforward`: passed through to the pod's kubelet.

use super::location::{Locator, container, text};
use super::relay::{is_upgrade, relay};
use crate::api::Status;
use crate::apiserver::request::Query;
use crate::apiserver::respond::Reply;
use crate::apiserver::subresources::Handler;
use crate::apiserver::verbs::Call;
use async_trait::async_trait;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Exec,
    Attach,
    PortForward,
}

pub struct Stream {
    pub locator: Arc<Locator>,
    pub kind: Kind,
}

#[async_trait]
impl Handler for Stream {
    async fn handle(&self, call: Call<'_>) -> Result<Reply, Status> {
        let options = match self.kind {
            Kind::Exec => "PodExecOptions",
            Kind::Attach => "PodAttachOptions",
            Kind::PortForward => "PodPortForwardOptions",
        };
        super::admission::admit(call.state, call.row, call.user, call.info, call.query, options).await?;
        let (namespace, name) = (&call.info.namespace, &call.info.name);
        let pod = self.locator.get("pods", namespace, name)?;
        let mut path = match self.kind {
            Kind::Exec => format!("/exec/{namespace}/{name}"),
            Kind::Attach => format!("/attach/{namespace}/{name}"),
            Kind::PortForward => format!("/portForward/{namespace}/{name}"),
        };
        if self.kind != Kind::PortForward {
            path.push('/');
            path.push_str(&container(&pod, call.query.get("container").unwrap_or_default())?);
        }
        let Some(node) = self.locator.node_of(&pod)? else {
            return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
        };
        if !is_upgrade(call.request.headers()) {
            return Err(Status::bad_request("Upgrade request required"));
        }
        let query = parameters(self.kind, call.query);
        if !query.is_empty() {
            path.push('?');
            path.push_str(&query);
        }
        debug_assert_eq!(text(&pod, "/metadata/name"), name);
        let connection = self.locator.connect_kubelet(&node).await?;
        relay(connection, call.request, &path, &node.name).await
    }
}

/// The API's parameters as the kubelet names them.
fn parameters(kind: Kind, query: &Query) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    if kind == Kind::PortForward {
        let ports: Vec<&str> = query.all("ports").collect();
        if !ports.is_empty() {
            out.append_pair("port", &ports.join(","));
        }
        return out.finish();
    }
    for (name, own) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        // A terminal has one output.
        let hidden = name == "stderr" && query.flag("tty") == Some(true);
        if query.flag(name) == Some(true) && !hidden {
            out.append_pair(own, "1");
        }
    }
    if kind == Kind::Exec {
        for argument in query.all("command") {
            out.append_pair("command", argument);
        }
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_named_as_the_kubelet_does() {
        let query = |text: &str| Query::parse(&format!("/x?{text}").parse().unwrap());
        let exec =
            query("command=sh&command=-c&command=echo%20a%26b&stdin=true&stdout=1&stderr=true&tty=false&container=c");
        assert_eq!(parameters(Kind::Exec, &exec), "input=1&output=1&error=1&command=sh&command=-c&command=echo+a%26b");
        assert_eq!(parameters(Kind::Attach, &query("stdin=1&stdout=1&stderr=1&tty=1")), "input=1&output=1&tty=1");
        assert_eq!(parameters(Kind::PortForward, &query("ports=80&ports=443")), "port=80%2C443");
        assert_eq!(parameters(Kind::PortForward, &query("")), "");
    }
}
