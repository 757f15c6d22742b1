//! Expressions that choose devices: `device.driver == "gpu.example.com"`.

use super::limits::each;
use crate::api::{ErrorList, FieldError, Fields, Path, Report};
use crate::cel::{Declared, Environment, Field, ObjectType, Type, compile};
use serde_json::Value;
use std::sync::{Arc, LazyLock};

const SELECTORS_LIMIT: usize = 32;
const EXPRESSION_LIMIT: usize = 10 * 1024;
/// What an expression may cost on the largest device.
const COST_LIMIT: u64 = 1_000_000;

/// Characters of a driver's name and of an attribute, entries of a map of a device.
const NAME_LENGTH: u64 = 63;
const ATTRIBUTE_LENGTH: u64 = 64;
const ENTRIES: u64 = 32;

/// The variable `device`.
#[derive(Debug)]
struct Device;

impl ObjectType for Device {
    fn name(&self) -> &str {
        "kubernetes.DRADevice"
    }

    fn field(&self, name: &str) -> Option<Field> {
        let by_domain = |values: Declared| Declared::map(Declared::map(values, Some(ENTRIES)), Some(ENTRIES));
        let declared = match name {
            "driver" => Declared::String { max: Some(NAME_LENGTH) },
            "allowMultipleAllocations" => Declared::Bool,
            // A number, a string, a truth or a version.
            "attributes" => by_domain(Declared::IntOrString { max: Some(ATTRIBUTE_LENGTH) }),
            "capacity" => by_domain(Declared::Typed(Type::Opaque("kubernetes.Quantity"))),
            _ => return None,
        };
        Some(Field { name: name.into(), declared })
    }
}

static ENVIRONMENT: LazyLock<Environment> =
    LazyLock::new(|| Environment::new().variable("device", Declared::Object(Arc::new(Device))));

pub fn validate(selectors: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    each(selectors, SELECTORS_LIMIT, path, errors, |selector, path, errors| {
        let path = path.child("cel");
        match selector.get_set("cel") {
            None => errors.required(&path, ""),
            Some(cel) => expression(cel.str_at("expression"), &path.child("expression"), errors),
        }
    });
}

fn expression(text: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if text.len() > EXPRESSION_LIMIT {
        errors.too_long(path, EXPRESSION_LIMIT as i64);
        return;
    }
    match compile(text, &ENVIRONMENT) {
        Err(error) => errors.invalid(path, text, format!("compilation failed: {error}")),
        Ok(program) if !program.gives(&Type::Bool) => {
            let detail = format!("must evaluate to bool or the unknown type, not {}", program.result());
            errors.invalid(path, text, detail);
        }
        Ok(program) if let Err(error) = program.prepare() => {
            errors.push(FieldError::internal(path, format!("program instantiation failed: {error}")));
        }
        Ok(program) if program.estimate(&ENVIRONMENT).max > COST_LIMIT => {
            errors.forbidden(path, "too complex, exceeds cost limit");
        }
        Ok(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(expression: &str) -> String {
        let mut errors = ErrorList::new();
        validate(&[json!({ "cel": { "expression": expression } })], &Path::new("selectors"), &mut errors);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn devices_have_a_driver_attributes_and_capacities() {
        for good in [
            "true",
            "device.driver == 'gpu.example.com'",
            "device.attributes['gpu.example.com'].model",
            "device.attributes['gpu.example.com'].cores > 3 && device.allowMultipleAllocations",
            "device.capacity['gpu.example.com'].memory.isGreaterThan(quantity('10Gi'))",
            "device.attributes['x'].version.isGreaterThan(semver('0.0.1'))",
        ] {
            assert_eq!(check(good), "", "{good}");
        }
        assert!(check("device.name == ''").contains("undefined field 'name'"), "{}", check("device.name == ''"));
        assert_eq!(
            check("device.driver"),
            "selectors[0].cel.expression: Invalid value: \"device.driver\": must evaluate to bool or the unknown type, \
             not string"
        );
        let costly = "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, \
                      device.attributes.all(d, device.attributes.all(e, true)))))";
        assert!(check(costly).ends_with("Forbidden: too complex, exceeds cost limit"), "{}", check(costly));
    }
}
