//! `kubectl create token`.

use crate::api::Fields;
use crate::cli::kubectl::changes::Change;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, array, text};
use crate::cli::kubectl::output::{self, Format};
use crate::cli::kubectl::session::{JSON, Session, object_path};
use crate::client::kinds::SERVICE_ACCOUNTS;
use http::Method;
use serde_json::json;
use std::io::IsTerminal;

/// What a token may be bound to.
const BOUND_KINDS: &[&str] = &["Node", "Pod", "Secret"];

pub const VERB: Verb = Verb {
    name: "token",
    about: "Ask for a token of a service account",
    usage: "kubectl create token SERVICE_ACCOUNT_NAME",
    flags: &[
        output::FLAGS,
        &[
            array("audience", "NAME", "Whom the token is for; may be given several times"),
            text("duration", "DURATION", "How long the token is to live; 0: as the server likes").default("0s"),
            text("bound-object-kind", "KIND", "Kind of the object that the token ends with: Node, Pod, Secret"),
            text("bound-object-name", "NAME", "Name of that object"),
            text("bound-object-uid", "UID", "UID of that object; that of the one which is there when not given"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let name = arguments.name()?;
    let change = Change::of(arguments, "created", "")?;
    let duration = arguments.duration("duration")?.unwrap_or_default();
    if duration.is_negative() {
        return Err(Failure::local("--duration must be greater than or equal to 0"));
    }
    if duration.subsec_nanos() != 0 {
        return Err(Failure::local("--duration cannot be expressed in units less than seconds"));
    }
    let audiences = arguments.list("audience");
    if audiences.iter().any(String::is_empty) {
        return Err(Failure::local("--audience must not be an empty string"));
    }
    let [kind, bound, uid] =
        ["bound-object-kind", "bound-object-name", "bound-object-uid"].map(|flag| arguments.text_or_empty(flag));
    match kind {
        "" if !bound.is_empty() => {
            return Err(Failure::local("--bound-object-name can only be set if --bound-object-kind is provided"));
        }
        "" if !uid.is_empty() => {
            return Err(Failure::local("--bound-object-uid can only be set if --bound-object-kind is provided"));
        }
        "" => {}
        kind if !BOUND_KINDS.contains(&kind) => {
            let text = format!("supported --bound-object-kind values are {}", BOUND_KINDS.join(", "));
            return Err(Failure::local(text));
        }
        _ if bound.is_empty() => {
            return Err(Failure::local("--bound-object-name is required if --bound-object-kind is provided"));
        }
        _ => {}
    }
    let mut spec = json!({ "audiences": audiences });
    if duration.as_secs() > 0 {
        spec["expirationSeconds"] = duration.as_secs().into();
    }
    if !kind.is_empty() {
        spec["boundObjectRef"] = json!({ "kind": kind, "apiVersion": "v1", "name": bound, "uid": uid });
    }
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec });
    let path = format!("{}/token", object_path(&SERVICE_ACCOUNTS, &session.namespace, &name));
    let answer = session.write(Method::POST, &path, JSON, &request).await.map_err(|failure| match failure {
        Failure::Status(status) => Failure::local(format!("failed to create token: {}", status.message)),
        other => other,
    })?;
    let token = answer.at("status").str_at("token");
    if token.is_empty() {
        return Err(Failure::local("failed to create token: no token in server response"));
    }
    if !matches!(change.format, Format::Default) {
        return change.print(session, &answer).await;
    }
    // A line for people, the bare token for programs.
    let end = if std::io::stdout().is_terminal() { "\n" } else { "" };
    session.print(&format!("{token}{end}")).await
}
