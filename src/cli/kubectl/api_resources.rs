//! `kubectl api-resources`: what the cluster serves.

use super::discovery::{Discovery, Resource};
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, slice, switch, text};
use super::output::Format;
use super::session::Session;
use super::tab_writer::TabWriter;
use crate::api::FieldsMut;
use serde_json::{Value, json};

pub(super) const VERB: Verb = Verb {
    name: "api-resources",
    about: "Show what kinds of objects the cluster serves",
    usage: "kubectl api-resources",
    flags: &[&[
        text("output", "FORMAT", "Form of the output: wide, name, json, yaml, kyaml").short('o'),
        switch("no-headers", "Leave the headers out"),
        text("api-group", "GROUP", "Only of this group"),
        switch("namespaced", "Only those with, or without, a namespace").default("true"),
        slice("verbs", "VERB", "Only those that can do all of these"),
        slice("categories", "CATEGORY", "Only those of all of these categories"),
        text("sort-by", "COLUMN", "What to sort by: name, kind"),
        switch("show-managed-fields", "Kinds have none: this changes nothing"),
        switch("cached", "Nothing is cached: this changes nothing"),
    ]],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

/// As an APIResource.
fn described(resource: &Resource) -> Value {
    let Resource { kind, singular, short_names, categories, verbs } = resource;
    let mut described = json!({
        "kind": kind.kind,
        "name": kind.plural,
        "namespaced": kind.namespaced,
        "singularName": singular,
        "verbs": verbs,
        "version": kind.version,
    });
    if !kind.group.is_empty() {
        described.set("group", &*kind.group);
    }
    for (field, words) in [("shortNames", short_names), ("categories", categories)] {
        if !words.is_empty() {
            described.set(field, words.clone());
        }
    }
    described
}

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    arguments.no_words()?;
    let output = arguments.text_or_empty("output");
    if !matches!(output, "" | "wide" | "name" | "json" | "yaml" | "kyaml") {
        return Err(Failure::local(format!(
            "unable to match a printer suitable for the output format {output:?}, allowed formats are: json,kyaml,name,wide,yaml"
        )));
    }
    let key: fn(&Resource) -> &str = match arguments.text_or_empty("sort-by") {
        "" => |resource| &resource.kind.group,
        "name" => |resource| &resource.kind.plural,
        "kind" => |resource| &resource.kind.kind,
        _ => return Err(Failure::local("--sort-by accepts only name or kind")),
    };
    let discovery = Discovery::fetch(session).await?;
    let (verbs, categories) = (arguments.list("verbs"), arguments.list("categories"));
    let mut resources: Vec<&Resource> = discovery
        .preferred()
        .filter(|resource| {
            !resource.verbs.is_empty()
                && (!arguments.changed("api-group") || resource.kind.group == arguments.text_or_empty("api-group"))
                && (!arguments.changed("namespaced") || resource.kind.namespaced == arguments.on("namespaced"))
                && verbs.iter().all(|verb| resource.can(verb))
                && categories.iter().all(|category| resource.categories.contains(category))
        })
        .collect();
    resources.sort_by(|a, b| key(a).cmp(key(b)).then_with(|| a.kind.plural.cmp(&b.kind.plural)));
    if output == "name" {
        let names: String = resources.iter().map(|resource| format!("{}\n", resource.kind)).collect();
        return session.print(&names).await;
    }
    if matches!(output, "json" | "yaml" | "kyaml") {
        let list = json!({
            "apiVersion": "v1",
            "groupVersion": "",
            "kind": "APIResourceList",
            "resources": resources.into_iter().map(described).collect::<Vec<_>>(),
        });
        return session.print(&Format::parse(Some(output), false)?.print(&list)?).await;
    }
    let wide = output == "wide";
    let mut table = TabWriter::table();
    if !arguments.on("no-headers") {
        let more = if wide { "\tVERBS\tCATEGORIES" } else { "" };
        table.line(&format!("NAME\tSHORTNAMES\tAPIVERSION\tNAMESPACED\tKIND{more}"));
    }
    for Resource { kind, short_names, verbs, categories, .. } in resources {
        let more = if wide { format!("\t{}\t{}", verbs.join(","), categories.join(",")) } else { String::new() };
        table.line(&format!(
            "{}\t{}\t{}\t{}\t{}{more}",
            kind.plural,
            short_names.join(","),
            kind.api_version(),
            kind.namespaced,
            kind.kind
        ));
    }
    session.print(&table.flush()).await
}
