//! `kubectl auth whoami`.

use crate::api::Fields;
use crate::cli::kubectl::changes::Change;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb};
use crate::cli::kubectl::output::{self, Format};
use crate::cli::kubectl::session::{JSON, Session};
use crate::cli::kubectl::tab_writer::TabWriter;
use http::Method;
use serde_json::{Value, json};

pub const VERB: Verb = Verb {
    name: "whoami",
    about: "Show who you are to the server",
    usage: "kubectl auth whoami",
    flags: &[output::FLAGS],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

const PATH: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let change = Change::of(arguments, "", "")?;
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let answer = session.write(Method::POST, PATH, JSON, &review).await.map_err(|failure| match failure {
        Failure::Status(status) if status.is_not_found() => {
            Failure::local("the selfsubjectreviews API is not enabled in the cluster\nenable APISelfSubjectReview feature gate in the API server")
        }
        other => other,
    })?;
    if !matches!(change.format, Format::Default) {
        return change.print(session, &answer).await;
    }
    let user = answer.at("status").at("userInfo");
    let mut table = TabWriter::table();
    table.line("ATTRIBUTE\tVALUE");
    for (title, field) in [("Username", "username"), ("UID", "uid")] {
        if user.has(field) && !user.str_at(field).is_empty() {
            table.line(&format!("{title}\t{}", user.str_at(field)));
        }
    }
    let list = |value: &Value| value.items().iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    if !user.list_at("groups").is_empty() {
        table.line(&format!("Groups\t[{}]", list(user.at("groups"))));
    }
    for (key, values) in user.map_at("extra") {
        table.line(&format!("Extra: {key}\t[{}]", list(values)));
    }
    session.print(&table.flush()).await
}
