//! Expressions on a write: what they see, and who answers their `authorizer`.

use super::Attributes;
use super::matching::{Invocation, World};
use crate::api::{Fields, Status, UserInfo};
use crate::apiserver::authz::{self, Authorizer};
use crate::cel::{
    self, Bindings, Decision, Environment, MATCH_CONDITIONS_BUDGET, Program, Question, Type, Value as Cel,
};
use crate::resources::admission_registration::expressions::{self, Names};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// One write as expressions see it, in the form that an invocation asks for.
pub(super) struct Subject {
    pub object: Value,
    pub old_object: Value,
    pub request: Value,
    pub namespace: Value,
}

impl Subject {
    pub async fn new(attributes: &Attributes<'_>, invocation: &Invocation, world: &World) -> Result<Self, Status> {
        let (object, old_object) = objects(attributes, invocation, world).await?;
        let namespace = world.namespace_object(attributes);
        Ok(Self { object, old_object, request: request(attributes, invocation), namespace })
    }

    pub fn bindings<'a>(&'a self, environment: &Environment) -> Bindings<'a> {
        Bindings::new()
            .json("object", &self.object, environment)
            .json("oldObject", &self.old_object, environment)
            .json("request", &self.request, environment)
            .json("namespaceObject", &self.namespace, environment)
    }
}

/// Object and old object, as the invocation wants them; null where there is none.
pub(super) async fn objects(
    attributes: &Attributes<'_>,
    invocation: &Invocation,
    world: &World,
) -> Result<(Value, Value), Status> {
    let (object, old) = (attributes.object.as_deref(), attributes.old_object);
    match &invocation.row {
        None => Ok((object.cloned().unwrap_or_default(), old.cloned().unwrap_or_default())),
        Some(row) => {
            let mut converted = [Value::Null, Value::Null];
            for (place, object) in converted.iter_mut().zip([object, old]) {
                if let Some(object) = object {
                    *place = world.convert(object, attributes.resource, row).await?;
                }
            }
            let [object, old] = converted;
            Ok((object, old))
        }
    }
}

/// Without what is empty and may be left out.
fn compact(fields: Value) -> Value {
    let mut object = fields;
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !matches!(value.as_str(), Some("")));
    }
    object
}

/// `request`: the AdmissionRequest without its objects.
pub(super) fn request(attributes: &Attributes<'_>, invocation: &Invocation) -> Value {
    let (kind, resource) = (&invocation.kind, &invocation.resource);
    let gvk = |kind: &crate::api::GroupVersionKind| json!({ "group": kind.group, "version": kind.version, "kind": kind.kind });
    let gvr = |resource: &crate::api::GroupVersionResource| json!({ "group": resource.group, "version": resource.version, "resource": resource.resource });
    let mut request = compact(json!({
        "kind": gvk(kind),
        "resource": gvr(resource),
        "subResource": attributes.subresource,
        "requestKind": gvk(attributes.kind),
        "requestResource": gvr(attributes.resource),
        "requestSubResource": attributes.subresource,
        "name": attributes.name,
        "namespace": request_namespace(attributes),
        "operation": attributes.operation.as_str(),
        "userInfo": user_info(attributes.user),
        "dryRun": attributes.dry_run,
    }));
    request["options"] = attributes.options.clone();
    request
}

/// A Namespace is in itself.
fn request_namespace<'a>(attributes: &Attributes<'a>) -> &'a str {
    if attributes.is_core("namespaces") { attributes.name } else { attributes.namespace }
}

pub(super) fn user_info(user: &UserInfo) -> Value {
    let mut info = Map::new();
    let mut put = |name: &str, value: Value, set: bool| {
        if set {
            info.insert(name.to_owned(), value);
        }
    };
    put("username", json!(user.name), !user.name.is_empty());
    put("uid", json!(user.uid), !user.uid.is_empty());
    put("groups", json!(user.groups), !user.groups.is_empty());
    put("extra", json!(user.extra), !user.extra.is_empty());
    Value::Object(info)
}

/// Answers for `authorizer`. It cannot wait: a question that is new is kept, and asked between two
/// runs of the expression.
pub(super) struct Deciding<'a> {
    authorizers: &'a [Arc<dyn Authorizer>],
    user: &'a UserInfo,
    known: Mutex<HashMap<Question, Decision>>,
    wanted: Mutex<Option<Question>>,
}

impl cel::Authorizer for Deciding<'_> {
    fn decide(&self, question: &Question) -> Option<Decision> {
        let known = self.known.lock().get(question).cloned();
        if known.is_none() {
            *self.wanted.lock() = Some(question.clone());
        }
        known
    }
}

/// Questions of one evaluation: more than its costs allow.
const MAX_QUESTIONS: usize = 64;

impl<'a> Deciding<'a> {
    pub fn new(authorizers: &'a [Arc<dyn Authorizer>], user: &'a UserInfo) -> Self {
        Self { authorizers, user, known: Mutex::default(), wanted: Mutex::default() }
    }

    /// Run until every question that comes up has its answer.
    pub async fn run<R>(&self, evaluate: impl Fn() -> R) -> R {
        for _ in 0..MAX_QUESTIONS {
            let result = evaluate();
            let Some(question) = self.wanted.lock().take() else { return result };
            let decision = self.ask(&question).await;
            self.known.lock().insert(question, decision);
        }
        evaluate()
    }

    async fn ask(&self, question: &Question) -> Decision {
        let account = question.service_account.as_ref().map(|(namespace, name)| {
            let group = format!("system:serviceaccounts:{namespace}");
            UserInfo::new(
                &format!("system:serviceaccount:{namespace}:{name}"),
                &["system:serviceaccounts", &group, "system:authenticated"],
            )
        });
        let resource = question.path.is_none().then(|| authz::ResourceAttributes {
            group: &question.group,
            version: "*",
            resource: &question.resource,
            subresource: &question.subresource,
            namespace: &question.namespace,
            name: &question.name,
            field_selector: &question.field_selector,
        });
        let attributes = authz::Attributes {
            user: account.as_ref().unwrap_or(self.user),
            verb: &question.verb,
            resource,
            path: question.path.as_deref().unwrap_or_default(),
        };
        match authz::decide(self.authorizers, &attributes).await {
            authz::Decision::Allow(reason) => Decision { allowed: true, reason, error: None },
            authz::Decision::Deny(reason) | authz::Decision::NoOpinion(reason) => {
                Decision { allowed: false, reason, error: None }
            }
        }
    }
}

/// What `authorizer.requestResource` asks about.
pub(super) fn request_question(attributes: &Attributes<'_>) -> Question {
    Question {
        group: attributes.resource.group.clone(),
        resource: attributes.resource.resource.clone(),
        subresource: attributes.subresource.to_owned(),
        namespace: attributes.namespace.to_owned(),
        name: attributes.name.to_owned(),
        ..Question::default()
    }
}

/// An expression that is compiled, or the error that running it is.
pub(super) struct Compiled {
    pub expression: String,
    pub program: Result<Program, String>,
}

impl Compiled {
    pub fn new(expression: &str, environment: &Environment, results: &[Type]) -> Self {
        let program = expressions::compile(expression.trim(), environment, results);
        Self { expression: expression.trim().to_owned(), program }
    }
}

/// `matchConditions`: all must hold.
pub(super) struct Conditions {
    environment: Environment,
    list: Vec<(String, Compiled)>,
}

impl Conditions {
    pub fn new(list: &[Value], names: Names) -> Self {
        let environment = expressions::environment(names);
        let list = list.iter().map(|condition| {
            let compiled = Compiled::new(condition.str_at("expression"), &environment, &[Type::Bool]);
            (condition.str_at("name").to_owned(), compiled)
        });
        let list = list.collect();
        Self { environment, list }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Err: none is false, and these cannot be told.
    pub async fn hold(
        &self,
        subject: &Subject,
        parameters: Option<&Value>,
        deciding: &Deciding<'_>,
        question: &Question,
    ) -> Result<bool, String> {
        deciding
            .run(|| {
                let mut bindings = subject.bindings(&self.environment).authorizer(deciding, question.clone());
                if let Some(parameters) = parameters {
                    bindings = bindings.json("params", parameters, &self.environment);
                }
                self.evaluate(&bindings)
            })
            .await
    }

    fn evaluate(&self, bindings: &Bindings) -> Result<bool, String> {
        let mut errors = Vec::new();
        let mut budget = MATCH_CONDITIONS_BUDGET;
        for (_, condition) in &self.list {
            match run(condition, bindings, &mut budget) {
                Ok(Cel::Bool(false)) => return Ok(false),
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
            if budget == 0 {
                break;
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }
}

/// One run, taken off the budget; an error in the words of admission.
pub(super) fn run<'a>(compiled: &Compiled, bindings: &Bindings<'a>, budget: &mut u64) -> Result<Cel<'a>, String> {
    let program = compiled.program.as_ref().map_err(|error| format!("compilation error: {error}"))?;
    let evaluation = program.evaluate(bindings);
    let expression = &compiled.expression;
    if evaluation.cost > *budget {
        *budget = 0;
        return Err(format!(
            "validation failed due to running out of cost budget, no further validation rules will be run"
        ));
    }
    *budget -= evaluation.cost;
    evaluation.value.map_err(|failure| format!("expression '{expression}' resulted in error: {failure}"))
}
