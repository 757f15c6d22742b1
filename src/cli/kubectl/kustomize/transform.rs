//! What a layer does to all its objects: namespace, prefix and suffix, labels, annotations, replicas,
//! images.

use super::fields::visit;
use super::layer::Layer;
use super::references::{IMAGES, selectors, templates};
use super::resource::Resource;
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::failure::{Failure, Outcome};
use serde_json::Value;

pub fn namespace(layer: &Layer, resources: &mut [Resource]) {
    let namespace = layer.content.str_at("namespace");
    if namespace.is_empty() {
        return;
    }
    for resource in resources {
        match resource.kind() {
            "Namespace" => resource.rename(namespace),
            _ if resource.is_namespaced() => resource.move_to(namespace),
            "APIService" => {
                visit(&mut resource.object, "spec/service/namespace", true, &mut |field| *field = namespace.into())
            }
            "CustomResourceDefinition" => {
                let path = "spec/conversion/webhook/clientConfig/service/namespace";
                visit(&mut resource.object, path, false, &mut |field| *field = namespace.into());
            }
            _ => {}
        }
        if matches!(resource.kind(), "RoleBinding" | "ClusterRoleBinding") {
            // The default account is in no file.
            for subject in resource.object.items_mut("subjects") {
                if subject.str_at("kind") == "ServiceAccount" && subject.str_at("name") == "default" {
                    subject.set("namespace", namespace);
                }
            }
        }
    }
}

/// Names of these are not theirs to choose.
const UNTOUCHED: &[&str] = &["CustomResourceDefinition", "APIService", "Namespace"];

pub fn names(layer: &Layer, resources: &mut [Resource]) {
    let (prefix, suffix) = (layer.content.str_at("namePrefix"), layer.content.str_at("nameSuffix"));
    for resource in resources.iter_mut().filter(|resource| !UNTOUCHED.contains(&resource.kind())) {
        let name = format!("{prefix}{}{suffix}", resource.name());
        resource.rename(&name);
    }
}

fn add(object: &mut Value, path: &str, create: bool, pairs: &Value) {
    visit(object, path, create, &mut |field| {
        for (key, value) in pairs.entries() {
            field.set(key, text(value));
        }
    });
}

/// Numbers and flags are written as texts.
fn text(value: &Value) -> Value {
    match value {
        Value::String(_) => value.clone(),
        value => value.to_string().into(),
    }
}

pub fn labels(layer: &Layer, resources: &mut [Resource]) {
    let none = Value::Null;
    let mut all: Vec<(&Value, bool, bool, &Value)> = Vec::new();
    for entry in layer.list("labels") {
        let selectors = entry.bool_at("includeSelectors");
        all.push((entry.at("pairs"), selectors, selectors || entry.bool_at("includeTemplates"), entry.at("fields")));
    }
    let common = layer.content.at("commonLabels");
    if !common.entries().is_empty() {
        all.push((common, true, true, &none));
    }
    for resource in resources {
        for (pairs, in_selectors, in_templates, fields) in &all {
            let kind = resource.kind().to_owned();
            add(&mut resource.object, "metadata/labels", true, pairs);
            if *in_templates {
                templates(&kind).for_each(|path| add(&mut resource.object, &format!("{path}/labels"), true, pairs));
            }
            if *in_selectors {
                for (path, create) in selectors(&kind) {
                    add(&mut resource.object, &path, create, pairs);
                }
            }
            for field in fields.items() {
                let fits = |name: &str, is: &str| field.str_at(name).is_empty() || field.str_at(name) == is;
                if fits("kind", &kind) && fits("group", resource.group()) && fits("version", resource.version()) {
                    add(&mut resource.object, field.str_at("path"), field.bool_at("create"), pairs);
                }
            }
        }
    }
}

pub fn annotations(layer: &Layer, resources: &mut [Resource]) {
    let pairs = layer.content.at("commonAnnotations");
    if pairs.entries().is_empty() {
        return;
    }
    for resource in resources {
        let kind = resource.kind().to_owned();
        add(&mut resource.object, "metadata/annotations", true, pairs);
        templates(&kind).for_each(|path| add(&mut resource.object, &format!("{path}/annotations"), true, pairs));
    }
}

const SCALED: &[&str] = &["Deployment", "ReplicationController", "ReplicaSet", "StatefulSet"];

pub fn replicas(layer: &Layer, resources: &mut [Resource]) -> Outcome<()> {
    for entry in layer.list("replicas") {
        let name = entry.str_at("name");
        let mut found = false;
        for resource in resources.iter_mut().filter(|resource| SCALED.contains(&resource.kind())) {
            if resource.identities().any(|identity| identity.name == name) {
                resource
                    .object
                    .object_mut("spec")
                    .copy("replicas", &serde_json::json!({ "replicas": entry.at("count") }));
                found = true;
            }
        }
        if !found {
            return Err(Failure::local(format!(
                "resource with name {name} does not match a config with the following GVK [Deployment.[noVer].[noGrp] ReplicationController.[noVer].[noGrp] ReplicaSet.[noVer].[noGrp] StatefulSet.[noVer].[noGrp]]"
            )));
        }
    }
    Ok(())
}

pub fn images(layer: &Layer, resources: &mut [Resource]) {
    for entry in layer.list("images") {
        for resource in resources.iter_mut() {
            for path in IMAGES {
                visit(&mut resource.object, path, false, &mut |field| {
                    if let Some(changed) = field.as_str().and_then(|image| renamed(image, entry)) {
                        *field = changed.into();
                    }
                });
            }
        }
    }
}

/// Name, tag and digest of an image.
fn parts(image: &str) -> (&str, &str, &str) {
    let (rest, digest) = image.split_once('@').unwrap_or((image, ""));
    // A colon before a slash is that of a port.
    match rest.rfind(':').filter(|colon| !rest[*colon..].contains('/')) {
        Some(colon) => (&rest[..colon], &rest[colon + 1..], digest),
        None => (rest, "", digest),
    }
}

fn renamed(image: &str, entry: &Value) -> Option<String> {
    let (name, tag, digest) = parts(image);
    if name != entry.str_at("name") {
        return None;
    }
    let [new_name, new_tag, suffix, new_digest] =
        ["newName", "newTag", "tagSuffix", "digest"].map(|field| entry.str_at(field));
    let name = if new_name.is_empty() { name } else { new_name };
    let number = entry.at("newTag").as_i64().map(|number| number.to_string()).unwrap_or_default();
    let new_tag = if number.is_empty() { new_tag } else { &number };
    if !new_digest.is_empty() && !new_tag.is_empty() {
        return Some(format!("{name}:{new_tag}@{new_digest}"));
    }
    if !new_digest.is_empty() {
        return Some(format!("{name}@{new_digest}"));
    }
    let (mut tag, digest) = if new_tag.is_empty() { (tag.to_owned(), digest) } else { (new_tag.to_owned(), "") };
    if !suffix.is_empty() && !tag.is_empty() {
        tag.push_str(suffix);
    }
    let tag = if tag.is_empty() { tag } else { format!(":{tag}") };
    let digest = if digest.is_empty() { String::new() } else { format!("@{digest}") };
    Some(format!("{name}{tag}{digest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn images_are_renamed() {
        let entry = json!({ "name": "reg:5000/nginx", "newName": "x/y", "newTag": "2" });
        assert_eq!(renamed("reg:5000/nginx:1", &entry).as_deref(), Some("x/y:2"));
        assert_eq!(renamed("nginx:1", &entry), None);
        let entry = json!({ "name": "nginx", "digest": "sha256:a" });
        assert_eq!(renamed("nginx:1", &entry).as_deref(), Some("nginx@sha256:a"));
        let entry = json!({ "name": "nginx", "newName": "z" });
        assert_eq!(renamed("nginx:1@sha256:a", &entry).as_deref(), Some("z:1@sha256:a"));
        assert_eq!(renamed("nginx", &entry).as_deref(), Some("z"));
    }
}
