//! `kubectl taint`.

use super::changes::{self, Change};
use super::discovery::Discovery;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, switch};
use super::objects::{self, ALL, SELECTOR};
use super::output;
use super::session::Session;
use crate::api::{Fields, FieldsMut, names};
use serde_json::{Value, json};

pub(super) const VERB: Verb = Verb {
    name: "taint",
    about: "Set and take away taints of nodes",
    usage: "kubectl taint NODE NAME KEY_1=VAL_1:TAINT_EFFECT_1 ... KEY_N=VAL_N:TAINT_EFFECT_N",
    flags: &[
        output::FLAGS,
        &[
            changes::DRY_RUN,
            changes::FIELD_MANAGER,
            changes::VALIDATE,
            SELECTOR,
            ALL,
            switch("overwrite", "Replace taints that are there"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

#[derive(Clone, Debug, PartialEq, Eq)]
struct Taint {
    key: String,
    value: String,
    effect: String,
}

impl Taint {
    fn parse(text: &str) -> Result<Self, String> {
        let invalid = || format!("invalid taint spec: {text}");
        let because = |wrong: Vec<String>| format!("{}, {}", invalid(), wrong.join("; "));
        let (key, value, effect) = match text.split(':').collect::<Vec<_>>()[..] {
            [key] => (key, "", ""),
            [pair, effect] => {
                if !EFFECTS.contains(&effect) {
                    return Err(format!("invalid taint effect: {effect}, unsupported taint effect"));
                }
                match pair.split('=').collect::<Vec<_>>()[..] {
                    [key] => (key, "", effect),
                    [key, value] => (key, value, effect),
                    _ => return Err(invalid()),
                }
            }
            _ => return Err(invalid()),
        };
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            return Err(because(wrong));
        }
        let wrong = names::qualified_name(key);
        if !wrong.is_empty() {
            return Err(because(wrong));
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() })
    }

    fn is(&self, taint: &Value) -> bool {
        taint.str_at("key") == self.key && (self.effect.is_empty() || taint.str_at("effect") == self.effect)
    }

    fn to_value(&self) -> Value {
        let mut taint = json!({ "effect": self.effect, "key": self.key });
        if !self.value.is_empty() {
            taint.set("value", self.value.as_str());
        }
        taint
    }
}

/// What is to be set, and what is to go.
fn parse(words: &[String]) -> Result<(Vec<Taint>, Vec<Taint>), String> {
    let (mut add, mut remove): (Vec<Taint>, Vec<Taint>) = (Vec::new(), Vec::new());
    for word in words {
        if let Some(bare) = word.strip_suffix('-') {
            remove.push(Taint::parse(bare)?);
            continue;
        }
        let taint = Taint::parse(word)?;
        if taint.effect.is_empty() {
            return Err(format!("invalid taint spec: {word}"));
        }
        if add.iter().any(|other| other.key == taint.key && other.effect == taint.effect) {
            return Err(format!(
                "duplicated taints with the same key and effect: {{{} {} {} <nil>}}",
                taint.key, taint.value, taint.effect
            ));
        }
        add.push(taint);
    }
    Ok((add, remove))
}

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let words = arguments.words();
    let is_taint = |word: &String| word.contains(['=', ':']) || word.ends_with('-');
    let first = words.iter().position(is_taint).unwrap_or(words.len());
    let (nodes, taints) = words.split_at(first);
    if let Some(word) = taints.iter().find(|word| !is_taint(word)) {
        return Err(Failure::local(format!("all resources must be specified before taint changes: {word}")));
    }
    let Some(kind) = nodes.first() else {
        return Err(Failure::local("one or more resources must be specified as <resource> <name>"));
    };
    if taints.is_empty() {
        return Err(Failure::local("at least one taint update is required"));
    }
    let (add, remove) = parse(taints).map_err(|error| arguments.usage(error))?;
    let discovery = Discovery::fetch(session).await?;
    let (word, name) = kind.split_once('/').unwrap_or((kind, ""));
    let Ok(resource) = discovery.resolve_one(word) else {
        return Err(Failure::Said(format!("the server doesn't have a resource type {word:?}")));
    };
    if resource.kind.kind != "Node" {
        let kind = kind.to_lowercase();
        return Err(Failure::local(format!("invalid resource type {kind}, only node types are supported")));
    }
    let both = add.iter().flat_map(|taint| {
        let goes = |other: &&Taint| other.key == taint.key && (other.effect.is_empty() || other.effect == taint.effect);
        remove.iter().filter(goes).map(|other| format!("{}={}", other.key, other.effect))
    });
    let both: Vec<String> = both.collect();
    if !both.is_empty() {
        return Err(Failure::local(format!(
            "can not both modify and remove the following taint(s) in the same command: {}",
            both.join(", ")
        )));
    }
    let (all, selector) = (arguments.on("all"), arguments.text_or_empty("selector"));
    if all && !selector.is_empty() {
        return Err(Failure::local("setting 'all' parameter with a non empty selector is prohibited"));
    }
    if !all && selector.is_empty() && nodes.len() < 2 && name.is_empty() {
        return Err(Failure::local("at least one resource name must be specified since 'all' parameter is not set"));
    }
    let mut change = Change::of(arguments, "tainted", "kubectl-taint")?;
    // kubectl does not say it of taints.
    change.suffix = "";
    let found = objects::find_in(arguments, nodes, session, &discovery).await?;
    found
        .each(async |found| {
            let (after, operation) = apply(&found.object, &add, &remove, arguments.on("overwrite"))?;
            let object = change.patch(session, &found.resource, &found.object, &after).await?;
            change.print_as(session, &object, operation).await
        })
        .await
}

fn apply(node: &Value, add: &[Taint], remove: &[Taint], overwrite: bool) -> Outcome<(Value, &'static str)> {
    let name = node.at("metadata").str_at("name");
    let there = node.at("spec").list_at("taints");
    if !overwrite {
        let known = add.iter().filter(|taint| there.iter().any(|other| taint.is(other)));
        let known: Vec<&str> = known.map(|taint| taint.key.as_str()).collect();
        if !known.is_empty() {
            return Err(Failure::local(format!(
                "node {name} already has {} taint(s) with same effect(s) and --overwrite is false",
                known.join(",")
            )));
        }
    }
    let mut failures = Vec::new();
    for taint in remove {
        if !there.iter().any(|other| taint.is(other)) {
            let effect = if taint.effect.is_empty() { String::new() } else { format!(":{}", taint.effect) };
            failures.push(Failure::local(format!("taint \"{}{effect}\" not found", taint.key)));
        }
    }
    Failure::all(failures)?;
    let mut taints: Vec<Value> = add.iter().map(Taint::to_value).collect();
    let stays = |taint: &&Value| !add.iter().chain(remove).any(|other| other.is(taint));
    let kept: Vec<Value> = there.iter().filter(stays).cloned().collect();
    let replaced = there.iter().any(|taint| add.iter().any(|other| other.is(taint)));
    taints.extend(kept);
    let operation = match (add.is_empty(), remove.is_empty()) {
        (true, _) => "untainted",
        (false, true) if !replaced => "tainted",
        (false, true) => "modified",
        (false, false) => "modified",
    };
    let mut after = node.clone();
    if taints.is_empty() {
        after.object_mut("spec").clear("taints");
    } else {
        after.object_mut("spec").set("taints", taints);
    }
    Ok((after, operation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_read_and_applied() {
        let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        let (add, remove) = parse(&words("a=b:NoSchedule c-")).expect("good");
        assert_eq!((add.len(), remove.len()), (1, 1));
        assert!(parse(&words("a=b:Bogus")).is_err() && parse(&words("a=b")).is_err());
        assert!(parse(&words("a=b:NoSchedule a=c:NoSchedule")).is_err());
        let node =
            json!({ "metadata": { "name": "n" }, "spec": { "taints": [{ "key": "c", "effect": "NoExecute" }] } });
        let (after, operation) = apply(&node, &add, &remove, false).expect("good");
        assert_eq!(
            (after["spec"]["taints"].clone(), operation),
            (json!([{ "effect": "NoSchedule", "key": "a", "value": "b" }]), "modified")
        );
        assert!(apply(&after, &add, &[], false).is_err() && apply(&after, &add, &[], true).is_ok());
        let (gone, operation) = apply(&node, &[], &remove, false).expect("good");
        assert_eq!((gone["spec"].get("taints"), operation), (None, "untainted"));
    }
}
