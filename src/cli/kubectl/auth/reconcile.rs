//! `kubectl auth reconcile`: roles that allow at least what files say, bindings of at least their
//! subjects; what is more stays, unless it is to go.

use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::changes::{Change, DRY_RUN, DryRun};
use crate::cli::kubectl::discovery::Discovery;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, switch};
use crate::cli::kubectl::manifest::{self, FileArguments, Manifest};
use crate::cli::kubectl::output;
use crate::cli::kubectl::session::{JSON, Session, object_path};
use crate::client::kinds::NAMESPACES;
use http::Method;
use serde_json::{Value, json};

pub const VERB: Verb = Verb {
    name: "reconcile",
    about: "Make roles and bindings allow what files say",
    usage: "kubectl auth reconcile -f FILE",
    flags: &[
        output::FLAGS,
        manifest::FLAGS,
        &[
            DRY_RUN,
            switch("remove-extra-permissions", "Take away what roles allow beyond that"),
            switch("remove-extra-subjects", "Take away the subjects beyond those"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

const GROUP: &str = "rbac.authorization.k8s.io";
/// An object that says so is left alone.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let files = FileArguments::of(arguments);
    files.check()?;
    if !arguments.words().is_empty() {
        return Err(Failure::local("no arguments are allowed"));
    }
    let change = Change::of(arguments, "reconciled", "kubectl")?;
    if change.dry_run == DryRun::Server {
        return Err(Failure::local("--dry-run=server for command reconcile is not supported yet"));
    }
    let discovery = Discovery::fetch(session).await?;
    let (manifests, mut failures) = manifest::read(&files, session, &discovery).await?;
    for manifest in manifests.iter().filter(|manifest| manifest.resource.kind.group == GROUP) {
        let done = match &*manifest.resource.kind.kind {
            "Role" | "ClusterRole" => Reconciled::rules(arguments, session, manifest).await,
            _ => Reconciled::subjects(arguments, session, manifest).await,
        };
        let done = match done {
            Ok(done) => done.write(session, &change, manifest).await,
            Err(failure) => Err(failure),
        };
        failures.extend(done.err());
    }
    Failure::all(failures)
}

/// What is to be done.
struct Reconciled {
    object: Value,
    operation: &'static str,
    protected: bool,
    /// Titles and lines of what is added and taken away.
    told: Vec<(&'static str, Vec<String>)>,
}

impl Reconciled {
    async fn live(session: &Session, manifest: &Manifest) -> Outcome<Option<Value>> {
        match session.object(&manifest.resource.kind, manifest.namespace(), manifest.name()).await {
            Ok(object) => Ok(Some(object)),
            Err(failure) if failure.is_not_found() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn begin(wanted: &Value, live: Option<&Value>) -> Self {
        let mut object = live.unwrap_or(wanted).clone();
        // What a file says of labels and annotations, it says beside what is there.
        for field in ["labels", "annotations"] {
            for (key, value) in wanted.at("metadata").map_at(field) {
                object.object_mut("metadata").object_mut(field).set(key, value.clone());
            }
        }
        let operation = match live {
            None => "create",
            Some(live) if *live != object => "update",
            Some(_) => "",
        };
        let protected = live.is_some_and(|live| live.at("metadata").at("annotations").str_at(AUTOUPDATE) == "false");
        Self { object, operation, protected, told: Vec::new() }
    }

    async fn rules(arguments: &Arguments, session: &Session, manifest: &Manifest) -> Outcome<Self> {
        let wanted = &manifest.object;
        let live = Self::live(session, manifest).await?;
        let mut done = Self::begin(wanted, live.as_ref());
        let Some(live) = live else {
            done.told.push(("missing rules added", wanted.list_at("rules").iter().map(rule_text).collect()));
            return Ok(done);
        };
        let missing = uncovered(live.list_at("rules"), wanted.list_at("rules"));
        let extra = uncovered(wanted.list_at("rules"), live.list_at("rules"));
        let remove = arguments.on("remove-extra-permissions") && !extra.is_empty();
        if remove {
            done.object.copy("rules", wanted);
        } else if !missing.is_empty() {
            done.object.set("rules", [live.list_at("rules"), &missing].concat());
        }
        if remove || !missing.is_empty() {
            done.operation = "update";
        }
        done.told.push(("missing rules added", missing.iter().map(rule_text).collect()));
        if arguments.on("remove-extra-permissions") {
            done.told.push(("extra permissions removed", extra.iter().map(rule_text).collect()));
        }
        Ok(done)
    }

    async fn subjects(arguments: &Arguments, session: &Session, manifest: &Manifest) -> Outcome<Self> {
        let wanted = &manifest.object;
        let live = Self::live(session, manifest).await?;
        let mut done = Self::begin(wanted, live.as_ref());
        let Some(live) = live else {
            done.told.push(("missing subjects added", wanted.list_at("subjects").iter().map(subject_text).collect()));
            return Ok(done);
        };
        let without = |all: &[Value], other: &[Value]| -> Vec<Value> {
            let texts: Vec<String> = other.iter().map(subject_text).collect();
            all.iter().filter(|subject| !texts.contains(&subject_text(subject))).cloned().collect()
        };
        let missing = without(wanted.list_at("subjects"), live.list_at("subjects"));
        let extra = without(live.list_at("subjects"), wanted.list_at("subjects"));
        let remove = arguments.on("remove-extra-subjects") && !extra.is_empty();
        if remove {
            done.object.copy("subjects", wanted);
        } else if !missing.is_empty() {
            done.object.set("subjects", [live.list_at("subjects"), &missing].concat());
        }
        if remove || !missing.is_empty() {
            done.operation = "update";
        }
        if live.at("roleRef") != wanted.at("roleRef") {
            // A binding cannot be changed to another role.
            done.object.copy("roleRef", wanted);
            done.operation = "recreate";
        }
        done.told.push(("missing subjects added", missing.iter().map(subject_text).collect()));
        if arguments.on("remove-extra-subjects") {
            done.told.push(("extra subjects removed", extra.iter().map(subject_text).collect()));
        }
        Ok(done)
    }

    async fn write(mut self, session: &Session, change: &Change, manifest: &Manifest) -> Outcome<()> {
        let kind = &manifest.resource.kind;
        let (namespace, name) = (manifest.namespace(), manifest.name());
        let path = object_path(kind, namespace, name);
        if change.dry_run == DryRun::None && !self.protected && !self.operation.is_empty() {
            if self.operation == "recreate" {
                session
                    .write(Method::DELETE, &path, JSON, &json!({ "apiVersion": "v1", "kind": "DeleteOptions" }))
                    .await?;
                let metadata = self.object.object_mut("metadata");
                ["uid", "resourceVersion", "creationTimestamp", "managedFields"]
                    .iter()
                    .for_each(|field| metadata.clear(field));
            }
            if self.operation == "create" && !namespace.is_empty() {
                ensure_namespace(session, namespace).await?;
            }
            self.object = if self.operation == "update" {
                session.write(Method::PUT, &path, JSON, &self.object).await?
            } else {
                session.write(Method::POST, &kind.path(namespace), JSON, &self.object).await?
            };
        }
        change.print(session, &self.object).await?;
        if self.operation.is_empty() {
            return Ok(());
        }
        let caveat =
            if self.protected { format!(", but object opted out ({AUTOUPDATE}: false)") } else { String::new() };
        session.say(&format!("\treconciliation required {}{caveat}", self.operation)).await?;
        for (title, lines) in self.told.iter().filter(|(_, lines)| !lines.is_empty()) {
            session.say(&format!("\t{title}:")).await?;
            for line in lines {
                session.say(&format!("\t\t{line}")).await?;
            }
        }
        Ok(())
    }
}

async fn ensure_namespace(session: &Session, name: &str) -> Outcome<()> {
    match session.object(&NAMESPACES, "", name).await {
        Err(failure) if failure.is_not_found() => {
            let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            session.write(Method::POST, &NAMESPACES.path(""), JSON, &namespace).await.map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

/// As Go prints it.
fn rule_text(rule: &Value) -> String {
    let list = |field: &str| rule.strs_at(field).collect::<Vec<_>>().join(" ");
    format!(
        "{{Verbs:[{}] APIGroups:[{}] Resources:[{}] ResourceNames:[{}] NonResourceURLs:[{}]}}",
        list("verbs"),
        list("apiGroups"),
        list("resources"),
        list("resourceNames"),
        list("nonResourceURLs")
    )
}

fn subject_text(subject: &Value) -> String {
    let group = match (subject.str_at("apiGroup"), subject.str_at("kind")) {
        ("", "User" | "Group") => GROUP,
        (group, _) => group,
    };
    format!(
        "{{Kind:{} APIGroup:{group} Name:{} Namespace:{}}}",
        subject.str_at("kind"),
        subject.str_at("name"),
        subject.str_at("namespace")
    )
}

/// The simple rules of `wanted` that `owned` does not allow.
fn uncovered(owned: &[Value], wanted: &[Value]) -> Vec<Value> {
    let simple = wanted.iter().flat_map(break_down);
    simple.filter(|rule| !owned.iter().any(|owner| covers(owner, rule))).collect()
}

/// One group, resource, name, path and verb each.
fn break_down(rule: &Value) -> Vec<Value> {
    let mut simple = Vec::new();
    for group in rule.strs_at("apiGroups") {
        for resource in rule.strs_at("resources") {
            for verb in rule.strs_at("verbs") {
                let bare = json!({ "apiGroups": [group], "resources": [resource], "verbs": [verb] });
                let names: Vec<&str> = rule.strs_at("resourceNames").collect();
                if names.is_empty() {
                    simple.push(bare.clone());
                }
                for name in names {
                    let mut named = bare.clone();
                    named.set("resourceNames", json!([name]));
                    simple.push(named);
                }
            }
        }
    }
    for path in rule.strs_at("nonResourceURLs") {
        for verb in rule.strs_at("verbs") {
            simple.push(json!({ "nonResourceURLs": [path], "verbs": [verb] }));
        }
    }
    simple
}

fn covers(owner: &Value, simple: &Value) -> bool {
    let has = |field: &str| {
        let mut owned = owner.strs_at(field);
        let wanted = simple.strs_at(field).next().unwrap_or_default();
        owned.any(|one| one == "*" || one == wanted)
    };
    if !has("verbs") {
        return false;
    }
    if let Some(path) = simple.strs_at("nonResourceURLs").next() {
        let is_over =
            |owned: &str| owned == path || owned.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix));
        return owner.strs_at("nonResourceURLs").any(is_over);
    }
    let resource = simple.strs_at("resources").next().unwrap_or_default();
    let subresource = resource.split_once('/').map(|(_, subresource)| format!("*/{subresource}"));
    let is_resource = |owned: &str| owned == "*" || owned == resource || Some(owned) == subresource.as_deref();
    has("apiGroups")
        && owner.strs_at("resources").any(is_resource)
        && (owner.list_at("resourceNames").is_empty()
            || (!simple.list_at("resourceNames").is_empty() && has("resourceNames")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_cover_others() {
        let rule = |groups: &[&str], resources: &[&str], verbs: &[&str], names: &[&str]| json!({ "apiGroups": groups, "resources": resources, "verbs": verbs, "resourceNames": names });
        let wide = rule(&["*"], &["*"], &["*"], &[]);
        let pods = rule(&[""], &["pods", "*/log"], &["get", "list"], &[]);
        let one = rule(&[""], &["pods"], &["get"], &["a"]);
        assert!(uncovered(&[wide], std::slice::from_ref(&pods)).is_empty());
        assert!(uncovered(std::slice::from_ref(&pods), std::slice::from_ref(&one)).is_empty());
        assert_eq!(uncovered(&[one], std::slice::from_ref(&pods)).len(), 4);
        assert!(uncovered(std::slice::from_ref(&pods), &[rule(&[""], &["pods/log"], &["get"], &[])]).is_empty());
        assert_eq!(uncovered(&[pods], &[rule(&["apps"], &["pods"], &["get"], &[])]).len(), 1);
        let path = |path: &str| json!({ "nonResourceURLs": [path], "verbs": ["get"] });
        assert!(uncovered(&[path("/a/*")], &[path("/a/b")]).is_empty());
        assert_eq!(uncovered(&[path("/a")], &[path("/a/b")]).len(), 1);
    }
}
