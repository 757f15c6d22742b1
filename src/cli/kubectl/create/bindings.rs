//! `kubectl create rolebinding` and `clusterrolebinding`.

use super::{FLAGS, made, object};
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Flag, Run, Verb, array, text};
use crate::cli::kubectl::session::Session;
use crate::client::Kind;
use serde_json::{Value, json};

const GROUP: &str = "rbac.authorization.k8s.io";
const ROLE_BINDINGS: Kind = Kind::namespaced(GROUP, "v1", "RoleBinding", "rolebindings");
const CLUSTER_ROLE_BINDINGS: Kind = Kind::cluster(GROUP, "v1", "ClusterRoleBinding", "clusterrolebindings");

/// Who gets the role.
pub const SUBJECTS: &[Flag] = &[
    array("user", "NAME", "User; may be given several times"),
    array("group", "NAME", "Group; may be given several times"),
    array("serviceaccount", "NAMESPACE:NAME", "Service account; may be given several times"),
];
const CLUSTER_ROLE_FLAG: Flag = text("clusterrole", "NAME", "ClusterRole to bind");

pub const ROLE_BINDING: Verb = Verb {
    name: "rolebinding",
    about: "Create a RoleBinding of a Role or a ClusterRole",
    usage: "kubectl create rolebinding NAME --clusterrole=NAME|--role=NAME [--user=username] [--group=groupname] [--serviceaccount=namespace:serviceaccountname]",
    flags: &[FLAGS[0], FLAGS[1], SUBJECTS, &[CLUSTER_ROLE_FLAG, text("role", "NAME", "Role to bind")]],
    run: Run::Cluster(|arguments, session| Box::pin(role_binding(arguments, session))),
    ..Verb::DEFAULT
};

pub const CLUSTER_ROLE_BINDING: Verb = Verb {
    name: "clusterrolebinding",
    about: "Create a ClusterRoleBinding",
    usage: "kubectl create clusterrolebinding NAME --clusterrole=NAME [--user=username] [--group=groupname] [--serviceaccount=namespace:serviceaccountname]",
    flags: &[FLAGS[0], FLAGS[1], SUBJECTS, &[CLUSTER_ROLE_FLAG]],
    required: &["clusterrole"],
    run: Run::Cluster(|arguments, session| Box::pin(cluster_role_binding(arguments, session))),
    ..Verb::DEFAULT
};

async fn role_binding(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let name = arguments.name()?;
    let role = match (arguments.text_or_empty("clusterrole"), arguments.text_or_empty("role")) {
        (cluster_role, "") if !cluster_role.is_empty() => ("ClusterRole", cluster_role),
        ("", role) if !role.is_empty() => ("Role", role),
        _ => return Err(Failure::local("exactly one of clusterrole or role must be specified")),
    };
    let binding = binding(arguments, &ROLE_BINDINGS, &name, role)?;
    made(arguments, session, &ROLE_BINDINGS, binding, "failed to create rolebinding:").await
}

async fn cluster_role_binding(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let role = ("ClusterRole", arguments.text_or_empty("clusterrole"));
    let binding = binding(arguments, &CLUSTER_ROLE_BINDINGS, &arguments.name()?, role)?;
    made(arguments, session, &CLUSTER_ROLE_BINDINGS, binding, "failed to create clusterrolebinding:").await
}

fn binding(arguments: &Arguments, kind: &Kind, name: &str, role: (&str, &str)) -> Outcome<Value> {
    let mut binding = object(kind, name);
    binding.set("roleRef", json!({ "apiGroup": GROUP, "kind": role.0, "name": role.1 }));
    let subjects = subjects(arguments)?;
    if !subjects.items().is_empty() {
        binding.set("subjects", subjects);
    }
    Ok(binding)
}

/// The subjects that the flags say.
pub fn subjects(arguments: &Arguments) -> Outcome<Value> {
    let of_kind = |flag: &str, kind: &'static str| {
        let names = arguments.list(flag).into_iter();
        names.map(move |name| json!({ "apiGroup": GROUP, "kind": kind, "name": name }))
    };
    let mut subjects: Vec<Value> = of_kind("user", "User").chain(of_kind("group", "Group")).collect();
    for account in arguments.list("serviceaccount") {
        match account.split(':').collect::<Vec<_>>()[..] {
            [namespace, name] if !namespace.is_empty() && !name.is_empty() => {
                subjects.push(json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace }));
            }
            _ => return Err(Failure::local("serviceaccount must be <namespace>:<name>")),
        }
    }
    Ok(subjects.into())
}
