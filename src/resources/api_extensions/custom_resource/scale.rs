//! The three paths of a scale subresource, and what may stand there.

use crate::api::value::go_type;
use crate::api::{ErrorList, FieldError, Fields, Path};
use serde_json::Value;

/// Paths as the definition writes them: `.spec.replicas`.
#[derive(Clone, Debug)]
pub struct Scale {
    pub spec: String,
    pub status: String,
    pub selector: Option<String>,
}

impl Scale {
    /// Of `subresources.scale`.
    pub fn parse(scale: &Value) -> Self {
        Self {
            spec: scale.str_at("specReplicasPath").to_owned(),
            status: scale.str_at("statusReplicasPath").to_owned(),
            selector: scale.optional_str("labelSelectorPath").map(str::to_owned),
        }
    }

    pub fn check_spec(&self, object: &Value, errors: &mut ErrorList) {
        replicas(object, &self.spec, errors);
    }

    pub fn check_status(&self, object: &Value, errors: &mut ErrorList) {
        replicas(object, &self.status, errors);
        let Some(selector) = &self.selector else { return };
        let error = match nested(object, selector) {
            Ok(None | Some(Value::String(_))) => return,
            Ok(Some(other)) => wrong_type(selector, other, "string"),
            Err(error) => error,
        };
        errors.push(FieldError::invalid(&Path::new(selector), "", error));
    }
}

fn replicas(object: &Value, path: &str, errors: &mut ErrorList) {
    let at = Path::new(path);
    let count = match nested(object, path) {
        Ok(None) => return,
        Ok(Some(value)) => match value.as_i64() {
            Some(count) => count,
            None => return errors.push(FieldError::invalid(&at, 0, wrong_type(path, value, "int64"))),
        },
        Err(error) => return errors.push(FieldError::invalid(&at, 0, error)),
    };
    if count < 0 {
        errors.push(FieldError::invalid(&at, count, "should be a non-negative integer"));
    } else if count > i64::from(i32::MAX) {
        let detail = format!("should be less than or equal to {}", i32::MAX);
        errors.push(FieldError::invalid(&at, count, detail));
    }
}

/// The value at a path; None: it ends before. `Err`: there is no object on the way.
fn nested<'v>(object: &'v Value, path: &str) -> Result<Option<&'v Value>, String> {
    let mut value = object;
    let mut way = String::new();
    for step in path.split('.').filter(|step| !step.is_empty()) {
        way.push('.');
        way.push_str(step);
        match value {
            Value::Null => return Ok(None),
            Value::Object(map) => match map.get(step) {
                Some(next) => value = next,
                None => return Ok(None),
            },
            other => return Err(wrong_type(&way, other, "map[string]interface{}")),
        }
    }
    Ok(Some(value))
}

fn wrong_type(path: &str, value: &Value, wanted: &str) -> String {
    let found = go_type(value);
    format!("{path} accessor error: {} is of the type {found}, expected {wanted}", crate::schema::go_print(value))
}
