//! Namespace: a scope of names.

use crate::resources::{Column, Resource, Subresource, Verb};

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["ns".into()],
        namespaced: false,
        verbs: VERBS,
        status: true,
        subresources: vec![Subresource::custom("finalize", &[Verb::Update]), Subresource::status()],
        columns: Column::strings(&["Status", "Age"]),
        ..Resource::new("", "v1", "Namespace", "namespaces")
    }
}

/// All but deletecollection.
const VERBS: &[Verb] = &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];
