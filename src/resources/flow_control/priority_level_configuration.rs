//! PriorityLevelConfiguration: how many requests of a kind are served at once.

use super::status::Status;
use crate::api::value::same;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        status: true,
        generation: true,
        subresources: vec![Subresource::status()],
        columns: Column::strings(&[
            "Type",
            "NominalConcurrencyShares",
            "Queues",
            "HandSize",
            "QueueLengthLimit",
            "Age",
        ]),
        strategy: Arc::new(PriorityLevelConfiguration),
        ..Resource::new(
            "flowcontrol.apiserver.k8s.io",
            "v1",
            "PriorityLevelConfiguration",
            "prioritylevelconfigurations",
        )
    }
}

struct PriorityLevelConfiguration;

const SPEC: Path<'static> = Path::new("spec");
const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";
const QUEUES_LIMIT: i64 = 10_000_000;
/// A hand of queues is dealt by a hash of so many bits.
const ENTROPY_LIMIT: u32 = 60;

impl Strategy for PriorityLevelConfiguration {
    fn checks_metadata_change(&self) -> bool {
        false
    }

    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        let spec = object.object_mut("spec");
        if spec.str_at("type") == "Exempt" {
            spec.object_mut("exempt");
        }
        if let Some(exempt) = spec.set_mut("exempt") {
            exempt.set_default("nominalConcurrencyShares", 0);
            exempt.set_default("lendablePercent", 0);
        }
        if let Some(limited) = spec.set_mut("limited") {
            limited.set_default("nominalConcurrencyShares", 30);
            limited.set_default("lendablePercent", 0);
            if let Some(queuing) = limited.object_mut("limitResponse").set_mut("queuing") {
                queuing.set_default_int("queues", 64);
                queuing.set_default_int("handSize", 8);
                queuing.set_default_int("queueLengthLimit", 50);
            }
        }
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set("status", json!({}));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let (name, spec) = (object.at("metadata").str_at("name"), object.at("spec"));
        if (name == EXEMPT) != (spec.str_at("type") == "Exempt") {
            let detail = "must be 'Exempt' if and only if `name` is 'exempt'";
            errors.invalid(&SPEC.child("type"), spec.str_at("type"), detail);
        }
        validate(spec, &mut errors);
        fixed(name, spec, &mut errors);
        errors
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let spec = object.at("spec");
        let limited = spec.at("limited");
        let queuing = limited.at("limitResponse").at("queuing");
        let shown = |holder: &Value, field: &str| match holder.at(field) {
            Value::Null => cells::NONE.into(),
            value => value.clone(),
        };
        Some(vec![
            cells::name(object),
            spec.str_at("type").into(),
            shown(limited, "nominalConcurrencyShares"),
            shown(queuing, "queues"),
            shown(queuing, "handSize"),
            shown(queuing, "queueLengthLimit"),
            cells::age(object, now),
        ])
    }
}

/// Two levels are always there, and as they are; how much the exempt one lends may be said.
fn fixed(name: &str, spec: &Value, errors: &mut ErrorList) {
    let detail = match name {
        EXEMPT if spec.str_at("type") != "Exempt" || spec.has("limited") => {
            format!("spec of '{name}' except the 'spec.exempt' field must equal the fixed value")
        }
        CATCH_ALL => {
            let limited = json!({
                "nominalConcurrencyShares": 5,
                "lendablePercent": 0,
                "limitResponse": { "type": "Reject" },
            });
            if same(spec, &json!({ "type": "Limited", "limited": limited })) {
                return;
            }
            format!("spec of '{name}' must equal the fixed value")
        }
        _ => return,
    };
    errors.invalid(&SPEC, spec.clone(), detail);
}

fn validate(spec: &Value, errors: &mut ErrorList) {
    let (exempt, limited) = (spec.get_set("exempt"), spec.get_set("limited"));
    match spec.str_at("type") {
        "Exempt" => {
            if limited.is_some() {
                errors.forbidden(&SPEC.child("limited"), "must be nil if the type is not Limited");
            }
            if let Some(exempt) = exempt {
                shares(exempt, &SPEC.child("exempt"), errors);
                lendable(exempt, &SPEC.child("exempt"), errors);
            }
        }
        "Limited" => {
            if exempt.is_some() {
                errors.forbidden(&SPEC.child("exempt"), "must be nil if the type is Limited");
            }
            match limited {
                None => errors.required(&SPEC.child("limited"), "must not be empty when type is Limited"),
                Some(limited) => self::limited(limited, &SPEC.child("limited"), errors),
            }
        }
        kind => errors.not_supported(&SPEC.child("type"), kind, &["Exempt", "Limited"]),
    }
}

fn shares(level: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let shares = level.int_at("nominalConcurrencyShares");
    if shares < 0 {
        errors.invalid(&path.child("nominalConcurrencyShares"), shares, "must be a non-negative integer");
    }
}

fn lendable(level: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(percent) = level.optional_int("lendablePercent").filter(|percent| !(0..=100).contains(percent)) {
        errors.invalid(&path.child("lendablePercent"), percent, "must be between 0 and 100, inclusive");
    }
}

fn limited(limited: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    shares(limited, path, errors);
    let response = limited.at("limitResponse");
    let at_response = path.child("limitResponse");
    let at_queuing = at_response.child("queuing");
    match (response.str_at("type"), response.get_set("queuing")) {
        ("Reject", Some(_)) => {
            errors.forbidden(&at_queuing, "must be nil if limited.limitResponse.type is not Limited");
        }
        ("Reject", None) => {}
        ("Queue", None) => {
            errors.required(&at_queuing, "must not be empty if limited.limitResponse.type is Limited");
        }
        ("Queue", Some(queuing)) => self::queuing(queuing, &at_queuing, errors),
        (kind, _) => errors.not_supported(&at_response.child("type"), kind, &["Queue", "Reject"]),
    }
    lendable(limited, path, errors);
    if let Some(percent) = limited.optional_int("borrowingLimitPercent").filter(|percent| *percent < 0) {
        let detail = "if specified, must be a non-negative integer";
        errors.invalid(&path.child("borrowingLimitPercent"), percent, detail);
    }
}

fn queuing(queuing: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let [length, queues, hand] = ["queueLengthLimit", "queues", "handSize"].map(|field| queuing.int_at(field));
    if length <= 0 {
        errors.invalid(&path.child("queueLengthLimit"), length, "must be positive");
    }
    if queues <= 0 {
        errors.invalid(&path.child("queues"), queues, "must be positive");
    } else if queues > QUEUES_LIMIT {
        errors.invalid(&path.child("queues"), queues, format!("must not be greater than {QUEUES_LIMIT}"));
    }
    let path = path.child("handSize");
    if hand <= 0 {
        errors.invalid(&path, hand, "must be positive");
    } else if hand > queues {
        errors.invalid(&path, hand, format!("should not be greater than queues ({queues})"));
    } else {
        let bits = (0..hand).fold(0.0, |bits, card| bits + ((queues - card) as f64).log2()).ceil() as u32;
        if bits > ENTROPY_LIMIT {
            let detail = format!(
                "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {ENTROPY_LIMIT}"
            );
            errors.invalid(&path, hand, detail);
        }
    }
}
