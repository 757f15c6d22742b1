//! Names and conditions of a definition, from what it asks for and what others have: pure.
//!
//! Source: the naming, establishing and API-approval controllers of apiextensions.

use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut};
use crate::resources::admission_registration::webhook_client::ca_bundle_reads;
use crate::resources::api_extensions::custom_resource_definition::{approval, is_protected, set_condition as set};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

/// Whether a condition of a definition holds.
pub fn is_true(definition: &Value, kind: &str) -> bool {
    definition
        .at("status")
        .list_at("conditions")
        .iter()
        .any(|condition| condition.str_at("type") == kind && condition.str_at("status") == "True")
}

/// The names that definitions of a group have already.
#[derive(Default)]
pub struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    /// `names`: what was accepted of one definition.
    pub fn add(&mut self, names: &Value) {
        for field in ["plural", "singular"] {
            self.resources.insert(names.str_at(field).to_owned());
        }
        self.resources.extend(names.strs_at("shortNames").map(str::to_owned));
        for field in ["kind", "listKind"] {
            self.kinds.insert(names.str_at(field).to_owned());
        }
    }
}

/// The status as it should be, given what the other definitions of the group have.
pub fn settle(definition: &mut Value, taken: &Taken, now: Timestamp) {
    approve(definition, now);
    if names(definition, taken, now) {
        establish(definition, now);
    }
}

fn approve(definition: &mut Value, now: Timestamp) {
    if !is_protected(definition.at("spec").str_at("group")) {
        return;
    }
    let state = approval(definition);
    let status = if state.approved { "True" } else { "False" };
    set(definition, "KubernetesAPIApprovalPolicyConformant", status, state.reason, &state.message, now);
}

/// Accepts the names that are free. Whether all are.
fn names(definition: &mut Value, taken: &Taken, now: Timestamp) -> bool {
    let wanted = definition.at("spec").at("names").clone();
    let accepted = definition.at("status").at("acceptedNames").clone();
    if wanted == accepted && is_true(definition, "NamesAccepted") {
        return true;
    }
    let Taken { resources, kinds } = taken;
    let mut next = accepted.clone();
    let mut conflict: Option<(&str, String)> = None;
    let in_use = |name: &str| format!("{} is already in use", go_quote(name));
    for (field, used, reason) in [
        ("plural", resources, "PluralConflict"),
        ("singular", resources, "SingularConflict"),
        ("shortNames", resources, "ShortNamesConflict"),
        ("kind", kinds, "KindConflict"),
        ("listKind", kinds, "ListKindConflict"),
    ] {
        let errors: Vec<String> = if field == "shortNames" {
            let own: Vec<&str> = accepted.strs_at(field).collect();
            let new = wanted.strs_at(field).filter(|name| !own.contains(name));
            new.filter(|name| used.contains(*name)).map(in_use).collect()
        } else {
            let name = wanted.str_at(field);
            if name != accepted.str_at(field) && used.contains(name) { vec![in_use(name)] } else { Vec::new() }
        };
        match errors.as_slice() {
            [] => next.copy(field, &wanted),
            [one] => conflict = Some((reason, one.clone())),
            many => conflict = Some((reason, format!("[{}]", many.join(", ")))),
        }
    }
    next.copy("categories", &wanted);
    definition.object_mut("status").set("acceptedNames", next);
    let good = conflict.is_none();
    match conflict {
        None => set(definition, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now),
        Some((reason, message)) => set(definition, "NamesAccepted", "False", reason, &message, now),
    }
    let has = definition.at("status").list_at("conditions").iter().any(|one| one.str_at("type") == "Established");
    if !good && !has {
        set(definition, "Established", "False", "NotAccepted", "not all names are accepted", now);
    }
    good
}

fn establish(definition: &mut Value, now: Timestamp) {
    if is_true(definition, "Established") {
        return;
    }
    let client = definition.at("spec").at("conversion").at("webhook").at("clientConfig").clone();
    if client.has("caBundle") && !ca_bundle_reads(client.str_at("caBundle")) {
        let message = "The conversion webhook CABundle is invalid";
        set(definition, "Established", "False", "InvalidCABundle", message, now);
    } else {
        let message = "the initial names have been accepted";
        set(definition, "Established", "True", "InitialNamesAccepted", message, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(plural: &str, kind: &str, short: &[&str]) -> Value {
        json!({"spec": {"group": "example.com", "names": {"plural": plural, "singular": kind.to_lowercase(),
            "kind": kind, "listKind": format!("{kind}List"), "shortNames": short}}, "status": {}})
    }

    fn settled(mut definition: Value, others: &[Value]) -> Value {
        let mut taken = Taken::default();
        for other in others {
            taken.add(other.at("status").at("acceptedNames"));
        }
        settle(&mut definition, &taken, Timestamp::UNIX_EPOCH);
        definition
    }

    fn told(definition: &Value) -> Vec<String> {
        let conditions = definition.at("status").list_at("conditions");
        let print = |one: &Value| ["type", "status", "reason", "message"].map(|field| one.str_at(field)).join(" ");
        conditions.iter().map(print).collect()
    }

    #[test]
    fn free_names_are_accepted_once() {
        let first = settled(definition("widgets", "Widget", &["w"]), &[]);
        assert_eq!(
            told(&first),
            [
                "NamesAccepted True NoConflicts no conflicts found",
                "Established True InitialNamesAccepted the initial names have been accepted"
            ]
        );
        assert_eq!(first["status"]["acceptedNames"], first["spec"]["names"]);
        assert_eq!(settled(first.clone(), &[]), first, "the second time nothing changes");
    }

    #[test]
    fn names_of_others_are_not() {
        let first = settled(definition("widgets", "Widget", &["w"]), &[]);
        let second = settled(definition("wheels", "Widget", &["w", "wh"]), std::slice::from_ref(&first));
        assert_eq!(
            told(&second),
            [
                "NamesAccepted False ListKindConflict \"WidgetList\" is already in use",
                "Established False NotAccepted not all names are accepted"
            ]
        );
        assert_eq!(second["status"]["acceptedNames"]["plural"], "wheels");
        assert_eq!(second["status"]["acceptedNames"].get("kind"), None);
        // Once they are free, they are its own.
        let second = settled(second, &[]);
        assert!(is_true(&second, "Established") && is_true(&second, "NamesAccepted"));
    }
}
