//! `kubectl explain`: what fields mean, from the server's own OpenAPI v3 documents.

use super::discovery::{Discovery, Resource};
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, switch, text};
use super::session::{JSON, Session};
use crate::api::Fields;
use crate::api::field::go_quote;
use serde_json::{Value, json};

pub(super) const VERB: Verb = Verb {
    name: "explain",
    about: "Show what the fields of a kind mean",
    usage: "kubectl explain TYPE [--recursive=FALSE|TRUE] [--api-version=api-version-group] [-o|--output=plaintext]",
    flags: &[&[
        switch("recursive", "Show the names of all fields").short('R'),
        text("api-version", "GROUP/VERSION", "Of this version"),
        text("output", "FORMAT", "Form of the output: plaintext").short('o').default("plaintext"),
    ]],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let words = arguments.words();
    let [word] = words.as_slice() else {
        return Err(Failure::local(if words.is_empty() {
            "You must specify the type of resource to explain. Use \"kubectl api-resources\" for a complete list of supported resources."
        } else {
            "We accept only this format: explain RESOURCE"
        }));
    };
    let output = arguments.text_or_empty("output");
    if output != "plaintext" {
        return Err(Failure::local(format!("unrecognized format: {output}")));
    }
    let discovery = Discovery::fetch(session).await?;
    let (resource, fields) = find(&discovery, word)?;
    let kind = &resource.kind;
    let version = match arguments.text_or_empty("api-version") {
        "" => kind.api_version(),
        version => version.to_owned(),
    };
    let root = if version.contains('/') { format!("apis/{version}") } else { format!("api/{version}") };
    let index = session.get("/openapi/v3", JSON).await?;
    let Some(path) = index.at("paths").at(&root).optional_str("serverRelativeURL") else {
        return Err(Failure::local(format!("couldn't find resource for \"{version}, Resource={}\"", kind.plural)));
    };
    let document = session.get(path, JSON).await?;
    let (group, version) = crate::api::gvk::split_api_version(&version);
    let gvk = json!({ "group": group, "kind": kind.kind, "version": version });
    let explain = Explain { document: &document, recursive: arguments.on("recursive") };
    let Some(schema) = explain.schema_of(&gvk) else {
        let name = format!("{group}/{version}, Resource={}", kind.plural);
        return Err(Failure::local(format!("GVR ({name}) not found in OpenAPI schema")));
    };
    let mut out = String::new();
    if !group.is_empty() {
        out.push_str(&format!("GROUP:      {group}\n"));
    }
    out.push_str(&format!("KIND:       {}\nVERSION:    {version}\n\n", kind.kind));
    let head = out.len();
    if !explain.path(schema, &fields, &mut Vec::new(), &mut out) {
        out.truncate(head);
        session.print(&out).await?;
        let last = fields.last().map(String::as_str).unwrap_or_default();
        return Err(Failure::local(format!("field {} does not exist", go_quote(last))));
    }
    out.push('\n');
    session.print(&out).await
}

/// The resource and the fields of `deployments.apps.spec` or `deploy.spec`.
fn find<'a>(discovery: &'a Discovery, word: &str) -> Outcome<(&'a Resource, Vec<String>)> {
    let word = word.trim_end_matches('.');
    let split = |text: &str| text.split('.').filter(|field| !field.is_empty()).map(str::to_owned).collect();
    let first = word.split('.').next().unwrap_or_default();
    for resource in discovery.all_of(first) {
        let whole = resource.kind.to_string();
        if let Some(rest) = word.strip_prefix(&whole).filter(|_| whole.contains('.'))
            && (rest.is_empty() || rest.starts_with('.'))
        {
            return Ok((resource, split(rest)));
        }
    }
    let Ok(resource) = discovery.resolve_one(first) else {
        return Err(Failure::Said(format!("the server doesn't have a resource type {}", go_quote(first))));
    };
    Ok((resource, split(&word[first.len()..])))
}

struct Explain<'a> {
    document: &'a Value,
    recursive: bool,
}

impl<'a> Explain<'a> {
    fn schema_of(&self, gvk: &Value) -> Option<&'a Value> {
        let schemas = self.document.at("components").map_at("schemas").values();
        let kinds = |schema: &&'a Value| schema.list_at("x-kubernetes-group-version-kind").contains(gvk);
        schemas.into_iter().find(kinds)
    }

    /// What a `$ref` leads to, or the schema itself.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let reference = schema.str_at("$ref");
        if reference.is_empty() {
            return schema;
        }
        let steps = reference.trim_start_matches('#').split('/').filter(|step| !step.is_empty());
        match steps.fold(self.document, |value, step| value.at(step)) {
            Value::Null => schema,
            found => found,
        }
    }

    /// False: there is no such field. `seen` keeps circles from being walked.
    fn path(&self, schema: &'a Value, fields: &[String], seen: &mut Vec<String>, out: &mut String) -> bool {
        let reference = schema.str_at("$ref").to_owned();
        let resolved = self.resolve(schema);
        let Some((field, rest)) = fields.split_first() else {
            self.whole(resolved, out);
            return true;
        };
        if !reference.is_empty() && seen.contains(&reference) {
            return false;
        }
        if let Some(next) = resolved.at("properties").get_set(field) {
            if rest.is_empty() {
                out.push_str(&format!("FIELD: {field} <{}>\n", self.type_of(next)));
                if !next.list_at("enum").is_empty() {
                    out.push_str("ENUM:");
                    next.list_at("enum").iter().for_each(|value| out.push_str(&format!("\n    {}", enum_text(value))));
                }
                out.push_str("\n\n");
            }
            return self.path(next, rest, &mut Vec::new(), out);
        }
        seen.push(reference);
        if let Some(items) = resolved.get_set("items") {
            return self.path(items, fields, seen, out);
        }
        if let Some(values) = resolved.get_set("additionalProperties").filter(|values| values.is_object()) {
            return self.path(values, fields, seen, out);
        }
        resolved.list_at("allOf").iter().any(|part| self.path(part, fields, &mut seen.clone(), out))
    }

    /// The description and the fields of a schema.
    fn whole(&self, schema: &'a Value, out: &mut String) {
        let mut description = String::new();
        self.description(schema, &mut description);
        let description = if description.is_empty() { "<empty>" } else { &description };
        out.push_str(&format!("DESCRIPTION:\n{}\n", indent(4, &wrap(76, description))));
        let documents = schema.at("externalDocs");
        if !documents.is_null() {
            out.push_str("\nEXTERNAL DOCS:\n");
            self.documents(documents, 4, 76, out);
        }
        let mut fields = String::new();
        self.fields(schema, 1, &[], &mut fields);
        if !fields.is_empty() {
            out.push_str(&format!("FIELDS:\n{fields}"));
        }
    }

    fn documents(&self, documents: &Value, depth: usize, width: usize, out: &mut String) {
        let text = documents.str_at("description");
        if !text.is_empty() {
            out.push_str(&format!("{}\n", indent(depth, &wrap(width, text))));
        }
        let url = documents.str_at("url");
        if !url.is_empty() {
            out.push_str(&format!("{}\n", indent(depth, &format!("URL: {url}"))));
        }
    }

    fn description(&self, schema: &'a Value, out: &mut String) {
        let schema = self.resolve(schema);
        let text = schema.str_at("description");
        if !text.is_empty() {
            out.push_str(text);
            out.push('\n');
        }
        schema.list_at("allOf").iter().for_each(|part| self.description(part, out));
        for field in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get_set(field).filter(|inner| inner.is_object()) {
                self.description(inner, out);
            }
        }
    }

    fn fields(&self, schema: &'a Value, level: usize, seen: &[&str], out: &mut String) {
        let reference = schema.str_at("$ref");
        // What has no name of its own counts as one thing, as it does for kubectl.
        if !reference.is_empty() && seen.contains(&reference) {
            return;
        }
        let seen = &[seen, &[reference]].concat();
        let resolved = self.resolve(schema);
        for (name, field) in resolved.map_at("properties") {
            self.field(resolved, name, field, level, out);
            if self.recursive {
                self.fields(field, level + 1, seen, out);
            }
        }
        resolved.list_at("allOf").iter().for_each(|part| self.fields(part, level, seen, out));
        for inner in ["items", "additionalProperties"] {
            if let Some(inner) = resolved.get_set(inner).filter(|inner| inner.is_object()) {
                self.fields(inner, level, seen, out);
            }
        }
    }

    fn field(&self, schema: &Value, name: &str, field: &'a Value, level: usize, out: &mut String) {
        const SHOWN: usize = 4;
        let depth = level * 2;
        let required = if schema.strs_at("required").any(|required| required == name) { " -required-" } else { "" };
        out.push_str(&format!("{}\t<{}>{required}", indent(depth, name), self.type_of(field)));
        let values = field.list_at("enum");
        if !values.is_empty() {
            let shown: Vec<String> = values.iter().take(SHOWN).map(enum_text).collect();
            let more = if values.len() > SHOWN { ", ...." } else { "" };
            out.push_str(&format!("\n{}enum: {}{more}", " ".repeat(depth), shown.join(", ")));
        }
        out.push('\n');
        if self.recursive {
            return;
        }
        let text = match field.str_at("description") {
            "" => "<no description>",
            text => text,
        };
        out.push_str(&format!("{}\n", indent(depth + 2, &wrap(78 - depth, text))));
        let documents = field.at("externalDocs");
        if !documents.is_null() {
            out.push_str(&format!("\n{}\n", indent(depth + 2, "EXTERNAL DOCS:")));
            self.documents(documents, depth + 4, 76 - depth, out);
        }
        out.push('\n');
    }

    fn type_of(&self, schema: &'a Value) -> String {
        if let Some(items) = schema.get_set("items") {
            return format!("[]{}", self.type_of(items));
        }
        if let Some(values) = schema.get_set("additionalProperties").filter(|values| values.is_object()) {
            return format!("map[string]{}", self.type_of(values));
        }
        if let ([part], false) = (schema.list_at("allOf"), schema.has("properties")) {
            return self.type_of(part);
        }
        let reference = schema.str_at("$ref");
        if !reference.is_empty() {
            let kind = self.resolve(schema).str_at("type");
            if matches!(kind, "" | "object") {
                let name = reference.rsplit('/').next().unwrap_or_default();
                return name.rsplit('.').next().unwrap_or("Object").to_owned();
            }
            return kind.to_owned();
        }
        match schema.str_at("type") {
            "" | "object" => "Object".to_owned(),
            kind => kind.to_owned(),
        }
    }
}

fn enum_text(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn indent(depth: usize, text: &str) -> String {
    let space = " ".repeat(depth);
    format!("{space}{}", text.replace('\n', &format!("\n{space}")))
}

/// Lines no longer than this, broken at spaces; a word that is longer stands alone.
fn wrap(width: usize, text: &str) -> String {
    let mut out = String::new();
    let (mut column, mut space, mut word) = (0, String::new(), String::new());
    let length = |text: &str| text.chars().count();
    for c in text.chars() {
        if c == '\n' || (c.is_whitespace() && c != '\u{a0}' && (space.is_empty() || !word.is_empty())) {
            let blank = word.is_empty() && c == '\n' && column + length(&space) > width;
            column += length(&space) + length(&word);
            if !blank {
                out.push_str(&space);
            }
            out.push_str(&word);
            space.clear();
            word.clear();
        }
        if c == '\n' {
            out.push(c);
            column = 0;
        } else if c.is_whitespace() && c != '\u{a0}' {
            space.push(c);
        } else {
            word.push(c);
            if column + length(&word) + length(&space) > width && length(&word) < width {
                out.push('\n');
                column = 0;
                space.clear();
            }
        }
    }
    if !word.is_empty() || column + length(&space) <= width {
        out.push_str(&space);
    }
    out + &word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_wrapped() {
        assert_eq!(wrap(10, "one two three four"), "one two\nthree four");
        assert_eq!(wrap(5, "a\n  b cccccccc d"), "a\n  b\ncccccccc d".replace("cccccccc d", "cccccccc\nd"));
        assert_eq!(indent(2, "a\nb"), "  a\n  b");
    }

    #[test]
    fn types_and_fields_are_told() {
        let document = json!({ "components": { "schemas": {
            "io.x.Thing": { "description": "A thing.", "type": "object", "required": ["names"], "properties": {
                "names": { "type": "array", "items": { "type": "string" }, "description": "Its names." },
                "next": { "allOf": [{ "$ref": "#/components/schemas/io.x.Thing" }], "description": "The next." },
                "mode": { "type": "string", "enum": ["", "A"] },
            } },
        } } });
        let explain = Explain { document: &document, recursive: true };
        let root = document.at("components").at("schemas").at("io.x.Thing");
        let mut out = String::new();
        explain.fields(root, 1, &[], &mut out);
        assert_eq!(
            out,
            "  mode\t<string>\n  enum: \"\", A\n  names\t<[]string> -required-\n  next\t<Thing>\n    mode\t<string>\n    enum: \"\", A\n    names\t<[]string> -required-\n    next\t<Thing>\n"
        );
        assert!(!explain.path(root, &["bogus".to_owned()], &mut Vec::new(), &mut String::new()));
    }
}
