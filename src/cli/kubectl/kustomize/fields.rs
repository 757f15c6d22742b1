//! Fields by their path, as kustomize writes it: `spec/template/spec/containers/image`. Lists on the
//! way are walked; a slash that belongs to a name is written `\/`.

use serde_json::{Map, Value};

pub fn steps(path: &str) -> Vec<String> {
    let mut steps = vec![String::new()];
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => steps.last_mut().expect("there is one").extend(chars.next()),
            '/' => steps.push(String::new()),
            c => steps.last_mut().expect("there is one").push(c),
        }
    }
    steps.into_iter().map(|step| step.trim_end_matches("[]").to_owned()).collect()
}

/// Do something with each value at the path. `create`: maps on the way are made.
pub fn visit(object: &mut Value, path: &str, create: bool, work: &mut dyn FnMut(&mut Value)) {
    walk(object, &steps(path), create, work);
}

fn walk(value: &mut Value, steps: &[String], create: bool, work: &mut dyn FnMut(&mut Value)) {
    if let Value::Array(items) = value {
        items.iter_mut().for_each(|item| walk(item, steps, create, work));
        return;
    }
    let Some((step, rest)) = steps.split_first() else {
        work(value);
        return;
    };
    if value.is_null() && create {
        *value = Value::Object(Map::new());
    }
    let Some(fields) = value.as_object_mut() else { return };
    if create {
        fields.entry(step.as_str()).or_insert(Value::Null);
    }
    if let Some(field) = fields.get_mut(step) {
        walk(field, rest, create, work);
        if field.is_null() && create {
            fields.remove(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_are_walked_and_maps_made() {
        let mut object = json!({ "spec": { "containers": [{ "image": "a" }, { "image": "b" }, {}] } });
        let mut seen = Vec::new();
        visit(&mut object, "spec/containers[]/image", false, &mut |value| seen.push(value.clone()));
        assert_eq!(seen, [json!("a"), json!("b")]);
        visit(&mut object, "metadata/labels", true, &mut |value| *value = json!({ "a": "b" }));
        assert_eq!(object["metadata"]["labels"]["a"], "b");
        assert_eq!(steps("metadata/annotations/nginx.io\\/x"), ["metadata", "annotations", "nginx.io/x"]);
    }
}
