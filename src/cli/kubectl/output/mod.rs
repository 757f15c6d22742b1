//! The forms of `-o`: tables, names, JSON, YAML, JSONPath, Go's templates, columns of one's own.

mod columns;
mod go_template;
mod kyaml;
pub mod table;

use super::discovery::label;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Flag, switch, text};
use crate::api::field::go_quote;
use crate::api::jsonpath::Template;
use crate::api::{Fields, gvk};
use crate::client::Kind;
use columns::Columns;
use serde_json::{Value, json};

/// The flags of the form.
pub const FLAGS: &[Flag] = &[
    text(
        "output",
        "FORMAT",
        "Form of the output: name, json, yaml, jsonpath=…, jsonpath-as-json=…, go-template=…, custom-columns=…",
    )
    .short('o'),
    text("template", "TEMPLATE", "Template, or its file, of -o go-template, jsonpath and their files"),
    switch("show-managed-fields", "Show managedFields in JSON and YAML"),
    switch("allow-missing-template-keys", "Fields that a template names need not be there").default("true"),
];

#[derive(Clone, Debug)]
pub enum Format {
    /// As the verb prints it when nothing is said.
    Default,
    Wide,
    Name,
    Json,
    Yaml,
    /// YAML that looks like JSON.
    Kyaml,
    JsonPath(Template),
    /// What each part of the template selects, as a list.
    JsonPathAsJson(Template),
    /// The flag: what is absent is an error.
    GoTemplate(go_template::Template, bool),
    Columns(Columns),
}

impl Format {
    /// What the flags say.
    pub fn of(arguments: &Arguments) -> Outcome<Self> {
        let template = arguments.text("template").filter(|template| !template.is_empty());
        let joined = match (arguments.text("output"), template) {
            (Some(name), Some(template)) if !name.contains('=') => Some(format!("{name}={template}")),
            (output, _) => output.map(str::to_owned),
        };
        let joined = joined.or_else(|| template.map(|template| format!("go-template={template}")));
        // Only get asks for tables.
        let tables = arguments.has("server-print");
        let format = Self::parse_of(joined.as_deref(), arguments.on("no-headers"), tables)?;
        if !tables && matches!(format, Self::Wide | Self::Columns(_)) {
            return Err(no_printer(arguments.text_or_empty("output"), false));
        }
        Ok(match format {
            Self::GoTemplate(template, _) => Self::GoTemplate(template, !arguments.on("allow-missing-template-keys")),
            format => format,
        })
    }

    pub fn parse(text: Option<&str>, no_headers: bool) -> Outcome<Self> {
        Self::parse_of(text, no_headers, true)
    }

    fn parse_of(text: Option<&str>, no_headers: bool, tables: bool) -> Outcome<Self> {
        let Some(text) = text else { return Ok(Self::Default) };
        let (name, argument) = match text.split_once('=') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let needs = || {
            argument.filter(|argument| !argument.is_empty()).ok_or_else(|| match name {
                "jsonpath" | "jsonpath-as-json" | "jsonpath-file" | "go-template" | "go-template-file" | "template"
                | "templatefile" => Failure::local("template format specified but no template given"),
                _ => Failure::local("custom-columns format specified but no custom columns given"),
            })
        };
        let file = |path: &str| {
            std::fs::read_to_string(path).map_err(|error| {
                let option = if name.starts_with("custom-columns") { "template" } else { "--template" };
                let why = crate::cli::kubectl::create::sources::reason(&error);
                Failure::local(format!("error reading {option} {path}, open {path}: {why}"))
            })
        };
        let template = |text: &str| {
            Template::parse(text).map_err(|error| Failure::local(format!("error parsing jsonpath {text}, {error}")))
        };
        let go_template = |text: &str| {
            go_template::Template::parse(text)
                .map(|template| Self::GoTemplate(template, false))
                .map_err(|error| Failure::local(format!("error parsing template {text}, {error}")))
        };
        match name {
            "" => Ok(Self::Default),
            "wide" => Ok(Self::Wide),
            "name" => Ok(Self::Name),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "kyaml" => Ok(Self::Kyaml),
            "jsonpath" => template(needs()?).map(Self::JsonPath),
            "jsonpath-as-json" => template(needs()?).map(Self::JsonPathAsJson),
            "jsonpath-file" => template(&file(needs()?)?).map(Self::JsonPath),
            "go-template" | "template" => go_template(needs()?),
            "go-template-file" | "templatefile" => go_template(&file(needs()?)?),
            "custom-columns" => Ok(Self::Columns(Columns::parse(needs()?, no_headers)?)),
            "custom-columns-file" => Ok(Self::Columns(Columns::parse_file(&file(needs()?)?, no_headers)?)),
            other => Err(no_printer(other, tables)),
        }
    }

    /// A table of the server's.
    pub fn is_table(&self) -> bool {
        matches!(self, Self::Default | Self::Wide)
    }

    /// One object, or a list, in this form; nothing for tables.
    pub fn print(&self, object: &Value) -> Outcome<String> {
        Ok(match self {
            Self::Default | Self::Wide => String::new(),
            Self::Name => items(object).map(|item| name_of(item) + "\n").collect(),
            Self::Json => json_text(object),
            Self::Yaml => crate::api::yaml::print(object),
            Self::Kyaml => kyaml::print(object),
            Self::JsonPath(template) => template.print(object),
            Self::JsonPathAsJson(template) => template.parts(object).iter().map(json_text).collect(),
            Self::GoTemplate(template, strict) => template.print(object, *strict).map_err(|(_, error)| {
                Failure::local(format!("error executing template {}: {error}", go_quote(&template.text)))
            })?,
            Self::Columns(columns) => columns.print(items(object)),
        })
    }
}

fn no_printer(format: &str, tables: bool) -> Failure {
    let (first, wide) = if tables { ("custom-columns,custom-columns-file,", "wide,") } else { ("", "") };
    Failure::local(format!(
        "unable to match a printer suitable for the output format {}, allowed formats are: {first}go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,kyaml,name,template,templatefile,{wide}yaml",
        go_quote(format)
    ))
}

/// The items of a list, or the object itself.
fn items(object: &Value) -> impl Iterator<Item = &Value> {
    let list = object.at("items").as_array();
    let itself = list.is_none().then_some(object);
    list.into_iter().flatten().chain(itself)
}

/// `deployment.apps/web`.
pub fn name_of(object: &Value) -> String {
    let (group, _) = gvk::split_api_version(object.str_at("apiVersion"));
    let kind = object.str_at("kind").to_lowercase();
    let kind = if group.is_empty() { kind } else { format!("{kind}.{group}") };
    format!("{kind}/{}", object.at("metadata").str_at("name"))
}

/// `deployment.apps/web`, where the object does not say its kind.
pub fn name_in(kind: &Kind, name: &str) -> String {
    format!("{}/{name}", label(kind))
}

/// As Go prints it: four spaces, and `<`, `>` and `&` escaped.
fn json_text(value: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(value, &mut serializer).expect("a value prints");
    escape_html(&String::from_utf8_lossy(&bytes)) + "\n"
}

/// These characters stand only in strings.
pub fn escape_html(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// A list as kubectl makes it of objects of any kinds.
pub fn list_of(items: Vec<Value>) -> Value {
    json!({ "apiVersion": "v1", "items": items, "kind": "List", "metadata": { "resourceVersion": "" } })
}

/// Without what only machines read.
pub fn without_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

/// The items of a list as objects of their own, which say their kind.
pub fn take_items(list: Value, kind: &Kind) -> Vec<Value> {
    let Value::Object(mut fields) = list else { return Vec::new() };
    let Some(Value::Array(mut items)) = fields.remove("items") else { return Vec::new() };
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.entry("apiVersion").or_insert_with(|| kind.api_version().into());
        item.entry("kind").or_insert_with(|| kind.kind.to_string().into());
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn print(format: &str, object: &Value) -> String {
        Format::parse(Some(format), false).expect("a format").print(object).expect("it prints")
    }

    #[test]
    fn forms_of_an_object() {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "x": "a<b>&c"});
        assert_eq!(print("name", &object), "deployment.apps/web\n");
        expect![[r#"
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {
                    "name": "web"
                },
                "x": "a\u003cb\u003e\u0026c"
            }
        "#]]
        .assert_eq(&print("json", &object));
        assert_eq!(print("jsonpath={.metadata.name}", &object), "web");
        assert_eq!(print("go-template={{.metadata.name}}", &object), "web");
        let parts = "jsonpath-as-json=x{.metadata}{range .metadata.*}{@}{end}{.nope}";
        let lists = ["[\n    \"x\"\n]", "[\n    {\n        \"name\": \"web\"\n    }\n]", "[\n    \"web\"\n]", "[]"];
        assert_eq!(print(parts, &object), lists.join("\n") + "\n");
        let list = list_of(vec![object.clone(), json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}})]);
        assert_eq!(print("name", &list), "deployment.apps/web\npod/p\n");
        expect![[r#"
            NAME   X
            web    a<b>&c
            p      <none>
        "#]]
        .assert_eq(&print("custom-columns=NAME:.metadata.name,X:x", &list));
    }

    #[test]
    fn wrong_formats_are_refused() {
        for format in
            ["bogus", "go-template={{", "go-template", "jsonpath", "jsonpath={", "custom-columns=", "custom-columns=A"]
        {
            assert!(Format::parse(Some(format), false).is_err(), "{format}");
        }
    }
}
