//! Policies and bindings as they are stored, compiled once.

use super::super::expressions::{Compiled, Conditions};
use super::super::matching::{Criteria, World};
use super::super::{Attributes, Operation};
use crate::api::selector::LabelSelector;
use crate::api::{Fields, GroupVersionKind};
use crate::apiserver::codec;
use crate::cel::{Environment, Program, Type};
use crate::resources::Row;
use crate::resources::admission_registration::expressions::{self, Names};
use crate::storage::{Key, Prefix};
use serde_json::Value;
use std::sync::Arc;

pub(super) struct Policy {
    pub name: String,
    pub criteria: Criteria,
    pub fail_open: bool,
    pub conditions: Conditions,
    parameters: Option<GroupVersionKind>,
    pub environment: Environment,
    pub variables: Vec<(String, Compiled)>,
    pub validations: Vec<Validation>,
    pub annotations: Vec<(String, Compiled)>,
    pub mutations: Vec<Mutation>,
    pub reinvoke: bool,
}

pub(super) struct Validation {
    pub condition: Compiled,
    pub message: String,
    pub message_expression: Option<Compiled>,
    pub reason: String,
}

pub(super) struct Mutation {
    pub expression: Compiled,
    /// JSONPatch, not an object to apply.
    pub is_patch: bool,
}

pub(super) struct Binding {
    pub name: String,
    pub policy: String,
    criteria: Criteria,
    reference: Option<Value>,
    /// `Deny`, `Warn`, `Audit`, in their order.
    pub actions: Vec<String>,
}

impl Policy {
    pub fn new(object: &Value) -> Self {
        let spec = object.at("spec");
        let mutations = spec.list_at("mutations");
        let names =
            Names { params: spec.get_set("paramKind").is_some(), authorizer: true, patches: !mutations.is_empty() };
        let base = expressions::environment(names);
        let mut failed = Vec::new();
        let (environment, programs) =
            expressions::with_variables(&base, spec.list_at("variables"), |index, expression, detail| {
                failed.push((index, Compiled { expression: expression.to_owned(), program: Err(detail) }));
            });
        let variables = variables(spec.list_at("variables"), programs, failed);
        let silent = environment.clone().without_authorizer();
        let validations = spec.list_at("validations").iter().map(|validation| Validation {
            condition: Compiled::new(validation.str_at("expression"), &environment, &[Type::Bool]),
            message: validation.str_at("message").trim().to_owned(),
            message_expression: validation
                .optional_str("messageExpression")
                .filter(|expression| !expression.trim().is_empty())
                .map(|expression| Compiled::new(expression, &silent, &[Type::String])),
            reason: validation.str_at("reason").to_owned(),
        });
        let annotations = spec.list_at("auditAnnotations").iter().map(|annotation| {
            let results = [Type::String, Type::Null];
            let compiled = Compiled::new(annotation.str_at("valueExpression"), &environment, &results);
            (annotation.str_at("key").to_owned(), compiled)
        });
        let mutations = mutations.iter().map(|mutation| {
            let is_patch = mutation.str_at("patchType") == "JSONPatch";
            let (field, result) = if is_patch {
                ("jsonPatch", expressions::list_of_patches())
            } else {
                ("applyConfiguration", expressions::applied_object())
            };
            let expression = mutation.at(field).str_at("expression");
            Mutation { expression: Compiled::new(expression, &environment, &[result]), is_patch }
        });
        Self {
            name: object.at("metadata").str_at("name").to_owned(),
            criteria: Criteria::new(spec.at("matchConstraints"), "resourceRules"),
            fail_open: spec.str_at("failurePolicy") == "Ignore",
            conditions: Conditions::new(spec.list_at("matchConditions"), names),
            parameters: spec
                .get_set("paramKind")
                .map(|kind| GroupVersionKind::from_api_version(kind.str_at("apiVersion"), kind.str_at("kind"))),
            variables,
            validations: validations.collect(),
            annotations: annotations.collect(),
            mutations: mutations.collect(),
            reinvoke: spec.str_at("reinvocationPolicy") == "IfNeeded",
            environment,
        }
    }

    pub fn may_match(&self, operation: Operation, subresource: &str) -> bool {
        self.criteria.may_match(operation, subresource)
    }

    /// The row of the parameters. Err: there is no such kind.
    fn parameter_row(&self, world: &World) -> Result<Option<Arc<Row>>, String> {
        let Some(kind) = &self.parameters else { return Ok(None) };
        match world.registry.rows().by_kind(kind) {
            Some(row) => Ok(Some(row.clone())),
            None => Err(format!(
                "failed to configure policy: failed to find resource referenced by paramKind: '{}, Kind={}'",
                kind.api_version(),
                kind.kind
            )),
        }
    }

    /// The parameters that a binding names: one run for each. `None` among them: a run without.
    pub fn collect(
        &self,
        binding: &Binding,
        attributes: &Attributes,
        world: &World,
    ) -> Result<Vec<Option<Value>>, String> {
        let Some(row) = self.parameter_row(world)? else { return Ok(vec![None]) };
        let Some(reference) = &binding.reference else { return Ok(vec![None]) };
        let failed = |text: &str| Err(format!("failed to configure binding: {text}"));
        let own = reference.str_at("namespace");
        let namespace = match (row.namespaced, own) {
            (false, "") => "",
            (false, _) => return failed("paramRef.namespace must not be provided for a cluster-scoped `paramKind`"),
            (true, "") if attributes.namespace.is_empty() => {
                return failed(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources",
                );
            }
            (true, "") => attributes.namespace,
            (true, own) => own,
        };
        let found = match (reference.str_at("name"), reference.get_set("selector")) {
            ("", Some(selector)) => {
                let selector = LabelSelector::from_value(selector).unwrap_or_default();
                let prefix = Prefix::namespace(&row.stored, namespace);
                let prefix = if row.namespaced { prefix } else { Prefix::resource(&row.stored) };
                let snapshot = world.storage.snapshot();
                let objects = snapshot.range(&prefix, None).map(|entry| codec::parse(&row, &entry.body));
                objects
                    .filter(|object| {
                        let labels = object.at("metadata").at("labels");
                        selector.matches(|key| labels.get(key).and_then(Value::as_str))
                    })
                    .map(Some)
                    .collect()
            }
            ("", None) => return failed("one of name or selector must be provided"),
            (name, _) => {
                let entry = world.storage.get(&Key::new(&row.stored, namespace, name));
                entry.map(|entry| Some(codec::parse(&row, &entry.body))).into_iter().collect::<Vec<_>>()
            }
        };
        if found.is_empty() && reference.str_at("parameterNotFoundAction") == "Deny" {
            return failed("no params found for policy binding with `Deny` parameterNotFoundAction");
        }
        Ok(found)
    }
}

/// Programs and failures in the order of the policy.
fn variables(
    list: &[Value],
    programs: Vec<(String, Program)>,
    failed: Vec<(usize, Compiled)>,
) -> Vec<(String, Compiled)> {
    let (mut programs, mut failed) = (programs.into_iter(), failed.into_iter().peekable());
    let mut all = Vec::with_capacity(list.len());
    for (index, variable) in list.iter().enumerate() {
        if let Some((_, compiled)) = failed.next_if(|(at, _)| *at == index) {
            all.push((variable.str_at("name").to_owned(), compiled));
        } else if let Some((name, program)) = programs.next() {
            let expression = variable.str_at("expression").to_owned();
            all.push((name, Compiled { expression, program: Ok(program) }));
        }
    }
    all
}

impl Binding {
    pub fn new(object: &Value) -> Self {
        let spec = object.at("spec");
        Self {
            name: object.at("metadata").str_at("name").to_owned(),
            policy: spec.str_at("policyName").to_owned(),
            criteria: Criteria::new(spec.at("matchResources"), "resourceRules"),
            reference: spec.get_set("paramRef").cloned(),
            actions: spec.strs_at("validationActions").map(str::to_owned).collect(),
        }
    }

    pub fn matches(&self, attributes: &Attributes, world: &World) -> Result<bool, String> {
        let found = self.criteria.matches(attributes, world, true);
        Ok(found.map_err(|status| format!("failed to configure binding: {}", status.message))?.is_some())
    }
}
