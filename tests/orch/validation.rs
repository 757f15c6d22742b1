//! What validation answers to wrong objects, against what Kubernetes v1.36 answers: every field
//! of the first kinds made invalid in several ways. `validation.jsonl.gz` holds one object a line
//! with the causes of its refusal, field and message, in their order.

use flate2::read::GzDecoder;
use orch::api::{Fields, FieldsMut, UserInfo};
use orch::resources::{Context, Registry, pipeline};
use serde_json::Value;
use std::io::Read;

const CASES: &[u8] = include_bytes!("../data/validation.jsonl.gz");

#[test]
fn refusals_name_the_same_fields_for_the_same_reasons() {
    let mut text = String::new();
    GzDecoder::new(CASES).read_to_string(&mut text).expect("readable cases");
    let rows = Registry::built_in().rows();
    let (mut count, mut differences) = (0, Vec::new());
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).expect("a case is JSON");
        let mut object = case.at("object").clone();
        let (version, kind) = (object.str_at("apiVersion"), object.str_at("kind"));
        let row = rows
            .iter()
            .find(|row| row.api_version == version && row.kind == kind)
            .unwrap_or_else(|| panic!("no row for {version} {kind}"));
        let user = UserInfo::default();
        let namespace = if row.namespaced { "corpus" } else { "" };
        let context = Context { user: &user, namespace, dry_run: true, now: jiff::Timestamp::UNIX_EPOCH };
        row.strategy.to_stored(&mut object);
        if row.kind == "Pod" {
            // The ServiceAccount admission's part.
            object.object_mut("spec").set_default_str("serviceAccountName", "default");
        }
        row.strategy.default(&mut object);
        pipeline::prepare_create(row, &mut object, &context);
        let causes: Vec<(String, String)> = match pipeline::validate_create(row, &object) {
            Ok(()) => Vec::new(),
            Err(status) => status
                .details
                .iter()
                .flat_map(|details| &details.causes)
                .map(|cause| (cause.field.clone(), cause.message.clone()))
                .collect(),
        };
        let expected: Vec<(String, String)> =
            serde_json::from_value(case.at("causes").clone()).expect("pairs of field and message");
        count += 1;
        if causes != expected {
            differences.push(format!("{}\n  want {expected:?}\n  have {causes:?}", case.at("object")));
        }
    }
    assert!(count > 500, "{count} cases");
    assert!(differences.is_empty(), "{} of {count} differ:\n{}", differences.len(), differences.join("\n"));
}
