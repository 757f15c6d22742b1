//! The paths of a document, with the operations on them as an edition writes them.
//!
//! What all operations on a path take stands with the path; in version 2 what several paths take
//! stands once in the document, under a name that is made of its contents.

use super::Edition;
use super::operations::{Body, Operation, Parameter, Reply};
use crate::api::FieldsMut;
use base64::Engine;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// The parameters that are written once, by name.
pub type Shared = BTreeMap<String, Value>;

/// Every path of these operations, with its item.
pub fn write(edition: Edition, operations: Vec<Operation>, shared: &mut Shared, put: &mut dyn FnMut(&str, Value)) {
    let mut paths: BTreeMap<String, Vec<Operation>> = BTreeMap::new();
    for operation in operations {
        paths.entry(operation.path.clone()).or_default().push(operation);
    }
    let mut writer = Writer { edition, shared, names: HashMap::new() };
    for (path, operations) in &paths {
        let item = writer.item(operations);
        put(path, item);
    }
}

struct Writer<'s> {
    edition: Edition,
    shared: &'s mut Shared,
    /// References to parameters that many operations have.
    names: HashMap<*const Parameter, Value>,
}

fn is_same(one: &Parameter, other: &Parameter) -> bool {
    one.name == other.name && one.place == other.place
}

impl Writer<'_> {
    fn item(&mut self, operations: &[Operation]) -> Value {
        let takes = |operation: &Operation, own: &Parameter| operation.parameters.iter().any(|one| is_same(one, own));
        let is_common = |own: &Parameter| operations.iter().all(|operation| takes(operation, own));
        let mut item = Map::new();
        for operation in operations {
            let own: Vec<_> = operation.parameters.iter().filter(|parameter| !is_common(parameter)).collect();
            item.insert(operation.method.to_owned(), self.operation(operation, &own));
        }
        let last = operations.last().map(|operation| &operation.parameters[..]).unwrap_or_default();
        let common: Vec<_> = last.iter().filter(|parameter| is_common(parameter)).collect();
        let parameters = self.parameters(&common, None);
        if !parameters.is_empty() {
            item.insert("parameters".to_owned(), parameters.into());
        }
        Value::Object(item)
    }

    fn operation(&mut self, operation: &Operation, own: &[&Rc<Parameter>]) -> Value {
        let mut out = json!({
            "tags": [operation.tag],
            "description": operation.description,
            "operationId": operation.id,
            "responses": self.replies(operation),
        });
        if let Some((action, gvk)) = &operation.about {
            out["x-kubernetes-action"] = (*action).into();
            out["x-kubernetes-group-version-kind"] =
                json!({"group": gvk.group, "kind": gvk.kind, "version": gvk.version});
        }
        let mut body = None;
        match self.edition {
            Edition::V2 => {
                out["schemes"] = json!(["https"]);
                if !operation.consumes.is_empty() {
                    out["consumes"] = json!(operation.consumes);
                }
                out["produces"] = json!(operation.produces);
                body = operation.body.as_ref();
            }
            Edition::V3 => {
                if let Some(body) = &operation.body {
                    out["requestBody"] =
                        json!({"content": self.content(body.definition.as_deref(), operation.consumes)});
                    if body.required {
                        out["requestBody"]["required"] = true.into();
                    }
                }
            }
        }
        let parameters = self.parameters(own, body);
        if !parameters.is_empty() {
            out["parameters"] = parameters.into();
        }
        out
    }

    /// In the order of their names.
    fn parameters(&mut self, parameters: &[&Rc<Parameter>], body: Option<&Body>) -> Vec<Value> {
        let mut all: Vec<(&str, &str, Value)> =
            parameters.iter().map(|parameter| (&*parameter.name, parameter.place, self.parameter(parameter))).collect();
        if let Some(body) = body {
            let mut parameter =
                json!({"name": "body", "in": "body", "schema": self.schema(body.definition.as_deref())});
            if body.required {
                parameter["required"] = true.into();
            }
            let generic = |name: &String| name.starts_with("io.k8s.apimachinery");
            if body.definition.as_ref().is_some_and(generic) {
                parameter = self.once(parameter);
            }
            all.push(("body", "body", parameter));
        }
        all.sort_by_key(|(name, place, _)| (*name, *place));
        all.into_iter().map(|(_, _, parameter)| parameter).collect()
    }

    fn parameter(&mut self, parameter: &Rc<Parameter>) -> Value {
        if let Some(reference) = self.names.get(&Rc::as_ptr(parameter)) {
            return reference.clone();
        }
        let mut out = json!({"name": parameter.name, "in": parameter.place});
        if !parameter.description.is_empty() {
            out["description"] = (*parameter.description).into();
        }
        if parameter.place == "path" {
            out["required"] = true.into();
        }
        match self.edition {
            Edition::V3 => out["schema"] = json!({"type": parameter.kind, "uniqueItems": true}),
            Edition::V2 => {
                out["type"] = parameter.kind.into();
                out["uniqueItems"] = true.into();
                // Older clients look for the last two where they are used.
                if !matches!(&*parameter.name, "name" | "fieldValidation" | "dryRun") {
                    out = self.once(out);
                    self.names.insert(Rc::as_ptr(parameter), out.clone());
                }
            }
        }
        out
    }

    /// A reference to a parameter of the document.
    fn once(&mut self, parameter: Value) -> Value {
        let name = shared_name(&parameter);
        let reference = json!({"$ref": format!("#/parameters/{name}")});
        self.shared.entry(name).or_insert(parameter);
        reference
    }

    fn schema(&self, definition: Option<&str>) -> Value {
        definition.map_or_else(|| json!({"type": "object"}), |name| json!({"$ref": self.edition.reference(name)}))
    }

    fn content(&self, definition: Option<&str>, types: &[&str]) -> Value {
        let schema = self.schema(definition);
        types.iter().map(|&media| (media.to_owned(), json!({"schema": schema}))).collect::<Map<_, _>>().into()
    }

    fn replies(&self, operation: &Operation) -> Value {
        let schema = match &operation.reply {
            Reply::Text => json!({"type": "string"}),
            Reply::Object(definition) => self.schema(definition.as_deref()),
        };
        let mut responses = json!({"401": {"description": "Unauthorized"}});
        for code in operation.codes {
            let description = match code {
                200 => "OK",
                201 => "Created",
                _ => "Accepted",
            };
            let response = match self.edition {
                Edition::V2 => json!({"description": description, "schema": schema}),
                Edition::V3 => {
                    let of_media = |&media: &&str| (media.to_owned(), json!({"schema": schema}));
                    let content: Map<_, _> = operation.produces.iter().map(of_media).collect();
                    json!({"description": description, "content": content})
                }
            };
            responses.set(&code.to_string(), response);
        }
        responses
    }
}

/// `pretty-tJGM1-ng`: the hash is that of the parameter's JSON with its members in this order.
fn shared_name(parameter: &Value) -> String {
    let mut text = String::new();
    for member in ["uniqueItems", "type", "description", "name", "in", "required", "schema"] {
        if let Some(value) = parameter.get(member) {
            let value = value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
            text.push_str(&format!("{}\"{member}\":{value}", if text.is_empty() { '{' } else { ',' }));
        }
    }
    text.push('}');
    // FNV-1, not FNV-1a.
    let hash =
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte));
    let hash = base64::engine::general_purpose::URL_SAFE.encode(&hash.to_be_bytes()[..6]);
    format!("{}-{hash}", parameter["name"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_parameter_has_the_name_that_others_give_it() {
        let reference = "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
        let body = json!({"in": "body", "name": "body", "required": true, "schema": {"$ref": reference}});
        assert_eq!(shared_name(&body), "body-78PwaGsr");
        let command = json!({
            "description": "Command is the remote command to execute. argv array. Not executed within a shell.",
            "in": "query", "name": "command", "type": "string", "uniqueItems": true,
        });
        assert_eq!(shared_name(&command), "command-Py3eQybp");
    }
}
