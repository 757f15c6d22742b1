//! CEL: expressions of whoever may write a definition or a policy.

use orch::cel::{Bindings, Declared, Environment, Type, compile};
use serde_json::{Value, json};
use std::sync::LazyLock;

static ENVIRONMENT: LazyLock<Environment> =
    LazyLock::new(|| Environment::new().variable("self", Declared::Typed(Type::Dyn)).authorizer());

static SELF: LazyLock<Value> = LazyLock::new(
    || json!({ "name": "a", "count": 3, "ratio": 0.5, "list": [1, 2, 3], "map": { "k": "v" }, "when": "2026-01-01T00:00:00Z", "none": null }),
);

/// What compiles runs to an end, within what a run may cost.
pub fn cel(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(program) = compile(text, &ENVIRONMENT) else { return };
    program.estimate(&ENVIRONMENT);
    let environment = Environment::new().variable("self", Declared::Typed(Type::Dyn));
    let bindings = Bindings::new().json("self", &SELF, &environment);
    let run = program.evaluate(&bindings);
    // The step that goes over the limit is the last.
    assert!(run.cost < 10 * orch::cel::PER_CALL_LIMIT || run.value.is_err(), "{text:?} cost {}", run.cost);
}
