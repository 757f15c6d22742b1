//! The annotation that says what was applied last, so that what a file no longer says is deleted.

use super::output::escape_html;
use crate::api::{Fields, FieldsMut};
use serde_json::Value;

pub const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The object with the annotation that holds it.
pub fn annotated(object: &Value) -> Value {
    let mut whole = object.clone();
    let annotations = whole.object_mut("metadata").object_mut("annotations");
    annotations.clear(ANNOTATION);
    let text = escape_html(&whole.to_string()) + "\n";
    whole.object_mut("metadata").object_mut("annotations").set(ANNOTATION, text);
    whole
}

/// Say that this was applied last.
pub fn set(object: &mut Value, applied: &Value) {
    let text = escape_html(&applied.to_string()) + "\n";
    object.object_mut("metadata").object_mut("annotations").set(ANNOTATION, text);
}

/// What was applied last; None: the object was not made by apply, or somebody broke the annotation.
pub fn of(live: &Value) -> Option<Value> {
    let text = live.at("metadata").at("annotations").optional_str(ANNOTATION)?;
    serde_json::from_str(text).ok()
}

/// The annotation is there, whatever it holds.
pub fn is_there(live: &Value) -> bool {
    live.at("metadata").at("annotations").has(ANNOTATION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_annotation_holds_the_object_without_itself() {
        let object = json!({"kind": "X", "metadata": {"name": "a"}, "data": "<b>"});
        let once = annotated(&object);
        let text = once["metadata"]["annotations"][ANNOTATION].as_str().expect("a text");
        assert_eq!(
            text,
            "{\"data\":\"\\u003cb\\u003e\",\"kind\":\"X\",\"metadata\":{\"annotations\":{},\"name\":\"a\"}}\n"
        );
        assert_eq!(annotated(&once), once);
        assert_eq!(of(&once).expect("it reads")["data"], "<b>");
        assert!(of(&object).is_none() && !is_there(&object));
    }
}
