//! `kubectl set subject`: who else has a role.

use super::{FLAGS, MANAGER, check, send};
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::changes::Change;
use crate::cli::kubectl::create::SUBJECTS;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb};
use crate::cli::kubectl::objects;
use crate::cli::kubectl::session::Session;
use serde_json::{Value, json};

const GROUP: &str = "rbac.authorization.k8s.io";

pub const VERB: Verb = Verb {
    name: "subject",
    about: "Add users, groups and service accounts to bindings",
    usage: "kubectl set subject (-f FILE | TYPE NAME) [--user=username] [--group=groupname] [--serviceaccount=namespace:serviceaccountname]",
    flags: &[FLAGS[0], FLAGS[1], FLAGS[2], FLAGS[3], SUBJECTS],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let change = Change::of(arguments, "subjects updated", MANAGER)?;
    let found = objects::find(arguments, &arguments.words(), session).await?;
    check(arguments, &change)?;
    let mut subjects = Vec::new();
    for (flag, kind) in [("user", "User"), ("group", "Group")] {
        let mut names = arguments.list(flag);
        names.sort();
        subjects.extend(names.iter().map(|name| json!({ "apiGroup": GROUP, "kind": kind, "name": name })));
    }
    let mut accounts = arguments.list("serviceaccount");
    accounts.sort();
    for account in &accounts {
        let Some((namespace, name)) =
            account.split_once(':').filter(|(_, name)| !name.is_empty() && !name.contains(':'))
        else {
            return Err(Failure::local("serviceaccount must be <namespace>:<name>"));
        };
        let namespace = if namespace.is_empty() { session.namespace.as_str() } else { namespace };
        subjects.push(json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace }));
    }
    if subjects.is_empty() {
        return Err(Failure::local("you must specify at least one value of user, group or serviceaccount"));
    }
    subjects.dedup();
    found
        .each(async |found| {
            let kind = &found.resource.kind;
            if kind.group != GROUP || !matches!(&*kind.kind, "RoleBinding" | "ClusterRoleBinding") {
                return Err(Failure::local(format!(
                    "{}/{} setting subjects is only supported for RoleBinding/ClusterRoleBinding",
                    kind.plural, found.name
                )));
            }
            let mut all: Vec<Value> = found.object.list_at("subjects").to_vec();
            let new = subjects.iter().filter(|subject| !found.object.list_at("subjects").contains(subject));
            all.extend(new.cloned());
            let mut after = found.object.clone();
            if all.as_slice() != found.object.list_at("subjects") {
                after.set("subjects", all);
            }
            send(arguments, session, &change, &found, &after, "subjects to rolebinding:").await
        })
        .await
}
