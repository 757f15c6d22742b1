//! Which objects a list, watch or deletecollection is about: namespace, selectors, and the one
//! name that a field selector may pin.

use super::Call;
use crate::api::Status;
use crate::api::selector::lookup;
use crate::apiserver::options::ListOptions;
use crate::apiserver::respond;
use crate::resources::{Row, pipeline};
use crate::storage::{Entry, Index, Key, Prefix};
use std::sync::Arc;

/// The objects that a request selects.
#[derive(Clone)]
pub struct Selection {
    pub row: Arc<Row>,
    pub prefix: Prefix,
    pub options: ListOptions,
    /// The only object that can match.
    pub one: Option<Key>,
}

impl Selection {
    pub fn new(call: &Call<'_>, mut options: ListOptions) -> Result<Self, Status> {
        let row = call.row.clone();
        check_fields(&row, &options)?;
        for term in &mut options.fields.terms {
            if let Some((_, stored)) = row.strategy.renamed_fields().iter().find(|(here, _)| *here == term.path) {
                (*stored).clone_into(&mut term.path);
            }
        }
        let namespace = call.info.namespace.as_str();
        let prefix = if row.namespaced && !namespace.is_empty() {
            Prefix::namespace(&row.stored, namespace)
        } else {
            Prefix::resource(&row.stored)
        };
        // A GET of one object with `watch`, and a deprecated `/watch/` path.
        let by_path = matches!(call.info.verb, "get" | "watch") && !call.info.name.is_empty() && !row_listed(call);
        if by_path {
            options.fields.terms.push(crate::api::selector::FieldTerm {
                path: "metadata.name".to_owned(),
                negated: false,
                value: call.info.name.clone(),
            });
        }
        let name = options.fields.exact("metadata.name").filter(|name| !name.is_empty() && !name.contains('/'));
        let namespace = if namespace.is_empty() {
            options.fields.exact("metadata.namespace").unwrap_or_default()
        } else {
            namespace
        };
        let one = name
            .filter(|_| !row.namespaced || !namespace.is_empty())
            .map(|name| Key::new(&row.stored, if row.namespaced { namespace } else { "" }, name));
        Ok(Self { row, prefix, options, one })
    }

    pub fn selects_all(&self) -> bool {
        self.options.labels.is_empty() && self.options.fields.is_empty()
    }

    pub fn matches(&self, entry: &Entry) -> bool {
        if self.selects_all() {
            return true;
        }
        if let Some(one) = &self.one
            && entry.key != *one
        {
            return false;
        }
        // Nobody knows whether it would: the answer has to be that it cannot be read.
        if entry.body.unreadable().is_some() {
            return true;
        }
        // What can be selected on is the row's own: an object of another version has it elsewhere.
        let selects =
            self.row.custom && self.options.fields.terms.iter().any(|term| !term.path.starts_with("metadata."));
        let current;
        let body = if selects {
            current = respond::current(&self.row, &entry.body);
            &*current
        } else {
            &entry.body
        };
        let index: &Index = body.index(|object| pipeline::index(&self.row, object));
        self.options.labels.matches_sorted(&index.labels)
            && self.options.fields.matches(|path| match path {
                "metadata.name" => Some(entry.key.name()),
                "metadata.namespace" => Some(entry.key.namespace()),
                path => lookup(&index.fields, path),
            })
    }
}

/// Whether the path named the object, or a selector did.
fn row_listed(call: &Call<'_>) -> bool {
    call.info.verb == "list"
        || (!call.info.watch_prefix && call.info.verb == "watch" && call.query.get("fieldSelector").is_some())
}

/// Only fields that the row declares can be selected on.
fn check_fields(row: &Row, options: &ListOptions) -> Result<(), Status> {
    let renamed = row.strategy.renamed_fields();
    let built_in = row.strategy.selectable_fields().iter().map(|(field, _)| *field);
    let declared: Vec<&str> = built_in
        .filter(|_| renamed.is_empty())
        .chain(renamed.iter().map(|(here, _)| *here))
        .chain(row.strategy.selectable().iter().map(|field| field.path.as_str()))
        .collect();
    for term in &options.fields.terms {
        let path = term.path.as_str();
        let known =
            path == "metadata.name" || path == "metadata.namespace" && row.namespaced || declared.contains(&path);
        if known || path == "metadata.namespace" && declared.is_empty() && !row.custom {
            continue;
        }
        return Err(Status::bad_request(if declared.is_empty() && !row.custom {
            let quoted = crate::api::field::go_quote(path);
            format!("{quoted} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        } else {
            match (&*row.group, &*row.kind) {
                ("batch", "Job") => format!("field label {} not supported for Job", crate::api::field::go_quote(path)),
                ("resource.k8s.io", "ResourceSlice") => format!("field label not supported for {}: {path}", row.gvk),
                _ => format!("field label not supported: {path}"),
            }
        }));
    }
    Ok(())
}
