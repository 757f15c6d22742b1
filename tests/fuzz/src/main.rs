//! A fuzz target for each parser that a stranger's bytes reach; `scripts/fuzz` runs them.
//!
//! One program for all, since each holds the whole API: `ORCH_FUZZ_TARGET` chooses a row of
//! [`TARGETS`]. A target panics where something that must hold does not.
#![no_main]

mod targets;

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use targets::{cel, definitions, objects, requests, selectors, streams};

type Target = fn(&[u8]);

const TARGETS: &[(&str, Target)] = &[
    ("json_patch", objects::json_patch),
    ("merge_patch", objects::merge_patch),
    ("strategic_patch", objects::strategic_patch),
    ("apply_patch", objects::apply_patch),
    ("json_body", objects::json_body),
    ("yaml_body", objects::yaml_body),
    ("protobuf_body", objects::protobuf_body),
    ("field_set", objects::field_set),
    ("quantity", selectors::quantity),
    ("label_selector", selectors::labels),
    ("field_selector", selectors::fields),
    ("request", requests::request),
    ("json_path", definitions::json_path),
    ("custom_schema", definitions::custom_schema),
    ("cel", cel::cel),
    ("spdy", streams::spdy),
    ("channels", streams::channels),
];

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("ORCH_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    found.unwrap_or_else(|| panic!("ORCH_FUZZ_TARGET={name:?} is not one of {}", names.join(" "))).1
});

fuzz_target!(|data: &[u8]| TARGET(data));
