//! `kubectl set selector`: of a Service.

use super::{FLAGS, MANAGER, check, send};
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::changes::Change;
use crate::cli::kubectl::create::selector_of;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, text};
use crate::cli::kubectl::objects;
use crate::cli::kubectl::session::Session;
use serde_json::Value;

pub const VERB: Verb = Verb {
    name: "selector",
    about: "Set the selector of a Service",
    usage: "kubectl set selector (-f FILE | TYPE NAME) EXPRESSIONS [--resource-version=version]",
    flags: &[
        FLAGS[0],
        FLAGS[1],
        FLAGS[2],
        &[FLAGS[3][1], FLAGS[3][2], text("resource-version", "VERSION", "Only if this is the object's version")],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let change = Change::of(arguments, "selector updated", MANAGER)?;
    check(arguments, &change)?;
    let mut words = arguments.words();
    let Some(text) = words.pop() else { return Err(Failure::local("one selector is required")) };
    let selector = selector_of(&text)?;
    let version = arguments.text_or_empty("resource-version");
    let found = objects::find(arguments, &words, session).await?;
    found
        .each(async |found| {
            if found.resource.kind.kind != "Service" || !found.resource.kind.group.is_empty() {
                return Err(Failure::local("setting a selector is only supported for Services"));
            }
            let expressions = selector.list_at("matchExpressions");
            if !expressions.is_empty() {
                let text: Vec<String> = expressions.iter().map(go_text).collect();
                let text = format!("[{}]", text.join(" "));
                return Err(Failure::local(format!("match expression {text} not supported on this object")));
            }
            let mut after = found.object.clone();
            after.object_mut("spec").copy("selector", &labels(&selector));
            if version.is_empty() {
                return sent(arguments, session, &change, &found, &after).await;
            }
            let mut found = found;
            found.object.object_mut("metadata").clear("resourceVersion");
            after.object_mut("metadata").set("resourceVersion", version);
            sent(arguments, session, &change, &found, &after).await
        })
        .await
}

/// As Go prints it: `{a In [b]}`.
fn go_text(expression: &Value) -> String {
    let values: Vec<&str> = expression.strs_at("values").collect();
    format!("{{{} {} [{}]}}", expression.str_at("key"), expression.str_at("operator"), values.join(" "))
}

fn labels(selector: &Value) -> Value {
    serde_json::json!({ "selector": selector.at("matchLabels") })
}

/// Also where nothing changes it is said.
async fn sent(
    arguments: &Arguments,
    session: &Session,
    change: &Change,
    found: &objects::Found,
    after: &Value,
) -> Outcome<()> {
    if *after == found.object {
        return change.print(session, after).await;
    }
    send(arguments, session, change, found, after, "selector:").await
}
