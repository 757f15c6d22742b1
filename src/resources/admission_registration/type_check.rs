//! What a policy's expressions get wrong about the kinds that it matches: warnings in its status.
//!
//! A policy is accepted with objects of any type, because what it matches may come and go; here its
//! expressions are checked again with the types that there are. Source: "Type checking" of
//! ValidatingAdmissionPolicy.

use super::expressions::{self, Names};
use crate::api::{Fields, GroupVersionKind, GroupVersionResource, Path};
use crate::cel::{Declared, Environment, Field, ObjectType, Semantics, compile, escape, unescape};
use crate::resources::api_extensions::rules;
use crate::schema::custom::Structural;
use crate::schema::{self, Schema, Shape, StructId, TypeId};
use serde_json::{Value, json};
use std::sync::Arc;

/// Kinds that are looked at for one rule.
pub const MAX_KINDS: usize = 10;

/// The resources that a rule names one by one: none where it has a wildcard.
pub fn resources(rule: &Value) -> Vec<GroupVersionResource> {
    let sorted = |field: &str| {
        let mut texts: Vec<&str> = rule.strs_at(field).collect();
        texts.sort_unstable();
        texts
    };
    let (groups, versions) = (sorted("apiGroups"), sorted("apiVersions"));
    if groups.iter().chain(&versions).any(|text| text.contains('*')) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for group in &groups {
        for version in &versions {
            for resource in sorted("resources").into_iter().filter(|resource| !resource.contains(['*', '/'])) {
                found.push(GroupVersionResource::new(group, version, resource));
            }
        }
    }
    found
}

/// A built-in kind to expressions; None: there is no such kind.
pub fn built_in(kind: &GroupVersionKind) -> Option<Declared> {
    let schema = Arc::new(schema::builtin_schema(kind)?);
    let root = schema.root;
    Some(of_type(&schema, root))
}

/// A custom kind, by the OpenAPI schema of its version.
pub fn custom(openapi: &Value) -> Option<Declared> {
    let Declared::Object(fields) = rules::declared(&Structural::parse(openapi), true)? else { return None };
    let metadata = built_in(&GroupVersionKind::new("", "v1", "ConfigMap")).and_then(|map| match map {
        Declared::Object(map) => map.field("metadata").map(|field| field.declared),
        _ => None,
    });
    Some(Declared::Object(Arc::new(Custom { fields, metadata: metadata? })))
}

/// A custom kind, whose metadata is that of all kinds.
#[derive(Debug)]
struct Custom {
    fields: Arc<dyn ObjectType>,
    metadata: Declared,
}

impl ObjectType for Custom {
    fn name(&self) -> &str {
        self.fields.name()
    }

    fn field(&self, name: &str) -> Option<Field> {
        match name {
            "metadata" => Some(Field { name: "metadata".into(), declared: self.metadata.clone() }),
            name => self.fields.field(name),
        }
    }
}

/// A struct of the type table.
struct Struct {
    schema: Arc<Schema>,
    id: StructId,
}

impl std::fmt::Debug for Struct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl ObjectType for Struct {
    fn name(&self) -> &str {
        self.schema.table.struct_name(self.id)
    }

    fn field(&self, name: &str) -> Option<Field> {
        let plain = unescape(name)?;
        let flat = self.schema.table.field(self.id, &plain)?;
        escape(&plain).filter(|escaped| escaped == name)?;
        Some(Field { name: plain.as_str().into(), declared: of_type(&self.schema, flat.field.kind) })
    }
}

fn of_type(schema: &Arc<Schema>, kind: TypeId) -> Declared {
    match schema.table.shape(kind) {
        Shape::String | Shape::Duration => Declared::string(),
        Shape::Bool => Declared::Bool,
        Shape::Int32 | Shape::Int64 | Shape::Uint32 | Shape::Uint64 => Declared::Int,
        Shape::Float => Declared::Double,
        Shape::Bytes => Declared::Bytes { max: None },
        Shape::Time | Shape::MicroTime => Declared::Timestamp,
        Shape::List { element, .. } => Declared::list(of_type(schema, element), None, Semantics::Atomic),
        Shape::Map { value, .. } => Declared::map(of_type(schema, value), None),
        Shape::Struct { id, .. } => Declared::Object(Arc::new(Struct { schema: schema.clone(), id })),
        // One of several types: told when it runs.
        _ => Declared::Dyn,
    }
}

/// The warnings of a policy. `parameters`: the type of its parameters, where they are known.
pub fn warnings(policy: &Value, kinds: &[(GroupVersionKind, Declared)], parameters: Option<&Declared>) -> Vec<Value> {
    let spec = policy.at("spec");
    let names = Names { params: spec.has("paramKind"), authorizer: true, patches: false };
    let environments: Vec<(&GroupVersionKind, Environment)> = kinds
        .iter()
        .map(|(kind, declared)| {
            let mut environment = expressions::environment(names)
                .variable("object", declared.clone())
                .variable("oldObject", declared.clone());
            if let Some(parameters) = parameters.filter(|_| names.params) {
                environment = environment.variable("params", parameters.clone());
            }
            let (environment, _) = expressions::with_variables(&environment, spec.list_at("variables"), |_, _, _| {});
            (kind, environment)
        })
        .collect();
    let root = Path::new("spec");
    let root = root.child("validations");
    let mut found = Vec::new();
    for (index, validation) in spec.list_at("validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let expression = validation.str_at(field);
            if field == "messageExpression" && expression.is_empty() {
                continue;
            }
            let wrong: Vec<String> = environments
                .iter()
                .filter_map(|(kind, environment)| {
                    let error = compile(expression, environment).err()?;
                    Some(format!("{}/{}, Kind={}: {error}\n", kind.group, kind.version, kind.kind))
                })
                .collect();
            if !wrong.is_empty() {
                let path = root.index(index).child(field).to_string();
                found.push(json!({ "fieldRef": path, "warning": wrong.join("\n") }));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: Value, kind: (&str, &str, &str)) -> Vec<(String, String)> {
        let kind = GroupVersionKind::new(kind.0, kind.1, kind.2);
        let declared = built_in(&kind).expect("a kind");
        let found = warnings(&json!({ "spec": spec }), &[(kind, declared)], None);
        found.iter().map(|one| (one.str_at("fieldRef").to_owned(), one.str_at("warning").to_owned())).collect()
    }

    const DEPLOYMENT: (&str, &str, &str) = ("apps", "v1", "Deployment");

    #[test]
    fn expressions_are_held_to_the_types_of_a_kind() {
        let spec = |expression: &str| json!({ "validations": [{ "expression": expression }] });
        for good in [
            "object.spec.replicas > 1",
            "object.metadata.labels['a'] == 'b' && has(object.metadata.__namespace__)",
            "object.spec.template.spec.containers.all(c, c.image.startsWith('x') && has(c.resources.limits))",
            "object.spec.strategy.rollingUpdate.maxSurge == '25%' || object.spec.strategy.rollingUpdate.maxSurge == 1",
            "object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z')",
            "oldObject == null || request.userInfo.username != '' || authorizer.group('').resource('x').check('get').allowed()",
        ] {
            assert_eq!(check(spec(good), DEPLOYMENT), [], "{good}");
        }
        assert_eq!(
            check(spec("object.spec.replicas > '1'"), DEPLOYMENT),
            [(
                "spec.validations[0].expression".to_owned(),
                "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'\n \
                 | object.spec.replicas > '1'\n | .....................^\n"
                    .to_owned()
            )]
        );
        let found = check(spec("object.spec.maxReplicas > 1"), DEPLOYMENT);
        assert!(
            found[0].1.starts_with("apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'maxReplicas'\n"),
            "{found:?}"
        );
    }

    #[test]
    fn variables_messages_and_custom_kinds() {
        let spec = json!({
            "variables": [{ "name": "count", "expression": "object.spec.replicas" }],
            "validations": [{ "expression": "variables.count == 'x'", "messageExpression": "'replicas: ' + variables.count" }],
        });
        let found: Vec<String> = check(spec, DEPLOYMENT).into_iter().map(|(path, _)| path).collect();
        assert_eq!(found, ["spec.validations[0].expression", "spec.validations[0].messageExpression"]);

        let openapi = json!({ "type": "object", "properties": { "spec": { "type": "object", "properties": { "size": { "type": "integer" } } } } });
        let kinds = [(GroupVersionKind::new("example.com", "v1", "Widget"), custom(&openapi).expect("a type"))];
        let policy = |expression: &str| json!({ "spec": { "validations": [{ "expression": expression }] } });
        assert!(
            warnings(&policy("object.spec.size > 1 && object.metadata.labels.size() > 0"), &kinds, None).is_empty()
        );
        let wrong = warnings(&policy("object.spec.size == 'large'"), &kinds, None);
        assert!(
            wrong[0].str_at("warning").starts_with("example.com/v1, Kind=Widget: ERROR: <input>:1:18: "),
            "{wrong:?}"
        );
    }

    #[test]
    fn wildcards_are_not_looked_at() {
        let rule = |groups: &[&str], versions: &[&str], resources: &[&str]| json!({ "apiGroups": groups, "apiVersions": versions, "resources": resources });
        let names = |rule: &Value| -> Vec<String> {
            resources(rule).iter().map(|one| format!("{}/{}/{}", one.group, one.version, one.resource)).collect()
        };
        assert_eq!(
            names(&rule(&["apps", ""], &["v1"], &["pods", "deployments", "pods/status", "*"])),
            ["/v1/deployments", "/v1/pods", "apps/v1/deployments", "apps/v1/pods"]
        );
        assert!(names(&rule(&["*"], &["v1"], &["pods"])).is_empty());
        assert!(names(&rule(&[""], &["*"], &["pods"])).is_empty());
    }
}
