//! `kubectl set env`: the variables of containers, set, taken from ConfigMaps and Secrets, or shown.

use super::{FLAGS, MANAGER, check, containers, pod_spec, send};
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::changes::Change;
use crate::cli::kubectl::create::sources::environment_name;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, array, slice, switch, text};
use crate::cli::kubectl::manifest::FileArguments;
use crate::cli::kubectl::objects::{self, Found};
use crate::cli::kubectl::pairs;
use crate::cli::kubectl::session::Session;
use crate::client::kinds::{CONFIG_MAPS, SECRETS};
use base64::Engine;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub const VERB: Verb = Verb {
    name: "env",
    about: "Set the variables of pod templates",
    usage: "kubectl set env RESOURCE/NAME KEY_1=VAL_1 ... KEY_N=VAL_N KEY-",
    flags: &[
        FLAGS[0],
        FLAGS[1],
        FLAGS[2],
        FLAGS[3],
        &[
            text("containers", "PATTERN", "Names of the containers, may have *").short('c').default("*"),
            text("from", "TYPE/NAME", "ConfigMap or Secret whose keys become variables"),
            text("prefix", "TEXT", "What stands before the names of the variables"),
            array("env", "KEY=VALUE", "A variable").short('e'),
            slice("keys", "KEY", "Which keys of --from"),
            switch("list", "Show the variables"),
            switch("resolve", "With --list: show the values of references"),
            switch("overwrite", "Replace variables that are there").default("true"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

/// What the command line says of the variables.
#[derive(Default)]
struct Variables {
    set: Vec<Value>,
    remove: Vec<String>,
}

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let change = Change::of(arguments, "env updated", MANAGER)?;
    check(arguments, &change)?;
    let words = arguments.words();
    let is_variable = |word: &String| pairs::is_pair(word) || word == "-";
    let first = words.iter().position(is_variable).unwrap_or(words.len());
    let (objects, given) = words.split_at(first);
    if !given.iter().all(is_variable) {
        let text = format!("all resources must be specified before environment changes: {}", words.join(" "));
        return Err(Failure::local(text));
    }
    let (list, keys) = (arguments.on("list"), arguments.list("keys"));
    if objects.is_empty() && FileArguments::of(arguments).is_empty() {
        return Err(Failure::local(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>",
        ));
    }
    if list && !arguments.text_or_empty("output").is_empty() {
        return Err(Failure::local("--list and --output may not be specified together"));
    }
    let from = arguments.text_or_empty("from");
    if !keys.is_empty() && from.is_empty() {
        return Err(Failure::local("when specifying --keys, a configmap or secret must be provided with --from"));
    }
    let mut variables = read(&[arguments.list("env"), given.to_vec()].concat(), session).await?;
    if !from.is_empty() {
        variables.set.extend(referenced(arguments, session, from, &keys).await?);
    }
    let prefix = arguments.text_or_empty("prefix");
    for variable in &mut variables.set {
        let name = format!("{prefix}{}", variable.str_at("name"));
        variable.set("name", name);
    }
    let found = objects::find(arguments, objects, session).await?;
    found
        .each(async |found| {
            let mut after = found.object.clone();
            one(arguments, session, &found, &mut after, &variables).await?;
            if list {
                return Ok(());
            }
            send(arguments, session, &change, &found, &after, "env update to pod template:").await
        })
        .await
}

/// `KEY=VALUE`, `KEY-`, and `-`: such lines from standard input.
async fn read(words: &[String], session: &Session) -> Outcome<Variables> {
    let mut variables = Variables::default();
    let mut all = Vec::new();
    for word in words {
        if word == "-" {
            let input = String::from_utf8_lossy(&session.terminal.input().await?).into_owned();
            let lines = input.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            all.extend(lines.filter(|line| line.contains('=')).map(str::to_owned));
        } else {
            all.push(word.clone());
        }
    }
    for word in &all {
        match word.split_once('=') {
            Some((name, value)) => {
                environment_name(name)?;
                variables.set.retain(|variable| variable.str_at("name") != name);
                variables.set.push(json!({ "name": name, "value": value }));
            }
            None => variables.remove.push(word.trim_end_matches('-').to_owned()),
        }
    }
    let both = variables.remove.iter().find(|name| variables.set.iter().any(|set| set.str_at("name") == *name));
    match both {
        Some(_) => {
            Err(Failure::local("can not both modify and remove the same environment variable in the same command"))
        }
        None => Ok(variables),
    }
}

/// References to the keys of a ConfigMap or a Secret.
async fn referenced(arguments: &Arguments, session: &Session, from: &str, keys: &[String]) -> Outcome<Vec<Value>> {
    let discovery = crate::cli::kubectl::discovery::Discovery::fetch(session).await?;
    let (kind, name) = crate::cli::kubectl::targets::split(from)?;
    let kind = &discovery.resolve_one(kind)?.kind;
    let object = session.object(kind, &session.namespace, name).await?;
    let field = match &*kind.kind {
        "Secret" => "secretKeyRef",
        "ConfigMap" => "configMapKeyRef",
        _ => return Err(Failure::local("unsupported resource specified in --from")),
    };
    let mut variables = Vec::new();
    for key in object.map_at("data").keys().filter(|key| keys.is_empty() || keys.contains(*key)) {
        let letters = key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' });
        let variable = letters.collect::<String>().to_uppercase();
        if variable != *key {
            session.say(&format!("Warning: key {key} transferred to {variable}")).await?;
        }
        let mut reference = json!({});
        reference.set(field, json!({ "key": key, "name": name }));
        variables.push(json!({ "name": variable, "valueFrom": reference }));
    }
    debug_assert!(arguments.text("from").is_some());
    Ok(variables)
}

async fn one(
    arguments: &Arguments,
    session: &Session,
    found: &Found,
    after: &mut Value,
    variables: &Variables,
) -> Outcome<()> {
    let pattern = arguments.text_or_empty("containers");
    let pod = after.clone();
    let chosen = containers(pod_spec(found, after)?, pattern);
    let kind = &found.resource.kind.kind;
    if chosen.is_empty() {
        let text = format!("Warning: {kind}/{} does not have any containers matching {pattern:?}", found.name);
        return session.say(&text).await;
    }
    let mut unresolved = false;
    for container in chosen {
        let there = container.list_at("env").to_vec();
        if !arguments.on("overwrite") {
            for variable in &variables.set {
                let current = there.iter().find(|current| current.str_at("name") == variable.str_at("name"));
                if let Some(current) = current.filter(|current| current.at("value") != variable.at("value")) {
                    return Err(Failure::local(format!(
                        "{}/{} '{}' already has a value ({}), and --overwrite is false",
                        found.resource.kind.plural,
                        found.name,
                        current.str_at("name"),
                        current.str_at("value")
                    )));
                }
            }
        }
        let merged = merge(there.clone(), variables);
        if arguments.on("list") {
            session.print(&format!("# {kind} {}, container {}\n", found.name, container.str_at("name"))).await?;
            let mut values = Values { session, pod: &pod, known: BTreeMap::new() };
            unresolved |= show(session, &merged, arguments.on("resolve").then_some(&mut values)).await?;
        }
        if merged != there {
            match merged.is_empty() {
                true => container.clear("env"),
                false => container.set("env", merged),
            }
        }
    }
    if unresolved {
        return Err(Failure::local("failed to retrieve valueFrom references"));
    }
    Ok(())
}

/// Each in the place of the one that it replaces.
fn merge(there: Vec<Value>, variables: &Variables) -> Vec<Value> {
    let mut covered = variables.remove.clone();
    let mut out = Vec::new();
    for variable in there.into_iter().chain(variables.set.iter().cloned()) {
        let name = variable.str_at("name").to_owned();
        if covered.contains(&name) {
            continue;
        }
        match variables.set.iter().find(|newer| newer.str_at("name") == name) {
            Some(newer) => {
                covered.push(name);
                out.push(newer.clone());
            }
            None => out.push(variable),
        }
    }
    out
}

/// True: a reference leads nowhere.
async fn show(session: &Session, variables: &[Value], mut values: Option<&mut Values<'_>>) -> Outcome<bool> {
    let mut failed: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for variable in variables {
        let name = variable.str_at("name");
        let Some(from) = variable.get_set("valueFrom") else {
            session.print(&format!("{name}={}\n", variable.str_at("value"))).await?;
            continue;
        };
        let value = match &mut values {
            Some(values) => Some(values.of(from).await),
            None => None,
        };
        match value {
            Some(Ok(value)) => session.print(&format!("{name}={value}\n")).await?,
            Some(Err(why)) => {
                failed.entry(why).or_default().push(name);
                session.print(&format!("# {name} from {}\n", reference(from))).await?;
            }
            None => session.print(&format!("# {name} from {}\n", reference(from))).await?,
        }
    }
    for (why, names) in &failed {
        session.say(&format!("error retrieving reference for {}: {why}", names.join(", "))).await?;
    }
    Ok(!failed.is_empty())
}

fn reference(from: &Value) -> String {
    let (map, secret) = (from.at("configMapKeyRef"), from.at("secretKeyRef"));
    let (field, resource) = (from.at("fieldRef"), from.at("resourceFieldRef"));
    if !map.is_null() {
        format!("configmap {}, key {}", map.str_at("name"), map.str_at("key"))
    } else if !secret.is_null() {
        format!("secret {}, key {}", secret.str_at("name"), secret.str_at("key"))
    } else if !field.is_null() {
        format!("field path {}", field.str_at("fieldPath"))
    } else {
        let container = resource.str_at("containerName");
        let container = if container.is_empty() { String::new() } else { format!("{container}/") };
        format!("resource field {container}{}", resource.str_at("resource"))
    }
}

/// The values that references lead to.
struct Values<'a> {
    session: &'a Session,
    pod: &'a Value,
    known: BTreeMap<String, Value>,
}

impl Values<'_> {
    async fn of(&mut self, from: &Value) -> Result<String, String> {
        for (field, kind) in [("configMapKeyRef", &CONFIG_MAPS), ("secretKeyRef", &SECRETS)] {
            let Some(reference) = from.get_set(field) else { continue };
            let (name, key) = (reference.str_at("name"), reference.str_at("key"));
            let known = format!("{field}/{name}");
            if !self.known.contains_key(&known) {
                let object = self.session.object(kind, &self.session.namespace, name).await;
                self.known.insert(
                    known.clone(),
                    object.map_err(|failure| match failure {
                        Failure::Status(status) => status.message,
                        other => other.to_string(),
                    })?,
                );
            }
            let text = self.known.get(&known).and_then(|object| object.at("data").optional_str(key));
            let singular = if field == "secretKeyRef" { "secret" } else { "config map" };
            let text = text.ok_or_else(|| format!("key {key} not found in {singular} {name}"))?;
            if field == "configMapKeyRef" {
                return Ok(text.to_owned());
            }
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).map_err(|error| error.to_string())?;
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        let path = from.at("fieldRef").str_at("fieldPath");
        let value = match path {
            "" => return Err("resource references are only known to a node".to_owned()),
            path => path.split('.').fold(self.pod, |value, step| value.at(step)),
        };
        value.as_str().map(str::to_owned).ok_or_else(|| format!("unsupported fieldPath: {path}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_stay_in_their_places() {
        let there = vec![json!({"name": "A", "value": "1"}), json!({"name": "B", "value": "2"}), json!({"name": "C"})];
        let variables = Variables {
            set: vec![json!({"name": "D", "value": "4"}), json!({"name": "A", "value": "5"})],
            remove: vec!["B".to_owned()],
        };
        let names: Vec<String> = merge(there, &variables)
            .iter()
            .map(|variable| format!("{}={}", variable.str_at("name"), variable.str_at("value")))
            .collect();
        assert_eq!(names, ["A=5", "C=", "D=4"]);
    }
}
