//! The expressions of webhooks and admission policies: the names that they may use, and what they
//! must give.
//!
//! Validation compiles them to say what is wrong; admission compiles them again to run them.

use crate::api::{ErrorList, FieldError, Fields, Path, Report};
use crate::cel::{
    Declared, Environment, Field, ObjectType, ObjectTypes, Program, Semantics, Type, compile as compile_any,
};
use serde_json::Value;
use std::sync::{Arc, LazyLock};

/// The names beside `object`, `oldObject`, `request` and `namespaceObject`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names {
    pub params: bool,
    pub authorizer: bool,
    /// `Object{…}` and `JSONPatch{…}` can be made.
    pub patches: bool,
}

pub fn environment(names: Names) -> Environment {
    let mut environment = Environment::new()
        .variable("object", Declared::Dyn)
        .variable("oldObject", Declared::Dyn)
        .variable("namespaceObject", Declared::Object(NAMESPACE.clone()))
        .variable("request", Declared::Object(REQUEST.clone()));
    if names.params {
        environment = environment.variable("params", Declared::Dyn);
    }
    if names.authorizer {
        environment = environment.authorizer();
    }
    if names.patches {
        environment = with_patches(environment);
    }
    environment
}

/// With the types that mutations make.
pub fn with_patches(environment: Environment) -> Environment {
    environment.objects(Arc::new(Patches))
}

/// Compile an expression that must give one of some types; none: any. Err: as validation tells it.
pub fn compile(expression: &str, environment: &Environment, results: &[Type]) -> Result<Program, String> {
    let program = compile_any(expression, environment).map_err(|error| format!("compilation failed: {error}"))?;
    let result = program.result();
    if results.is_empty() || results.iter().any(|wanted| result.is_exactly(wanted)) {
        program.prepare().map_err(|error| format!("{UNPREPARED}{error}"))?;
        return Ok(program);
    }
    let result = spelled(&result);
    let names: Vec<String> = results.iter().map(spelled).collect();
    Err(match names.as_slice() {
        [one] => format!("must evaluate to {one} but got {result}"),
        all => format!("must evaluate to one of [{}] but got {result}", all.join(" ")),
    })
}

/// A type by the name that its values give.
fn spelled(kind: &Type) -> String {
    match kind {
        Type::Null | Type::Duration | Type::Timestamp => kind.value_name().to_owned(),
        other => other.to_string(),
    }
}

/// Report what is wrong with an expression that is there.
pub fn check(expression: &str, environment: &Environment, results: &[Type], path: &Path<'_>, errors: &mut ErrorList) {
    if !expression.trim().is_empty()
        && let Err(detail) = compile(expression, environment, results)
    {
        refuse(expression, detail, path, errors);
    }
}

/// Report that an expression does not compile; what fails in itself is no fault of its text.
pub fn refuse(expression: &str, detail: String, path: &Path<'_>, errors: &mut ErrorList) {
    if detail.starts_with(UNPREPARED) {
        errors.push(FieldError::internal(path, detail));
    } else {
        errors.invalid(path, expression, detail);
    }
}

/// How errors begin of expressions whose types are right.
const UNPREPARED: &str = "program instantiation failed: ";

/// The environment with the policy's `variables`, each of which sees those before it. `report` is told
/// of the expressions that do not compile.
pub fn with_variables(
    environment: &Environment,
    variables: &[Value],
    mut report: impl FnMut(usize, &str, String),
) -> (Environment, Vec<(String, Program)>) {
    let mut fields: Vec<(String, Declared)> = Vec::new();
    let mut programs = Vec::new();
    let name = |fields: &[(String, Declared)]| {
        let record = Variables(fields.to_vec());
        environment.clone().variable("variables", Declared::Object(Arc::new(record)))
    };
    for (index, variable) in variables.iter().enumerate() {
        let (known, expression) = (variable.str_at("name"), variable.str_at("expression"));
        if expression.trim().is_empty() {
            continue;
        }
        match compile(expression, &name(&fields), &[]) {
            Ok(program) => {
                fields.push((known.to_owned(), Declared::Typed(program.result())));
                programs.push((known.to_owned(), program));
            }
            Err(detail) => {
                fields.push((known.to_owned(), Declared::Dyn));
                report(index, expression, detail);
            }
        }
    }
    (name(&fields), programs)
}

pub fn list_of_patches() -> Type {
    Type::list(Type::Object(Arc::new(JSON_PATCH)))
}

pub fn applied_object() -> Type {
    Type::Object(Arc::new(Applied("Object".to_owned())))
}

#[derive(Debug)]
struct Variables(Vec<(String, Declared)>);

impl ObjectType for Variables {
    fn name(&self) -> &str {
        "kubernetes.variables"
    }

    fn field(&self, name: &str) -> Option<Field> {
        let (name, declared) = self.0.iter().find(|(known, _)| known == name)?;
        Some(Field { name: name.as_str().into(), declared: declared.clone() })
    }
}

/// An object whose fields are known.
#[derive(Debug)]
struct Record {
    name: &'static str,
    fields: Vec<(&'static str, Declared)>,
}

impl ObjectType for Record {
    fn name(&self) -> &str {
        self.name
    }

    fn field(&self, name: &str) -> Option<Field> {
        let (name, declared) = self.fields.iter().find(|(known, _)| *known == name)?;
        Some(Field { name: (*name).into(), declared: declared.clone() })
    }
}

fn record(name: &'static str, strings: &[&'static str], others: Vec<(&'static str, Declared)>) -> Arc<Record> {
    let mut fields: Vec<_> = strings.iter().map(|name| (*name, Declared::string())).collect();
    fields.extend(others);
    Arc::new(Record { name, fields })
}

fn strings() -> Declared {
    Declared::list(Declared::string(), None, Semantics::Atomic)
}

static REQUEST: LazyLock<Arc<Record>> = LazyLock::new(|| {
    let kind = record("kubernetes.GroupVersionKind", &["group", "version", "kind"], Vec::new());
    let resource = record("kubernetes.GroupVersionResource", &["group", "version", "resource"], Vec::new());
    let extra = Declared::map(strings(), None);
    let user = record("kubernetes.UserInfo", &["username", "uid"], vec![("groups", strings()), ("extra", extra)]);
    let (kind, resource) = (Declared::Object(kind), Declared::Object(resource));
    record(
        "kubernetes.AdmissionRequest",
        &["subResource", "requestSubResource", "name", "namespace", "operation"],
        vec![
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("requestKind", kind),
            ("requestResource", resource),
            ("userInfo", Declared::Object(user)),
            ("dryRun", Declared::Bool),
            ("options", Declared::Dyn),
        ],
    )
});

static NAMESPACE: LazyLock<Arc<Record>> = LazyLock::new(|| {
    let texts = || Declared::map(Declared::string(), None);
    let metadata = record(
        "kubernetes.NamespaceMetadata",
        &["name", "generateName", "namespace", "UID", "resourceVersion"],
        vec![
            ("labels", texts()),
            ("annotations", texts()),
            ("creationTimestamp", Declared::Timestamp),
            ("deletionGracePeriodSeconds", Declared::Int),
            ("deletionTimestamp", Declared::Timestamp),
            ("generation", Declared::Int),
            ("finalizers", strings()),
        ],
    );
    let condition = record(
        "kubernetes.NamespaceCondition",
        &["status", "type", "message", "reason"],
        vec![("lastTransitionTime", Declared::Timestamp)],
    );
    let conditions = Declared::list(Declared::Object(condition), None, Semantics::Atomic);
    let status = record("kubernetes.NamespaceStatus", &["phase"], vec![("conditions", conditions)]);
    let spec = record("kubernetes.NamespaceSpec", &[], vec![("finalizers", strings())]);
    record(
        "kubernetes.Namespace",
        &[],
        vec![
            ("metadata", Declared::Object(metadata)),
            ("spec", Declared::Object(spec)),
            ("status", Declared::Object(status)),
        ],
    )
});

/// The types that mutations make.
struct Patches;

impl ObjectTypes for Patches {
    fn find(&self, name: &str) -> Option<Arc<dyn ObjectType>> {
        match name {
            "JSONPatch" => Some(Arc::new(JSON_PATCH)),
            name if name == "Object" || name.starts_with("Object.") => Some(Arc::new(Applied(name.to_owned()))),
            _ => None,
        }
    }
}

/// Part of an object to apply: fields of any name.
#[derive(Debug)]
struct Applied(String);

impl ObjectType for Applied {
    fn name(&self) -> &str {
        &self.0
    }

    fn field(&self, name: &str) -> Option<Field> {
        Some(Field { name: name.into(), declared: Declared::Dyn })
    }
}

#[derive(Clone, Copy, Debug)]
struct JsonPatch;

const JSON_PATCH: JsonPatch = JsonPatch;

impl ObjectType for JsonPatch {
    fn name(&self) -> &str {
        "JSONPatch"
    }

    fn field(&self, name: &str) -> Option<Field> {
        let declared = match name {
            "op" | "path" | "from" => Declared::string(),
            "value" => Declared::Dyn,
            _ => return None,
        };
        Some(Field { name: name.into(), declared })
    }
}
