//! `replacements`: values copied from a field of one object into fields of others.

use super::layer::Layer;
use super::resource::Resource;
use super::selector::Selector;
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::failure::{Failure, Outcome};
use serde_json::{Map, Value};

pub fn apply(layer: &Layer, resources: &mut [Resource]) -> Outcome<()> {
    for entry in layer.list("replacements") {
        let path = entry.str_at("path");
        if path.is_empty() {
            one(entry, resources)?;
            continue;
        }
        let read = crate::schema::yaml::parse(layer.text(path)?.as_bytes()).map_err(Failure::local)?;
        match &read {
            Value::Array(all) => all.iter().try_for_each(|entry| one(entry, resources))?,
            entry => one(entry, resources)?,
        }
    }
    Ok(())
}

fn one(entry: &Value, resources: &mut [Resource]) -> Outcome<()> {
    let source = entry.at("source");
    let selector = Selector::parse(source)?;
    let taken: Vec<&Resource> = resources.iter().filter(|resource| selector.takes(resource)).collect();
    let [from] = taken.as_slice() else {
        return Err(Failure::local(match taken.len() {
            0 => format!("nothing selected by {source}"),
            _ => format!("multiple matches for selector {source}"),
        }));
    };
    let path = match source.str_at("fieldPath") {
        "" => "metadata.name",
        path => path,
    };
    let mut object = from.object.clone();
    let mut found = Vec::new();
    visit(&mut object, &steps(path), false, &mut |value| found.push(value.clone()));
    let Some(mut value) = found.into_iter().next() else {
        return Err(Failure::local(format!("fieldPath `{path}` is missing for replacement source {}", from.id())));
    };
    let options = source.at("options");
    if !options.str_at("delimiter").is_empty() {
        let text = value.as_str().unwrap_or_default().to_owned();
        let index = usize::try_from(options.int_at("index")).unwrap_or(usize::MAX);
        let part = text.split(options.str_at("delimiter")).nth(index);
        value = part
            .ok_or_else(|| Failure::local(format!("options.index {index} is out of bounds for value {text}")))?
            .into();
    }
    for target in entry.list_at("targets") {
        into(target, &value, resources)?;
    }
    Ok(())
}

fn into(target: &Value, value: &Value, resources: &mut [Resource]) -> Outcome<()> {
    let Some(select) = target.get_set("select") else {
        return Err(Failure::local("target must specify resources to select"));
    };
    let selector = Selector::parse(select)?;
    let rejected: Vec<Selector> = target.list_at("reject").iter().map(Selector::parse).collect::<Outcome<_>>()?;
    let options = target.at("options");
    let delimiter = options.str_at("delimiter");
    let mut paths: Vec<&str> = target.strs_at("fieldPaths").collect();
    if paths.is_empty() {
        paths.push("metadata.name");
    }
    for resource in resources {
        if !selector.takes(resource) || rejected.iter().any(|rejected| rejected.takes(resource)) {
            continue;
        }
        let before = resource.identity();
        for path in &paths {
            let mut found = false;
            visit(&mut resource.object, &steps(path), options.bool_at("create"), &mut |field| {
                found = true;
                if delimiter.is_empty() {
                    *field = match (&*field, value) {
                        // What was a text stays one.
                        (Value::String(_), Value::Number(_) | Value::Bool(_)) => value.to_string().into(),
                        _ => value.clone(),
                    };
                    return;
                }
                let text = field.as_str().unwrap_or_default().to_owned();
                let mut parts: Vec<&str> = text.split(delimiter).collect();
                let part = value.as_str().unwrap_or_default();
                match options.int_at("index") {
                    index if index < 0 => parts.insert(0, part),
                    index => match parts.get_mut(usize::try_from(index).unwrap_or(usize::MAX)) {
                        Some(place) => *place = part,
                        None => parts.push(part),
                    },
                }
                *field = parts.join(delimiter).into();
            });
            if !found {
                return Err(Failure::local(format!("unable to find field \"{path}\" in replacement target")));
            }
        }
        if resource.identity() != before {
            resource.before.push(before);
        }
    }
    Ok(())
}

/// `spec.containers.[name=web].image`, `metadata.annotations.[a.b/c]`; a dot that belongs to a name
/// is written `\.`.
fn steps(path: &str) -> Vec<String> {
    let mut steps = vec![String::new()];
    let (mut chars, mut inside) = (path.chars(), false);
    while let Some(c) = chars.next() {
        let last = steps.last_mut().expect("there is one");
        match c {
            '\\' => last.extend(chars.next()),
            '[' | ']' => {
                inside = c == '[';
                last.push(c);
            }
            '.' if !inside => steps.push(String::new()),
            c => last.push(c),
        }
    }
    steps.retain(|step| !step.is_empty());
    steps
}

fn visit(value: &mut Value, steps: &[String], create: bool, work: &mut dyn FnMut(&mut Value)) {
    let Some((step, rest)) = steps.split_first() else {
        work(value);
        return;
    };
    let inner = step.strip_prefix('[').and_then(|step| step.strip_suffix(']'));
    if let (Value::Array(items), Some((key, wanted))) = (&mut *value, inner.and_then(|inner| inner.split_once('='))) {
        let fits = |item: &&mut Value| {
            if key.is_empty() { item.as_str() == Some(wanted) } else { item.str_at(key) == wanted }
        };
        items.iter_mut().filter(fits).for_each(|item| visit(item, rest, create, work));
        return;
    }
    if let Value::Array(items) = value {
        match step.as_str() {
            "*" => items.iter_mut().for_each(|item| visit(item, rest, create, work)),
            "-" if create => {
                items.push(Value::Null);
                let last = items.last_mut().expect("it was pushed");
                visit(last, rest, create, work);
            }
            number => {
                let item = number.parse::<usize>().ok().and_then(|at| items.get_mut(at));
                if let Some(item) = item {
                    visit(item, rest, create, work);
                }
            }
        }
        return;
    }
    if value.is_null() && create {
        *value = Value::Object(Map::new());
    }
    let name = inner.unwrap_or(step);
    if create && value.is_object() && !value.has(name) {
        value.set(name, Value::Null);
    }
    if let Some(field) = value.get_mut(name) {
        visit(field, rest, create, work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_into_lists() {
        let mut object =
            json!({ "spec": { "containers": [{ "name": "a", "image": "x" }, { "name": "b", "image": "y" }] } });
        visit(&mut object, &steps("spec.containers.[name=b].image"), false, &mut |field| *field = "z".into());
        visit(&mut object, &steps("metadata.annotations.[a.b/c]"), true, &mut |field| *field = "n".into());
        assert_eq!(object["spec"]["containers"][1]["image"], "z");
        assert_eq!(object["metadata"]["annotations"]["a.b/c"], "n");
        assert_eq!(steps("a\\.b.c"), ["a.b", "c"]);
    }
}
