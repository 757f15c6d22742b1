//! The rules of one node, compiled against its type.

use super::declared::{at_path, declared, text};
use crate::api::Fields;
use crate::cel::{self, Declared, Environment, Program, Type};
use crate::schema::custom::Structural;
use serde_json::Value;

/// Rules of a node.
pub struct Set {
    pub declared: Declared,
    pub rules: Vec<Compiled>,
}

/// One rule.
pub struct Compiled {
    pub text: String,
    pub message: String,
    pub message_expression: String,
    pub reason: String,
    /// Below the node, as errors name it.
    pub field_path: Option<String>,
    pub program: Result<Program, String>,
    pub message_program: Option<Result<Program, String>>,
    pub uses_old: bool,
    /// It also runs where there is nothing old.
    pub optional_old: bool,
    /// At worst.
    pub cost: u64,
    pub message_cost: u64,
}

impl Set {
    /// Rules without text are none. A node that expressions cannot see has no rules either.
    pub fn new(rules: &[Value], schema: &Structural, resource: bool) -> Self {
        // The type of a node takes as much as all below it: it is made for rules alone.
        let declared = if rules.is_empty() { None } else { declared(schema, resource) };
        let Some(declared) = declared else {
            return Self { declared: Declared::Dyn, rules: Vec::new() };
        };
        let rules = rules.iter().map(|rule| Compiled::new(rule, schema, &declared)).collect();
        Self { declared, rules }
    }
}

fn environment(declared: &Declared, optional: bool, old: bool) -> Environment {
    let environment = Environment::new().variable("self", declared.clone());
    match (old, optional) {
        (false, _) => environment,
        (true, true) => environment.variable("oldSelf", Declared::Typed(Type::optional(declared.type_of()))),
        (true, false) => environment.variable("oldSelf", declared.clone()),
    }
}

fn program(expression: &str, environment: &Environment, wanted: &Type, otherwise: &str) -> Result<Program, String> {
    let program = cel::compile(expression, environment).map_err(|error| format!("compilation failed: {error}"))?;
    if !program.gives(wanted) {
        return Err(otherwise.to_owned());
    }
    program.prepare().map_err(|error| format!("program instantiation failed: {error}"))?;
    Ok(program)
}

impl Compiled {
    fn new(rule: &Value, schema: &Structural, declared: &Declared) -> Self {
        let expression = rule.str_at("rule");
        let optional_old = rule.bool_at("optionalOldSelf");
        let environment_with = |old: bool| environment(declared, optional_old, old);
        let environment = environment_with(true);
        let program_of = |text: &str, wanted: &Type, otherwise: &str| program(text, &environment, wanted, otherwise);
        let program = program_of(expression, &Type::Bool, "cel expression must evaluate to a bool");
        // It uses the old value when it does not compile without.
        let uses_old = expression.contains("oldSelf")
            && program.is_ok()
            && cel::compile(expression, &environment_with(false)).is_err();
        let message_expression = text(rule, "messageExpression");
        // Nothing is said of it beside what is wrong with the rule.
        let message_program = (program.is_ok() && !message_expression.is_empty()).then(|| {
            let otherwise = "messageExpression must evaluate to a string";
            program_of(&message_expression, &Type::String, otherwise).map_err(|error| {
                match error.strip_prefix("program ") {
                    Some(error) => format!("messageExpression {error}"),
                    None => error.replacen("compilation failed:", "messageExpression compilation failed:", 1),
                }
            })
        });
        let cost = |program: Option<&Program>| program.map_or(0, |program| program.estimate(&environment).max);
        let field_path = rule.optional_str("fieldPath").filter(|path| !path.is_empty());
        Self {
            text: expression.to_owned(),
            message: text(rule, "message"),
            reason: text(rule, "reason"),
            field_path: field_path.map(|path| match at_path(path, schema, true) {
                Ok((steps, _)) => steps.join("."),
                Err(_) => path.trim_start_matches('.').to_owned(),
            }),
            cost: cost(program.as_ref().ok()),
            message_cost: cost(message_program.as_ref().and_then(|program| program.as_ref().ok())),
            program,
            message_program,
            message_expression,
            uses_old,
            optional_old,
        }
    }
}
