//! What a CustomResourceDefinition brings: JSONPaths, and schemas that values are held to.

use orch::api::jsonpath::{Expression, Template};
use orch::api::{ErrorList, GroupVersionKind, Path};
use orch::resources::Registry;
use orch::schema::custom::{Structural, compile, embedded, prune, validate};
use serde_json::{Value, json};
use std::sync::LazyLock;

static OBJECT: LazyLock<Value> = LazyLock::new(
    || json!({ "metadata": { "name": "a", "labels": { "x.y/z": "1" } }, "spec": { "list": [{ "n": 1, "s": "t" }, { "n": 2 }], "on": true } }),
);

pub fn json_path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(template) = Template::parse(text) {
        let printed = template.print(&OBJECT);
        // What is printed is what the parts are.
        assert!(template.parts(&OBJECT).is_empty() <= printed.is_empty(), "{text:?} prints {printed:?}");
    }
    if let Ok(expression) = Expression::parse_relaxed(text) {
        expression.select(&OBJECT);
    }
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::built_in);

/// `schema`, a line break, `value`: whatever the definition's rules let through can be served.
pub fn custom_schema(data: &[u8]) {
    let Some(at) = data.iter().position(|byte| *byte == b'\n') else { return };
    let Ok(schema) = serde_json::from_slice::<Value>(&data[..at]) else { return };
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "boats.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced", "conversion": { "strategy": "None" },
            "names": { "plural": "boats", "singular": "boat", "kind": "Boat", "listKind": "BoatList" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } }],
        },
        "status": { "storedVersions": ["v1"], "conditions": [], "acceptedNames": { "plural": "boats", "kind": "Boat" } },
    });
    let row = REGISTRY.row("apiextensions.k8s.io", "v1", "customresourcedefinitions").expect("a built-in row");
    let text = definition.to_string();
    let own = row.schema.as_ref().expect("it has a schema");
    let strict = orch::schema::FieldValidation::Strict;
    let Ok(body) = orch::schema::decode_body(own, text.as_bytes(), orch::schema::MediaType::Json, strict) else {
        return;
    };
    if !row.strategy.validate(&body.object).is_empty() {
        return;
    }
    let schema = &body.object["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let compiled = compile(&GroupVersionKind::new("example.com", "v1", "Boat"), Structural::root(schema), schema);
    let structural = compiled.structural.clone().expect("what was just compiled");
    let Ok(mut value) = serde_json::from_slice::<Value>(&data[at + 1..]) else { return };
    if !value.is_object() {
        return;
    }
    prune::prune(&mut value, &structural, true);
    prune::default(&mut value, &structural);
    let once = value.clone();
    prune::prune(&mut value, &structural, true);
    prune::default(&mut value, &structural);
    assert_eq!(once, value, "defaults are pruned, and are there");
    let mut errors = ErrorList::new();
    embedded::validate(&value, &structural, &Path::root(), &|_, _| ErrorList::new(), &mut errors);
    validate::validate(&value, &structural, &Path::root());
}
