//! Roles by name and bindings by subject, in memory.

use super::rules::{Rule, null_is_empty};
use crate::api::UserInfo;
use crate::api::field::go_quote;
use crate::apiserver::follow::{Update, parse_json};
use crate::storage::{Entry, Key};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

type Rules = Arc<[Rule]>;

#[derive(Default)]
pub struct Index {
    cluster_roles: HashMap<Box<str>, Rules>,
    /// By namespace, then name.
    roles: HashMap<Box<str>, HashMap<Box<str>, Rules>>,
    cluster_bindings: Bindings,
    /// By namespace.
    bindings: HashMap<Box<str>, Bindings>,
}

/// The bindings of one scope, by subject; within a subject by the name of the binding.
#[derive(Default)]
struct Bindings {
    by_name: HashMap<Box<str>, Arc<Binding>>,
    users: Subjects,
    groups: Subjects,
}

type Subjects = HashMap<Box<str>, BTreeMap<Box<str>, (Arc<Binding>, usize)>>;

pub struct Binding {
    name: Box<str>,
    /// Empty: a ClusterRoleBinding.
    namespace: Box<str>,
    role_kind: Box<str>,
    role_name: Box<str>,
    subjects: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    kind: Box<str>,
    name: Box<str>,
    #[serde(default)]
    namespace: Box<str>,
}

#[derive(Deserialize)]
struct StoredRole {
    #[serde(default, deserialize_with = "null_is_empty")]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct StoredBinding {
    #[serde(default, deserialize_with = "null_is_empty")]
    subjects: Vec<Subject>,
    #[serde(rename = "roleRef")]
    role_ref: RoleRef,
}

#[derive(Deserialize)]
struct RoleRef {
    kind: Box<str>,
    name: Box<str>,
}

impl Subject {
    /// The user name or group that it stands for. None: a kind that nothing matches.
    fn lookup(&self, binding_namespace: &str) -> Option<(bool, Box<str>)> {
        match &*self.kind {
            "User" => Some((false, self.name.clone())),
            "Group" => Some((true, self.name.clone())),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() { binding_namespace } else { &*self.namespace };
                // Without a namespace it matches nobody.
                (!namespace.is_empty())
                    .then(|| (false, format!("system:serviceaccount:{namespace}:{}", self.name).into()))
            }
            _ => None,
        }
    }
}

impl Binding {
    fn read(entry: &Entry) -> Option<Self> {
        let stored: StoredBinding = parse_json(entry.body.stored())?;
        Some(Self {
            name: entry.key.name().into(),
            namespace: entry.key.namespace().into(),
            role_kind: stored.role_ref.kind,
            role_name: stored.role_ref.name,
            subjects: stored.subjects,
        })
    }

    /// `ClusterRoleBinding "x" of ClusterRole "y" to Group "z"`.
    pub fn describe(&self, subject: usize) -> String {
        let subject = &self.subjects[subject];
        let who = if &*subject.kind == "ServiceAccount" {
            let namespace = if subject.namespace.is_empty() { &self.namespace } else { &subject.namespace };
            format!("{}/{namespace}", subject.name)
        } else {
            subject.name.to_string()
        };
        let (kind, name) = if self.namespace.is_empty() {
            ("ClusterRoleBinding", self.name.to_string())
        } else {
            ("RoleBinding", format!("{}/{}", self.name, self.namespace))
        };
        format!(
            "{kind} {} of {} {} to {} {}",
            go_quote(&name),
            self.role_kind,
            go_quote(&self.role_name),
            subject.kind,
            go_quote(&who)
        )
    }
}

impl Bindings {
    fn remove(&mut self, name: &str) {
        let Some(binding) = self.by_name.remove(name) else { return };
        for subject in &binding.subjects {
            let Some((group, key)) = subject.lookup(&binding.namespace) else { continue };
            let subjects = if group { &mut self.groups } else { &mut self.users };
            if let Some(list) = subjects.get_mut(&key) {
                list.remove(name);
                if list.is_empty() {
                    subjects.remove(&key);
                }
            }
        }
    }

    fn insert(&mut self, binding: Binding) {
        self.remove(&binding.name);
        let binding = Arc::new(binding);
        for (at, subject) in binding.subjects.iter().enumerate() {
            let Some((group, key)) = subject.lookup(&binding.namespace) else { continue };
            let subjects = if group { &mut self.groups } else { &mut self.users };
            // The first subject that fits is the one that is named.
            subjects.entry(key).or_default().entry(binding.name.clone()).or_insert_with(|| (binding.clone(), at));
        }
        self.by_name.insert(binding.name.clone(), binding);
    }

    fn visit<B>(&self, user: &UserInfo, visitor: &mut dyn FnMut(&Binding, usize) -> ControlFlow<B>) -> ControlFlow<B> {
        let own = self.users.get(user.name.as_str()).into_iter();
        let groups = user.groups.iter().filter_map(|group| self.groups.get(group.as_str()));
        for list in own.chain(groups) {
            for (binding, subject) in list.values() {
                visitor(binding, *subject)?;
            }
        }
        ControlFlow::Continue(())
    }
}

impl Index {
    /// The bindings that apply to a user: cluster-wide, then those of the namespace.
    pub fn visit<B>(
        &self,
        user: &UserInfo,
        namespace: &str,
        visitor: &mut dyn FnMut(&Binding, usize) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.cluster_bindings.visit(user, visitor)?;
        match self.bindings.get(namespace) {
            Some(bindings) => bindings.visit(user, visitor),
            None => ControlFlow::Continue(()),
        }
    }

    pub fn cluster_role(&self, name: &str) -> Option<&[Rule]> {
        self.cluster_roles.get(name).map(AsRef::as_ref)
    }

    pub fn namespaced_role(&self, namespace: &str, name: &str) -> Option<&[Rule]> {
        self.roles.get(namespace)?.get(name).map(AsRef::as_ref)
    }

    /// `Err`: there is no such role; the text of it.
    pub fn role(&self, binding: &Binding) -> Result<&[Rule], String> {
        let rules = match &*binding.role_kind {
            "ClusterRole" => self.cluster_role(&binding.role_name),
            "Role" => self.namespaced_role(&binding.namespace, &binding.role_name),
            other => return Err(format!("unsupported role reference kind: {}", go_quote(other))),
        };
        rules.ok_or_else(|| {
            let kind = binding.role_kind.to_ascii_lowercase();
            format!("{kind}.{} {} not found", super::GROUP, go_quote(&binding.role_name))
        })
    }

    pub fn apply_cluster_role(&mut self, update: Update<'_>) {
        each(update, |change| match change {
            Change::Reset => self.cluster_roles.clear(),
            Change::Put(entry) => {
                if let Some(rules) = read_role(entry) {
                    self.cluster_roles.insert(entry.key.name().into(), rules);
                }
            }
            Change::Delete(key) => {
                self.cluster_roles.remove(key.name());
            }
        });
    }

    pub fn apply_role(&mut self, update: Update<'_>) {
        each(update, |change| match change {
            Change::Reset => self.roles.clear(),
            Change::Put(entry) => {
                if let Some(rules) = read_role(entry) {
                    let roles = self.roles.entry(entry.key.namespace().into()).or_default();
                    roles.insert(entry.key.name().into(), rules);
                }
            }
            Change::Delete(key) => {
                if let Some(roles) = self.roles.get_mut(key.namespace()) {
                    roles.remove(key.name());
                    if roles.is_empty() {
                        self.roles.remove(key.namespace());
                    }
                }
            }
        });
    }

    pub fn apply_cluster_role_binding(&mut self, update: Update<'_>) {
        each(update, |change| match change {
            Change::Reset => self.cluster_bindings = Bindings::default(),
            Change::Put(entry) => match Binding::read(entry) {
                Some(binding) => self.cluster_bindings.insert(binding),
                None => self.cluster_bindings.remove(entry.key.name()),
            },
            Change::Delete(key) => self.cluster_bindings.remove(key.name()),
        });
    }

    pub fn apply_role_binding(&mut self, update: Update<'_>) {
        each(update, |change| match change {
            Change::Reset => self.bindings.clear(),
            Change::Put(entry) => {
                let bindings = self.bindings.entry(entry.key.namespace().into()).or_default();
                match Binding::read(entry) {
                    Some(binding) => bindings.insert(binding),
                    None => bindings.remove(entry.key.name()),
                }
            }
            Change::Delete(key) => {
                if let Some(bindings) = self.bindings.get_mut(key.namespace()) {
                    bindings.remove(key.name());
                    if bindings.by_name.is_empty() {
                        self.bindings.remove(key.namespace());
                    }
                }
            }
        });
    }
}

fn read_role(entry: &Entry) -> Option<Rules> {
    Some(parse_json::<StoredRole>(entry.body.stored())?.rules.into())
}

enum Change<'a> {
    Reset,
    Put(&'a Entry),
    Delete(&'a Key),
}

fn each(update: Update<'_>, mut apply: impl FnMut(Change<'_>)) {
    match update {
        Update::Reset(entries) => {
            apply(Change::Reset);
            entries.iter().for_each(|entry| apply(Change::Put(entry)));
        }
        Update::Put(entry) => apply(Change::Put(entry)),
        Update::Delete(key) => apply(Change::Delete(key)),
    }
}
