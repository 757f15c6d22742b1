//! Which rules a definition is held to: a new one to all, a stored one to those that it keeps.
//! What Kubernetes let in before a rule came may stay.
//!
//! Source: `validationOptions` of apiextensions.

use super::json_schema::{is_atomic_set, key_presence};
use super::structural;
use crate::api::value::same;
use crate::api::{ErrorList, Fields, Path};
use crate::resources::admission_registration::webhook_client::ca_bundle_reads;
use serde_json::Value;

/// True: held to the rule.
pub struct Strictness {
    /// Every version has a schema.
    pub schemas: bool,
    /// A schema names only types that there are.
    pub types: bool,
    pub structural: bool,
    /// A default says nothing that its schema does not know.
    pub pruned_defaults: bool,
    /// Items of a set are atomic.
    pub atomic_sets: bool,
    /// Keys of a map in a list are there, and not null.
    pub list_keys: bool,
    /// A conversion webhook takes a review that there is.
    pub review_versions: bool,
    /// The certificates of a conversion webhook can be read.
    pub ca_bundle: bool,
    /// What a single rule of the schema costs is bounded.
    pub rule_costs: bool,
    /// Names of versions whose schemas are what they were.
    unchanged: Vec<String>,
    /// Names of versions with too many selectable fields, which they had before.
    crowded: Vec<String>,
    /// Names of kind and scope stay.
    pub established: bool,
}

/// So many fields can be selected by.
pub const SELECTABLE_LIMIT: usize = 8;
pub const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];

impl Strictness {
    pub fn create() -> Self {
        Self {
            schemas: true,
            types: true,
            structural: true,
            pruned_defaults: true,
            atomic_sets: true,
            list_keys: true,
            review_versions: true,
            // Nobody asks the webhook before the definition is established.
            ca_bundle: false,
            rule_costs: true,
            unchanged: Vec::new(),
            crowded: Vec::new(),
            established: false,
        }
    }

    pub fn update(object: &Value, old: &Value) -> Self {
        let before = old.at("spec");
        let webhook = before.at("conversion").at("webhook");
        let mut reviews = webhook.strs_at("conversionReviewVersions").peekable();
        let bundle = webhook.at("clientConfig").str_at("caBundle");
        let established = is_established(old);
        let none = |wrong: &dyn Fn(&Value) -> bool| !schemas(before).any(|schema| anywhere(schema, wrong));
        let named = |keeps: &dyn Fn(&Value, &Value) -> bool| {
            let versions = object.at("spec").list_at("versions").iter();
            let kept = versions.filter(|version| {
                let name = version.str_at("name");
                let earlier = before.list_at("versions").iter().rfind(|old| old.str_at("name") == name);
                earlier.is_some_and(|earlier| keeps(version, earlier))
            });
            kept.map(|version| version.str_at("name").to_owned()).collect()
        };
        Self {
            schemas: before.list_at("versions").iter().all(|version| version.at("schema").has("openAPIV3Schema")),
            types: none(&|schema| !super::json_schema::is_type(schema.str_at("type"))),
            structural: schemas(before).all(structural::is_structural),
            pruned_defaults: !schemas(before).any(structural::has_unpruned_defaults),
            atomic_sets: none(&|schema| !is_atomic_set(schema)),
            list_keys: none(&|schema| {
                let mut errors = ErrorList::new();
                key_presence(schema, &Path::root(), &mut errors);
                !errors.is_empty()
            }),
            review_versions: reviews.peek().is_none() || reviews.any(|version| REVIEW_VERSIONS.contains(&version)),
            ca_bundle: established && (bundle.is_empty() || ca_bundle_reads(bundle)),
            rule_costs: true,
            unchanged: named(&|version, earlier| same(version.at("schema"), earlier.at("schema"))),
            crowded: named(&|version, earlier| {
                let fields = earlier.list_at("selectableFields");
                fields.len() > SELECTABLE_LIMIT && same(version.at("selectableFields"), earlier.at("selectableFields"))
            }),
            established,
        }
    }

    /// For the schema of one version.
    pub fn of_version(&self, name: &str) -> Self {
        let rule_costs = !self.unchanged.iter().any(|unchanged| unchanged == name);
        Self { rule_costs, unchanged: Vec::new(), crowded: Vec::new(), ..*self }
    }

    pub fn may_be_crowded(&self, version: &str) -> bool {
        self.crowded.iter().any(|crowded| crowded == version)
    }
}

fn is_established(definition: &Value) -> bool {
    let mut conditions = definition.at("status").list_at("conditions").iter();
    conditions.any(|condition| condition.str_at("type") == "Established" && condition.str_at("status") == "True")
}

/// The schemas of all versions that have one.
pub fn schemas(spec: &Value) -> impl Iterator<Item = &Value> {
    spec.list_at("versions").iter().filter_map(|version| version.at("schema").get_set("openAPIV3Schema"))
}

/// Whether a schema or one below it is such a one.
pub fn anywhere(schema: &Value, is_it: &dyn Fn(&Value) -> bool) -> bool {
    const LISTS: &[&str] = &["items", "allOf", "anyOf", "oneOf"];
    const SINGLE: &[&str] = &["items", "not", "additionalProperties", "additionalItems"];
    const MAPS: &[&str] = &["properties", "patternProperties", "definitions", "dependencies"];
    is_it(schema)
        || LISTS.iter().flat_map(|field| schema.list_at(field)).any(|part| anywhere(part, is_it))
        || SINGLE.iter().map(|field| schema.at(field)).any(|part| part.is_object() && anywhere(part, is_it))
        || MAPS.iter().flat_map(|field| schema.map_at(field).values()).any(|part| anywhere(part, is_it))
}

#[cfg(test)]
mod tests {
    use super::super::custom_resource_definition;
    use crate::api::FieldsMut;
    use serde_json::{Value, json};

    fn definition(properties: Value) -> Value {
        json!({
            "metadata": { "name": "widgets.example.com", "generation": 1 },
            "spec": {
                "group": "example.com",
                "scope": "Namespaced",
                "names": { "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList" },
                "conversion": { "strategy": "None" },
                "versions": [{
                    "name": "v1",
                    "served": true,
                    "storage": true,
                    "schema": { "openAPIV3Schema": { "type": "object", "properties": properties } },
                }],
            },
            "status": {
                "storedVersions": ["v1"],
                "acceptedNames": { "plural": "widgets", "kind": "Widget" },
                "conditions": [{ "type": "Established", "status": "True" }],
            },
        })
    }

    fn texts(new: &Value, old: Option<&Value>) -> Vec<String> {
        let strategy = custom_resource_definition::resource().strategy;
        let errors = match old {
            Some(old) => strategy.validate_update(new, old),
            None => strategy.validate(new),
        };
        errors.iter().map(ToString::to_string).collect()
    }

    /// A new definition is refused, what is wrong may stay, and may not come.
    fn check(bad: &Value, expected: &str) {
        let wrong = texts(bad, None);
        assert!(wrong.iter().any(|text| text.contains(expected)), "{wrong:?}");
        assert_eq!(texts(bad, Some(bad)), [""; 0], "{expected}");
        let good = definition(json!({ "a": { "type": "string" } }));
        let wrong = texts(bad, Some(&good));
        assert!(wrong.iter().any(|text| text.contains(expected)), "{wrong:?}");
    }

    #[test]
    fn what_was_let_in_may_stay() {
        let set = json!({
            "s": {
                "type": "array",
                "x-kubernetes-list-type": "set",
                "items": { "type": "object", "properties": { "a": { "type": "string" } } },
            },
        });
        check(&definition(set), "must be atomic as item of a list with x-kubernetes-list-type=set");
        let keys = json!({
            "l": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k"],
                "items": { "type": "object", "properties": { "k": { "type": "string" } } },
            },
        });
        check(&definition(keys), "so it must have a default or be a required property");
        let unknown = json!({
            "o": { "type": "object", "properties": { "a": { "type": "string" } }, "default": { "b": "c" } },
        });
        check(&definition(unknown), "must not have unknown fields");
    }

    #[test]
    fn schemas_that_keep_what_is_unknown_need_not_be_structural() {
        let mut old = definition(json!({ "a": { "type": "bogus" }, "b": {} }));
        old["spec"].set("preserveUnknownFields", true);
        assert_eq!(texts(&old, Some(&old)), [""; 0]);
        let mut new = old.clone();
        new["spec"].set("preserveUnknownFields", false);
        let wrong = texts(&new, Some(&old));
        assert!(wrong.iter().any(|text| text.contains("must not be empty for specified object fields")), "{wrong:?}");
        assert!(!wrong.iter().any(|text| text.contains("Unsupported value: \"bogus\"")), "{wrong:?}");
    }

    #[test]
    fn selectable_fields_that_are_too_many_stay_as_they_are() {
        let names = |count| (0..count).map(|index| format!("f{index}"));
        let properties: serde_json::Map<_, _> = names(10).map(|name| (name, json!({ "type": "string" }))).collect();
        let with = |count| {
            let mut definition = definition(properties.clone().into());
            let fields: Vec<Value> = names(count).map(|name| json!({ "jsonPath": format!(".{name}") })).collect();
            definition["spec"]["versions"][0].set("selectableFields", fields);
            definition
        };
        let refused = ["spec.selectableFields: Too many: 9: must have at most 8 items"];
        assert_eq!(texts(&with(9), None), refused);
        assert_eq!(texts(&with(9), Some(&with(9))), [""; 0]);
        assert_eq!(texts(&with(9), Some(&with(10))), refused);
    }

    #[test]
    fn webhooks_of_conversions_keep_their_versions_and_certificates() {
        let with = |versions: Value, bundle: &str| {
            let mut definition = definition(json!({ "a": { "type": "string" } }));
            let client = json!({ "url": "https://example.com/", "caBundle": bundle });
            let webhook = json!({ "clientConfig": client, "conversionReviewVersions": versions });
            definition["spec"].set("conversion", json!({ "strategy": "Webhook", "webhook": webhook }));
            definition
        };
        let (v1, v9) = (json!(["v1"]), json!(["v9"]));
        let refused = "spec.conversion.conversionReviewVersions: Invalid value: [\"v9\"]: must include at least one of v1, v1beta1";
        assert_eq!(texts(&with(v9.clone(), ""), Some(&with(v1.clone(), ""))), [refused]);
        assert_eq!(texts(&with(v9.clone(), ""), Some(&with(v9, ""))), [""; 0]);
        let refused = "spec.conversion.webhookClientConfig.caBundle: Invalid value: \"AAAA\": unable to load root certificates: unable to parse bytes as PEM block";
        let (bad, none) = (with(v1.clone(), "AAAA"), with(v1.clone(), ""));
        assert_eq!(texts(&bad, None), [""; 0]);
        assert_eq!(texts(&bad, Some(&none)), [refused]);
        assert_eq!(texts(&bad, Some(&with(v1, "BBBB"))), [""; 0]);
        let mut unestablished = none;
        unestablished["status"]["conditions"][0].set("status", "False");
        assert_eq!(texts(&bad, Some(&unestablished)), [""; 0]);
    }

    #[test]
    fn what_rules_cost_is_let_be_where_the_schema_is_what_it_was() {
        let items = json!({
            "type": "string",
            "x-kubernetes-validations": [{ "rule": "self.contains('a') && self.contains('b')" }],
        });
        let costly = definition(json!({ "l": { "type": "array", "items": items } }));
        let wrong = texts(&costly, None);
        assert!(wrong[0].contains("estimated rule cost exceeds budget"), "{wrong:?}");
        let again = texts(&costly, Some(&costly));
        assert!(!again.iter().any(|text| text.contains("estimated rule cost exceeds")), "{again:?}");
    }
}
