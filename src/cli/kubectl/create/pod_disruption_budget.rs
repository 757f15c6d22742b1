//! `kubectl create poddisruptionbudget`.

use super::{FLAGS, made, object};
use crate::api::FieldsMut;
use crate::api::selector::{LabelSelector, Operator};
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, text};
use crate::cli::kubectl::session::Session;
use crate::client::Kind;
use serde_json::{Value, json};

const KIND: Kind = Kind::namespaced("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets");

pub const VERB: Verb = Verb {
    name: "poddisruptionbudget",
    aliases: &["pdb"],
    about: "Create a PodDisruptionBudget",
    usage: "kubectl create poddisruptionbudget NAME --selector=SELECTOR --min-available=N",
    flags: &[
        FLAGS[0],
        FLAGS[1],
        &[
            text("min-available", "N", "Least number or percentage of available pods"),
            text("max-unavailable", "N", "Greatest number or percentage of unavailable pods"),
            text("selector", "SELECTOR", "Labels of the pods"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let name = arguments.name()?;
    let [selector, least, most] =
        ["selector", "min-available", "max-unavailable"].map(|flag| arguments.text_or_empty(flag));
    if selector.is_empty() {
        return Err(Failure::local("a selector must be specified"));
    }
    let (field, flag, amount) = match (least, most) {
        ("", "") => return Err(Failure::local("one of min-available or max-unavailable must be specified")),
        (least, "") => ("minAvailable", "min-available", least),
        ("", most) => ("maxUnavailable", "max-unavailable", most),
        _ => return Err(Failure::local("min-available and max-unavailable cannot be both specified")),
    };
    let digits = amount.strip_suffix('%').unwrap_or(amount);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Failure::local(format!("invalid format specified for {flag}")));
    }
    let mut budget = object(&KIND, &name);
    budget.set("spec", json!({ "selector": selector_of(selector)? }));
    budget.object_mut("spec").set(field, int_or_string(amount));
    budget
        .set("status", json!({ "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0 }));
    made(arguments, session, &KIND, budget, "failed to create poddisruptionbudgets:").await
}

/// A number where it is one.
pub fn int_or_string(text: &str) -> Value {
    text.parse::<i32>().map_or_else(|_| Value::from(text), Value::from)
}

/// `app=web,tier in (a)` as a `LabelSelector` object.
pub fn selector_of(text: &str) -> Outcome<Value> {
    let parsed = LabelSelector::parse(text)
        .map_err(|error| Failure::local(format!("couldn't parse the selector string \"{text}\": {error}")))?;
    let (mut labels, mut expressions) = (json!({}), Vec::new());
    for requirement in parsed.requirements {
        let operator = match (requirement.operator, requirement.values.as_slice()) {
            (Operator::In | Operator::Equals, [one]) if !text.contains(&format!("{} in", requirement.key)) => {
                labels.set(&requirement.key, one.as_str());
                continue;
            }
            (Operator::In | Operator::Equals, _) => "In",
            (Operator::NotIn | Operator::NotEquals, _) => "NotIn",
            (Operator::Exists, _) => "Exists",
            (Operator::DoesNotExist, _) => "DoesNotExist",
            (other, _) => return Err(Failure::local(format!("{other:?} is not a valid label selector operator"))),
        };
        let mut expression = json!({ "key": requirement.key, "operator": operator });
        if !requirement.values.is_empty() {
            expression["values"] = requirement.values.into();
        }
        expressions.push(expression);
    }
    let mut selector = json!({});
    if !labels.as_object().is_some_and(serde_json::Map::is_empty) {
        selector["matchLabels"] = labels;
    }
    if !expressions.is_empty() {
        selector["matchExpressions"] = expressions.into();
    }
    Ok(selector)
}
