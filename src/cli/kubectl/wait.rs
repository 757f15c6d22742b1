//! `kubectl wait`: until objects are as they should be, by watching them.

use super::changes::Change;
use super::discovery::Discovery;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, array, text};
use super::following::follow;
use super::manifest;
use super::objects::{self, ALL, ALL_NAMESPACES, FIELD_SELECTOR, Found, LOCAL, Objects, SELECTOR};
use super::output;
use super::session::{JSON, Query, Session};
use super::targets;
use crate::api::Fields;
use crate::api::field::go_quote;
use crate::api::jsonpath::{Expression, to_text};
use futures::{AsyncBufReadExt, StreamExt};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

pub(super) const VERB: Verb = Verb {
    name: "wait",
    about: "Wait until objects are as they should be",
    usage: "kubectl wait (-f FILE | TYPE NAME) --for=create|delete|condition=NAME[=VALUE]|jsonpath='{PATH}'[=VALUE]",
    flags: &[
        output::FLAGS,
        manifest::FLAGS,
        &[
            SELECTOR,
            FIELD_SELECTOR,
            ALL_NAMESPACES,
            ALL,
            LOCAL,
            array(
                "for",
                "CONDITION",
                "What to wait for: create, delete, condition=NAME[=VALUE], jsonpath=PATH[=VALUE]",
            ),
            text("timeout", "DURATION", "How long to wait; 0: look once; negative: a week").default("30s"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is waited for.
enum Condition {
    Create,
    Delete,
    Named { name: String, value: String },
    Path { path: Expression, value: Option<String> },
}

impl Condition {
    fn parse(text: &str) -> Outcome<Self> {
        if text.eq_ignore_ascii_case("delete") {
            return Ok(Self::Delete);
        }
        if text.eq_ignore_ascii_case("create") {
            return Ok(Self::Create);
        }
        if let Some(condition) = text.strip_prefix("condition=") {
            let (name, value) = condition.split_once('=').unwrap_or((condition, "true"));
            return Ok(Self::Named { name: name.to_owned(), value: value.to_owned() });
        }
        let Some(path) = text.strip_prefix("jsonpath=") else {
            return Err(Failure::local(format!("unrecognized condition: {}", go_quote(text))));
        };
        let parts = parts_of(path);
        let (path, value) = match parts.as_slice() {
            [path] => (path, None),
            [path, value] => (path, Some(value.trim_matches(['\'', '"']).to_owned())),
            _ => {
                return Err(Failure::local(
                    "jsonpath wait format must be --for=jsonpath='{.status.readyReplicas}'=3 or --for=jsonpath='{.status.readyReplicas}'",
                ));
            }
        };
        if value.as_deref() == Some("") {
            return Err(Failure::local(
                "jsonpath wait has to have a value after equal sign, like --for=jsonpath='{.status.readyReplicas}'=3",
            ));
        }
        if path.is_empty() {
            return Err(Failure::local("jsonpath expression cannot be empty"));
        }
        let parsed = Expression::parse_relaxed(path)
            .map_err(|why| Failure::local(why.split(", got ").next().unwrap_or_default()))?;
        Ok(Self::Path { path: parsed, value })
    }

    fn holds(&self, object: Option<&Value>) -> Outcome<bool> {
        let Some(object) = object else { return Ok(matches!(self, Self::Delete)) };
        match self {
            Self::Create => Ok(true),
            Self::Delete => Ok(false),
            Self::Named { name, value } => Ok(named(object, name, value)),
            Self::Path { path, value } => match path.select(object).as_slice() {
                [] => Ok(false),
                [one] => match (one, value) {
                    (_, None) => Ok(true),
                    (Value::Array(_) | Value::Object(_), Some(_)) => {
                        Err(Failure::local("jsonpath leads to a nested object or list which is not supported"))
                    }
                    (one, Some(value)) => Ok(to_text(one).trim() == value.trim()),
                },
                _ => Err(Failure::local("given jsonpath expression matches more than one value")),
            },
        }
    }
}

/// The path and the value of `{.a}=b`; `==` belongs to the path.
fn parts_of(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let Some(last) = parts.last_mut() else { break };
        if c != '=' {
            last.push(c);
        } else if chars.next_if_eq(&'=').is_some() {
            last.push_str("==");
        } else {
            parts.push(String::new());
        }
    }
    parts
}

fn named(object: &Value, name: &str, value: &str) -> bool {
    let status = object.at("status");
    let mut conditions = status.list_at("conditions").iter();
    let Some(condition) = conditions.find(|condition| condition.str_at("type").eq_ignore_ascii_case(name)) else {
        return false;
    };
    let generation = object.at("metadata").int_at("generation");
    let observed = condition.optional_int("observedGeneration").or(status.optional_int("observedGeneration"));
    // What it says of an older spec does not count.
    observed.is_none_or(|observed| observed >= generation) && condition.str_at("status").eq_ignore_ascii_case(value)
}

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let conditions: Vec<Condition> =
        arguments.list("for").iter().map(|text| Condition::parse(text)).collect::<Outcome<_>>()?;
    if conditions.is_empty() {
        return Err(Failure::local("unrecognized condition: []"));
    }
    let change = Change::of(arguments, "condition met", "")?;
    let timeout = match arguments.duration("timeout")? {
        Some(duration) => Duration::try_from(duration).unwrap_or(WEEK),
        None => Duration::ZERO,
    };
    let until = Instant::now() + timeout;
    let words = arguments.words();
    if conditions.iter().any(|condition| matches!(condition, Condition::Create)) {
        created(arguments, session, &words, until).await?;
    }
    let deletes = conditions.iter().any(|condition| matches!(condition, Condition::Delete));
    let mut found = find(arguments, session, &words).await?;
    let missing = found.failures.iter().any(Failure::is_not_found);
    if deletes {
        found.failures.retain(|failure| !failure.is_not_found());
    }
    if found.found.is_empty() && found.failures.is_empty() && !(deletes && (missing || found.single)) {
        if deletes {
            return Ok(());
        }
        return Err(Failure::local("no matching resources found"));
    }
    let mut failures = found.failures;
    for one in found.found {
        match meet(session, &one, &conditions, timeout.is_zero(), until).await {
            Ok(object) => change.print(session, &object).await?,
            Err(failure) => failures.push(failure),
        }
    }
    Failure::all(failures)
}

async fn find(arguments: &Arguments, session: &Session, words: &[String]) -> Outcome<Objects> {
    objects::find(arguments, words, session).await
}

/// Wait until the conditions hold, one after the other.
async fn meet(
    session: &Session,
    found: &Found,
    conditions: &[Condition],
    once: bool,
    until: Instant,
) -> Outcome<Value> {
    let kind = &found.resource.kind;
    let uid = found.object.at("metadata").str_at("uid");
    let mut latest = found.object.clone();
    for condition in conditions {
        if once {
            if !condition.holds(Some(&latest))? {
                let name = format!("{}/{}", kind.plural, found.name);
                return Err(Failure::local(format!("condition not met for {name}")));
            }
            continue;
        }
        let latest = &mut latest;
        let met = follow(session, kind, &found.namespace, &found.name, async |object: Option<&Value>| {
            // Another one of the same name is not the one.
            let same = object.filter(|object| object.at("metadata").str_at("uid") == uid);
            let object = if matches!(condition, Condition::Delete) { same } else { object };
            if let Some(object) = object {
                latest.clone_from(object);
            } else if !matches!(condition, Condition::Delete) {
                let status = crate::api::Status::not_found(
                    &crate::api::GroupResource::new(&kind.group, &kind.plural),
                    &found.name,
                );
                return Err(status.into());
            }
            Ok(condition.holds(object)?.then_some(()))
        });
        match tokio::time::timeout_at(until, met).await {
            Ok(met) => met?,
            Err(_) => {
                return Err(Failure::local(format!(
                    "timed out waiting for the condition on {}/{}",
                    kind.plural, found.name
                )));
            }
        }
    }
    Ok(latest)
}

/// Wait until everything that is named is there.
async fn created(arguments: &Arguments, session: &Session, words: &[String], until: Instant) -> Outcome<()> {
    let discovery = Discovery::fetch(session).await?;
    let wait = async {
        if !words.is_empty() {
            for target in targets::read(words, &discovery)?.targets {
                let kind = &target.resource.kind;
                if let Some(name) = &target.name {
                    follow(session, kind, &session.namespace, name, async |object: Option<&Value>| {
                        Ok(object.map(|_| ()))
                    })
                    .await?;
                    continue;
                }
                some(arguments, session, kind).await?;
            }
            return Ok(());
        }
        let files = manifest::FileArguments::of(arguments);
        let (manifests, failures) = manifest::read(&files, session, &discovery).await?;
        Failure::all(failures)?;
        for manifest in manifests {
            let (kind, namespace, name) = (&manifest.resource.kind, manifest.namespace(), manifest.name());
            follow(session, kind, namespace, name, async |object: Option<&Value>| Ok(object.map(|_| ()))).await?;
        }
        Ok(())
    };
    match tokio::time::timeout_at(until, wait).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::local("timed out waiting for the condition")),
    }
}

/// Wait until the selectors take anything.
async fn some(arguments: &Arguments, session: &Session, kind: &crate::client::Kind) -> Outcome<()> {
    let selection = objects::Selection::of(arguments);
    let namespace = selection.namespace(session);
    loop {
        let list = session.list(kind, namespace, &selection.query()).await?;
        if !list.list_at("items").is_empty() {
            return Ok(());
        }
        let mut query: Query = selection.query();
        query.set("watch", "true").set("resourceVersion", list.at("metadata").str_at("resourceVersion"));
        let mut lines = session.stream(&query.on(&kind.path(namespace)), JSON).await?.lines();
        while let Some(line) = lines.next().await {
            let event: Value = serde_json::from_str(&line?).unwrap_or_else(|_| json!({ "type": "ERROR" }));
            match event.str_at("type") {
                "ADDED" | "MODIFIED" => return Ok(()),
                "ERROR" => break,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_hold_of_what_they_say() {
        let object = json!({
            "metadata": { "generation": 2 },
            "status": { "phase": "Running", "n": 3, "list": [1, 2], "conditions": [
                { "type": "Ready", "status": "True" },
                { "type": "Old", "status": "True", "observedGeneration": 1 },
            ] },
        });
        for (text, holds) in [
            ("condition=ready", true),
            ("condition=Ready=false", false),
            ("condition=Old", false),
            ("condition=None", false),
            ("jsonpath={.status.phase}=Running", true),
            ("jsonpath={.status.n}=3", true),
            ("jsonpath='{.status.n}'=4", false),
            ("jsonpath={.status.n}", true),
            ("jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True", true),
            ("delete", false),
            ("create", true),
        ] {
            let condition = Condition::parse(&text.replace('\'', "")).expect(text);
            assert_eq!(condition.holds(Some(&object)).expect(text), holds, "{text}");
        }
        let list = Condition::parse("jsonpath={.status.list}=1").expect("good");
        assert!(list.holds(Some(&object)).is_err());
        assert!(Condition::parse("nonsense").is_err() && Condition::parse("jsonpath={.a}=").is_err());
        assert!(Condition::parse("delete").expect("good").holds(None).expect("good"));
    }
}
